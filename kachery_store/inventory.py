"""What is in a store, and who holds what: the ground on which collecting and repairing decide."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from .digest import HEX_LENGTH, Digest
from .errors import DigestMismatch, StoreTooNew
from .local_backend import LocalBackend
from .pins import JOB, Pinned
from .running import running_jobs
from .sessions import Session, sessions_of
from .sweep import File, file_of, files_below, open_quietly

_READ = 1 << 20
_NOTES = ("failures", "lost", "made", "partial")  # for people, or hints; they grow old


class Held(NamedTuple):
    """What a record holds, and what it tells about its job.

    `task`: its name. `blobs`: digests and sizes of what the result consists of. `files`: the stored
    files whose URIs are in the result or in the summaries of the arguments. `seconds`: how long the
    job took. `codes`: the fingerprints that it names. `address`: of the result, `arguments`: of the
    arguments, in hex. `complete` is False when an encoding that names blobs is lost itself. `arrays`:
    addresses of the chunked arrays in the result, whose chunks are among `blobs`. Of the manifest of
    such an array: what that holds, and whether it is `named` by a user. `about`: those of the files that
    only tell more about the job, and are nobody's.
    """

    task: str
    blobs: list[tuple[Digest, int]]
    files: list[Digest]
    seconds: float
    codes: list[str]
    address: str
    arguments: list[str]
    complete: bool = True
    arrays: Sequence[str] = ()
    named: bool = False
    about: Sequence[Digest] = ()


# job id, bytes of its record -> what it holds; raises DigestMismatch, StoreTooNew
HeldBy = Callable[[str, bytes], Held]


class Entry(NamedTuple):
    """A record. `held` is None when it cannot be read: damaged, or of a later kachery."""

    job_id: str
    file: File
    held: Held | None

    @property
    def blobs(self) -> set[str]:
        """The names of the blobs that it holds, each once."""
        return {digest.path for digest, _ in self.held.blobs} if self.held else set()


def named_by(entry: Entry) -> set[str]:
    """The names of the files whose URIs a record has."""
    return {digest.path for digest in entry.held.files} if entry.held else set()


class Inventory(NamedTuple):
    """A store as it was found.

    `running`: job id -> when it began, as for running_jobs. `records`: by job id. `blobs`, `code`: by
    name. `differing`: by name, with what such a record holds. `damaged`: names of the records that are.
    `too_new`: how many records only a later kachery can read. `failures`: notes of jobs that failed,
    and of arrays and chunks that were stored by some, or lost. `arrays`: the manifests of chunked
    arrays, by address. `sessions`: those in which arrays are written, by name.
    """

    running: dict[str, int]
    records: dict[str, Entry]
    blobs: dict[str, File]
    code: dict[str, File]
    differing: dict[str, Entry]
    damaged: list[str]
    too_new: int
    failures: Sequence[File] = ()
    arrays: Mapping[str, Entry] = MappingProxyType({})
    sessions: Mapping[str, Session] = MappingProxyType({})

    @property
    def size(self) -> int:
        """Bytes of everything found."""
        held = (*self.records.values(), *self.differing.values(), *self.arrays.values())
        entries = (entry.file for entry in held)
        notes = (note for session in self.sessions.values() for note in session.notes)
        others = (*self.blobs.values(), *self.code.values(), *self.failures, *notes)
        return sum(one.size for one in (*entries, *others))


def take_inventory(backend: LocalBackend, held_by: HeldBy) -> Inventory:
    """Look at everything in a store. Nothing is written, and it does not count as use.

    The order matters to who collects: jobs that run are looked up first, so that what a job that has
    ended meanwhile stored is among the records; likewise sessions. StoreUnavailable.
    """
    running = running_jobs(backend)
    sessions = sessions_of(backend)
    reader = _Reader(backend, held_by)
    records = {entry.job_id: entry for entry in reader.entries("jobs")}
    differing = {entry.file.name: entry for entry in reader.entries("differing")}
    arrays = {entry.job_id: entry for entry in reader.entries("arrays")}
    blobs = {file.name: file for folder in HEX_LENGTH for file in files_below(backend, folder)}
    code = {file.name: file for file in files_below(backend, "code")}
    failures = [file for folder in _NOTES for file in files_below(backend, folder)]
    return Inventory(
        running,
        records,
        blobs,
        code,
        differing,
        reader.damaged,
        reader.too_new,
        failures,
        arrays,
        sessions,
    )


class _Reader:
    def __init__(self, backend: LocalBackend, held_by: HeldBy) -> None:
        self._backend = backend
        self._held_by = held_by
        self.damaged: list[str] = []
        self.too_new = 0

    def entries(self, folder: str) -> Iterable[Entry]:
        for file in files_below(self._backend, folder):
            try:
                data, status = read_quietly(self._backend.path(file.name))
            except OSError:  # it has gone, or cannot be read: doctor and verify tell
                continue
            job_id = file.name.rpartition("/")[2].partition("-")[0]
            yield Entry(job_id, file_of(file.name, status), self._held(file, job_id, data))

    def _held(self, file: File, job_id: str, data: bytes) -> Held | None:
        try:
            return self._held_by(job_id, data)
        except DigestMismatch:
            self.damaged.append(file.name)
        except StoreTooNew:
            self.too_new += 1
        return None


def read_quietly(path: str) -> tuple[bytes, os.stat_result]:
    """All bytes of a small file, and its status before; this does not count as use."""
    fd = open_quietly(path)
    try:
        status = os.fstat(fd)
        pieces = []
        while piece := os.read(fd, _READ):
            pieces.append(piece)
        return b"".join(pieces), status
    finally:
        os.close(fd)


class Reached(NamedTuple):
    """What must stay: ids of jobs, with all that they hold, and names of blobs beside that."""

    jobs: set[str]
    blobs: set[str]


def reached(found: Inventory, pinned: Iterable[Pinned], jobs: Iterable[str] = ()) -> Reached:
    """What pins, and `jobs`, reach.

    A job reaches the jobs that made its arguments: those whose result has an argument's address.
    """
    makers: dict[str, list[str]] = {}
    for entry in found.records.values():
        if entry.held is not None:
            makers.setdefault(entry.held.address, []).append(entry.job_id)
    pinned = list(pinned)
    waiting = [*jobs, *(one.hex for one in pinned if one.kind == JOB)]
    seen: set[str] = set()
    blobs = {one.name for one in pinned if one.kind != JOB}
    for one in pinned:
        if one.kind != JOB and one.hex in found.arrays:
            blobs |= {found.arrays[one.hex].file.name, *found.arrays[one.hex].blobs}
    while waiting:
        job_id = waiting.pop()
        held = found.records[job_id].held if job_id in found.records else None
        if job_id in seen or held is None:
            seen.add(job_id)
            continue
        seen.add(job_id)
        for address in held.arguments:
            waiting += makers.get(address, ())
    return Reached(seen, blobs)
