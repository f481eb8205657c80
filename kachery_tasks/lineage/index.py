"""The index of a store: which jobs made what, and which took it. It is made of the records."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import NamedTuple

from kachery_store import Digest, DigestMismatch, Store, StoreTooNew
from kachery_store.errors import unavailable
from kachery_store.inventory import read_quietly
from kachery_store.progress import progress_of

from ..holdings import stored_encoding
from ..record import Record
from .model import ARGUMENT, CHILD
from .things import BYTES, PART, SLIGHT, Made, made_by, taken_by

_CHUNK = 2_000  # records in a transaction

TABLES = """
CREATE TABLE job (number INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, version TEXT NOT NULL,
    finished REAL NOT NULL, parent TEXT NOT NULL, lacks TEXT NOT NULL);
CREATE INDEX by_parent ON job (parent);
CREATE TABLE made (thing TEXT, job INTEGER, how INTEGER, PRIMARY KEY (thing, job)) WITHOUT ROWID;
CREATE INDEX made_by ON made (job);
CREATE TABLE took (thing TEXT, job INTEGER, name TEXT, PRIMARY KEY (thing, job, name)) WITHOUT ROWID;
CREATE INDEX took_by ON took (job);
CREATE TABLE used (source TEXT, job INTEGER, role TEXT, name TEXT,
    PRIMARY KEY (source, job, role, name)) WITHOUT ROWID;
CREATE INDEX used_by ON used (job);
"""

_MAKERS = """
SELECT job.id, job.finished, made.how,
    EXISTS (SELECT 1 FROM took WHERE took.thing = made.thing AND took.job = made.job) AS passes
