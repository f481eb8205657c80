"""Verifying a bundle with nothing but the bundle: each byte, each record, and how they hang together."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import msgpack

from kachery_store import Digest, DigestMismatch
from kachery_store.digest import HEX_LENGTH, blake3_bytes, make_digest, new_hasher
from kachery_store.errors import BadURI
from kachery_store.inventory import Held, HeldBy
from kachery_store.progress import progress_bar
from kachery_store.uplink import MOST_REF, ref_name

from ..holdings import check_entry, holdings_by
from ..lineage.things import taken_by
from ..record import Record
from ..sealed import signatures_of
from .archive import REFS, SHEET, Archive
from .sheet import MOST_SHEET, Asked, Listed, Sheet
from .testimony import check_testimony

_JOB = "job://"
_MOST_ENCODING = 1 << 30  # bytes; as of the format of values
_ID = "kachery job 1"


class BundleReport(NamedTuple):
    """What a bundle that is sound has and says.

    `asked`: URIs of what it is about. `jobs`, `members`, `bytes`: how much is in it. `signers`: public
    keys in hex, and how many records each has signed; `unsigned`: how many nobody has. `unproven`: how
    many arguments are said to be made by a job without content that shows it. `in_feeds`: how many
    records are told of by a feed whose checkpoint is in the bundle, by the feed's key. `left_out` and
    `gone`: what the lineage names and the bundle does not have; the latter was not to be had.
    """

    path: str
    about: str
    asked: tuple[str, ...]
    jobs: int
    members: int
    bytes: int
    signers: dict[str, int]
    unsigned: int
    unproven: int
    in_feeds: dict[str, int]
    left_out: tuple[str, ...]
    gone: tuple[str, ...]


def verify_bundle(path: str | os.PathLike[str]) -> BundleReport:
    """Check all of a bundle: nothing but the file is needed, and nothing is stored.

    That it is sound does not say that it is true: see who signed. Raises BadBundle, which says what is
    wrong; NotFound; OSError; StoreTooNew when a later kachery made it.
    """
    with Archive(os.path.abspath(os.fspath(path))) as archive:
        return checked(archive).report


class Checked(NamedTuple):
    """A bundle that is sound. `held_by` tells what a record in it holds."""

    sheet: Sheet
    report: BundleReport
    held_by: HeldBy


def checked(archive: Archive) -> Checked:
    """Check all of it. BadBundle, StoreTooNew."""
    try:
        sheet = Sheet.from_bytes(archive.read(SHEET, MOST_SHEET))
    except ValueError as error:
        raise archive.bad(str(error)) from error
    _check_list(archive, sheet)
    with progress_bar("verify", sum(archive.sizes.values())) as progress:
        for name, listed in sheet.members.items():
            _check_member(archive, name, listed, progress)
    checking = _Checking(archive, sheet)
    checking.run()
    return Checked(sheet, checking.report(), checking.held_by)


def _check_list(archive: Archive, sheet: Sheet) -> None:
    there, listed = archive.sizes.keys() - {SHEET}, sheet.members.keys()
    if there != listed:
        odd = min(there ^ listed)
        what = "lacks" if odd in listed else "has, and its sheet does not list,"
        raise archive.bad(f"it {what} {odd}")


def _check_member(
    archive: Archive, name: str, listed: Listed, progress: Callable[[int], object]
) -> None:
    """A member is what the sheet says, and content is what its name says."""
    folder, _, rest = name.partition("/")
    if folder in HEX_LENGTH and make_digest(folder, rest.rpartition("/")[2]) != listed.digest:
        raise archive.bad(f"its sheet says something else of {name} than its name")
    hasher = new_hasher(listed.digest.algorithm)
    for piece in archive.pieces(name):
        hasher.update(piece)
        progress(len(piece))
    if archive.sizes[name] != listed.size or hasher.hexdigest() != listed.digest.hex:
        raise archive.bad(f"its member {name} is damaged: it is not {listed.digest}")


class _Checking:
    """What records, code and manifests of a bundle say, compared with each other and with content."""

    def __init__(self, archive: Archive, sheet: Sheet) -> None:
        self._archive = archive
        self._sheet = sheet
        self._results: dict[str, bytes] = {}  # job id -> address of the result
        self._signers: Counter[str] = Counter()
        self._unsigned = self._unproven = 0
        self._in_feeds: dict[str, int] = {}
        self.held_by = holdings_by(self._encoding, self._manifest)

    def run(self) -> None:
        """Check everything. BadBundle, StoreTooNew."""
        names = sorted(self._sheet.members)
        if not self._sheet.asked:
            raise self._archive.bad("it does not say what it is about")
        for name in names:
            if name.partition("/")[0] in REFS:
                self._check_ref(name)
        records = [name for name in names if name.startswith("jobs/")]
        for name in records:
            self._check_links(self._record(name))
        for asked in self._sheet.asked:
            self._check_asked(asked)
        seals = {name.rpartition("/")[2]: self._archive.read(name, MOST_REF) for name in records}
        self._in_feeds = check_testimony(self._archive, names, seals)

    def report(self) -> BundleReport:
        """What was found."""
        sheet = self._sheet
        return BundleReport(
            self._archive.path,
            sheet.about,
            tuple(one.uri for one in sheet.asked),
            len(self._results),
            len(sheet.members),
            sum(one.size for one in sheet.members.values()),
            dict(self._signers),
            self._unsigned,
            self._unproven,
            self._in_feeds,
            sheet.left_out,
            sheet.gone,
        )

    def _check_ref(self, name: str) -> None:
        data = self._archive.read(name, MOST_REF)
        try:
            check_entry(name, data)
        except DigestMismatch as error:
            raise self._archive.bad(str(error)) from error
        if name.startswith("jobs/"):
            self._check_record(self._record(name, data), data)

    def _record(self, name: str, data: bytes | None = None) -> Record:
        own = name.rpartition("/")[2]
        found = self._archive.read(name, MOST_REF) if data is None else data
        return Record.from_bytes(found, own)

    def _check_record(self, record: Record, data: bytes) -> None:
        """A record by itself: its id, the result in it, its signatures."""
        result = record.result
        if result.inline is not None and blake3_bytes(result.inline) != result.address:
            raise self._archive.bad(
                f"the result in the record of {record.uri} is not the one it names"
            )
        known = id_of(record)
        if known is not None and known != record.job_id:
            raise self._archive.bad(
                f"the record of {record.uri} is that of another job: its code and its arguments are"
                f" those of {_JOB}{known}"
            )
        try:
            signatures = signatures_of(data)
        except ValueError as error:
            raise self._archive.bad(f"of the record of {record.uri}: {error}") from error
        self._signers.update(one.key.hex() for one in signatures)
        self._unsigned += not signatures
        self._results[record.job_id] = result.address

    def _check_links(self, record: Record) -> None:
        """That the jobs which a record says to have made its arguments have made them."""
        taken = {one.name: one for one in taken_by(record)}
        for name, source in record.inputs:
            if name not in taken:
                raise self._archive.bad(
                    f"{record.uri} names a job for {name!r}, which it did not take"
                )
            made = self._results.get(source)
            if made is None:
                if f"{_JOB}{source}" not in self._sheet.gone:
                    raise self._archive.bad(
                        f"it lacks the record of {_JOB}{source}, from which"
                        f" {record.uri} has an argument"
                    )
                self._unproven += 1
            elif made.hex() not in (taken[name].exact, *taken[name].inside):
                self._unproven += 1  # it is in a container, which is told by its digest alone

    def _check_asked(self, asked: Asked) -> None:
        """That what the bundle is about is there, with all its bytes, and made by the job it says."""
        if not asked.uri.startswith(_JOB):
            self._check_there(self._digest(asked.uri), -1, asked.uri)
            return
        job_id = asked.uri.removeprefix(_JOB)
        if job_id not in self._results:
            raise self._archive.bad(f"it lacks the record of {asked.uri}, which it is about")
        if self._results[job_id].hex() != asked.value:
            raise self._archive.bad(f"the value that it is about was not made by {asked.uri}")
        held = self._held(job_id)
        for digest, size in held.blobs:
            self._check_there(digest, size, asked.uri)
        if not held.complete:
            raise self._archive.bad(f"the result of {asked.uri} is not all in it")

    def _digest(self, uri: str) -> Digest:
        scheme, _, hex = uri.partition("://")
        try:
            return make_digest(scheme, hex)
        except BadURI as error:
            raise self._archive.bad(
                f"it says to be about {uri[:100]!r}, which is no file"
            ) from error

    def _held(self, job_id: str) -> Held:
        name = ref_name("jobs", job_id)
        try:
            return self.held_by(job_id, self._archive.read(name, MOST_REF))
        except DigestMismatch as error:
            raise self._archive.bad(str(error)) from error

    def _check_there(self, digest: Digest, size: int, uri: str) -> None:
        found = self._archive.sizes.get(digest.path)
        if found is None or size not in (-1, found):
            raise self._archive.bad(f"it lacks {digest}, which {uri} consists of")

    def _encoding(self, address: Digest) -> bytes | None:
        if address.path not in self._archive.sizes:
            return None
        return self._archive.read(address.path, _MOST_ENCODING)

    def _manifest(self, address: str) -> bytes | None:
        name = ref_name("arrays", address)
        return self._archive.read(name, MOST_REF) if name in self._archive.sizes else None


def id_of(record: Record) -> str | None:
    """The id of the job that a record is of, by what it says of it (docs/formats/record.md).

    None where a record does not tell all of it: of secret arguments, of classes and functions among
    the arguments, and of answers of queries.
    """
    told = all(address for _, address, _ in record.arguments)
    if record.kind != "task" or record.codes or not told:
        return None
    arguments = [[name, address] for name, address, _ in record.arguments]
    packed = msgpack.packb([_ID, record.kind, record.task, record.fingerprint, arguments])
    return blake3_bytes(packed).hex()
