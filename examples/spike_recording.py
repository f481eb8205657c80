"""A recording as a lab would have it: a raw file of 32 channels, made on the spot.

Eight neurons beside a probe, whose tissue drifts; other neurons and the amplifier make noise, slow
waves and the mains hum on. As it is made, the true spikes are known: sorting can be judged.
"""

from pathlib import Path

import numpy as np
from scipy import ndimage

RATE = 25_000  # samples per second and channel
SECONDS = 60
GAIN = 0.2  # microvolts for a step of the int16 numbers in the file
PROBE = np.array([(20 * (i % 2), 12.5 * i) for i in range(32)])  # two columns; in micrometers
UNITS = 8
DRIFT = 6  # micrometers


def make(file: Path) -> dict[int, np.ndarray]:
    """Write the raw file, samples of all channels one after the other; the true spikes of each unit."""
    random = np.random.default_rng(2)
    voltage = noise(random)
    truth = {}
    for unit, depth in enumerate(np.linspace(25, 360, UNITS)):
        truth[unit] = firing_times(random, rate=random.uniform(4, 10))
        add_spikes(voltage, truth[unit], depth, random)
    np.round(voltage / GAIN).astype(np.int16).tofile(file)
    return truth


def noise(random: np.random.Generator) -> np.ndarray:
    """What is there without spikes, in microvolts."""
    shape = (RATE * SECONDS, len(PROBE))
    hiss = random.standard_normal(shape, dtype=np.float32)
    hiss[:, 1:] += 0.4 * hiss[:, :-1]  # neighbours hear the same distant neurons
    time = np.arange(len(hiss), dtype=np.float32) / RATE
    slow = ndimage.gaussian_filter1d(random.standard_normal(len(hiss)), RATE / 40)
    common = 60 * slow / slow.std() + 15 * np.sin(2 * np.pi * 50 * time)
    crackle = 4 * random.standard_normal(len(hiss))  # of the reference electrode
    return 8 * hiss + (common + crackle).astype(np.float32)[:, None]


def firing_times(random: np.random.Generator, rate: float) -> np.ndarray:
    """Samples at which a neuron fires: at random, but not within 3 ms of its last spike."""
    gaps = 0.003 + random.exponential(1 / rate - 0.003, size=int(2 * rate * SECONDS))
    times = np.cumsum(gaps)
    return (times[times < SECONDS - 0.01] * RATE).astype(int)


def add_spikes(
    voltage: np.ndarray, times: np.ndarray, depth: float, random: np.random.Generator
) -> None:
    """Add the spikes of one neuron; its distance from each contact says how large they are there."""
    width, side = random.uniform(0.12, 0.25), random.uniform(-12, 32)  # ms, micrometers
    ms = np.arange(-20, 45) / RATE * 1000
    shape = -np.exp(-((ms / width) ** 2)) + 0.35 * np.exp(-(((ms - 3 * width) / (2 * width)) ** 2))
    peak = random.uniform(140, 220) * random.normal(1, 0.06, size=len(times))  # microvolts
    drifted = depth + DRIFT * np.sin(2 * np.pi * times / RATE / SECONDS)
    position = np.stack([np.full(len(times), side), drifted], axis=1)
    distance = np.linalg.norm(position[:, None] - PROBE, axis=2)
    size = peak[:, None] / (1 + (distance / 30) ** 2)
    for time, sizes in zip(times, size, strict=True):
        rows = voltage[max(0, time - 20) : time + 45]
        rows += np.outer(shape[-len(rows) :], sizes)
