"""The record that the store has of a job, if it counts."""

from __future__ import annotations

from kachery_store import DigestMismatch, NotFound, Store

from .record import Record
from .trust import counts


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
            record = Record.of_this_store(data, job_id)
        except DigestMismatch:
            store.jobs.set_aside(job_id)
            return None
        if counts(store, record, data, task):
            return record
        # It has gone from here; the zone may have one that counts.
