"""One run at a time: who may compute a job.

Threads of one process wait for each other at a lock in memory; processes of one machine through a lock
on `leases/<job id>`, which the operating system takes back when its holder dies. The file is removed
with the lease; one that a crash left behind locks nobody.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from kachery_store import Store
from kachery_store.errors import KacheryError, unavailable

_Name = tuple[str, str]  # root of the store, job id

_mine: ContextVar[frozenset[_Name]] = ContextVar("kachery_leases_of_this_call", default=frozenset())
_held: dict[_Name, threading.Lock] = {}  # locked by the thread that has the lease
_blocked: dict[_Name, list[_Name]] = {}  # a job that is held -> the jobs that its holder waits for
_mutex = threading.Lock()
_descriptors: set[int] = set()


@contextmanager
def lease(store: Store, job_id: str) -> Iterator[None]:
    """Hold the only lease on a job of a store; waits while somebody else holds it.

    Raises StoreUnavailable when the store cannot be written, KacheryError when the caller is inside
    the same job already.
    """
    name = (store.root, job_id)
    if name in _mine.get():
        raise KacheryError(
            f"job {job_id} asks for its own result: a task called itself with the same arguments"
        )
    turn = _wait_for_turn(name, _mine.get())
    process = os.getpid()
    reset = _mine.set(_mine.get() | {name})
    try:
        with _locked_file(store, job_id):
            yield
    finally:
        _mine.reset(reset)
        if os.getpid() == process:  # a child that was forked meanwhile has nothing to give back
            with _mutex:
                del _held[name]
            turn.release()


def _wait_for_turn(name: _Name, mine: frozenset[_Name]) -> threading.Lock:
    turn = threading.Lock()
    turn.acquire()
    while True:
        with _mutex:
            other = _held.setdefault(name, turn)
            if other is turn:
                return turn
            _refuse_circle(name, mine)
            for one in mine:
                _blocked.setdefault(one, []).append(name)
        try:
            with other:
                pass  # whoever had it is done; now it is somebody's turn
        finally:
            with _mutex:
                for one in mine:
                    _blocked[one].remove(name)
                    if not _blocked[one]:
                        del _blocked[one]


def _refuse_circle(name: _Name, mine: frozenset[_Name]) -> None:
    """Refuse to wait for a job whose holder waits, perhaps through others, for one of mine."""
    seen: set[_Name] = set()
    waiting = [name]
    while waiting:
        for waits_for in _blocked.get(waiting.pop(), ()):
            if waits_for in mine:
                raise KacheryError(
                    f"job {name[1]} and job {waits_for[1]} ask for each other's results"
                )
            if waits_for not in seen:
                seen.add(waits_for)
                waiting.append(waits_for)


@contextmanager
def _locked_file(store: Store, job_id: str) -> Iterator[None]:
    path = store.backend.path(f"leases/{job_id}")
    try:
        store.backend.ensure_layout()
        fd = _lock(path)
    except OSError as error:
        raise unavailable(store.root, error) from error
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == process:
            _give_back(path, fd)


def _give_back(path: str, fd: int) -> None:
    # The file goes before the lock, so that nobody else's goes. What cannot be removed now is no
    # obstacle: the lock counts, not the file.
    with suppress(OSError):
        os.unlink(path)
    _descriptors.discard(fd)
    # A child that was forked meanwhile may have the same lock open; closing would not end it.
    with suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def _lock(path: str) -> int:
    while True:
        fd = _open(path)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                _descriptors.add(fd)
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # the holder we waited for has removed this file; another one counts now


def _open(path: str) -> int:
    flags = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o644)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return os.open(path, flags, 0o644)


def _forget_after_fork() -> None:
    global _mutex
    _mutex = threading.Lock()
    _held.clear()
    _blocked.clear()
    for fd in _descriptors:
        os.close(fd)
    _descriptors.clear()


os.register_at_fork(after_in_child=_forget_after_fork)
