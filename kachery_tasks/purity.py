"""Which task is running, so that it does not ask the outside world behind the back of its record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .definition import TASK, Definition
from .errors import NotPure

_running: ContextVar[Definition | None] = ContextVar("kachery_running_task", default=None)


@contextmanager
def running(definition: Definition) -> Iterator[None]:
    """While this lasts, the function of a definition runs."""
    reset = _running.set(definition)
    try:
        yield
    finally:
        _running.reset(reset)


def check_allowed(asked: Definition) -> None:
    """Refuse, with NotPure, that the task that runs here asks something that is no task."""
    task = _running.get()
    if task is None or task.kind != TASK or _names(asked) & set(task.allow):
        return
    raise NotPure(
        f"{task.name} asks the {asked.kind} {asked.name}, whose answer changes, while its own result is"
        f" kept for ever. Ask first and hand the answer over as an argument, or write"
        f" @kachery.task(allow=({asked.function.__name__!r},)), which the record will tell"
    )


def _names(definition: Definition) -> set[str]:
    return {definition.name, definition.name.rpartition(":")[2]}
