"""What Ada, Bob and Eve run: the spectra of some recordings.

python sharing_spectra.py NUMBER...
"""

import sys

import numpy as np

import kachery


@kachery.task
def spectrum(number):
    """The power spectrum of a recording: a random walk and a rhythm, for a minute at 1 kHz."""
    random = np.random.default_rng(number)
    time = np.arange(60_000) / 1_000
    recording = random.normal(size=len(time)).cumsum() + 40 * np.sin(
        2 * np.pi * (5 + number) * time
    )
    frames = recording.reshape(-1, 2_000) * np.hanning(2_000)
    return (np.abs(np.fft.rfft(frames, axis=1)) ** 2).mean(axis=0)


def main():
    """Print where the peak of each spectrum is, and how many of them were computed."""
    peaks = [spectrum(int(number))[10:].argmax() / 2 + 5 for number in sys.argv[1:]]
    stats = kachery.stats()
    print("peaks at", ", ".join(f"{peak:.1f} Hz" for peak in peaks))
    print(f"{stats.misses} computed, {stats.hits} served")


if __name__ == "__main__":
    main()
