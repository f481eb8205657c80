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
from .inputs import Filling, filled, for_jobs
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
        arguments, addresses = job.arguments, None
        with applied(settings):
            if job.inputs:
                how = Filling(
                    settings.store,
                    for_jobs(),
                    lambda one: outcomes[id(one)],
                    lambda one: job.runner.value_of(outcomes[id(one)]),
                    settings.strict,
                )
                arguments, addresses = filled(job.definition, arguments, job.key, job.opened, how)
            return run_submitted(
                settings.store,
                job.definition,
                arguments,
                expected=None if job.inputs else job.key,
                strict=settings.strict,
                addresses=addresses,
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
    to_start = [start]  # once; the futures of the inputs keep this, and are not to keep the job

    def start_now() -> None:
        try:
            to_start.pop()()
        except RuntimeError as late:  # the interpreter is shutting down
            _fail(dependent, late)

    def one_done(future: Future[Outcome]) -> None:
        nonlocal remaining
        if future.cancelled():
            to_start.clear()
            _in_turn(dependent.cancel)
            return
        error = future.exception()
        if error is not None:
            to_start.clear()
            _in_turn(partial(_fail, dependent, error))
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


def _fail(future: Future[Outcome], error: BaseException) -> None:
    with suppress(InvalidStateError):  # another input failed first, or it was cancelled
        future.set_exception(error)


class _Turns(threading.local):
    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] | None = None


_turns = _Turns()


def _in_turn(settle: Callable[[], object]) -> None:
    """Settle a future after the one whose callbacks run now: a chain may be longer than the stack."""
    if _turns.waiting is not None:
        _turns.waiting.append(settle)
        return
    _turns.waiting = [settle]
    try:
        while _turns.waiting:
            _turns.waiting.pop()()
    finally:
        _turns.waiting = None
