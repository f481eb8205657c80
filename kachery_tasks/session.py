"""Where jobs meet the store and the executor in force."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar
from weakref import WeakSet, WeakValueDictionary

from kachery_store import Store, StoreUnavailable
from kachery_store.saying import warn

from . import counting
from .answers import forget_answers
from .cache import Outcome, Unusable, encoding_of, known, load, value_of
from .definition import Definition
from .graph import inputs_first, levels
from .job import Job
from .local_executor import LocalExecutor
from .purity import Asked, note_answer, note_asked
from .record import Record
from .settings import THREADS, Settings, applied, client_in_force, current
from .trust import doubt

_ATTEMPTS = 3  # how often a job is started again because a stored result turned out to be damaged
_LOOKUPS = 32  # at the same time, in a zone

T = TypeVar("T")


class _Executor(Protocol):
    def start(self, jobs: Sequence[Job]) -> None:
        """See that each future is settled. Inputs come before those who need them, or have futures."""


class Session:
    """One store and the ways to run jobs with it, under one choice of settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._local: LocalExecutor | None = None
        self._remote: tuple[Any, _Executor] | None = None
        self._running: WeakValueDictionary[str, Future[Outcome]] = WeakValueDictionary()
        self._waiting: WeakSet[Job] = WeakSet()  # whose futures were not done when they got them
        self._unfinished: WeakSet[Future[Outcome]] = WeakSet()
        _sessions.add(self)

    def start_afresh(self) -> None:
        """Forget executors and runs: in a forked child their threads are gone."""
        self._local = self._remote = None
        self._running = WeakValueDictionary()
        for job in list(self._waiting):
            # Not done(): a thread that is gone may hold the lock of the future for ever.
            if job.future is not None and job.future in self._unfinished:
                job.future = None
        self._waiting, self._unfinished = WeakSet(), WeakSet()

    def lookup(self, job_id: str, definition: Definition) -> Record | None:
        """The record that answers a job, so that nothing has to run."""
        with applied(self._settings):
            return known(self._settings.store, job_id, definition)

    def holds(self, record: Record) -> bool:
        """Whether a record is stored, and counts."""
        return doubt(record) is None and self._settings.store.jobs.has(record.job_id)

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
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._start(jobs)
            except Unusable:  # the result of an input is damaged, and its record was set aside
                self._reset_lost(jobs)
        return self._start(jobs)

    def _start(self, jobs: Sequence[Job]) -> int:
        to_run: dict[str, Job] = {}
        twins: dict[int, tuple[Job, Job]] = {}
        asked: list[tuple[Job, Asked]] = []
        for level in levels(jobs, without=_has_future):
            for job in level:
                job.reconsider()
            ahead = self._looked_up(level)
            for job in level:
                if job.runner is self:  # and not what Dask computes
                    note_asked(_asked(job, asked), job.definition)
                if self._settle(job, ahead):
                    continue
                first = to_run.setdefault(job.key, job)
                if first is job:
                    job.run_anew(always=self._settings.refreshes(job.task))
                else:
                    twins[id(job)] = (job, first)
        for job in to_run.values():
            job.future = Future()
            job.future.add_done_callback(partial(_count, job.task))
            self._note_unfinished(job)
        for job, first in twins.values():
            job.join(first)
            self._note_unfinished(job)
        for job, one in asked:
            job.started().add_done_callback(one.settle)
        self._hand_over(list(to_run.values()))
        return len(to_run)

    def _note_unfinished(self, job: Job) -> None:
        """Remember that a job waits, which it would do for ever in a forked child."""
        future = job.started()
        self._waiting.add(job)
        if future not in self._unfinished:
            self._unfinished.add(future)
            future.add_done_callback(self._unfinished.discard)

    def _hand_over(self, jobs: list[Job]) -> None:
        """Let the executor in force run jobs."""
        if not jobs:
            return
        self._running.update({job.key: job.started() for job in jobs})
        try:
            self._executor().start(jobs)
        except Exception as error:
            for job in jobs:  # nobody may wait for ever
                with suppress(InvalidStateError):
                    job.started().set_exception(error)
            raise
        except BaseException:  # Ctrl-C
            for job in jobs:
                job.cancel()
            raise

    def _looked_up(self, jobs: Sequence[Job]) -> Mapping[str, Record | None]:
        """The records of jobs, looked up at the same time, where each lookup is a journey."""
        store = self._settings.store
        if store.uplink is None or len(jobs) == 1:
            return {}
        new = [job for job in jobs if job.runner is self and job.resolve()]
        ids = {job.id: job.definition for job in new if job.id is not None}
        with ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="kachery-lookup") as pool:
            return dict(pool.map(lambda one: self._lookup_if_possible(store, *one), ids.items()))

    def _lookup_if_possible(
        self, store: Store, job_id: str, definition: Definition
    ) -> tuple[str, Record | None]:
        try:
            with applied(self._settings):
                return job_id, known(store, job_id, definition)
        except StoreUnavailable:
            return job_id, None  # running the job meets the same, and says so

    def _settle(self, job: Job, ahead: Mapping[str, Record | None]) -> bool:
        """Give a job the future of a result or run that is there already, if one is."""
        if job.runner is not self:
            self._note_unfinished(job)
            return True
        record = self._found(job, ahead)
        running = self._running.get(job.key)
        if record is not None:
            job.future = _answered(self._settings.store, record)
            counting.hit(record)
        elif running is not None and not running.done():
            job.future = running
            self._note_unfinished(job)
        return job.future is not None

    def _found(self, job: Job, ahead: Mapping[str, Record | None]) -> Record | None:
        try:
            if not job.resolve() or job.id is None:
                return None
            return ahead[job.id] if job.id in ahead else self.lookup(job.id, job.definition)
        except StoreUnavailable:
            return None  # running the job meets the same, and says so

    def _reset_lost(self, jobs: Sequence[Job]) -> None:
        """Let jobs whose stored results turned out to be damaged be looked up or run again."""
        for job in inputs_first(jobs):
            future = job.future
            if future is None or not future.done() or future.cancelled() or future.exception():
                continue
            record = future.result().record
            if record is not None and not job.runner.holds(record):
                job.reset()

    def has_threads(self) -> bool:
        """As of Runner."""
        return client_in_force(self._settings) is None and self._settings.executor == THREADS

    def for_dask(self, job: Job) -> Any:
        """As of Runner."""
        from .dask_graph import graph_of

        return graph_of(self._settings, job)

    def rebuilt(self, graph: Any, key: str, *, rename: Any = None) -> Any:
        """As of Runner."""
        from .dask_graph import rebuilt

        return rebuilt(graph, key, rename)

    def computed(self, graph: Any, keys: Any, **options: Any) -> Any:
        """As of Runner."""
        from .dask_graph import computed

        return computed(graph, keys, **options)

    def visualize(self, job: Job, filename: str | None, **options: Any) -> Any:
        """As of Runner."""
        from .dask_graph import visualize

        return visualize(job, filename, **options)

    def outcome(self, job: Job, timeout: float | None) -> Outcome:
        """What became of a job, once it is done; its inputs are computed again if they were lost."""
        return self._settled(job, timeout, lambda outcome: outcome)

    def value(self, job: Job, timeout: float | None) -> Any:
        """The value of a job, once it is done; what was lost is computed again."""
        # Whoever asks may get the value itself: jobs hash the copy that they are given.
        return self._settled(job, timeout, partial(self.value_of, pickling=False))

    def value_of(self, outcome: Outcome, *, pickling: bool = True) -> Any:
        """The value of an outcome for one job alone, as of cache.value_of."""
        return value_of(self._settings.store, outcome, pickling=pickling)

    def _settled(self, job: Job, timeout: float | None, use: Callable[[Outcome], T]) -> T:
        attempt = 1
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                outcome = job.started().result(left)
                used = use(outcome)
            except (Unusable, CancelledError) as error:
                # What shares its run with an equal job is not cancelled with that.
                if attempt == _ATTEMPTS or (isinstance(error, CancelledError) and _is_over(job)):
                    raise
                attempt += 1
                _start_over(job)
                continue
            if outcome.warning is not None:
                warn(outcome.warning)
            note_answer(outcome.record)
            return used

    def _executor(self) -> _Executor:
        client = client_in_force(self._settings)
        if client is None:
            if self._local is None:
                self._local = _local_executor(self._settings)
            return self._local
        if self._remote is None or self._remote[0] is not client:
            from .dask_executor import DaskExecutor

            self._remote = (client, DaskExecutor(self._settings, client))
        return self._remote[1]


def _local_executor(settings: Settings) -> LocalExecutor:
    if settings.executor == THREADS:
        return LocalExecutor(settings)
    from .process_executor import ProcessExecutor

    return ProcessExecutor(settings)


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


def _asked(job: Job, unknown: list[tuple[Job, Asked]]) -> str | Asked:
    """A job as it is noted that it was asked for; those whose ids may not be known are added to."""
    if not job.inputs:
        return job.key
    unknown.append((job, Asked(job)))
    return unknown[-1][1]


def _has_future(job: Job) -> bool:
    return job.future is not None


def _is_over(job: Job) -> bool:
    """Whether a cancelled job, or something that it needs, was cancelled by whoever has it."""
    return any(one.is_cancelled_here for one in inputs_first([job]))


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


def _answered(store: Store, record: Record) -> Future[Outcome]:
    """The future of a job whose record is known: an exception may have been kept as its result."""
    future: Future[Outcome] = Future()
    if record.is_error:
        try:
            load(store, record)  # raises it
        except Unusable:
            raise
        except Exception as error:  # noqa: BLE001 - what was kept
            future.set_exception(error)
            return future
    future.set_result(Outcome(record))
    return future
