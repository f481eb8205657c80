"""The functions that are memoized. Each run writes one line, so that hits and misses are told apart.

A line holds the seconds that the function itself took, which are no cost of the library.
"""

from __future__ import annotations

import os
import time
from typing import Any

RUNS_FD = 100  # each child has its file of runs open under this number


def ran(seconds: float = 0.0) -> None:
    """Note a run in this process, or in one that it started with its open files."""
    os.write(RUNS_FD, f"{seconds:.9f}\n".encode())


def small(x: int, y: float) -> float:
    """Two numbers in, one out."""
    ran()
    return x * y


def middle(array: Any) -> float:
    """One number of an array, which differs when that element does."""
    ran()
    return float(array[len(array) // 2])


def last_cell(frame: Any) -> float:
    """One number of a frame."""
    ran()
    return float(frame["measured"].iloc[-1])


def deepest(entries: Any) -> float:
    """One number of a nested dictionary."""
    ran()
    return float(entries["entry 77"]["limits"][1])


def make(seed: int, items: int) -> Any:
    """An array of float64, which costs little to make beside the page faults."""
    import numpy as np

    began = time.perf_counter()
    made = np.full(items, float(seed))
    ran(time.perf_counter() - began)
    return made


def slow(x: int, runs: str) -> int:
    """Takes long enough that all who ask at once ask before it has ended; notes its run in a file."""
    note(runs)
    time.sleep(0.5)
    return x + 1


def trivial(x: int, runs: str) -> int:
    """What a job on the cluster does; notes its run in a file."""
    note(runs)
    return x + 1


def note(path: str) -> None:
    """Add one byte to a file."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(fd, b".")
    os.close(fd)
