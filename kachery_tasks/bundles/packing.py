"""Making a bundle: what goes in, and what is left out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from kachery_store import Digest, NotFound, Store
from kachery_store.digest import hash_buffer, make_digest
from kachery_store.errors import OutOfReach
from kachery_store.outbox import Item
from kachery_store.progress import progress_bar
from kachery_store.uplink import ref_name

from ..carrying import needed_by
from ..lineage.graph import trace
from ..lineage.index_file import with_index
from ..lineage.model import Lineage
from ..lineage.resolve import Asked as Question
from ..lineage.resolve import asked_about
from ..record import Record
from ..settings import current
from ..trust import outgoing
from .archive import REFS, Source, write_archive
from .sheet import Asked, Listed, Sheet
from .testimony import testimony

_JOB = "job://"


class Bundled(NamedTuple):
    """What was written: the file, how many jobs and members are in it, and its bytes.

    `left_out` and `gone` are URIs, as of Sheet.
    """

    path: str
    about: str
    jobs: int
    members: int
    bytes: int
    left_out: tuple[str, ...]
    gone: tuple[str, ...]


def bundle(x: Any, path: str | os.PathLike[str], *, with_intermediates: bool = False) -> Bundled:
    """Write something, and how it was made, into one file that others can verify and import.

    x: whatever `kachery.lineage` takes. In the file are the value with all its bytes, the records of all
    jobs that led to it, signed with your key, and descriptions of their code; with
    `with_intermediates` also the results of those jobs and the files that they began with. Raises
    NotFound, DigestMismatch, OSError, and what `kachery.lineage` raises.
    """
    store = current().store
    path = os.path.abspath(os.fspath(path))
    question = asked_about(store, x)
    packing = _Packing(store, question, with_intermediates)
    sheet = packing.sheet()
    data = sheet.to_bytes()
    size = sum(one.size for one in sheet.members.values())
    with progress_bar("bundle", size) as progress:
        write_archive(path, data, packing.sources(), progress)
    jobs = sum(name.startswith("jobs/") for name in sheet.members)
    return Bundled(path, sheet.about, jobs, len(sheet.members), os.path.getsize(path), *sheet[3:])


class _Packing:
    """What goes into a bundle, gathered."""

    def __init__(self, store: Store, question: Question, with_intermediates: bool) -> None:
        self._store = store
        self._question = question
        self._sources: dict[str, Source] = {}
        self._left_out: set[str] = set()
        self._gone: set[str] = set()
        self._lineage = self._trace()
        self._asked = self._asked_files() + self._asked_jobs()
        for job_id, node in self._lineage.jobs.items():
            if node.record is None:
                self._gone.add(f"{_JOB}{job_id}")
            else:
                self._add_job(
                    node.record, whole=with_intermediates or job_id in self._lineage.asked
                )
        self._add_inputs(with_intermediates)
        self._left_out -= {str(one.digest) for one in self._sources.values()}
        self._add_testimony()

    def _trace(self) -> Lineage:
        question = self._question
        try:
            return with_index(
                self._store, lambda index: trace(self._store, index, question, up=True).lineage
            )
        except NotFound:
            if any("://" in thing for thing in question.things):  # a file that no job made
                return Lineage(question.about, up=True, asked=(), jobs={}, inputs={}, links=())
            raise

    def _asked_files(self) -> tuple[Asked, ...]:
        """The file that was asked for, if it is one that is stored."""
        for thing in self._question.things:
            if "://" in thing and self._add_blob(_digest_of(thing)):
                return (Asked(thing, ""),)
        if not self._lineage.asked:
            raise NotFound(
                f"{self._question.about} is not in the store at {self._store.root}: store it with"
                " kachery.store_file, and bundle the URI that this returns"
            )
        return ()

    def _asked_jobs(self) -> tuple[Asked, ...]:
        asked = []
        for job_id in self._lineage.asked:
            node = self._lineage.jobs.get(job_id)
            if node is not None and node.record is not None:
                asked.append(Asked(f"{_JOB}{job_id}", node.record.result.address.hex()))
        if not asked and not any("://" in one for one in self._question.things):
            raise NotFound(
                f"the record of {self._question.about} is gone: there is nothing to bundle"
            )
        return tuple(asked)

    def _add_job(self, record: Record, *, whole: bool) -> None:
        """A job's record, its code and where it ran; with `whole` also all bytes of its result."""
        data = outgoing(self._store.jobs.read(record.job_id))
        self._add_ref("jobs", record.job_id, data)
        for code in (record.fingerprint, *(code for _, code in record.codes)):
            if self._store.code.has(code):
                self._add_ref("code", code, self._store.code.read(code))
        if record.environment:
            self._add_blob(Digest("blake3", record.environment.hex()))
        if whole:
            self._add_needed(record)
        elif record.result.inline is None:
            self._left_out.add(f"blake3://{record.result.address.hex()}")

    def _add_needed(self, record: Record) -> None:
        for item, mentioned_by in needed_by(self._store, record.uri):
            if item.kind in REFS:
                if item.kind == "arrays":
                    self._add_ref(item.kind, item.name, self._store.arrays.read(item.name))
            elif not self._add_blob(make_digest(*item)):
                if not mentioned_by:
                    raise _lost(item, record)
                self._gone.add(str(make_digest(*item)))

    def _add_inputs(self, with_intermediates: bool) -> None:
        """The files that nobody made."""
        for name in self._lineage.inputs:
            if "://" not in name:
                continue
            if with_intermediates:
                if not self._add_blob(_digest_of(name)):
                    self._gone.add(name)
            elif _digest_of(name).path not in self._sources:
                self._left_out.add(name)

    def _add_testimony(self) -> None:
        records = {
            name.rpartition("/")[2]: source.data
            for name, source in self._sources.items()
            if name.startswith("jobs/")
        }
        for name, data in testimony(records).items():
            self._add(name, data)

    def _add_ref(self, folder: str, name: str, data: bytes) -> None:
        self._add(ref_name(folder, name), data)

    def _add(self, name: str, data: bytes) -> None:
        digest = Digest("blake3", hash_buffer("blake3", data))
        self._sources[name] = Source(name, len(data), digest, data=data)

    def _add_blob(self, digest: Digest) -> bool:
        """A blob, verified; False when it is nowhere."""
        try:
            path = self._store.blobs.path(digest)
        except OutOfReach:
            raise
        except NotFound:
            return False
        self._sources[digest.path] = Source(digest.path, os.path.getsize(path), digest, path)
        return True

    def sheet(self) -> Sheet:
        """What the bundle says of itself."""
        members = {one.name: Listed(one.size, one.digest) for one in self.sources()}
        about = self._lineage.about
        return Sheet(about, self._asked, members, _sorted(self._left_out), _sorted(self._gone))

    def sources(self) -> Iterator[Source]:
        """All members, in the order of their names."""
        return (self._sources[name] for name in sorted(self._sources))


def _digest_of(uri: str) -> Digest:
    return make_digest(*uri.partition("?")[0].split("://", 1))


def _sorted(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(texts))


def _lost(item: Item, record: Record) -> NotFound:
    return NotFound(
        f"{item.kind}://{item.name}, which the result of {record.uri} consists of, is lost: run the job"
        " again with refresh, then bundle it"
    )
