"""Which jobs of a store are being computed: those whose file in `leases/` is locked."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress

from .local_backend import LocalBackend
from .sweep import File, files_below

LEASES = "leases"


def running_jobs(backend: LocalBackend) -> dict[str, int]:
    """Of each job that is being computed, when that began: nanoseconds, as the file system tells."""
    return {
        file.name.rpartition("/")[2]: file.changed
        for file in files_below(backend, LEASES)
        if _is_locked(backend.path(file.name))
    }


def is_running(backend: LocalBackend, job_id: str) -> bool:
    """Whether some process computes the job now."""
    return _is_locked(backend.path(f"{LEASES}/{job_id}"))


def stale_leases(backend: LocalBackend) -> Iterator[File]:
    """The files of leases that nobody holds: a crash left them. They do no harm."""
    for file in files_below(backend, LEASES):
        if not _is_locked(backend.path(file.name)):
            yield file


def remove_lease(backend: LocalBackend, name: str) -> bool:
    """Remove the file of a lease that nobody holds; whether it has gone.

    The file goes while we hold the lock, as its holder would do it: who waits for it tries again.
    """
    path = backend.path(name)
    with suppress(OSError):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_nlink:
                os.unlink(path)
            return True
        finally:
            os.close(fd)
    return not os.path.exists(path)


def _is_locked(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # it has gone, so nobody holds it
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(fd)
    return False
