"""Which task is running: so that it does not ask the outside world behind the back of its record, and so
that jobs know which one they are part of, and which they consist of.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

from kachery_store.errors import KacheryError

from .definition import ACTION, QUERY, TASK, Definition
from .errors import NotPure
from .record import MOST_CHILDREN, MOST_READS, QUERY_READ, Record


class HasId(Protocol):
    """A job."""

    @property
    def id(self) -> str | None:
        """The job id, once it is known."""


class Asked:
    """A job that was asked for before its id was known: the job until it is done, then only the id.

    A job keeps its arguments, and a function may ask for more than fits into memory.
    """

    __slots__ = ("_job", "_job_id")

    def __init__(self, job: HasId) -> None:
        self._job: HasId | None = job
        self._job_id: str | None = None

    @property
    def job_id(self) -> str | None:
        """The id, as far as it is known."""
        job = self._job
        return self._job_id if job is None else _id_of(job)

    def settle(self, done: Future[Any]) -> None:
        """Let the job go, which is done."""
        self._job_id = _id_made(done) or self.job_id
        self._job = None


def _id_of(job: HasId) -> str | None:
    with suppress(KacheryError):  # the result of an input is lost, or a zone is away
        return job.id
    return None


def _id_made(done: Future[Any]) -> str | None:
    """The id that the record of a job that is done names; nothing has to be looked up for that."""
    if done.cancelled() or done.exception() is not None:
        return None
    record = done.result().record
    return None if record is None else str(record.job_id)


class Seen:
    """What one run of a function has asked for and read so far."""

    __slots__ = ("_asked", "_read")

    def __init__(self) -> None:
        # In the order of the first time; written by all threads of the run.
        self._asked: dict[str | Asked, None] = {}
        self._read: dict[tuple[str, str, bytes], None] = {}

    def ask(self, job: str | Asked) -> None:
        """The function asks for a job: its id, or what will get to know that."""
        if len(self._asked) < MOST_CHILDREN:
            self._asked[job] = None

    def read(self, kind: str, name: str, address: bytes) -> None:
        """The function reads what is no result of a task; see Record.reads."""
        if len(self._read) < MOST_READS:
            self._read[kind, name, address] = None

    def children(self) -> list[str]:
        """The ids of the jobs that were asked for, as far as they are known now."""
        if not self._asked:
            return []
        ids = (job if isinstance(job, str) else job.job_id for job in list(self._asked))
        return list(dict.fromkeys(job_id for job_id in ids if job_id is not None))

    def reads(self) -> list[tuple[str, str, bytes]]:
        """What was read."""
        return list(self._read)


class _Run(NamedTuple):
    definition: Definition
    job_id: str
    seen: Seen


_running: ContextVar[_Run | None] = ContextVar("kachery_running_task", default=None)
_asker: ContextVar[str] = ContextVar("kachery_asking_job", default="")  # in another process


class running:  # noqa: N801 - it is used like a function, and costs less than one
    """While this lasts, the function of a definition runs for a job; gives what it will have seen."""

    __slots__ = ("_reset", "_run")

    def __init__(self, definition: Definition, job_id: str) -> None:
        self._run = _Run(definition, job_id, Seen())

    def __enter__(self) -> Seen:
        self._reset = _running.set(self._run)
        return self._run.seen

    def __exit__(self, *_: object) -> None:
        _running.reset(self._reset)


def inside_task() -> bool:
    """Whether what runs here was asked for by the function of a task that runs."""
    return _running.get() is not None


def parent_job() -> str:
    """The id of the job whose function runs and asks for others; empty when none does."""
    run = _running.get()
    return _asker.get() if run is None else run.job_id


@contextmanager
def asked_by(job_id: str) -> Iterator[None]:
    """While this lasts, what is done here was asked for by a job of another process, if by any."""
    reset = _asker.set(job_id)
    try:
        yield
    finally:
        _asker.reset(reset)


def seen_here() -> Seen | None:
    """Where it is noted what the function that runs here asks for; None when none does."""
    run = _running.get()
    return None if run is None else run.seen


def note_asked(job: str | Asked, definition: Definition) -> None:
    """Note that the function that runs here, if one does, asks for a job, as of Seen.ask.

    Of a query it is the answers that count, when it gets them. Whoever has the future of a job that is
    Asked has `settle` called when that is done.
    """
    run = _running.get()
    if run is not None and definition.kind != QUERY:
        run.seen.ask(job)


def note_answer(record: Record | None) -> None:
    """Note that the function that runs here, if one does, gets what may be an answer of a query."""
    run = _running.get()
    if run is not None and record is not None and record.kind == QUERY:
        run.seen.read(QUERY_READ, record.job_id, record.result.address)


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
