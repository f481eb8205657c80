"""The file with the index of a store: opened by one process at a time, made anew when it is no good.

It can be deleted at any time, which only costs the time to make it again. Jobs never look at it.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import TypeVar

from kachery_store import Store

from .index import TABLES, Index

FOLDER = "index"
FILE = f"{FOLDER}/lineage.sqlite"

_LOCK = f"{FOLDER}/lineage.lock"
_FORMAT = 1  # a file of another one is made anew
_APPLICATION = 0x6B61_6368  # "kach"
_PATIENCE = 120.0  # seconds; whoever has the file for longer is left alone with it
_POLL = 0.02

T = TypeVar("T")

_MADE = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_FORMAT}; {TABLES}"


def with_index(store: Store, ask: Callable[[Index], T]) -> T:
    """What is answered with the index of a store, brought up to date. StoreUnavailable.

    Where no file can be had, or somebody has it for very long, it is made in memory.
    """
    with _locked(store) as mine:
        try:
            return _answered(store, _opened(store, in_file=mine), ask)
        except sqlite3.DatabaseError:  # damaged, or no space is left: it is only an index
            return _answered(store, _anew(store) if mine else _in_memory(), ask)


def _answered(store: Store, db: sqlite3.Connection, ask: Callable[[Index], T]) -> T:
    with closing(db):
        index = Index(store, db)
        index.update()
        return ask(index)


@contextmanager
def _locked(store: Store) -> Iterator[bool]:
    """Have the file for this process and thread alone; False when it cannot be had."""
    try:
        descriptor = _lock_file(store)
    except OSError:
        yield False
        return
    try:
        yield _wait_for(descriptor)
    finally:
        os.close(descriptor)


def _lock_file(store: Store) -> int:
    path = store.backend.path(_LOCK)
    if os.path.isdir(store.root):
        os.makedirs(os.path.dirname(path), exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _wait_for(descriptor: int) -> bool:
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(_POLL)
        except OSError:  # a file system without locks
            return False
        else:
            return True


def _opened(store: Store, *, in_file: bool) -> sqlite3.Connection:
    if not in_file:
        return _in_memory()
    try:
        db = sqlite3.connect(store.backend.path(FILE), isolation_level=None)
    except sqlite3.Error:
        return _in_memory()
    try:
        (application,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if (application, version) == (_APPLICATION, _FORMAT):
            return _prepared(db)
    except sqlite3.DatabaseError:
        pass
    db.close()
    return _anew(store)


def _anew(store: Store) -> sqlite3.Connection:
    """A new, empty file in the place of what is there; in memory where that cannot be."""
    path = store.backend.path(FILE)
    try:
        for end in ("-journal", "-wal", "-shm", ""):
            with suppress(FileNotFoundError):
                os.unlink(path + end)
        return _made(path)
    except (OSError, sqlite3.Error):
        return _in_memory()


def _in_memory() -> sqlite3.Connection:
    return _made(":memory:")


def _made(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.executescript(_MADE)
        return _prepared(db)
    except BaseException:
        db.close()
        raise


def _prepared(db: sqlite3.Connection) -> sqlite3.Connection:
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("PRAGMA cache_size = -64000")
    return db
