"""The records of jobs that a lineage needs, from here and from the zone, each read once."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from kachery_store import Store, StoreTooNew

from ..listing import other_results
from ..lookup import lookup
from ..record import Record
from ..trust import signers
from .first_runs import FirstRuns

_AT_ONCE = 16  # requests to a zone on their way


class AtHand:
    """Records by job id. `brought`: whether the zone had one that was not here."""

    def __init__(self, store: Store, known: Iterable[Record] = ()) -> None:
        self._store = store
        self._records: dict[str, Record | None] = {record.job_id: record for record in known}
        self._others: dict[str, list[Record]] = {}
        self.first_runs = FirstRuns(store)
        self.brought = False

    def get(self, job_id: str) -> Record | None:
        """The record of a job; None when it is not to be had, or does not count."""
        if job_id not in self._records:
            self._records[job_id] = self._read(job_id)
        return self._records[job_id]

    def load(self, job_ids: Iterable[str]) -> None:
        """Have some records at hand, many at a time where a zone has to be asked."""
        wanted = [job_id for job_id in dict.fromkeys(job_ids) if job_id not in self._records]
        away = (
            [] if self._store.uplink is None else [one for one in wanted if not self._is_here(one)]
        )
        if len(away) > 1:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                reading = [pool.submit(copy_context().run, self._read, one) for one in away]
                self._records.update(
                    (one, done.result()) for one, done in zip(away, reading, strict=True)
                )

    def others(self, record: Record) -> list[Record]:
        """The records of runs of a job that gave another result."""
        if record.job_id not in self._others:
            self._others[record.job_id] = other_results(self._store, record)
        return self._others[record.job_id]

    def signers(self, job_id: str) -> tuple[str, ...]:
        """Who signed the record of a job, in hex; nobody where it was made here."""
        record = self.get(job_id)
        return () if record is None else signers(record)

    def _read(self, job_id: str) -> Record | None:
        here = self._store.uplink is None or self._is_here(job_id)
        try:
            record = lookup(self._store, job_id)
        except StoreTooNew:
            return None
        if record is not None and not here:
            self.brought = True
        return record

    def _is_here(self, job_id: str) -> bool:
        return self._store.backend.stat(_path(job_id)) is not None


def _path(job_id: str) -> str:
    return f"jobs/{job_id[:2]}/{job_id}"
