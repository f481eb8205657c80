"""Garbage collection: carrying out a plan while others use the store.

It goes file by file, records before their blobs, and looks at each file once more: what somebody has
begun to count on since the plan was made, stays.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from .errors import BadURI, Busy, unavailable
from .inventory import HeldBy, Inventory, Reached, named_by, reached, take_inventory
from .local_backend import LocalBackend
from .pins import FOLDER as PINS
from .pins import JOB, Pinned, Pins, parse_pinned
from .removal import Plan, Policy, plan_removal
from .running import is_running
from .sessions import close
from .sweep import File, file_time, files_below, take_away

LOCK_FILE = "gc.lock"

_TICK_SECONDS = 0.02  # the clock of a file system stands still for up to 10 ms
_SETTLED_NANOSECONDS = 1_000_000_000  # a folder changed this recently may change again unnoticed


class Collected(NamedTuple):
    """What was done: the plan; how many files went; their bytes; how many stayed after all."""

    plan: Plan
    files: int = 0
    freed: int = 0
    spared: int = 0


def collect_garbage(
    backend: LocalBackend,
    held_by: HeldBy,
    policy: Policy,
    *,
    dry_run: bool = False,
    progress: Callable[[int], object] = lambda _: None,
) -> Collected:
    """Take from a store what a policy says; with `dry_run` only plan it.

    `progress` is told the number of bytes after each thing that went. Raises Busy when another
    collection is under way, StoreUnavailable.
    """
    pins = Pins(backend)
    if dry_run:
        found = take_inventory(backend, held_by)
        return Collected(
            plan_removal(found, pins.pinned() | _waiting(backend), policy, time.time_ns())
        )
    with _alone(backend):
        _clear_leftovers(backend)
        time.sleep(_TICK_SECONDS)
        now = file_time(backend)
        found = take_inventory(backend, held_by)
        plan = plan_removal(found, pins.pinned() | _waiting(backend), policy, now)
        return _carry_out(plan, backend, _Guard(backend, found, pins), progress)


def stored_bytes(backend: LocalBackend) -> int:
    """Bytes in a store that a collection counts; this reads folders, and no file."""
    folders = ("jobs", "differing", "arrays", "code", "blake3", "sha1", "sha256")
    return sum(file.size for folder in folders for file in files_below(backend, folder))


class _Guard:
    """Has the last word on what goes: since the plan was made, pins may have come and jobs begun."""

    def __init__(self, backend: LocalBackend, found: Inventory, pins: Pins) -> None:
        self._backend = backend
        self._found = found
        self._pins = pins
        self._pinned: set[Pinned] = set()
        self._kept = Reached(set(), set())
        self._looked = -1

    def may_go(self, file: File, job_id: str | None) -> bool:
        """Whether a file may go; `job_id` when it is a job's record."""
        self._look_at_pins()
        if job_id is not None:
            return job_id not in self._kept.jobs and not is_running(self._backend, job_id)
        return file.name not in self._kept.blobs

    def needed_by(self, job_id: str) -> set[str]:
        """The names of the blobs that a record holds or names, and of the manifests of its arrays."""
        entry = self._found.records[job_id]
        held = () if entry.held is None else entry.held.arrays
        arrays = {f"arrays/{address[:2]}/{address}" for address in held}
        return entry.blobs | named_by(entry) | arrays

    def needed_by_array(self, file: File) -> set[str]:
        """The names of a manifest and of the blobs that it holds, whoever else holds them."""
        return self._found.arrays[file.name.rpartition("/")[2]].blobs | {file.name}

    def needed_by_session(self, name: str) -> set[str]:
        """The names of the blobs that a session of writing holds."""
        return self._found.sessions[name].blobs

    def _look_at_pins(self) -> None:
        changed = self._pins_changed()
        if changed == self._looked and abs(time.time_ns() - changed) > _SETTLED_NANOSECONDS:
            return
        self._looked = changed
        pinned = self._pins.pinned()
        if pinned != self._pinned:
            self._pinned = pinned
            self._kept = reached(self._found, pinned)

    def _pins_changed(self) -> int:
        status = self._backend.stat(PINS)
        return 0 if status is None else status.st_mtime_ns


def _carry_out(
    plan: Plan, backend: LocalBackend, guard: _Guard, progress: Callable[[int], object]
) -> Collected:
    files = freed = spared = 0
    needed: set[str] = set()  # blobs of what stayed after all
    for going in plan.going:
        if going.session is not None and not close(backend, going.session, going.files):
            spared += len(going.files)
            needed |= guard.needed_by_session(going.session)
            continue
        for file in going.files:
            record_of = going.job_id if file.name.startswith("jobs/") else None
            if file.name not in needed and _went(backend, guard, file, record_of):
                files, freed = files + 1, freed + file.size
                continue
            spared += 1
            if file.name.startswith("arrays/"):  # somebody has begun to count on it
                needed |= guard.needed_by_array(file)
            if record_of is not None:
                needed |= guard.needed_by(record_of)
                break
        progress(going.size)
    return Collected(plan, files, freed, spared)


def _went(backend: LocalBackend, guard: _Guard, file: File, job_id: str | None) -> bool:
    return take_away(backend, file, lambda _: guard.may_go(file, job_id))


def _waiting(backend: LocalBackend) -> set[Pinned]:
    """What is still to be sent to a zone."""
    found = set()
    for name in backend.names("outbox"):
        kind, hex = name.split("/")[-2:]
        with suppress(BadURI):
            found.add(parse_pinned(f"{JOB if kind == 'jobs' else kind}://{hex}"))
    return found


@contextmanager
def _alone(backend: LocalBackend) -> Iterator[None]:
    """Be the only collection of this store. Busy, StoreUnavailable."""
    try:
        backend.ensure_layout()
        flags = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC
        fd = os.open(backend.path(LOCK_FILE), flags, 0o644)
    except OSError as error:
        raise unavailable(backend.root, error) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Busy(
            f"garbage is being collected at {backend.root} already; one collection at a time is enough"
        ) from None
    finally:
        os.close(fd)


def clear_leftovers(backend: LocalBackend) -> int:
    """Remove what a collection that was killed had already moved out of sight; how many files. Busy."""
    with _alone(backend):
        return _clear_leftovers(backend)


def _clear_leftovers(backend: LocalBackend) -> int:
    removed = 0
    for file in list(files_below(backend, "tmp")):
        if file.name.startswith("tmp/gc."):
            with suppress(OSError):
                os.unlink(backend.path(file.name))
                removed += 1
    return removed
