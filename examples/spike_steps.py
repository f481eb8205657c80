"""The steps of spike sorting, each a task: its result is kept, for these arguments and this code.

The recording is cut into chunks that overlap a little, so that no spike is lost between two of them.
"""

import numpy as np
from scipy import linalg, ndimage, optimize, signal
from scipy.cluster.vq import kmeans2
from spike_recording import GAIN, PROBE, RATE

import kachery

CHUNK = 5 * RATE  # samples
BEFORE, AFTER = 15, 25  # samples around the trough of a spike
MARGIN = 2 * AFTER  # what a chunk has of its neighbours, on either side
SETTLING = RATE // 10  # of the filter
NEAR = np.linalg.norm(PROBE[:, None] - PROBE, axis=2) < 80  # channels that see the same spike


@kachery.task
def clean(uri, *, first):
    """The chunk that begins at sample `first`, in microvolts: without slow waves and common noise."""
    raw = np.memmap(kachery.load_file(uri), np.int16, "r").reshape(-1, len(PROBE))
    around = MARGIN + SETTLING
    rows = np.arange(first - around, first + CHUNK + around).clip(0, len(raw) - 1)
    band = signal.butter(3, (300, 6000), "bandpass", fs=RATE, output="sos")
    filtered = signal.sosfiltfilt(band, raw[rows] * np.float32(GAIN), axis=0)[SETTLING:-SETTLING]
    return (filtered - np.median(filtered, axis=1, keepdims=True)).astype(np.float32)


@kachery.task
def detect(chunk, *, threshold):
    """Row and channel of each trough that is the lowest around; `threshold` is in units of the noise."""
    noise = np.median(np.abs(chunk), axis=0) / 0.6745
    lowest = ndimage.minimum_filter1d(chunk, 2 * BEFORE + 1, axis=0)
    rows, channels = np.nonzero((chunk == lowest) & (chunk < -threshold * noise))
    around = np.where(NEAR[channels], lowest[rows], 0).min(axis=1)
    ours = (rows >= MARGIN) & (rows < len(chunk) - MARGIN)  # the others are found in the next chunk
    return np.stack([rows, channels], axis=1)[ours & (chunk[rows, channels] == around)]


@kachery.task
def cut_out(chunk, peaks):
    """The voltage of all channels around each trough: spike x sample x channel."""
    return chunk[peaks[:, :1] + np.arange(-BEFORE, AFTER)]


@kachery.task
def project(snippets, *, dimensions):
    """The snippets of all chunks, on their principal components."""
    flat = np.concatenate(snippets).reshape(-1, (BEFORE + AFTER) * len(PROBE))
    flat -= flat.mean(axis=0)
    last = flat.shape[1] - 1
    _, axes = linalg.eigh(flat.T @ flat, subset_by_index=[last - dimensions + 1, last])
    return flat @ axes[:, ::-1]  # the largest comes first


@kachery.task
def cluster(points, *, count, seed=0, restarts=10):
    """A label for each point: the best of some runs of k-means, which begin at different points."""
    random = np.random.default_rng(seed)
    runs = [kmeans2(points, begin(points, count, random), minit="matrix") for _ in range(restarts)]
    return min(runs, key=lambda run: np.sum((points - run[0][run[1]]) ** 2))[1]


@kachery.task
def choose(points, clusterings):
    """The labels whose clusters are most compact and apart."""
    return max(clusterings, key=lambda labels: separation(points, labels))


@kachery.task
def spike_trains(peaks, labels):
    """The samples at which each unit fired; `peaks` has those of each chunk."""
    rows = [CHUNK * i + found[:, 0] - MARGIN for i, found in enumerate(peaks)]
    times = np.concatenate(rows)
    return {unit: times[labels == unit] for unit in range(labels.max() + 1)}


@kachery.task
def average(snippets, labels):
    """The template of each unit: sample x channel."""
    every = np.concatenate(snippets)
    return {unit: every[labels == unit].mean(axis=0) for unit in range(labels.max() + 1)}


@kachery.task
def compare(found, truth):
    """For each true unit: the unit found that fits best, and its accuracy (1 is perfect)."""
    table = np.array([[accuracy(f, t) for f in found.values()] for t in truth.values()])
    rows, columns = optimize.linear_sum_assignment(table, maximize=True)
    return {int(i): (int(j), float(table[i, j])) for i, j in zip(rows, columns, strict=True)}


def begin(points, count, random):
    """Points far from each other, to begin k-means with (k-means++)."""
    chosen = points[random.integers(len(points), size=1)]
    while len(chosen) < count:
        distance = np.min(np.sum((points[:, None] - chosen) ** 2, axis=2), axis=1)
        chosen = np.vstack(
            [chosen, points[random.choice(len(points), p=distance / distance.sum())]]
        )
    return chosen


def separation(points, labels):
    """The mean silhouette, with distances from the centres of clusters: 1 is best."""
    centres = np.array([points[labels == i].mean(axis=0) for i in range(labels.max() + 1)])
    distance = np.linalg.norm(points[:, None] - centres, axis=2)
    own, other = np.partition(distance, 1, axis=1)[:, :2].T
    return np.mean(1 - own / other)


def accuracy(found, truth, tolerance=RATE // 2500):
    """Spikes in both, within 0.4 ms, of those in either."""
    both = min(count_near(found, truth, tolerance), count_near(truth, found, tolerance))
    return both / (len(found) + len(truth) - both)


def count_near(these, those, tolerance):
    """How many of these times have one of those near them. Both are sorted."""
    first, end = (np.searchsorted(those, these + d) for d in (-tolerance, tolerance + 1))
    return np.sum(end > first)
