"""Getting written files onto the disk, now or soon.

Files that may be lost in a power failure (results of tasks, which can be computed again) are
synchronized by one background thread, in batches; whatever is left is done when the process ends.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time

_log = logging.getLogger("kachery.store")

_BATCH_SECONDS = 1.0  # how long writes gather before they are synchronized together
_ONE_BY_ONE_UP_TO = 64  # beyond this, synchronizing the whole file system costs less

# What was deleted since, moved to quarantine, or lay in a folder that is another thing now.
_GONE = (FileNotFoundError, NotADirectoryError)

_pending: dict[str, str] = {}  # path -> root of its store
_wake = threading.Condition()
_thread: threading.Thread | None = None


def sync_file(path: str, root: str) -> None:
    """Fsync a file and the folders that lead to it, up to and including the root."""
    fsync(path)
    _sync_folders(os.path.dirname(path), root, set())


def sync_later(path: str, root: str) -> None:
    """Have the background thread synchronize a file and its folders."""
    global _thread
    with _wake:
        _pending[path] = root
        if _thread is None:
            _thread = threading.Thread(target=_run, name="kachery-flusher", daemon=True)
            _thread.start()
        elif len(_pending) == 1:
            _wake.notify()


def sync_pending() -> None:
    """Synchronize everything that was put off; returns when it is on the disk."""
    with _wake:
        batch = dict(_pending)
        _pending.clear()
    if len(batch) > _ONE_BY_ONE_UP_TO and all(map(sync_file_system, set(batch.values()))):
        return
    done: set[str] = set()  # folders
    for path, root in batch.items():
        try:
            fsync(path)
            _sync_folders(os.path.dirname(path), root, done)
        except _GONE:
            continue
        except OSError as error:
            _log.warning("could not synchronize %s: %s", path, error)


def sync_file_system(root: str) -> bool:
    """Synchronize all of a store's file system, where the system can (Linux: `man syncfs`)."""
    import ctypes

    syncfs = getattr(ctypes.CDLL(None), "syncfs", None)
    if syncfs is None:
        return False
    try:
        fd = os.open(root, os.O_RDONLY | os.O_CLOEXEC)
    except _GONE:
        return True
    except OSError as error:
        _log.warning("could not synchronize %s: %s", root, error)
        return False
    try:
        return bool(syncfs(fd) == 0)
    finally:
        os.close(fd)


def _sync_folders(lowest: str, root: str, done: set[str]) -> None:
    folder = lowest
    while folder not in done and len(folder) >= len(root):
        fsync(folder)
        done.add(folder)
        folder = os.path.dirname(folder)


def fsync(path: str) -> None:
    """Return when this one file or folder is on the disk."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _run() -> None:
    while True:
        with _wake:
            while not _pending:
                _wake.wait()
        time.sleep(_BATCH_SECONDS)
        sync_pending()


def _forget_after_fork() -> None:
    # The parent synchronizes what it wrote; the child starts with a thread of its own.
    global _thread, _wake
    _wake = threading.Condition()
    _pending.clear()
    _thread = None


os.register_at_fork(after_in_child=_forget_after_fork)
atexit.register(sync_pending)
