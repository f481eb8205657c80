"""Taking files away while others write, read and deduplicate.

Who finds that bytes are stored already counts on that file from then on: `refresh` renews its time,
under a shared lock. `take_away` looks at the time and moves the file out of sight, under the exclusive
lock; so a file that somebody has begun to count on since it was looked at stays, and whoever comes
too late is told. A file is only renamed and unlinked: what has it mapped or open keeps its bytes.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from .errors import StoreUnavailable, unavailable
from .local_backend import LocalBackend

LOCK_FILE = "sweep.lock"

_MAY_NOT = (errno.EPERM, errno.EACCES, errno.EROFS)


class File(NamedTuple):
    """A file of a store as it was when it was looked at.

    `size`: bytes. `changed`: nanoseconds since 1970, by the clock of the file system. `used`: seconds
    since 1970; when it was last read (as far as the system notes that) or changed. `inode` tells it
    from another one that took its place.
    """

    name: str
    size: int
    changed: int
    used: float
    inode: int

    def is_still(self, status: os.stat_result) -> bool:
        """Whether a file that has this status is this one, and nobody has begun to count on it."""
        return (status.st_ino, status.st_mtime_ns) == (self.inode, self.changed)


def file_of(name: str, status: os.stat_result) -> File:
    """What is worth remembering of a file."""
    used = max(status.st_atime, status.st_mtime)
    return File(name, status.st_size, status.st_mtime_ns, used, status.st_ino)


def refresh(backend: LocalBackend, name: str) -> bool:
    """Count on a file from now on; False when it has gone.

    Its time is renewed, so that no collection which is under way takes it. Where this user may write
    nothing, the file is taken as it is.
    """
    backend.refuse_links(name)
    with locked(backend, fcntl.LOCK_SH):
        try:
            os.utime(backend.path(name))
            return True
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in _MAY_NOT:
                raise unavailable(backend.root, error) from error
    return _own_copy(backend, name)


def _own_copy(backend: LocalBackend, name: str) -> bool:
    """Put a copy that belongs to this user in the place of another user's file."""
    status = backend.stat(name)
    if status is None:
        return False
    data = backend.map(name)[0] if status.st_size else b""
    with suppress(StoreUnavailable):
        backend.replace(name, data)
    return True


def take_away(backend: LocalBackend, file: File, may_go: Callable[[os.stat_result], bool]) -> bool:
    """Delete a file if nobody has begun to count on it; whether it has gone.

    `may_go` has the last word; it is asked while nobody can begin to count on anything.
    """
    backend.refuse_links(file.name)
    path = backend.path(file.name)
    aside = backend.path(f"tmp/gc.{os.urandom(8).hex()}")
    try:
        with locked(backend, fcntl.LOCK_EX):
            status = backend.stat(file.name)
            if status is None or not file.is_still(status) or not may_go(status):
                return False
            os.rename(path, aside)
        # Large files take a while, so this is done when nobody waits for us any more. Where locks of
        # other machines do not count, somebody may have come between.
        if not file.is_still(os.stat(aside)):
            with suppress(FileExistsError):
                os.link(aside, path)
            os.unlink(aside)
            return False
        os.unlink(aside)
    except FileNotFoundError:
        return False
    except StoreUnavailable:
        raise
    except OSError as error:
        raise unavailable(backend.root, error) from error
    return True


@contextmanager
def locked(backend: LocalBackend, kind: int) -> Iterator[None]:
    """Hold the lock that keeps `refresh` and `take_away` apart; `kind` as for flock.

    In a store that cannot be written, or is not there, there is nothing to be kept apart. Where the
    lock cannot be had for another reason nothing goes on without it: StoreUnavailable.
    """
    fd = _lock_file(backend)
    if fd is None:
        yield
        return
    try:
        _lock(backend, fd, kind)
        yield
    finally:
        os.close(fd)


def _lock_file(backend: LocalBackend) -> int | None:
    flags = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(backend.path(LOCK_FILE), flags, 0o644)
    except OSError as error:
        if error.errno in (*_MAY_NOT, errno.ENOENT):
            return None
        raise unavailable(backend.root, error) from error


def _lock(backend: LocalBackend, fd: int, kind: int) -> None:
    try:
        fcntl.flock(fd, kind)
    except OSError as error:  # of a file system without locks, or out of them
        raise unavailable(backend.root, error) from error


def file_time(backend: LocalBackend) -> int:
    """What the clock of the file system says, in nanoseconds since 1970. StoreUnavailable."""
    try:
        backend.ensure_layout()
        name = f"tmp/{os.getpid()}.{os.urandom(8).hex()}"
        path = backend.path(name)
        backend.refuse_links(name)
        backend.make_folder(os.path.dirname(path))
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.unlink(path)
            return os.fstat(fd).st_mtime_ns
        finally:
            os.close(fd)
    except StoreUnavailable:
        raise
    except OSError as error:
        raise unavailable(backend.root, error) from error


def files_below(backend: LocalBackend, folder: str) -> Iterator[File]:
    """All files below a folder of the store, in no special order; not those with a dot first.

    What goes away meanwhile is left out. StoreUnavailable.
    """
    try:
        with os.scandir(backend.path(folder)) as scan:
            entries = list(scan)
        for entry in entries:
            name = f"{folder}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from files_below(backend, name)
            elif not entry.name.startswith("."):
                with suppress(FileNotFoundError):
                    yield file_of(name, entry.stat(follow_symlinks=False))
    except FileNotFoundError:
        return
    except OSError as error:
        raise unavailable(backend.root, error) from error


def open_quietly(path: str) -> int:
    """Open a file for reading without that counting as its use, where the system can do that."""
    flags = os.O_RDONLY | os.O_CLOEXEC
    with suppress(PermissionError):  # of another user's file the time of use cannot be held
        return os.open(path, flags | getattr(os, "O_NOATIME", 0))
    return os.open(path, flags)
