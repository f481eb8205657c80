"""Jobs and tasks as a line of text. Nothing is looked up, and no value is loaded."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from ..definition import Definition
from ..summary import summary_of
from .wording import clean, cut, task_title

_DIGITS = 12
_WIDTH = 100  # of what stands in the brackets
_LONGEST_MESSAGE = 120


class Called(Protocol):
    """What is told of a job; see Job."""

    key: str
    definition: Definition
    future: Future[Any] | None

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments by the names of their parameters."""

    @property
    def task(self) -> str:
        """The name of the task."""

    @property
    def inputs(self) -> Sequence[Called]:
        """The jobs among the arguments."""


def job_text(job: Called) -> str:
    """A job: the call, its key, how it stands as far as this process knows. It never raises."""
    try:
        state = _state(job)
        what = f": {error_text(job)}" if state == "error" else ""
        call = f"{clean(task_title(job.task))}({call_words(job)})"
        return f"<Job {call} {job.key[:_DIGITS]} {state}{what}>"
    except Exception:  # noqa: BLE001 - of an argument
        return f"<Job {clean(job.task)} {job.key[:_DIGITS]}>"


def call_words(job: Called, width: int = _WIDTH) -> str:
    """The arguments of a job that count, in few words; nothing of secret ones."""
    told = []
    for name, value in job.arguments.items():
        if name not in job.definition.ignore:
            is_secret = name in job.definition.secret
            told.append(f"{name}={'secret' if is_secret else _value_words(value, job.inputs)}")
    return cut(", ".join(told), width)


def _value_words(value: Any, inputs: Sequence[Called]) -> str:
    """A value; in the place of a job the task that makes it."""
    for one in inputs:
        if value is one:
            return f"<{task_title(one.task)}>"
    return summary_of(value)


def _state(job: Called) -> str:
    future = job.future
    if future is None:
        return "not started"
    if future.cancelled():
        return "cancelled"
    if not future.done():
        return "running" if future.running() else "pending"
    return "finished" if future.exception() is None else "error"


def error_text(job: Called) -> str:
    """What the run of a job raised, in a line; empty when it did not."""
    future = job.future
    if future is None or not future.done() or future.cancelled():
        return ""
    error = future.exception()
    if error is None:
        return ""
    try:
        message = " ".join(str(error).split())
    except Exception:  # noqa: BLE001 - the user's own type
        message = ""
    return cut(f"{type(error).__name__}: {message}".removesuffix(": "), _LONGEST_MESSAGE)


def task_text(definition: Definition) -> str:
    """A task: its kind, its name, what it takes and where it is written. It never raises."""
    try:
        version = "" if definition.version is None else f", version {definition.version}"
        called = f"{clean(definition.name)}({parameter_words(definition)})"
        return f"<{definition.kind} {called}{clean(version)}, {place(definition)}>"
    except Exception:  # noqa: BLE001 - of a default
        return f"<{definition.kind} {clean(definition.name)}>"


def parameter_words(definition: Definition, width: int = _WIDTH) -> str:
    """The parameters of a task, as in its definition but without annotations."""
    signature = inspect.signature(definition.function, follow_wrapped=False)
    plain = [
        one.replace(annotation=one.empty, default=_default(definition, one))
        for one in signature.parameters.values()
    ]
    told = str(signature.replace(parameters=plain, return_annotation=signature.empty))
    return cut(told[1:-1], width)


class _Words(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _default(definition: Definition, parameter: inspect.Parameter) -> Any:
    if parameter.default is parameter.empty:
        return parameter.empty
    is_secret = parameter.name in definition.secret
    return _Words("secret" if is_secret else summary_of(parameter.default))


def place(definition: Definition) -> str:
    """Where the function of a task is written: its file and line, or the line of a cell."""
    code = definition.function.__code__
    path, line = code.co_filename, code.co_firstlineno
    if _is_cell(path):
        return f"line {line} of a cell"
    try:
        below = os.path.relpath(path)
    except OSError:  # the working folder is gone
        below = os.pardir
    return clean(f"{path if below.startswith(os.pardir) else below}:{line}")


def _is_cell(path: str) -> bool:
    folder = os.path.basename(os.path.dirname(path))
    return folder.startswith("ipykernel_") or path.startswith("<ipython-input")
