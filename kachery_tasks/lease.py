"""One run at a time: who may compute a job.

Threads of one process wait for each other at a lock in memory; processes of one machine through a lock
on `leases/<job id>` (see file_lease.py); machines that share a zone through what is there (see
zone_lease.py).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeVar

from kachery_store import Store
from kachery_store.errors import KacheryError, StoreUnavailable, unavailable

from .errors import LeaseLostWarning
from .file_lease import FileLease, lock_file

if TYPE_CHECKING:
    from .zone_lease import ZoneLease

T = TypeVar("T")

_Name = tuple[str, str]  # root of the store, job id

_mine: ContextVar[frozenset[_Name]] = ContextVar("kachery_leases_of_this_call", default=frozenset())
_held: dict[_Name, threading.Lock] = {}  # locked by the thread that has the lease
_blocked: dict[_Name, list[_Name]] = {}  # a job that is held -> the jobs that its holder waits for
_mutex = threading.Lock()


class Lease:
    """A lease on a job: of this machine at first, and of all that share a zone after `wait`."""

    def __init__(self, store: Store, job_id: str, own: FileLease) -> None:
        self._store = store
        self._job_id = job_id
        self._own = own
        self._shared: ZoneLease | None = None

    def wait(self, lookup: Callable[[], T | None]) -> T | None:
        """What answers the job once no other machine computes it; None: it is ours to compute.

        Raises what `lookup` raises, ConfigError.
        """
        uplink = self._store.uplink
        if uplink is None or uplink.zone.read_only:
            return lookup()
        from .zone_lease import ZoneLease

        self._shared = ZoneLease(self._store.backend, uplink, self._job_id)
        return self._shared.wait(lookup)

    def lost(self, name: str) -> LeaseLostWarning | None:
        """What to say of a run of the task of that name whose result was not the first.

        None when it was not taken for dead: somebody else had the result all the same.
        """
        taker = self._own.taken_by() or (self._shared and self._shared.taken_by())
        if taker is None:
            return None
        return LeaseLostWarning(
            f"{name} gave no sign of life while it ran, so that {taker} took job {self._job_id} over"
            " and was first: that result counts and is returned. If this one is different, `kachery"
            " show` has both. Where processes are held up for so long, set KACHERY_LEASE_SECONDS to"
            " more"
        )

    def give_back_here(self) -> None:
        """Let others of this machine have it."""
        self._own.give_back()

    def give_back_everywhere(self) -> None:
        """Let other machines have it."""
        if self._shared is not None:
            self._shared.give_back()


@contextmanager
def lease(store: Store, job_id: str, *, replacing: bool = False) -> Iterator[Lease]:
    """Hold the only lease of this machine on a job of a store; waits while somebody else holds it.

    With `replacing`, a holder that gives no sign of life for its lease time is presumed dead, which is
    for work that may be done twice; without, a process that is stopped is waited for. Raises
    StoreUnavailable when the store cannot be written, KacheryError when the caller is inside the same
    job already, ConfigError when the lease time is no such time.
    """
    name = (store.root, job_id)
    if name in _mine.get():
        raise KacheryError(
            f"job {job_id} asks for its own result: a task called itself with the same arguments"
        )
    turn = _wait_for_turn(name, _mine.get())
    process = os.getpid()
    reset = _mine.set(_mine.get() | {name})
    held = None
    try:
        held = Lease(store, job_id, _locked_file(store, job_id, replacing))
        yield held
    finally:
        _mine.reset(reset)
        if os.getpid() == process:  # a child that was forked meanwhile has nothing to give back
            if held is not None:
                held.give_back_here()
            with _mutex:
                del _held[name]
            turn.release()
            if held is not None:  # last, because it takes a journey
                held.give_back_everywhere()


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


def _locked_file(store: Store, job_id: str, replacing: bool) -> FileLease:
    try:
        store.backend.ensure_layout()
        return lock_file(store.backend.path(f"leases/{job_id}"), replacing=replacing)
    except StoreUnavailable:
        raise
    except OSError as error:
        raise unavailable(store.root, error) from error


def _forget_after_fork() -> None:
    global _mutex
    _mutex = threading.Lock()
    _held.clear()
    _blocked.clear()


os.register_at_fork(after_in_child=_forget_after_fork)
