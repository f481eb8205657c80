"""Bringing a bundle into the local store, as far as it counts there."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from typing import NamedTuple

from kachery_store import Digest, DigestMismatch, NotFound, Store
from kachery_store.digest import HEX_LENGTH, hash_buffer, make_digest, new_hasher
from kachery_store.progress import progress_bar
from kachery_store.sweep import refresh
from kachery_store.uplink import MOST_REF, ref_name

from ..lookup import lookup
from ..record import Record
from ..settings import current, store_at
from ..trust import objection
from .archive import REFS, Archive
from .checking import BundleReport, Checked, checked

# Stands for the zone that something comes from: a key that is trusted for one zone is not for this.
_NO_ZONE = ""


class Imported(NamedTuple):
    """What became of a bundle.

    `report`: what is in it. `jobs`: URIs of those whose records are here now; `known`: of those that
    were here before. `differing`: of those that have another result here, which stays; the imported
    one is kept beside it. `refused`: URI and reason of those that do not count here. `members`: how
    many files are new here.
    """

    report: BundleReport
    jobs: tuple[str, ...]
    known: tuple[str, ...]
    differing: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]
    members: int


def import_bundle(path: str | os.PathLike[str]) -> Imported:
    """Verify a bundle and bring into the store in force what counts there; no zone gets any of it.

    A record counts as from a zone: a key that you trust has signed it, for pickles one that you trust
    with those (`kachery trust`). Files by digest come in any case, unless only refused records need
    them. Raises what `verify_bundle` raises, before anything is stored; StoreUnavailable.
    """
    with Archive(os.path.abspath(os.fspath(path))) as archive:
        found = checked(archive)
        return _Importing(store_at(current().root), archive, found).run()


class _Importing:
    def __init__(self, store: Store, archive: Archive, found: Checked) -> None:
        self._store = store
        self._archive = archive
        self._found = found
        self._members = 0
        self._new: list[str] = []
        self._known: list[str] = []
        self._differing: list[str] = []

    def run(self) -> Imported:
        """Content first, then what names it."""
        names = sorted(self._found.sheet.members)
        records = [name for name in names if name.startswith("jobs/")]
        refused = {name: why for name in records if (why := self._objection(name)) is not None}
        wanted = self._wanted(names, records, refused)
        with progress_bar("import", sum(self._archive.sizes[name] for name in wanted)) as progress:
            for name in wanted:
                if name.partition("/")[0] in HEX_LENGTH:
                    self._bring_blob(name, progress)
        for name in wanted:
            if name.partition("/")[0] in REFS:
                self._bring_ref(name)
        return Imported(
            self._found.report,
            tuple(self._new),
            tuple(self._known),
            tuple(self._differing),
            tuple((_uri_of(name), why) for name, why in refused.items()),
            self._members,
        )

    def _objection(self, name: str) -> str | None:
        own = name.rpartition("/")[2]
        refusal = objection(own, self._archive.read(name, MOST_REF), _NO_ZONE)
        return None if refusal is None else refusal.text

    def _wanted(self, names: list[str], records: list[str], refused: Collection[str]) -> list[str]:
        """All members but feeds, refused records, and what only those need; records come last."""
        spared = {one for name in refused for one in self._needed(name)}
        if spared:
            taken = (name for name in records if name not in refused)
            spared.difference_update(*(self._needed(name) for name in taken))
        spared -= {_path_of(one.uri) for one in self._found.sheet.asked}
        return [
            name
            for name in names
            if name not in refused and name not in spared and not name.startswith("feeds/")
        ]

    def _needed(self, name: str) -> set[str]:
        """The members that a record needs."""
        held = self._found.held_by(name.rpartition("/")[2], self._archive.read(name, MOST_REF))
        blobs = {digest.path for digest, _ in held.blobs} | {one.path for one in held.files}
        arrays = {ref_name("arrays", address) for address in held.arrays}
        return blobs | arrays | {ref_name("code", code) for code in held.codes}

    def _bring_blob(self, name: str, progress: Callable[[int], object]) -> None:
        algorithm, _, rest = name.partition("/")
        digest = make_digest(algorithm, rest.rpartition("/")[2])
        if self._has(digest):
            progress(self._archive.sizes[name])
            return
        hasher = new_hasher(algorithm)
        with self._store.backend.temporary() as temporary:
            for piece in self._archive.pieces(name):
                hasher.update(piece)
                temporary.write(piece)
                progress(len(piece))
            if hasher.hexdigest() != digest.hex:  # the file was exchanged since it was verified
                raise self._archive.bad(f"its member {name} has changed while it was read")
            self._members += temporary.commit(digest.path, durable=True)

    def _has(self, digest: Digest) -> bool:
        """Whether a blob is here, intact, and stays from now on."""
        try:
            self._store.blobs.path(digest)
        except (NotFound, DigestMismatch):
            return False
        return refresh(self._store.backend, digest.path)

    def _bring_ref(self, name: str) -> None:
        folder, own = name.partition("/")[0], name.rpartition("/")[2]
        data = self._archive.read(name, MOST_REF)
        if self._found.sheet.members[name].digest.hex != hash_buffer("blake3", data):
            raise self._archive.bad(f"its member {name} has changed while it was read")
        if folder == "jobs":
            self._bring_record(own, data)
        else:
            refs = self._store.code if folder == "code" else self._store.arrays
            self._members += refs.create(own, data)

    def _bring_record(self, job_id: str, data: bytes) -> None:
        """The first record of a job stays, as everywhere."""
        uri = f"job://{job_id}"
        here = lookup(self._store, job_id)
        if here is None and self._store.jobs.create(job_id, data):
            self._members += 1
            self._new.append(uri)
            return
        here = here or lookup(self._store, job_id)
        address = Record.from_bytes(data, job_id).result.address
        if here is None or here.result.address == address:
            self._known.append(uri)
            return
        self._store.differing.create(f"{job_id}-{address.hex()[:16]}", data)
        self._differing.append(uri)


def _uri_of(name: str) -> str:
    return f"job://{name.rpartition('/')[2]}"


def _path_of(uri: str) -> str:
    """The member that a URI of a file names; "" for a job."""
    scheme, _, hex = uri.partition("://")
    return make_digest(scheme, hex).path if scheme in HEX_LENGTH else ""
