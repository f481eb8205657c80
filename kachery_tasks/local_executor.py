"""Running jobs on threads of this process."""

from __future__ import annotations

import heapq
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from itertools import count

from .cache import Outcome
from .inputs import filled
from .job import Job
from .runs import run_submitted
from .settings import Settings, applied


class LocalExecutor:
    """A pool of as many threads as the machine has processors.

    Of the jobs that wait for a thread the one of the highest priority is next, of equals the one that
    was ready first. Resources are for clusters: here nothing asks for them.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="kachery")
        self._ready: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = count()
        self._lock = threading.Lock()

    def start(self, jobs: Iterable[Job]) -> None:
        """See that each future is settled. Inputs come before those who need them, or have futures."""
        for job in jobs:
            # In the caller's context, which knows what the caller holds leases on.
            run = partial(copy_context().run, self._run, job, job.started())
            ready = partial(self._add, job.definition.policy.priority, run)
            _when_done(job.inputs, job.started(), ready)

    def carry_out(self, job: Job) -> Outcome:
        """Get one job done, on a thread of the pool; its inputs are done."""
        settings = self._settings
        # Those of another store are not looked for in this one.
        outcomes = {
            id(one): one.started().result()
            if one.runner is job.runner
            else Outcome(None, one.runner.value_of(one.started().result()))
            for one in job.inputs
        }
        given = filled(
            settings.store,
            job.definition,
            job.arguments,
            (Job, *Job.__subclasses__()),
            lambda one: outcomes[id(one)],
            job.runner.value_of,
            strict=settings.strict,
        )
        with applied(settings):
            return run_submitted(
                settings.store,
                job.definition,
                given.arguments,
                expected=None if job.inputs else job.key,
                strict=settings.strict,
                addresses=given.addresses,
            )

    def _add(self, priority: int, run: Callable[[], None]) -> None:
        with self._lock:
            heapq.heappush(self._ready, (-priority, next(self._numbers), run))
        self._pool.submit(self._run_first)

    def _run_first(self) -> None:
        with self._lock:
            _, _, run = heapq.heappop(self._ready)
        run()

    def _run(self, job: Job, future: Future[Outcome]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            outcome = self.carry_out(job)
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

    def start_now() -> None:
        try:
            start()
        except RuntimeError as late:  # the interpreter is shutting down
            with suppress(InvalidStateError):
                dependent.set_exception(late)

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
            start_now()

    if not inputs:
        start_now()
    for job in inputs:
        job.started().add_done_callback(one_done)
