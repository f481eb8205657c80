"""The answers of queries: each is a record of its own, and an index says which belong to a query.

The index is a file of the local store (docs/formats/record.md), and is written under the lease of the
query. What it names may have been collected.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress

from kachery_store import DigestMismatch, NotFound, Store, StoreTooNew
from kachery_store.digest import hash_buffer

from .definition import QUERY
from .record import Record
from .trust import counts

_LINE = re.compile("[0-9]{1,20} [0-9a-f]{64}")
_KEPT = 10_000  # answers that the index of a query remembers


def answer_id(query_id: str) -> str:
    """The id of the record of an answer that is asked for now: 64 hex digits."""
    return hash_buffer("blake3", f"kachery answer 1 {query_id} {time.time_ns()}".encode())


def add_answer(store: Store, query_id: str, record: Record) -> None:
    """Note that a record, which is stored, is an answer of a query. Raises StoreUnavailable."""
    lines = [*_index(store, query_id), f"{int(record.started * 1e6)} {record.job_id}"]
    store.backend.replace(_path(query_id), "\n".join(lines[-_KEPT:]).encode())


def answers(store: Store, query_id: str) -> Iterator[Record]:
    """The answers of a query that are still there, newest first."""
    for line in reversed(_index(store, query_id)):
        with suppress(NotFound, DigestMismatch, StoreTooNew):
            record_id = line.partition(" ")[2]
            data = store.jobs.read(record_id)
            record = Record.from_bytes(data, record_id)
            if record.kind == QUERY and counts(store, record, data):
                yield record


def fresh_answer(store: Store, query_id: str, max_age: float | None) -> Record | None:
    """The newest answer, if it is at most so many seconds old; None without a `max_age`."""
    if max_age is None:
        return None
    newest = next(answers(store, query_id), None)
    return newest if newest is not None and age_of(newest) <= max_age else None


def age_of(record: Record) -> float:
    """How many seconds ago an answer was asked for."""
    return max(0.0, time.time() - record.started)


def forget_answers(store: Store, query_id: str) -> None:
    """Forget all answers of a query."""
    for line in _index(store, query_id):
        store.jobs.remove(line.partition(" ")[2])
    store.backend.remove(_path(query_id))


def _index(store: Store, query_id: str) -> list[str]:
    try:
        text = store.backend.read(_path(query_id)).decode(errors="replace")
    except NotFound:
        return []
    return [line for line in text.splitlines() if _LINE.fullmatch(line)]


def _path(query_id: str) -> str:
    return f"queries/{query_id[:2]}/{query_id}"
