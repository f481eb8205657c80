"""A lease among the processes of one machine: a lock on a file that says who holds it.

The operating system takes the lock back when its holder dies. A holder that is stopped, or stuck, keeps
it; it is presumed dead when the file has not been touched for as long as the holder said, and its file
is put out of the way. It finds that out when it looks (`taken_by`).
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import threading
import time
from contextlib import suppress
from functools import cache

from .heartbeat import Heart
from .holder import (
    MOST_BYTES,
    Holder,
    holder_of,
    lease_seconds,
    processor_time,
    this_process,
)
from .long_wait import LongWait

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.001, 0.02  # seconds between two looks
# A clock that goes on while the machine sleeps.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

_log = logging.getLogger("kachery.tasks")
_heart = Heart()
_descriptors: set[int] = set()


class FileLease:
    """A lease that this process holds, until it is given back."""

    __slots__ = ("_beaten", "_fd", "_lock", "_made", "_path", "seconds")

    def __init__(
        self, path: str, fd: int, made: os.stat_result, seconds: float, began: float
    ) -> None:
        self.seconds = seconds
        self._path = path
        self._fd = fd
        self._made = made
        self._beaten = began
        self._lock = threading.Lock()
        _descriptors.add(fd)
        _heart.add(self)

    def beat(self) -> None:
        """Touch the file. When it was written stays: that is when the job began, to `kachery gc`."""
        with self._lock:
            now = time.clock_gettime(_CLOCK)
            if self._fd >= 0 and _inode(self._path) == self._made.st_ino:
                os.utime(self._fd, ns=(time.time_ns(), self._made.st_mtime_ns))
                self._beaten = now

    def taken_by(self) -> str | None:
        """Who has the lease by now, if that is somebody else."""
        if _inode(self._path) == self._made.st_ino:
            return None
        return str(_holder_at(self._path) or "a process that has ended since")

    def give_back(self) -> None:
        """Let others have it."""
        _heart.remove(self)
        with self._lock:
            fd, self._fd = self._fd, -1
        # The file goes before the lock, so that nobody else's goes. What cannot be removed now is no
        # obstacle: the lock counts, not the file.
        with suppress(OSError):
            # Nobody can presume us dead who was not silent for long.
            if time.clock_gettime(_CLOCK) - self._beaten < self.seconds / 2:
                os.unlink(self._path)
            else:
                _put_away(self._path, self._made.st_ino)
        _descriptors.discard(fd)
        # A child that was forked meanwhile may have the same lock open; closing would not end it.
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def lock_file(path: str, *, replacing: bool) -> FileLease:
    """Hold the lease at a path when it is free; with `replacing`, or its holder is presumed dead.

    Raises OSError, ConfigError.
    """
    lease = _create(path)
    if lease is not None:
        return lease
    watch = _Watch(path, replacing)
    wait = LongWait(os.path.basename(path))
    pause = 0.0
    while True:
        if watch.is_over(pause):
            lease = _create(path)
            if lease is not None:
                return lease
        pause = min(max(2 * pause, _SHORTEST_PAUSE), _LONGEST_PAUSE)
        time.sleep(pause)
        wait.lasts(pause, watch.holder)


class _Watch:
    """Looks at somebody else's lease.

    Looks are counted, not seconds: while this process is stopped itself, it does not observe that the
    other one is silent.
    """

    def __init__(self, path: str, replacing: bool) -> None:
        self._path = path
        self._replacing = replacing
        self._sign: tuple[int, int] | None = None
        self._silent = 0.0
        self._holder: Holder | None = None
        self._computed: str | None = None

    def holder(self) -> Holder | None:
        """Who has the lease, if that can be told."""
        return _holder_at(self._path)

    def is_over(self, pause: float) -> bool:
        """Whether the lease is to be had. `pause`: seconds since the last look."""
        try:
            fd = _open(self._path)
        except FileNotFoundError:
            return True
        try:
            if _locked(fd):  # whoever made the file is gone
                if _inode(self._path) == os.fstat(fd).st_ino:
                    os.unlink(self._path)
                return True
            return self._replacing and self._is_silent(fd, pause)
        except FileNotFoundError:
            return True
        finally:
            os.close(fd)

    def _is_silent(self, fd: int, pause: float) -> bool:
        found = os.fstat(fd)
        sign = (found.st_ino, found.st_ctime_ns)
        if sign != self._sign:
            self._hear(sign, fd)
            return False
        self._silent += pause
        seconds = lease_seconds() if self._holder is None else self._holder.seconds
        if self._silent < seconds:
            return False
        if self._holder is not None and processor_time(self._holder) != self._computed:
            self._hear(sign, fd)  # a function that never lets other threads of its process run
            return False
        who = self._holder or "a process that does not say its name"
        _log.warning(
            "%s, which holds %s, has been silent for %g s: its job is taken over",
            *(who, self._path, seconds),
        )
        _put_away(self._path, found.st_ino)
        return True

    def _hear(self, sign: tuple[int, int], fd: int) -> None:
        self._sign, self._silent = sign, 0.0
        self._holder = holder_of(os.pread(fd, MOST_BYTES, 0))
        self._computed = None if self._holder is None else processor_time(self._holder)


def _create(path: str) -> FileLease | None:
    """The lease in a new file; None when there is one already."""
    began = time.clock_gettime(_CLOCK)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o644)
    except FileExistsError:
        return None
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return _create(path)
    try:
        if _locked(fd):
            seconds = lease_seconds()
            os.write(fd, _words(seconds, os.getpid()))
            made = os.fstat(fd)
            # Somebody may have seen it unlocked, and thought that its holder was gone.
            if _inode(path) == made.st_ino:
                return FileLease(path, fd, made, seconds, began)
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)  # NFS locks no file that is only read
    except PermissionError:  # another user's
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _holder_at(path: str) -> Holder | None:
    with suppress(OSError), open(path, "rb") as file:
        return holder_of(file.read(MOST_BYTES))
    return None


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return None


@cache
def _words(seconds: float, pid: int) -> bytes:
    """What our lease says: the same in each, for a file is told apart by its number."""
    return this_process()._replace(seconds=seconds, pid=pid, nonce="").to_bytes()


def _put_away(path: str, inode: int) -> None:
    """Remove a file unless another one has taken its name; who is faster removes it."""
    temporary = os.path.join(os.path.dirname(os.path.dirname(path)), "tmp")
    aside = f"{temporary}/{os.getpid()}.{os.urandom(8).hex()}"
    try:
        if os.stat(path).st_ino != inode:
            return
        os.makedirs(temporary, exist_ok=True)
        os.rename(path, aside)
    except FileNotFoundError:
        return
    # Another one may have come in between, and gets its name back. If a third one has it meanwhile,
    # two compute the same job, and the first to commit wins.
    if os.stat(aside).st_ino != inode:
        try:
            os.link(aside, path)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise
    os.unlink(aside)


def _close_after_fork() -> None:
    for fd in _descriptors:
        os.close(fd)
    _descriptors.clear()


os.register_at_fork(after_in_child=_close_after_fork)