FROM made JOIN job ON job.number = made.job WHERE made.thing = ? ORDER BY passes, finished, id
"""
_TAKERS = "SELECT id, name FROM took JOIN job ON number = job WHERE thing = ? ORDER BY finished, id"
_USERS = """
SELECT id, role, name FROM used JOIN job ON number = job WHERE source = ? ORDER BY finished, id
"""
_PARENT = """
SELECT parent.id FROM job JOIN job AS parent ON parent.id = job.parent WHERE job.id = ?
"""
_THINGS = "SELECT thing, how FROM made JOIN job ON number = job WHERE id = ? ORDER BY how, thing"


class Maker(NamedTuple):
    """A job that made a thing: how, when it had finished, and whether it had taken that as well."""

    job_id: str
    finished: float
    how: int
    passes: bool


class Use(NamedTuple):
    """A job that used another, as ARGUMENT or CHILD; `name` of the parameter, or ""."""

    job_id: str
    role: str
    name: str


class Index:
    """The index of a store, in a database that is open; see index_file.py."""

    def __init__(self, store: Store, db: sqlite3.Connection) -> None:
        self._store = store
        self._db = db

    def makers(self, thing: str, *, slight: bool = False) -> list[Maker]:
        """The jobs that made a thing, those first that made it first; also `slight` ones, if wanted.

        Whoever took it, too, comes behind the others; where it only passed a part on, not at all.
        """
        found = (Maker(*row) for row in self._db.execute(_MAKERS, (thing,)))
        return [
            one
            for one in found
            if (slight or one.how != SLIGHT) and not (one.passes and one.how in (PART, BYTES))
        ]

    def takers(self, thing: str) -> list[tuple[str, str]]:
        """The jobs that took a thing, and by which parameter."""
        return self._db.execute(_TAKERS, (thing,)).fetchall()

    def users(self, job_id: str) -> list[Use]:
        """The jobs that used a job, as a record tells: it made an argument, or was asked for."""
        found = [Use(*row) for row in self._db.execute(_USERS, (job_id,))]
        found += (Use(row[0], CHILD, "") for row in self._db.execute(_PARENT, (job_id,)))
        return list(dict.fromkeys(found))

    def made_by(self, job_id: str) -> list[Made]:
        """What a job made."""
        return [Made(*row) for row in self._db.execute(_THINGS, (job_id,))]

    def children_of(self, job_id: str) -> list[str]:
        """The jobs whose records say that a job has asked for them."""
        query = "SELECT id FROM job WHERE parent = ? ORDER BY finished, id"
        return [row[0] for row in self._db.execute(query, (job_id,))]

    def update(self) -> None:
        """Take in what has come, and forget what has gone. StoreUnavailable."""
        backend = self._store.backend
        there = {
            name.rpartition("/")[2]: status.version for name, status in backend.entries("jobs")
        }
        known = dict(self._db.execute("SELECT id, version FROM job").fetchall())
        gone = known.keys() - there.keys()
        changed = [job_id for job_id, version in there.items() if known.get(job_id) != version]
        changed += (job_id for job_id in self._completed() if job_id in there)
        with _transaction(self._db):
            self._forget(gone)
        with progress_of("index the lineage", len(changed), unit="job") as bar:
            for chunk in _chunks(sorted(changed)):
                with _transaction(self._db):
                    self._forget(chunk)
                    for job_id in chunk:
                        self._add(job_id, there[job_id])
                        bar.add()

    def _completed(self) -> list[str]:
        """The jobs whose result was not here when they were looked at, and is now."""
        lacking = self._db.execute("SELECT id, lacks FROM job WHERE lacks != ''")
        return [job_id for job_id, path in lacking if self._store.backend.stat(path) is not None]

    def _forget(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            row = self._db.execute("SELECT number FROM job WHERE id = ?", (job_id,)).fetchone()
            if row is not None:
                for table in ("made", "took", "used"):
                    self._db.execute(f"DELETE FROM {table} WHERE job = ?", row)  # noqa: S608
                self._db.execute("DELETE FROM job WHERE number = ?", row)

    def _add(self, job_id: str, version: str) -> None:
        backend = self._store.backend
        try:
            data, _ = read_quietly(backend.path(f"jobs/{job_id[:2]}/{job_id}"))  # it is not used
            record = Record.of_this_store(data, job_id)
        except FileNotFoundError:
            return
        except OSError as error:
            raise unavailable(backend.root, error) from error
        except (DigestMismatch, StoreTooNew):
            record = None
        if record is None:
            self._insert_job(job_id, version, 0.0, "", "")
            return
        encoding, lacks = record.result.inline, ""
        if encoding is None:
            blob = Digest("blake3", record.result.address.hex())
            encoding = stored_encoding(self._store, blob)
            lacks = blob.path if encoding is None else ""
        ended = record.started + record.seconds
        number = self._insert_job(job_id, version, ended, record.parent, lacks)
        insert = self._db.executemany
        insert(
            "INSERT OR IGNORE INTO made VALUES (?, ?, ?)",
            [(thing, number, how) for thing, how in made_by(record, encoding)],
        )
        taken = [
            (one.name, thing) for one in taken_by(record) for thing in (one.exact, *one.inside)
        ]
        insert(
            "INSERT OR IGNORE INTO took VALUES (?, ?, ?)",
            [(thing, number, name) for name, thing in taken if thing],
        )
        self._insert_used(record, number)

    def _insert_job(self, *row: str | float) -> int | None:
        query = "INSERT INTO job (id, version, finished, parent, lacks) VALUES (?, ?, ?, ?, ?)"
        return self._db.execute(query, row).lastrowid

    def _insert_used(self, record: Record, number: int | None) -> None:
        used = [(source, number, ARGUMENT, name) for name, source in record.inputs]
        used += ((child, number, CHILD, "") for child in children_told(record))
        self._db.executemany("INSERT OR IGNORE INTO used VALUES (?, ?, ?, ?)", used)


def children_told(record: Record) -> list[str]:
    """The jobs that a record says its function asked for."""
    asked = [name for what, name, _ in record.reads if what == "query"]
    return list(dict.fromkeys([*record.children, *asked]))


@contextmanager
def _transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("BEGIN")
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def _chunks(names: list[str]) -> Iterator[list[str]]:
    rest = iter(names)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
