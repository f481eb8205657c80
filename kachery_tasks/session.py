"""Where jobs meet the store and the executor in force."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar
from weakref import WeakSet, WeakValueDictionary

from kachery_store import Store, StoreUnavailable
from kachery_store.saying import warn

from . import counting
from .answers import forget_answers
from .cache import Outcome, Unusable, encoding_of, known, value_of
from .definition import Definition
from .graph import inputs_first, levels
from .job import Job
from .local_executor import LocalExecutor
from .record import Record
from .settings import Settings, applied, client_in_force, current
from .waiting import wait_for

_ATTEMPTS = 3  # how often a job is started again because a stored result turned out to be damaged
_AT_A_TIME = 1000  # jobs that as_completed has under way
_LOOKUPS = 32  # at the same time, in a zone

T = TypeVar("T")


class _Executor(Protocol):
    def start(self, jobs: Sequence[Job]) -> None:
        """Give each job a future. Inputs come before the jobs that need them, or have futures."""


class Session:
    """One store and the ways to run jobs with it, under one choice of settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._local: LocalExecutor | None = None
        self._remote: tuple[Any, _Executor] | None = None
        self._running: WeakValueDictionary[str, Future[Outcome]] = WeakValueDictionary()
        self._ahead: dict[str, Record | None] = {}  # what was just looked up, by job id
        _sessions.add(self)

    def start_afresh(self) -> None:
        """Forget executors and runs: in a forked child their threads are gone."""
        self._local = self._remote = None
        self._running = WeakValueDictionary()

    def lookup(self, job_id: str, definition: Definition) -> Record | None:
        """The record that answers a job, so that nothing has to run."""
        if job_id in self._ahead:
            return self._ahead[job_id]
        with applied(self._settings):
            return known(self._settings.store, job_id, definition)

    def holds(self, record: Record) -> bool:
        """Whether a record is stored."""
        return self._settings.store.jobs.has(record.job_id)

    def encoding(self, record: Record) -> bytes:
        """The encoding of the result that a record names."""
        return encoding_of(self._settings.store, record)

    def remove(self, job_id: str) -> None:
        """Forget the record of a job id."""
        store = self._settings.store
        store.jobs.remove(job_id)
        forget_answers(store, job_id)
        for name in list(store.differing.names(job_id)):
            if name.startswith(job_id):
                store.differing.remove(name)

    def start(self, jobs: Sequence[Job]) -> int:
        """Give every job a future: of the stored result, of an equal job's run, or of its own run.

        Returns how many have to run.
        """
        to_run: dict[str, Job] = {}
        twins: list[Job] = []
        for level in levels(jobs):
            with self._looked_up(level):
                for job in level:
                    if job.future is not None or self._settle(job):
                        continue
                    if job.key in to_run:
                        twins.append(job)
                    else:
                        to_run[job.key] = job
                        job.run_anew(always=self._settings.refreshes(job.task))
        if to_run:
            self._executor().start(list(to_run.values()))
        self._running.update({key: job.future for key, job in to_run.items() if job.future})
        for job in to_run.values():
            if job.future is not None:
                job.future.add_done_callback(partial(_count, job.task))
        for job in twins:
            job.future = to_run[job.key].future
        return len(to_run)

    @contextmanager
    def _looked_up(self, jobs: Sequence[Job]) -> Iterator[None]:
        """Look jobs up at the same time, where each lookup is a journey, for a with-block."""
        store = self._settings.store
        if store.uplink is None or len(jobs) == 1:
            yield
            return
        new = [job for job in jobs if job.future is None and job.runner is self]
        ids = {job.id: job.definition for job in new if job.resolve() and job.id is not None}
        with ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="kachery-lookup") as pool:
            found = pool.map(lambda one: self._lookup_if_possible(store, *one), ids.items())
            self._ahead = dict(found)
        try:
            yield
        finally:
            self._ahead = {}

    def _lookup_if_possible(
        self, store: Store, job_id: str, definition: Definition
    ) -> tuple[str, Record | None]:
        try:
            with applied(self._settings):
                return job_id, known(store, job_id, definition)
        except StoreUnavailable:
            return job_id, None  # running the job meets the same, and says so

    def _settle(self, job: Job) -> bool:
        """Give a job the future of a result or run that is there already, if one is."""
        if job.runner is not self:
            return job.started() is not None
        try:
            record = job.stored_record() if job.resolve() else None
        except StoreUnavailable:
            record = None  # running the job meets the same, and says so
        running = self._running.get(job.key)
        if record is not None:
            job.future = _finished(Outcome(record))
            counting.hit(record)
        elif running is not None and not running.done():
            job.future = running
        return job.future is not None

    def outcome(self, job: Job, timeout: float | None) -> Outcome:
        """What became of a job, once it is done; its inputs are computed again if they were lost."""
        return self._settled(job, timeout, lambda outcome: outcome)

    def value(self, job: Job, timeout: float | None) -> Any:
        """The value of a job, once it is done; what was lost is computed again."""
        return self._settled(job, timeout, self.value_of)

    def value_of(self, outcome: Outcome) -> Any:
        """The value of an outcome: a copy of its own, where the store has it."""
        return value_of(self._settings.store, outcome)

    def _settled(self, job: Job, timeout: float | None, use: Callable[[Outcome], T]) -> T:
        attempt = 1
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                outcome = job.started().result(left)
                used = use(outcome)
            except Unusable:
                if attempt == _ATTEMPTS:
                    raise
                attempt += 1
                _start_over(job)
                continue
            if outcome.warning is not None:
                warn(outcome.warning)
            return used

    def _executor(self) -> _Executor:
        client = client_in_force(self._settings)
        if client is None:
            if self._local is None:
                self._local = LocalExecutor(self._settings)
            return self._local
        if self._remote is None or self._remote[0] is not client:
            from .dask_executor import DaskExecutor

            self._remote = (client, DaskExecutor(self._settings, client))
        return self._remote[1]


