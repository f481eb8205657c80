"""What is known of an action: the steps that it went through (docs/formats/action.md).

Steps are numbered, and no file is ever changed: a change of state is the next step, and whoever creates
it is the one who made the change. So this needs nothing of a store but exclusive creation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgpack

from kachery_store.backend import Backend
from kachery_store.errors import DigestMismatch, NotFound, StoreUnavailable

from .sealed import seal, unseal

MAGIC = "kachery action"
VERSION = 1
FOLDER = "actions"

PENDING, RUNNING, FINISHED, ERROR, UNKNOWN = "pending", "running", "finished", "error", "unknown"
FINAL = (FINISHED, ERROR)

_MOST = 1_000_000  # bytes of a step: what a shared store has may be anybody's
_LAST = "last"
_BEAT = "beat"


class Failure(NamedTuple):
    """What a function raised: its type, its message, and the traceback as text."""

    type: str
    message: str
    traceback: str


class Step(NamedTuple):
    """One state of an action, and who brought it there.

    `attempt` counts the starts; `run` is the name of this one, 64 hex digits. `arguments` are as in a
    record. `started` is when the run began, `changed` when this state did; `host`, `user` and `pid` are
    those of the run. `failure` says what was raised. `by` is who else said that the state is this one.
    """

    job_id: str
    action: str
    state: str
    attempt: int
    run: str
    arguments: list[tuple[str, bytes, str]]
    started: float
    changed: float
    host: str
    user: str
    pid: int
    failure: Failure | None = None
    by: str = ""

    @property
    def is_final(self) -> bool:
        """Whether nothing comes after it."""
        return self.state in FINAL

    def to_bytes(self) -> bytes:
        """The file of the step."""
        return seal(MAGIC, VERSION, msgpack.packb(self))

    @classmethod
    def from_bytes(cls, data: bytes, job_id: str) -> Step:
        """Read the file of a step of that job. DigestMismatch, StoreTooNew."""
        what = f"what is known of the action with job id {job_id}"
        body = unseal(data, MAGIC, VERSION, what)
        try:
            fields: list[Any] = msgpack.unpackb(body)[: len(cls._fields)]
            if fields[0] != job_id or fields[2] not in (PENDING, RUNNING, UNKNOWN, *FINAL):
                raise DigestMismatch(f"{what} is that of another job")
            fields[_ARGUMENTS] = [tuple(argument) for argument in fields[_ARGUMENTS]]
            if fields[_FAILURE] is not None:
                fields[_FAILURE] = Failure._make(fields[_FAILURE][: len(Failure._fields)])
            return cls(*fields)
        except (ValueError, TypeError, IndexError, msgpack.UnpackException) as error:
            raise DigestMismatch(f"{what} is damaged ({error})") from error


_ARGUMENTS = Step._fields.index("arguments")
_FAILURE = Step._fields.index("failure")


class Witness:
    """Who vouches for the steps in a place: in the local store nobody need do that."""

    def signed(self, data: bytes) -> bytes:
        """The file of a step, as it is there. StoreUnavailable."""
        return data

    def doubt(self, step: Step, data: bytes) -> str | None:  # noqa: ARG002
        """Why what a step says, whose file is intact, is not to be believed, or None."""
        return None


class Log:
    """The steps of one action in a store or a zone. `last` is the newest that has been seen.

    A claim counts, whoever makes it: nothing is started beside it. Anything else that somebody says who
    is not trusted counts as `unknown`.
    """

    def __init__(self, backend: Backend, job_id: str, witness: Witness | None = None) -> None:
        self._backend = backend
        self._job_id = job_id
        self._witness = witness or Witness()
        self._count = 0
        self.last: Step | None = None

    def look(self) -> Step | None:
        """The last step; None when nobody has ever asked for it. StoreUnavailable, StoreTooNew.

        One that is damaged may have been any: it counts as `unknown`.
        """
        while self.last is None or not self.last.is_final:
            try:
                found = self._read(self._count + 1)
            except NotFound:
                break
            self.last = found
            self._count += 1
        return self.last

    def add(self, step: Step) -> bool:
        """Make a step the next one, durably; False when somebody else has made one, which is seen."""
        name, before = f"{folder_of(self._job_id)}/{self._count + 1}", self.last
        if not self._backend.create(name, self._witness.signed(step.to_bytes()), durable=True):
            if self.look() is before:
                raise StoreUnavailable(
                    f"{name} is said to be there, and cannot be read, in {self._backend.url}. Check"
                    " the rights there, and try again",
                    place=self._backend.url,
                )
            return False
        self.last = step
        self._count += 1
        return True

    def _read(self, number: int) -> Step:
        try:
            data = self._backend.read(f"{folder_of(self._job_id)}/{number}", 0, _MOST)
            step = Step.from_bytes(data, self._job_id)
            doubt = None if step.state == RUNNING else self._witness.doubt(step, data)
            if doubt is None:
                return step
            return step._replace(state=UNKNOWN, failure=Failure("NotTrusted", doubt, ""))
        except DigestMismatch as error:
            before = self.last or Step(self._job_id, "?", UNKNOWN, 1, "", [], 0, 0, "?", "?", 0)
            return before._replace(
                state=UNKNOWN, run="", failure=Failure("DigestMismatch", str(error), "")
            )


class Notes:
    """What a local store knows of the runs of one action that were started from there."""

    def __init__(self, backend: Backend, job_id: str) -> None:
        self._backend = backend
        self._job_id = job_id

    def read(self, run: str) -> Step | None:
        """What is known of a run, or None: it was not started from here."""
        return self._noted(f"run-{run}")

    def write(self, step: Step) -> None:
        """Note how far a run is, durably."""
        self._backend.replace(self._path(f"run-{step.run}"), step.to_bytes())

    def remove(self, run: str) -> None:
        """Forget a run whose outcome is where everybody sees it."""
        self._backend.remove(self._path(f"run-{run}"))

    def last(self) -> Step | None:
        """The last change of an action that runs each time, or None."""
        return self._noted(_LAST)

    def write_last(self, step: Step) -> None:
        """Note the last change of an action that runs each time, durably."""
        self._backend.replace(self._path(_LAST), step.to_bytes())

    def _path(self, name: str) -> str:
        return f"{folder_of(self._job_id)}/{name}"

    def _noted(self, name: str) -> Step | None:
        try:
            return Step.from_bytes(self._backend.read(self._path(name)), self._job_id)
        except (NotFound, DigestMismatch):  # a damaged note says as little as none
            return None


class Beats:
    """A sign of life of whoever runs an action, for those who wait in other places."""

    def __init__(self, backend: Backend, job_id: str) -> None:
        self._backend = backend
        self._path = f"{folder_of(job_id)}/{_BEAT}"

    def give(self, text: str) -> None:
        """Give one; each has another text."""
        self._backend.replace(self._path, text.encode())

    def seen(self) -> str | None:
        """What changes with each of them."""
        status = self._backend.status(self._path)
        return None if status is None else status.version


def folder_of(job_id: str) -> str:
    """Where everything about one action is."""
    return f"{FOLDER}/{job_id[:2]}/{job_id}"


def job_ids(backend: Backend, start: str = "") -> Iterator[str]:
    """The job ids of the actions of a store that begin like this, each once."""
    below = f"{FOLDER}/{start[:2]}" if len(start) >= 2 else FOLDER
    found = {name.split("/")[2] for name in backend.names(below) if name.count("/") == 3}
    yield from sorted(one for one in found if one.startswith(start))
