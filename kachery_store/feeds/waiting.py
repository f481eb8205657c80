"""How often a feed is looked at by those who wait for its messages."""

from __future__ import annotations

import time

_LOCAL = (0.002, 0.05)  # seconds, at first and at last: looking costs two calls of the system
_REMOTE = (0.25, 10.0)  # looking costs two requests
_GROWTH = 1.5


class Pauses:
    """The pauses of one wait: they grow while nothing comes, up to a limit; None waits for ever."""

    def __init__(self, local: bool, wait_msec: float | None) -> None:
        self._pause, self._longest = _LOCAL if local else _REMOTE
        self._until = None if wait_msec is None else time.monotonic() + wait_msec / 1000

    def wait(self) -> bool:
        """Wait a while; False when there is no time left."""
        left = self._longest if self._until is None else self._until - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(self._pause, left))
        self._pause = min(self._pause * _GROWTH, self._longest)
        return True
