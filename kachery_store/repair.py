"""Making a store consistent again after damage.

What was damaged is fetched again where that is possible; else the jobs that need it are forgotten, so
that they are computed again, and the files that cannot be had again are named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from .digest import HEX_LENGTH, Digest, hash_buffer, make_digest
from .errors import BadURI, DigestMismatch, KacheryError, NotFound, StoreTooNew
from .inventory import Entry, Held, HeldBy, Inventory, take_inventory
from .local_backend import LocalBackend
from .sweep import files_below

# Brings a blob into the store from elsewhere, checked, or raises a KacheryError.
Fetch = Callable[[Digest], None]


class Repaired(NamedTuple):
    """What became of the damage.

    `fetched`: digests that are here again. `forgotten`: URIs of jobs that will be computed again, and
    their tasks. `lost`: URIs of files that are nowhere; `salvage`: where their damaged bytes are.
    `cleared`: how many files left quarantine.
    """

    fetched: list[str]
    forgotten: list[str]
    lost: list[str]
    salvage: list[str]
    cleared: int


def repair(
    backend: LocalBackend, held_by: HeldBy, *, fetch: Fetch | None = None, discard: bool = False
) -> Repaired:
    """Forget what is damaged, or fetch it again.

    The damaged bytes of files that cannot be had again stay in quarantine, because some of them may
    be worth saving, unless `discard` is given. StoreUnavailable.
    """
    return _Repair(backend, held_by, fetch).run(discard)


class _Aside(NamedTuple):
    """A file in quarantine, and the name that it had."""

    place: str
    name: str


class _Repair:
    def __init__(self, backend: LocalBackend, held_by: HeldBy, fetch: Fetch | None) -> None:
        self._backend = backend
        self._held_by = held_by
        self._fetch = fetch
        self._fetched: list[str] = []
        self._forgotten: list[str] = []
        self._of_jobs: set[str] = set()  # names of the blobs of results, or that tell about jobs

    def run(self, discard: bool) -> Repaired:
        found = take_inventory(self._backend, self._held_by)
        for name in found.damaged:
            self._backend.quarantine(name)
        aside = list(_quarantined(self._backend))
        for entry in found.records.values():
            if entry.held is not None:
                self._mend(entry, entry.held, found)
        self._tell_set_aside(aside)
        lost = self._lost_files(aside)
        kept = set() if discard else {one.place for one in aside if one.name in lost}
        going = [one.place for one in aside if one.place not in kept]
        cleared = sum(self._backend.remove(place) for place in going)
        return Repaired(
            self._fetched,
            sorted(set(self._forgotten)),
            sorted(str(digest) for digest in lost.values()),
            sorted(self._backend.path(place) for place in kept),
            cleared,
        )

    def _mend(self, entry: Entry, held: Held, found: Inventory) -> None:
        """Get back what a record has lost, or forget the record."""
        self._of_jobs |= entry.blobs
        self._of_jobs.update(digest.path for digest in held.about)
        missing = {
            digest
            for digest, size in held.blobs
            if digest.path not in found.blobs or found.blobs[digest.path].size != size != -1
        }
        if not held.complete:
            missing.add(Digest("blake3", held.address))
        if sum(map(self._is_had, missing)) < len(missing):
            self._backend.remove(entry.file.name)
            self._forgotten.append(_description(entry.job_id, held))

    def _tell_set_aside(self, aside: list[_Aside]) -> None:
        """Note which jobs were set aside before, and their blobs."""
        for one in aside:
            if not one.name.startswith("jobs/"):
                continue
            job_id = one.name.rpartition("/")[2]
            held = None
            with suppress(DigestMismatch, NotFound, StoreTooNew):
                held = self._held_by(job_id, self._backend.read(one.place))
            if held is not None:
                self._of_jobs.update(digest.path for digest, _ in held.blobs)
                self._of_jobs.update(digest.path for digest in held.about)
            if self._backend.status(one.name) is None:  # nobody has computed it again
                self._forgotten.append(_description(job_id, held))

    def _lost_files(self, aside: list[_Aside]) -> dict[str, Digest]:
        """The files in quarantine that are not here, cannot be fetched, and are not results."""
        lost = {}
        for one in aside:
            digest = _digest_of(one.name)
            if digest is None or one.name in lost or self._is_had(digest):
                continue
            if one.name not in self._of_jobs:
                lost[one.name] = digest
        return lost

    def _is_had(self, digest: Digest) -> bool:
        """Whether a blob is here and intact, if need be after it was fetched."""
        if self._is_intact(digest):
            return True
        if self._fetch is None:
            return False
        with suppress(KacheryError, OSError):
            self._fetch(digest)
        if self._is_intact(digest):
            self._fetched.append(str(digest))
            return True
        return False

    def _is_intact(self, digest: Digest) -> bool:
        status = self._backend.stat(digest.path)
        if status is None:
            return False
        data = self._backend.map(digest.path)[0] if status.st_size else b""
        if hash_buffer(digest.algorithm, data) == digest.hex:
            return True
        self._backend.quarantine(digest.path, status)
        return False


def _description(job_id: str, held: Held | None) -> str:
    return f"job://{job_id}" + (f" ({held.task})" if held is not None else "")


def _quarantined(backend: LocalBackend) -> Iterator[_Aside]:
    for file in files_below(backend, "quarantine"):
        original = file.name.removeprefix("quarantine/").rpartition(".")[0]
        yield _Aside(file.name, original.replace("_", "/"))


def _digest_of(name: str) -> Digest | None:
    folder, _, rest = name.partition("/")
    if folder not in HEX_LENGTH:
        return None
    with suppress(BadURI):
        return make_digest(folder, rest.rpartition("/")[2])
    return None
