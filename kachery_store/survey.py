"""What is in a zone and who needs it, in a temporary database: a zone may have more than fits in memory.

The database is SQLite's own temporary file. It is exact, where a Bloom filter would keep some things
for ever; and it can be asked for who holds what, and for the oldest first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, TypeVar

from .backend import Backend, Status
from .digest import HEX_LENGTH, Digest, hash_buffer, make_digest
from .errors import BadManifest, BadURI, DigestMismatch, KacheryError, NotFound, StoreTooNew
from .inventory import Held, HeldBy
from .manifest import Manifest
from .pins import JOB, Pins

AT_ONCE = 16  # requests on their way at a time

_CHUNK = 256  # objects in memory at a time
_FOLDERS = (*HEX_LENGTH, "manifests", "jobs", "differing", "arrays", "code", "leases", "tmp")
_REFS = ("jobs", "differing", "arrays", "manifests")  # what names other things

_HOLDS, _NAMES, _TELLS = 0, 1, 2

_TABLES = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -8000;
CREATE TABLE object (name TEXT PRIMARY KEY, folder TEXT, size INTEGER, modified REAL, version TEXT)
    WITHOUT ROWID;
CREATE INDEX by_age ON object (folder, modified);
CREATE TABLE edge (owner TEXT, name TEXT, kind INTEGER, PRIMARY KEY (owner, name)) WITHOUT ROWID;
CREATE INDEX by_name ON edge (name);
CREATE TABLE record (name TEXT PRIMARY KEY, task TEXT, address TEXT, complete INTEGER, named INTEGER)
    WITHOUT ROWID;
CREATE INDEX by_address ON record (address);
CREATE TABLE argument (owner TEXT, address TEXT, PRIMARY KEY (owner, address)) WITHOUT ROWID;
CREATE TABLE part (name TEXT, owner TEXT, size INTEGER, PRIMARY KEY (name, owner)) WITHOUT ROWID;
CREATE TABLE wave (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE kept (name TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE going (name TEXT PRIMARY KEY, step INTEGER, before REAL) WITHOUT ROWID;
CREATE INDEX by_step ON going (step, name);
"""

_SPREAD = """
INSERT OR IGNORE INTO kept
    WITH RECURSIVE reached (name) AS (
        SELECT name FROM wave UNION
        SELECT edge.name FROM reached CROSS JOIN edge ON edge.owner = reached.name)
    SELECT name FROM reached;
DELETE FROM wave;
"""

T = TypeVar("T")
S = TypeVar("S")


