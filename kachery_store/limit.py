"""`maxCacheSizeGiB`, enforced by itself.

A store that has a limit is looked at by a thread of each process that uses it: some seconds after the
first use, then every ten minutes, and when the process ends; only if something was written since.
Without a limit there is no thread. Looking up and loading never wait for any of this.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading

from .config import read_config
from .errors import KacheryError
from .local_backend import LocalBackend
from .meaning import held_by_at

_log = logging.getLogger("kachery.store")

_FIRST_SECONDS = 10.0
_EVERY_SECONDS = 600.0

_limits: dict[str, int] = {}  # root -> bytes
_seen: dict[str, int] = {}  # root -> when something was last written, as of the last look
_mutex = threading.Lock()  # one look at a time
_thread: threading.Thread | None = None
_ending = threading.Event()


def watch(root: str) -> None:
    """Keep a store below the limit that its configuration sets, if any. ConfigError."""
    global _thread
    limit = read_config(root).max_size
    if limit is None or root in _limits:
        return
    _seen.setdefault(root, _last_write(root))
    _limits[root] = limit
    if _thread is None:
        _thread = threading.Thread(target=_run, name="kachery-limit", daemon=True)
        _thread.start()


def enforce_now() -> None:
    """Bring each store that was written to since the last look below its limit."""
    with _mutex:
        for root, limit in list(_limits.items()):
            written = _last_write(root)
            if written != _seen[root]:
                _enforce(root, limit)
                _seen[root] = _last_write(root)


def _enforce(root: str, limit: int) -> None:
    from .gc import collect_garbage, stored_bytes
    from .removal import Policy

    backend = LocalBackend(root)
    try:
        if stored_bytes(backend) > limit:
            collect_garbage(backend, held_by_at(root), Policy(max_size=limit))
    except (KacheryError, OSError) as error:
        _log.warning("could not keep %s below %d bytes: %s", root, limit, error)


def _last_write(root: str) -> int:
    """When the folder through which every new file goes was last changed: nanoseconds, or 0."""
    try:
        return os.stat(os.path.join(root, "tmp")).st_mtime_ns
    except OSError:
        return 0


def _run() -> None:
    wait = _FIRST_SECONDS
    while not _ending.wait(wait):
        enforce_now()
        wait = _EVERY_SECONDS


def _at_exit() -> None:
    _ending.set()
    if _limits:
        enforce_now()


def _after_fork() -> None:
    # The parent goes on watching. The child starts anew when it opens a store, if it ever does.
    global _mutex, _thread, _ending
    _mutex, _ending, _thread = threading.Lock(), threading.Event(), None
    _limits.clear()
    _seen.clear()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
