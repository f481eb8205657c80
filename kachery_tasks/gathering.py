"""Waiting for many jobs: all of them, or each as it is done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from queue import SimpleQueue
from typing import Any

from .graph import inputs_first
from .job import Job
from .notes import add_note
from .tracebacks import shorten
from .waiting import wait_for

_AT_A_TIME = 1000  # jobs that as_completed has under way


def gather(
    jobs: Iterable[Job], *, progress: bool = True, return_exceptions: bool = False
) -> list[Any]:
    """The values of jobs, in their order; what is not known is computed, on the executor in force.

    A progress bar shows on terminals and in notebooks when it takes longer than two seconds. If a
    job fails, the others go on, and then its exception is raised; with `return_exceptions` the
    exceptions are returned in the places of the values.
    """
    wanted = _checked(jobs)
    cancelled = {id(job) for job in inputs_first(wanted) if _is_cancelled(job)}
    try:
        _start_and_wait(wanted, progress)
        return [_value(job, return_exceptions) for job in wanted]
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            _cancel_open((job for job in inputs_first(wanted) if id(job) not in cancelled), error)
        shorten(error)
        raise


def _start_and_wait(wanted: list[Job], progress: bool) -> None:
    before = {job.future for job in inputs_first(wanted) if job.future and not job.future.done()}
    running = len(before) + sum(
        runner.start([job for job in wanted if job.runner is runner])
        for runner in {id(job.runner): job.runner for job in wanted}.values()
    )
    futures = {job.started() for job in inputs_first(wanted)}
    wait_for(futures, served=len(futures) - running, progress=progress)


def _cancel_open(jobs: Iterable[Job], interrupt: KeyboardInterrupt) -> None:
    """Keep jobs from starting now, and say which go on; when they are asked for again, they start."""
    listed = list(jobs)
    for job in listed:
        job.cancel()
    for job in listed:
        if _is_cancelled(job):
            job.future = None
    going_on = sum(_is_on_thread(job) for job in listed)
    if going_on:
        what = "1 job goes" if going_on == 1 else f"{going_on} jobs go"
        add_note(
            interrupt, f"{what} on in this process; a program ends after that, or at another Ctrl-C"
        )


def _is_on_thread(job: Job) -> bool:
    return job.future is not None and job.future.running() and job.runner.has_threads()


def _is_cancelled(job: Job) -> bool:
    return job.future is not None and job.future.cancelled()


def as_completed(jobs: Iterable[Job]) -> Iterator[Job]:
    """The jobs as they are done, whatever became of them; those that nobody has started are.

    The jobs are taken a thousand at a time, so that a generator may make any number of them, and what
    has been yielded need not stay in memory. A job that occurs twice is yielded twice. After a Ctrl-C
    while it waits, those that have not begun do not.
    """
    open_ones: dict[int, Job] = {}  # each once
    try:
        yield from _as_completed(jobs, open_ones)
    except KeyboardInterrupt as interrupt:
        _cancel_open(inputs_first([*open_ones.values()]), interrupt)
        raise


def _as_completed(jobs: Iterable[Job], open_ones: dict[int, Job]) -> Iterator[Job]:
    ended: SimpleQueue[Job] = SimpleQueue()
    coming = iter(jobs)
    under_way = 0
    while True:
        batch = _checked(islice(coming, _AT_A_TIME - under_way))
        open_ones.update((id(job), job) for job in batch)
        for runner in {id(job.runner): job.runner for job in batch}.values():
            runner.start([job for job in batch if job.runner is runner])
        for job in batch:
            job.add_done_callback(ended.put)
        under_way += len(batch)
        if not under_way:
            return
        while under_way > _AT_A_TIME // 2 or (under_way and not batch):
            done = ended.get()
            open_ones.pop(id(done), None)
            yield done
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
