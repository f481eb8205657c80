"""Which task is running: so that it does not ask the outside world behind the back of its record, and so
that jobs know which one they are part of.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from .definition import ACTION, QUERY, TASK, Definition
from .errors import NotPure


class _Run(NamedTuple):
    definition: Definition
    job_id: str


_running: ContextVar[_Run | None] = ContextVar("kachery_running_task", default=None)


@contextmanager
def running(definition: Definition, job_id: str) -> Iterator[None]:
    """While this lasts, the function of a definition runs for a job."""
    reset = _running.set(_Run(definition, job_id))
    try:
        yield
    finally:
        _running.reset(reset)


def inside_task() -> bool:
    """Whether what runs here was asked for by the function of a task that runs."""
    return _running.get() is not None


def parent_job() -> str:
    """The id of the job whose function runs here and asks for others; empty when none does."""
    run = _running.get()
    return "" if run is None else run.job_id


def check_allowed(asked: Definition) -> None:
    """Refuse, with NotPure, that the task that runs here asks something that is no task."""
    run = _running.get()
    task = None if run is None else run.definition
    if task is None or task.kind != TASK or _names(asked) & set(task.allow):
        return
    what, instead = _WHY[asked.kind]
    raise NotPure(
        f"{task.name} asks the {asked.kind} {asked.name}, {what}, while its own result is kept for ever."
        f" {instead}, or write @kachery.task(allow=({asked.function.__name__!r},)), which the record"
        " will tell"
    )


_WHY = {
    QUERY: (
        "whose answer changes",
        "Ask first and hand the answer over as an argument",
    ),
    ACTION: (
        "which happens only when the task runs, and not when its result is served",
        "Do it outside, with the result of the task",
    ),
}


def _names(definition: Definition) -> set[str]:
    return {definition.name, definition.name.rpartition(":")[2]}
