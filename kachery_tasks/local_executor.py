"""Running jobs on threads of this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial

from .cache import Outcome
from .job import Job
from .runs import run_submitted
from .settings import Settings, applied


class LocalExecutor:
    """A pool of as many threads as the machine has processors."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="kachery")

    def start(self, jobs: Iterable[Job]) -> None:
        """Give each job a future. Inputs come before the jobs that need them, or have futures."""
        for job in jobs:
            future: Future[Outcome] = Future()
            job.future = future
            # In the caller's context, which knows what the caller holds leases on.
            run = partial(copy_context().run, self._run, job, future)
            _when_done(job.inputs, future, partial(self._pool.submit, run))

    def _run(self, job: Job, future: Future[Outcome]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            values = {id(one): one.runner.value_of(one.started().result()) for one in job.inputs}
            with applied(self._settings):
                outcome = run_submitted(
                    self._settings.store,
                    job.definition,
                    job.substituted(lambda one: values[id(one)]),
                    expected=None if job.inputs else job.key,
                    strict=self._settings.strict,
                )
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
            future.set_exception(error)
        else:
            # What the store has need not stay in memory.
            future.set_result(
                outcome
                if outcome.record is None
                else Outcome(outcome.record, warning=outcome.warning)
            )


def _when_done(inputs: list[Job], dependent: Future[Outcome], start: Callable[[], object]) -> None:
    """Start when all inputs are there; fail as soon as one has failed."""
    lock = threading.Lock()
    remaining = len(inputs)

    def one_done(future: Future[Outcome]) -> None:
        nonlocal remaining
        if future.cancelled():
            dependent.cancel()
            return
        error = future.exception()
        if error is not None:
            with suppress(InvalidStateError):  # another input failed first
                dependent.set_exception(error)
            return
        with lock:
            remaining -= 1
            ready = remaining == 0
        if ready:
            try:
                start()
            except RuntimeError as late:  # the interpreter is shutting down
                with suppress(InvalidStateError):
                    dependent.set_exception(late)

    if not inputs:
        start()
    for job in inputs:
        job.started().add_done_callback(one_done)