class Survey:
    """What was found in a zone.

    `db` has the tables above: `edge` says that a record holds (kind 0) or names (1) a blob, a
    description, or the manifest of a chunked array, which holds blobs itself, or names a blob that only
    tells about its job (2), and that a blob consists of a manifest and parts; a blob in parts has the
    name that it would have whole. `damaged` are names of records and manifests that cannot be read,
    `too_new` the number of those that only a later kachery can. `beat` is called often.
    """

    def __init__(
        self, backend: Backend, held_by: HeldBy, beat: Callable[[], object] = lambda: None
    ) -> None:
        self.backend = backend
        self.db = sqlite3.connect("", isolation_level=None)
        self.db.executescript(_TABLES)
        self.damaged: list[str] = []
        self.too_new = 0
        self._held_by = held_by
        self._beat = beat

    def close(self) -> None:
        """Forget everything."""
        self.db.close()

    def look(self) -> None:
        """List the zone, and read its records and manifests. StoreUnavailable."""
        for folder in _FOLDERS:
            for chunk in chunks(self.backend.entries(folder), _CHUNK):
                self._note(chunk)
                if folder in _REFS:
                    self._read(chunk)
                self._beat()

    def look_again(self) -> list[str]:
        """List what names other things once more; what has come since is read. Its names."""
        come: list[str] = []
        for folder in _REFS:
            for chunk in chunks(self.backend.entries(folder), _CHUNK):
                new = [entry for entry in chunk if not self._knows(*entry)]
                self._note(new)
                self._read(new)
                come += (name for name, _ in new)
                self._beat()
        return come

    def add(self, name: str, status: Status, data: bytes) -> None:
        """Take a record in that is new. Raises DigestMismatch, StoreTooNew."""
        held = self._held_by(name.rpartition("/")[2], data)
        self._note([(name, status)])
        self._note_record(name, held)

    def all(self, query: str, *values: Any) -> Iterator[Any]:
        """The rows that a query gives; of those with one column, the values."""
        cursor = self.db.cursor().execute(query, values)
        for row in cursor:
            yield row[0] if len(row) == 1 else row

    def one(self, query: str, *values: Any) -> Any:
        """The first value that a query gives, or None."""
        return next(self.all(query, *values), None)

    def keep(self, names: Iterable[str]) -> None:
        """Mark things as needed, with all that they need."""
        self.db.executemany("INSERT OR IGNORE INTO wave VALUES (?)", ((name,) for name in names))
        self.db.executescript(_SPREAD)

    def keep_pinned(self) -> None:
        """Mark what the pins of the zone reach: of a job also the jobs that made its arguments."""
        pinned = Pins(self.backend).pinned()
        self.keep(one.name for one in pinned)
        self.keep(f"arrays/{one.hex[:2]}/{one.hex}" for one in pinned if one.kind == "blake3")
        for job in (one.name for one in pinned if one.kind == JOB):
            self.keep(
                self.all(
                    "WITH RECURSIVE makers (name) AS (SELECT ?1 UNION SELECT record.name FROM makers"
                    " JOIN argument ON argument.owner = makers.name"
                    " JOIN record ON record.address = argument.address"
                    " WHERE record.name LIKE 'jobs/%') SELECT name FROM makers",
                    job,
                )
            )

    def _knows(self, name: str, status: Status) -> bool:
        known = self.one("SELECT version, modified FROM object WHERE name = ?", name)
        return bool(known == (status.version, status.modified))

    def _note(self, entries: Iterable[tuple[str, Status]]) -> None:
        self.db.executemany(
            "INSERT OR REPLACE INTO object VALUES (?, ?, ?, ?, ?)",
            (
                (name, name.partition("/")[0], one.size, one.modified, one.version)
                for name, one in entries
            ),
        )

    def _read(self, entries: Sequence[tuple[str, Status]]) -> None:
        names = [name for name, _ in entries]
        for name, found in zip(names, at_once(self._named_in, names), strict=True):
            if isinstance(found, Held):
                self._note_record(name, found)
            elif isinstance(found, Manifest):
                self._note_manifest(name, found)
            elif isinstance(found, StoreTooNew):
                self.too_new += 1
            elif isinstance(found, DigestMismatch):
                self.damaged.append(name)

    def _named_in(self, name: str) -> Held | Manifest | KacheryError:
        """What a record or a manifest says, or why that is not known."""
        try:
            data = self.backend.read(name)
            if name.startswith("manifests/"):
                return manifest_in(name, data)
            return self._held_by(name.rpartition("/")[2].partition("-")[0], data)
        except (NotFound, StoreTooNew, DigestMismatch) as error:
            return error

    def _note_record(self, name: str, held: Held) -> None:
        row = (name, held.task, held.address, held.complete, held.named)
        self.db.execute("INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?, ?)", row)
        arguments = ((name, address) for address in held.arguments if address)
        self.db.executemany("INSERT OR IGNORE INTO argument VALUES (?, ?)", arguments)
        holds = [digest.path for digest, _ in held.blobs]
        holds += [f"arrays/{address[:2]}/{address}" for address in held.arrays]
        holds = [] if name.startswith("differing/") else holds
        self._note_edges(name, holds, _HOLDS)
        self._note_edges(name, (digest.path for digest in held.about), _TELLS)
        self._note_edges(name, (digest.path for digest in held.files), _NAMES)
        self._note_edges(name, (f"code/{code[:2]}/{code}" for code in held.codes), _NAMES)

    def _note_manifest(self, name: str, manifest: Manifest) -> None:
        whole = manifest.digest.path
        self._note_edges(whole, [name], _HOLDS)
        self._note_edges(whole, (part.digest.path for part in manifest.parts), _HOLDS)
        self.db.executemany(
            "INSERT OR IGNORE INTO part VALUES (?, ?, ?)",
            ((part.digest.path, whole, part.end - part.start) for part in manifest.parts),
        )
        if manifest.digest.algorithm == "sha1":  # as published, it is a file, too
            as_file = Digest("sha1", hash_buffer("sha1", manifest.to_bytes()))
            self._note_edges(whole, [as_file.path], _HOLDS)

    def _note_edges(self, owner: str, names: Iterable[str], kind: int) -> None:
        rows = ((owner, name, kind) for name in names)
        self.db.executemany("INSERT OR IGNORE INTO edge VALUES (?, ?, ?)", rows)


def manifest_in(name: str, data: bytes) -> Manifest:
    """The manifest that is under a name of `manifests/`. DigestMismatch."""
    try:
        manifest = Manifest.from_bytes(data)
    except BadManifest as error:
        raise DigestMismatch(f"{name} is no manifest ({error})") from error
    if manifest.digest.path != whole_of(name):
        raise DigestMismatch(f"{name} is the manifest of {manifest.digest}")
    return manifest


def whole_of(name: str) -> str:
    """The name that the blob of a manifest would have as a whole."""
    _, algorithm, _, hex = (*name.split("/"), "", "", "")[:4]
    try:
        return make_digest(algorithm, hex).path
    except BadURI:
        return name


def digest_of(name: str) -> Digest | None:
    """The digest of which a name is the place, whole; None for names of other things."""
    folder, _, rest = name.partition("/")
    try:
        return make_digest(folder, rest.rpartition("/")[2])
    except BadURI:
        return None


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Some items at a time."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def at_once(work: Callable[[S], T], items: Sequence[S]) -> list[T]:
    """What a function makes of each item, in order, several at a time."""
    if not items:
        return []
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="kachery-zone") as pool:
        try:
            return list(pool.map(work, items))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
