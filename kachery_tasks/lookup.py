"""The record that the store has of a job, if it counts."""

from __future__ import annotations

from kachery_store import DigestMismatch, NotFound, Store

from .record import Record
from .trust import counted


def lookup(store: Store, job_id: str, task: str | None = None) -> Record | None:
    """The record of a job, or None; a damaged one is set aside, with a warning.

    One that came from a zone counts only as long as the user trusts who signed it, and if it is of
    `task`, where that is given: who is trusted for one task only could say that of a record for another
    one. BadKey when it cannot be told whom the user trusts.
    """
    while True:
        try:
            data = store.jobs.read(job_id)
        except NotFound:
            return None
        try:
            record = _record_in(data, job_id)
        except DigestMismatch:
            store.jobs.set_aside(job_id)
            return None
        found = counted(store, record, data, task)
        if found is not None:
            return found
        # It has gone from here; the zone may have one that counts.


_MOST = 4096  # records that are remembered
_LARGEST = 4096  # bytes of one

_read: dict[str, tuple[bytes, Record]] = {}  # job id -> its file, and what was found to be in it


def _record_in(data: bytes, job_id: str) -> Record:
    """The record in a file, which is verified unless it is, byte by byte, what was verified before."""
    known = _read.get(job_id)
    if known is not None and known[0] == data:
        return known[1]
    record = Record.of_this_store(data, job_id)
    if len(data) <= _LARGEST:
        if len(_read) >= _MOST:
            _read.clear()
        _read[job_id] = data, record
    return record
