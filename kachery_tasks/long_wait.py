"""A word for people whose call waits long because somebody else computes the same."""

from __future__ import annotations

import logging
from collections.abc import Callable

from .holder import Holder

SAY_AFTER = 3.0  # seconds

_log = logging.getLogger("kachery.tasks")
_named: set[tuple[str, int]] = set()  # whose jobs were waited for: a pipeline has many


class LongWait:
    """One wait for a job, which is told to the log when it lasts; once for each process waited for."""

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id
        self._left = SAY_AFTER

    def lasts(self, seconds: float, find_holder: Callable[[], Holder | None]) -> None:
        """Count some seconds more. `find_holder` is called once at most."""
        if self._left <= 0:
            return
        self._left -= seconds
        if self._left > 0:
            return
        holder = find_holder()
        if holder is None or (holder.host, holder.pid) in _named:
            return
        _named.add((holder.host, holder.pid))
        _log.warning("job %.12s is at work in %s: waiting for its result", self._job_id, holder)
