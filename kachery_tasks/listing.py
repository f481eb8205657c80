"""Looking at the records of a store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from kachery_store import DigestMismatch, NotFound, Store, StoreTooNew

from .failures import Failure, failure_of
from .lookup import lookup
from .record import Record


def all_records(store: Store, task: str | None = None) -> Iterator[Record]:
    """The records of a store in no special order, of one task or all.

    `task` is a task's name, or the part of it after the colon. Damaged records are set aside.
    """
    yield from records_of(store, store.jobs.names(), task)


def records_of(
    store: Store,
    ids: Iterable[str],
    task: str | None = None,
    seen: Callable[[], object] = lambda: None,
) -> Iterator[Record]:
    """The records of some jobs, as `all_records`; `seen()` is called for each job looked at."""
    for job_id in ids:
        try:
            record = lookup(store, job_id)
        except StoreTooNew:  # what a later kachery wrote is there, and not for us
            record = None
        if record is not None and (task is None or is_called(record, task)):
            yield record
        seen()


def other_results(store: Store, record: Record) -> list[Record]:
    """The runs of a job that gave another result than the stored one."""
    found = []
    for name in store.differing.names(record.job_id):
        if name.startswith(record.job_id):
            with suppress(NotFound, DigestMismatch, StoreTooNew):
                found.append(Record.from_bytes(store.differing.read(name), record.job_id))
    stored = record.result.address  # after `forget` it may be another one
    others = [one for one in found if one.result.address != stored]
    return sorted(others, key=lambda one: one.started)


def find_record(store: Store, text: str, also: Iterable[str] = ()) -> Record:
    """The record of a job id, of the beginning of one, or of a job:// URI.

    NotFound when there is none, or more than one. `also` are jobs without a record that count.
    """
    start = text.removeprefix("job://").lower()
    if not start:
        raise NotFound("give the id of a job, or the beginning of one; `kachery jobs` lists them")
    found = [job_id for job_id in store.jobs.names(start) if job_id.startswith(start)]
    found += set(also) - set(found)
    if not found:
        raise NotFound(f"no job {text} is stored at {store.root}; `kachery jobs` lists what is")
    if len(found) > 1:
        raise NotFound(f"{len(found)} jobs begin with {text}; give more digits of the one you mean")
    record = lookup(store, found[0])
    if record is None:
        raise NotFound(f"the record of job {found[0]} was damaged and has been set aside")
    return record


def all_failures(
    store: Store, task: str | None = None, seen: Callable[[], object] = lambda: None
) -> Iterator[Failure]:
    """The last failures of jobs that have not succeeded since, of one task or all.

    `seen()` is called for each job looked at.
    """
    for job_id in store.failures.names():
        failure = _failure_if_ours(store, job_id)
        if failure is not None and (task is None or is_called(failure, task)):
            yield failure
        seen()


def find_job(store: Store, text: str) -> tuple[Record | None, Failure | None]:
    """What is stored of a job that is named as for `find_record`: its record, its last failure.

    NotFound when there is neither, or more than one such job.
    """
    start = text.removeprefix("job://").lower()
    if not start:
        return find_record(store, text), None
    failed = {job_id for job_id in store.failures.names(start) if job_id.startswith(start)}
    known = {job_id for job_id in store.jobs.names(start) if job_id.startswith(start)}
    if not failed or len(failed | known) > 1:
        return find_record(store, text, also=failed), None
    (job_id,) = failed
    record = lookup(store, job_id) if known else None
    failure = _failure_if_ours(store, job_id)
    if record is None and failure is None:
        raise NotFound(f"what was noted of job {job_id} was damaged and has been set aside")
    return record, failure


def _failure_if_ours(store: Store, job_id: str) -> Failure | None:
    try:
        return failure_of(store, job_id)
    except StoreTooNew:
        return None


def is_called(one: Record | Failure, task: str) -> bool:
    """Whether a record or failure is of a task: its name, or the part of it after the colon."""
    return one.task == task or one.task.rpartition(":")[2] == task
