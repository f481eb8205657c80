"""Where jobs meet the store and the executor in force."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from contextlib import contextmanager
from typing import Any, Protocol
from weakref import WeakValueDictionary

from .cache import Outcome, Unusable, encoding_of, lookup, value_of
from .graph import inputs_first
from .job import Job
from .local_executor import LocalExecutor
from .record import Record
from .settings import Settings, client_in_force, current

_ATTEMPTS = 3  # how often a job is started again because a stored result turned out to be damaged
_SHOW_PROGRESS_AFTER = 2.0  # seconds


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

    def lookup(self, id: str) -> Record | None:
        """The record of a job id, if it is stored."""
        return lookup(self._settings.store, id)

    def encoding(self, record: Record) -> bytes:
        """The encoding of the result that a record names."""
        return encoding_of(self._settings.store, record)

    def remove(self, id: str) -> None:
        """Forget the record of a job id."""
        self._settings.store.jobs.remove(id)

    def start(self, jobs: Sequence[Job]) -> None:
        """Give every job a future: of the stored result, of an equal job's run, or of its own run."""
        to_run: list[Job] = []
        twins: list[tuple[Job, Job]] = []
        first: dict[str, Job] = {}
        for job in inputs_first(jobs):
            if job.future is not None:
                continue
            record = job.stored_record() if job.resolve() else None
            if record is not None:
                job.future = _finished(Outcome(record))
            elif (running := self._running.get(job.key)) is not None and not running.done():
                job.future = running
            elif job.key in first:
                twins.append((job, first[job.key]))
            else:
                first[job.key] = job
                to_run.append(job)
        if to_run:
            self._executor().start(to_run)
        for job in to_run:
            if job.future is not None:
                self._running[job.key] = job.future
        for job, twin in twins:
            job.future = twin.future

    def value(self, job: Job, timeout: float | None) -> Any:
        """The value of a job once it is done; a result that was lost is computed again."""
        for _ in range(_ATTEMPTS):
            try:
                outcome = job.started().result(timeout)
                value = value_of(self._settings.store, outcome)
            except Unusable:
                _start_over(job)
                continue
            if outcome.warning is not None:
                warnings.warn(outcome.warning, stacklevel=4)
            return value
        return value_of(self._settings.store, job.started().result(timeout))

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
    session().start(wanted)
    futures = {job.started() for job in wanted}
    try:
        _wait(futures, progress)
    except KeyboardInterrupt:
        for future in futures:
            future.cancel()
        raise
    return [_value(job, return_exceptions) for job in wanted]


def _checked(jobs: Iterable[Job]) -> list[Job]:
    wanted: list[Job] = list(jobs)
    for job in wanted:
        if not isinstance(job, Job):
            raise TypeError(
                f"gather takes jobs, as f.job(...), f.submit(...) and f.map(...) make them; this is"
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


def _wait(futures: set[Future[Outcome]], progress: bool) -> None:
    running = {future for future in futures if not future.done()}
    if not running:
        return
    served = len(futures) - len(running)
    title = f"jobs ({served} served)" if served else "jobs"
    with progress_bar(title, len(futures), progress) as bar:
        bar.update(served)
        for _ in as_completed(running):
            bar.update()


class _Silent:
    """A progress bar that nobody sees."""

    def update(self, n: int = 1) -> None:
        pass


@contextmanager
def progress_bar(title: str, total: int, wanted: bool) -> Iterator[Any]:
    """A bar on a terminal or in a notebook, once two seconds have passed."""
    if not wanted or not (sys.stderr.isatty() or "ipykernel" in sys.modules):
        yield _Silent()
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=title, unit="job", delay=_SHOW_PROGRESS_AFTER) as bar:
        yield bar


def _start_over(job: Job) -> None:
    for one in inputs_first([job]):
        if one.future is not None and one.future.done():
            one.reset()


def _finished(outcome: Outcome) -> Future[Outcome]:
    future: Future[Outcome] = Future()
    future.set_result(outcome)
    return future
