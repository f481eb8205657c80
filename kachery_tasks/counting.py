"""What this process has asked for: counted for `kachery.stats()`, told to the log `kachery.tasks`."""

from __future__ import annotations

import logging
import os
import threading
from typing import NamedTuple

from .record import Record

_log = logging.getLogger("kachery.tasks")


class Stats(NamedTuple):
    """What calls and jobs of this process came to since it began, or since the last reset.

    `hits` were served, `misses` ran (on a cluster, too), `failures` raised. `seconds_saved` is the time
    that the hits had taken when they ran, `seconds_spent` that of the misses; `bytes_served` the size of
    the results of the hits, `bytes_stored` that of the misses.
    """

    hits: int = 0
    misses: int = 0
    failures: int = 0
    seconds_saved: float = 0.0
    seconds_spent: float = 0.0
    bytes_served: int = 0
    bytes_stored: int = 0

    def __str__(self) -> str:
        return (
            f"{self.hits} hits ({self.seconds_saved:.3g} s saved), {self.misses} misses"
            f" ({self.seconds_spent:.3g} s), {self.failures} failures"
        )

    def __repr__(self) -> str:
        return f"<Stats: {self}>"


class _Counts:
    """The same, while it is being counted: a hit costs a few hundred nanoseconds."""

    __slots__ = Stats._fields

    def __init__(self) -> None:
        self.hits = self.misses = self.failures = 0
        self.bytes_served = self.bytes_stored = 0
        self.seconds_saved = self.seconds_spent = 0.0


_counts = _Counts()
_lock = threading.Lock()


def stats(*, reset: bool = False) -> Stats:
    """What this process has asked for so far; `reset` begins to count anew."""
    global _counts
    with _lock:
        found = Stats(*(getattr(_counts, name) for name in Stats._fields))
        if reset:
            _counts = _Counts()
    return found


def hit(record: Record) -> None:
    """Count a result that was served."""
    with _lock:
        _counts.hits += 1
        _counts.seconds_saved += record.seconds
        _counts.bytes_served += record.result.size
    _log.debug("hit   %.12s %s", record.job_id, record.task)


def miss(record: Record | None, task: str) -> None:
    """Count a run; without a record its result could not be stored."""
    seconds, size = (0.0, 0) if record is None else (record.seconds, record.result.size)
    with _lock:
        _counts.misses += 1
        _counts.seconds_spent += seconds
        _counts.bytes_stored += size
    job_id = "not stored" if record is None else record.job_id
    _log.debug("miss  %.12s %s %.3g s", job_id, task, seconds)


def waited(job_id: str, task: str, seconds: float) -> None:
    """Tell how long it took until nobody else computed a job."""
    _log.debug("wait  %.12s %s %.3g s", job_id, task, seconds)


def committed(record: Record, seconds: float) -> None:
    """Tell how long it took to store a result."""
    _log.debug("store %.12s %s %.3g s", record.job_id, record.task, seconds)


def failure(task: str, error: BaseException) -> None:
    """Count a run that raised."""
    with _lock:
        _counts.failures += 1
    _log.debug("error %s: %s: %s", task, type(error).__name__, error)


def _forget_after_fork() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_after_fork)
