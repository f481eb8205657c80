"""Signs of life of the leases that this process holds, from one daemon thread per kind of place."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Protocol
from weakref import WeakSet

_log = logging.getLogger("kachery.tasks")


class Beating(Protocol):
    """A lease that wants to be kept."""

    seconds: float

    def beat(self) -> None:
        """Give a sign of life. Any exception is logged, and it is tried again the next time."""


class Heart:
    """Lets leases beat every third of their time.

    Its thread starts with the first lease and ends after a third in which there was none, so that in a
    row of short jobs a lease costs an entry in a dict.
    """

    def __init__(self) -> None:
        self.start_afresh()
        _hearts.add(self)

    def start_afresh(self) -> None:
        """Forget everything: in a forked child the thread is gone, and the leases are the parent's."""
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._since: dict[Beating, float] = {}
        self._thread: threading.Thread | None = None
        self._pause = 0.0

    def add(self, lease: Beating) -> None:
        """Keep a lease from now on."""
        with self._lock:
            self._since[lease] = time.monotonic()
            if self._thread is None:
                self._pause = lease.seconds / 3
                self._thread = threading.Thread(
                    target=self._run, args=(self._wake,), name="kachery-leases", daemon=True
                )
                try:
                    self._thread.start()
                except (
                    RuntimeError
                ) as error:  # no more threads, or the interpreter is shutting down
                    self._thread = None
                    _log.warning("leases are not renewed: %s", error)
            elif lease.seconds / 3 < self._pause:
                self._wake.notify()

    def remove(self, lease: Beating) -> None:
        """Keep a lease no longer. A beat that is under way goes on."""
        with self._lock:
            self._since.pop(lease, None)

    def _run(self, wake: threading.Condition) -> None:
        while True:
            with wake:
                if not self._since:
                    self._thread = None
                    return
                self._pause = min(lease.seconds for lease in self._since) / 3
                wake.wait(self._pause)
                # What has just begun can wait until the next time.
                young = time.monotonic() - self._pause / 4
                due = [lease for lease, since in self._since.items() if since <= young]
            for lease in due:
                try:
                    lease.beat()
                except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to
                    _log.warning("a lease could not be renewed: %s", error)


_hearts: WeakSet[Heart] = WeakSet()


def _after_fork() -> None:
    for heart in list(_hearts):
        heart.start_afresh()


os.register_at_fork(after_in_child=_after_fork)