_sessions: WeakSet[Session] = WeakSet()


def _after_fork() -> None:
    for one in list(_sessions):
        one.start_afresh()


os.register_at_fork(after_in_child=_after_fork)


def session() -> Session:
    """The session of the settings in force."""
    settings = current()
    if settings.session is None:
        settings.session = Session(settings)
    found: Session = settings.session
    return found


def gather(
    jobs: Iterable[Job], *, progress: bool = True, return_exceptions: bool = False
) -> list[Any]:
    """The values of jobs, in their order; what is not known is computed, on the executor in force.

    A progress bar shows on terminals and in notebooks when it takes longer than two seconds. If a
    job fails, the others go on, and then its exception is raised; with `return_exceptions` the
    exceptions are returned in the places of the values.
    """
    wanted = _checked(jobs)
    before = {job.future for job in inputs_first(wanted) if job.future and not job.future.done()}
    running = len(before) + sum(
        runner.start([job for job in wanted if job.runner is runner])
        for runner in {id(job.runner): job.runner for job in wanted}.values()
    )
    futures = {job.started() for job in inputs_first(wanted)}
    try:
        wait_for(futures, served=len(futures) - running, progress=progress)
    except KeyboardInterrupt:
        for future in futures:
            future.cancel()
        raise
    return [_value(job, return_exceptions) for job in wanted]


def as_completed(jobs: Iterable[Job]) -> Iterator[Job]:
    """The jobs as they are done, whatever became of them; those that nobody has started are.

    The jobs are taken a thousand at a time, so that a generator may make any number of them, and what
    has been yielded need not stay in memory. A job that occurs twice is yielded twice.
    """
    ended: SimpleQueue[Job] = SimpleQueue()
    coming = iter(jobs)
    under_way = 0
    while True:
        batch = _checked(islice(coming, _AT_A_TIME - under_way))
        for runner in {id(job.runner): job.runner for job in batch}.values():
            runner.start([job for job in batch if job.runner is runner])
        for job in batch:
            job.add_done_callback(ended.put)
        under_way += len(batch)
        if not under_way:
            return
        while under_way > _AT_A_TIME // 2 or (under_way and not batch):
            yield ended.get()
            under_way -= 1


def _checked(jobs: Iterable[Job]) -> list[Job]:
    if isinstance(jobs, Job):
        raise TypeError("this takes a list of jobs: [job]; or ask for job.result()")
    wanted: list[Job] = list(jobs)
    for job in wanted:
        if not isinstance(job, Job):
            raise TypeError(
                f"this takes jobs, as f.job(...), f.submit(...) and f.map(...) make them, not"
                f" {type(job).__name__}"
            )
    return wanted


def _value(job: Job, return_exceptions: bool) -> Any:
    try:
        return job.result()
    except Exception as error:
        if return_exceptions:
            return error
        raise


def _start_over(job: Job) -> None:
    for one in inputs_first([job]):
        if one.future is not None and one.future.done():
            one.reset()


def _count(task: str, future: Future[Outcome]) -> None:
    if future.cancelled():
        return
    error = future.exception()
    if error is None:
        counting.miss(future.result().record, task)
    else:
        counting.failure(task, error)


def _finished(outcome: Outcome) -> Future[Outcome]:
    future: Future[Outcome] = Future()
    future.set_result(outcome)
    return future
