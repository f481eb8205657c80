"""Failures: what is noted of a run that raised, for people, and never served as an answer.

One file for each job in the local store, that of its last failure (docs/formats/failure.md); the next
run that succeeds removes it.
"""

from __future__ import annotations

import logging
import os
import platform
import traceback
from typing import Any, NamedTuple

import msgpack

from kachery_store import NotFound, Store, StoreUnavailable
from kachery_store.errors import DigestMismatch

from .commit import Took
from .definition import Definition
from .environment import here
from .errors import RunFailed
from .kept_errors import made_again, state_of
from .notes import OURS, add_note, notes_of
from .sealed import seal, unseal
from .summary import call_text

MAGIC = "kachery failure"
VERSION = 1
LONGEST_TEXT = 65_536  # characters of a traceback, and of a message

Told = list[tuple[str, bytes, str]]  # arguments, as a record tells of them

_ELSEWHERE = "on "
_OWN_FILES = os.path.dirname(__file__) + os.sep
_SHORT = 12  # digits of a job id

_log = logging.getLogger("kachery.tasks")


class Failure(NamedTuple):
    """A run that raised. `arguments` as in a Record; `error` is the type, as `module.qualname`."""

    job_id: str
    kind: str
    task: str
    fingerprint: str
    arguments: Told
    error: str
    message: str
    traceback: str
    host: str
    user: str
    pid: int
    python: str
    started: float
    seconds: float
    attempts: int

    @property
    def uri(self) -> str:
        """job://<job id>"""
        return f"job://{self.job_id}"

    def to_bytes(self) -> bytes:
        """The file."""
        return seal(MAGIC, VERSION, msgpack.packb(self))

    @classmethod
    def from_bytes(cls, data: bytes, job_id: str) -> Failure:
        """Read a file that should be of that job. DigestMismatch, StoreTooNew."""
        what = f"the failure of job {job_id}"
        body = unseal(data, MAGIC, VERSION, what)
        try:
            fields: list[Any] = msgpack.unpackb(body)
            found = cls._make(fields[: len(cls._fields)])
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise DigestMismatch(f"{what} is damaged ({error})") from error
        if found.job_id != job_id:
            raise DigestMismatch(f"{what} is that of another job")
        return found


def note_failure(
    store: Store,
    job_id: str,
    definition: Definition,
    arguments: Told,
    took: Took,
    attempts: int,
    error: Exception,
) -> None:
    """Keep a failure in the place of an older one, and say in a note of the error where it is."""
    told = _told(job_id, definition, arguments)
    try:
        _write(
            store,
            Failure(
                job_id,
                definition.kind,
                definition.name,
                definition.fingerprint().digest,
                arguments,
                _type_name(error),
                _bounded(_message(error)),
                _traceback_of(error),
                *here(),
                os.getpid(),
                platform.python_version(),
                took.started,
                took.seconds,
                attempts,
            ),
        )
    except Exception as why:  # noqa: BLE001 - whatever it is, the error itself matters more
        _log.warning("a failure could not be noted: %s: %s", told, why)
        add_note(error, f"{told}; it could not be noted in the store: {why}")
    else:
        add_note(error, f"{told}; `kachery show {job_id[:_SHORT]}` tells more")


def note_kept(error: Exception, job_id: str, definition: Definition, arguments: Told) -> None:
    """Say in a note of an error, which counts as a result, what raised it."""
    add_note(error, f"{_told(job_id, definition, arguments)}, which keeps it (cache_errors=)")


def _told(job_id: str, definition: Definition, arguments: Told) -> str:
    call = call_text(definition.name, {name: text for name, _, text in arguments})
    return f"raised by {call}, job {job_id[:_SHORT]}"


def _write(store: Store, failure: Failure) -> None:
    data = failure.to_bytes()
    while not store.failures.create(failure.job_id, data):
        store.failures.remove(failure.job_id)


def forget_failure(store: Store, job_id: str) -> None:
    """Remove what is noted of a failure, if anything is."""
    try:
        store.failures.remove(job_id)
    except StoreUnavailable as error:  # it is older than the result, which whoever shows it sees
        _log.debug("the last failure of job %s stays noted: %s", job_id, error)


