"""Forgetting jobs of the local store by what they are: their records, and what is noted of failures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from kachery_store import Store
from kachery_store.pins import JOB, Pinned

from .failures import Failure
from .listing import all_failures, find_job, is_called, records_of
from .record import Record


class Forgotten(NamedTuple):
    """Ids of the jobs whose record, and whose last failure, is forgotten; `pinned` ones stay."""

    records: list[str]
    failures: list[str]
    pinned: list[str]


def choose(
    store: Store,
    jobs: Iterable[str] = (),
    *,
    task: str | None = None,
    older_than: float | None = None,
    failed: bool = False,
    seen: Callable[[], object] = lambda: None,
) -> Forgotten:
    """What would be forgotten: what meets all that is asked for.

    `jobs` as for `find_job`, or all; `task` as for `all_records`; `older_than`: run so many seconds ago
    or more; `failed`: only failures, and errors that were kept as results. `seen()` is called for each
    job looked at. NotFound.
    """
    named = [one for job in jobs for one in find_job(store, job) if one is not None]
    given: Iterator[Record | Failure] = iter(named) if named else _all(store, task, seen)
    until = None if older_than is None else time.time() - older_than
    chosen = Forgotten([], [], [])
    for one in given:
        if task is not None and not is_called(one, task):
            continue
        if until is not None and one.started > until:
            continue
        if isinstance(one, Failure):
            chosen.failures.append(one.job_id)
        elif one.is_error or not failed:
            pinned = store.pins.has(Pinned(JOB, one.job_id).uri)
            (chosen.pinned if pinned else chosen.records).append(one.job_id)
    return chosen


def _all(store: Store, task: str | None, seen: Callable[[], object]) -> Iterator[Record | Failure]:
    yield from records_of(store, store.jobs.names(), task, seen)
    yield from all_failures(store, task, seen)


def forget(store: Store, chosen: Forgotten, seen: Callable[[], object] = lambda: None) -> None:
    """Forget what was chosen; `seen()` is called after each. StoreUnavailable."""
    for job_id in chosen.records:
        store.jobs.remove(job_id)
        for name in list(store.differing.names(job_id)):
            if name.startswith(job_id):
                store.differing.remove(name)
        seen()
    for job_id in chosen.failures:
        store.failures.remove(job_id)
        seen()
