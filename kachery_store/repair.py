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


class Elsewhere(NamedTuple):
    """Where that may be had which is lost here: a zone.

    `has`: whether it has a blob, which is not fetched then: chunks of arrays stay there until they are
    needed. `fetch_manifest` brings the manifest of an array here, by address, or raises a KacheryError.
    """

    fetch: Fetch | None = None
    has: Callable[[Digest], bool] = lambda _: False
    fetch_manifest: Callable[[str], object] | None = None


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
    backend: LocalBackend,
    held_by: HeldBy,
    *,
    elsewhere: Elsewhere = Elsewhere(),  # noqa: B008 - it cannot be changed
    discard: bool = False,
) -> Repaired:
    """Forget what is damaged, or fetch it again.

    The damaged bytes of files that cannot be had again stay in quarantine, because some of them may
    be worth saving, unless `discard` is given. StoreUnavailable.
    """
    return _Repair(backend, held_by, elsewhere).run(discard)


class _Aside(NamedTuple):
    """A file in quarantine, and the name that it had."""

    place: str
    name: str


class _Repair:
    def __init__(self, backend: LocalBackend, held_by: HeldBy, elsewhere: Elsewhere) -> None:
        self._backend = backend
        self._held_by = held_by
        self._elsewhere = elsewhere
        self._chunks: set[str] = set()  # names of blobs of chunked arrays that may be elsewhere
        self._fetched: list[str] = []
        self._forgotten: list[str] = []
        self._of_jobs: set[str] = set()  # names of the blobs of results, or that tell about jobs

    def run(self, discard: bool) -> Repaired:
        found = take_inventory(self._backend, self._held_by)
        for name in found.damaged:
            self._backend.quarantine(name)
        aside = list(_quarantined(self._backend))
        self._chunks = {name for array in found.arrays.values() for name in array.blobs}
        self._chunks -= {one.name for one in aside}
        for entry in found.records.values():
            if entry.held is not None:
                self._mend(entry, entry.held, found)
        self._tell_set_aside(aside)
        lost = {**self._lost_of_arrays(found, aside), **self._lost_files(aside)}
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
        missing = self._missing(held, found)
        if not held.complete and not held.arrays:
            missing.add(Digest("blake3", held.address))
        arrays = [
            one for one in held.arrays if one not in found.arrays or not found.arrays[one].held
        ]
        if sum(map(self._is_had, missing)) < len(missing) or not all(map(self._has_array, arrays)):
            self._backend.remove(entry.file.name)
            self._forgotten.append(_description(entry.job_id, held))

    def _missing(self, held: Held, found: Inventory) -> set[Digest]:
        return {
            digest
            for digest, size in held.blobs
            if digest.path not in found.blobs or found.blobs[digest.path].size != size != -1
        }

    def _has_array(self, address: str) -> bool:
        """Whether the manifest of a chunked array is here, if need be after it was fetched."""
        name = f"arrays/{address[:2]}/{address}"
        if self._backend.stat(name) is not None:
            return True
        if self._elsewhere.fetch_manifest is None:
            return False
        with suppress(KacheryError):
            self._elsewhere.fetch_manifest(address)
            self._fetched.append(f"blake3://{address}")
            return True
        return False

    def _lost_of_arrays(self, found: Inventory, aside: list[_Aside]) -> dict[str, Digest]:
        """Chunks, and manifests, of arrays that users have stored themselves."""
        lost: dict[str, Digest] = {}
        for array in found.arrays.values():
            if array.held is not None and array.held.named:
                gone = (one for one in self._missing(array.held, found) if not self._is_had(one))
                lost.update((one.path, one) for one in gone)
        held = {one for entry in found.records.values() if entry.held for one in entry.held.arrays}
        for one in aside:
            address = one.name.rpartition("/")[2]
            if not one.name.startswith("arrays/") or address in held:
                continue
            if not self._has_array(address):
                lost[one.name] = Digest("blake3", address)
        return lost

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
        if digest.path in self._chunks and self._elsewhere.has(digest):
            return True
        if self._elsewhere.fetch is None:
            return False
        with suppress(KacheryError, OSError):
            self._elsewhere.fetch(digest)
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