def failure_of(store: Store, job_id: str) -> Failure | None:
    """The last failure of a job since it last succeeded; a damaged file is set aside."""
    try:
        return Failure.from_bytes(store.failures.read(job_id), job_id)
    except NotFound:
        return None
    except DigestMismatch:
        store.failures.set_aside(job_id)
        return None


class Carried(Exception):
    """An exception on its way to the client. What comes out of its pickle is that exception.

    Where that cannot be made again, RunFailed comes out: a worker may have modules that the client
    lacks, and schedulers cut exceptions with long messages.
    """

    def __init__(self, pickled: bytes | None, instead: RunFailed, notes: list[str]) -> None:
        super().__init__(f"{instead.type}, on its way to the client")
        self._parts = pickled, instead, notes

    def __reduce__(self) -> Any:
        return _arrived, self._parts


def carried(error: Exception, task: str) -> Carried:
    """What is raised on a worker in the place of an error.

    It brings the traceback as text, in a note, because pickling loses it.
    """
    text, kind = _traceback_of(error), _type_name(error)
    host, _ = here()
    if not any(note.startswith(f"{OURS}{_ELSEWHERE}") for note in notes_of(error)):
        add_note(error, f"{_ELSEWHERE}{host}, process {os.getpid()}:\n{text}")
    told = f"{task} raised {kind}: {_bounded(_message(error))}"
    return Carried(_pickled(error), RunFailed(told, kind, text), notes_of(error))


class _Parts:
    """What an exception is made again of, where its own pickle would make another one."""

    def __init__(self, error: Exception) -> None:
        self._parts = type(error), error.args, state_of(error)

    def __reduce__(self) -> Any:
        return made_again, self._parts


def _pickled(error: Exception) -> bytes | None:
    import cloudpickle

    try:
        pickled: bytes = cloudpickle.dumps(error)
        if _changes(error, pickled):
            pickled = cloudpickle.dumps(_Parts(error))
            return None if _changes(error, pickled) else pickled
    except Exception as why:  # noqa: BLE001 - the user's own types, which may do anything
        _log.debug("%s cannot be pickled: %s", type(error).__name__, why)
        return None
    return pickled


def _changes(error: Exception, pickled: bytes) -> bool:
    """Whether another exception comes out; what comes to nothing is told where it arrives."""
    import cloudpickle

    try:
        again = cloudpickle.loads(pickled)
    except Exception:  # noqa: BLE001 - the user's own types, which may do anything
        return False
    if not isinstance(again, Exception):
        return False
    return _message(again) != _message(error) or len(again.args) != len(error.args)


def _arrived(pickled: bytes | None, instead: RunFailed, notes: list[str]) -> Exception:
    import cloudpickle

    why = "it cannot be pickled"
    if pickled is not None:
        try:
            error = cloudpickle.loads(pickled)
        except Exception as failure:  # noqa: BLE001 - the user's own types, which may do anything
            why = f"{type(failure).__name__}: {_message(failure)}"
        else:
            if isinstance(error, Exception):
                return error
            why = "what comes out of its pickle is no exception"
    told = f"{instead}; the exception itself could not be brought from the worker ({why})"
    found = RunFailed(told, instead.type, instead.traceback)
    for note in notes:
        found.add_note(note)
    return found


def _type_name(error: BaseException) -> str:
    kind = type(error)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{module}{kind.__qualname__}"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the user's own type
        return "(it has no text)"


def _traceback_of(error: BaseException) -> str:
    """The traceback as text, without our own frames at its beginning, and without our notes."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_OWN_FILES):
        frames = frames.tb_next
    try:
        told = traceback.TracebackException(type(error), error, frames or error.__traceback__)
        told.__notes__ = [note for note in notes_of(error) if not note.startswith(OURS)]
        return _bounded("".join(told.format()))
    except Exception as why:  # noqa: BLE001 - the user's own type
        return f"(the traceback of {_type_name(error)} cannot be told: {type(why).__name__})"


def _bounded(text: str) -> str:
    # A surrogate, as in a file name that is not UTF-8, can be neither written nor shown.
    text = text.encode(errors="backslashreplace").decode()
    if len(text) <= LONGEST_TEXT:
        return text
    half = LONGEST_TEXT // 2 - 20
    return f"{text[:half]}\n... (cut) ...\n{text[-half:]}"
