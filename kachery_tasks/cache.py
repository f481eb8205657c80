"""What answers a job, and what is stored of its result."""

from __future__ import annotations

import datetime
from typing import Any, NamedTuple

from kachery_store import Digest, DigestMismatch, NotFound, Store
from kachery_store.errors import KacheryError, KacheryWarning, OutOfReach

from .answers import fresh_answer
from .chunk_values import reading
from .code import package_of
from .definition import ACTION, QUERY, Definition
from .errors import CannotDecode
from .identity import codes_of
from .kept_errors import Raised, raised_again
from .lookup import lookup
from .names import find_class, qualified_name
from .notes import add_note
from .record import Record
from .settings import current
from .values import Encoded, Made, decode, encode_result, remember

_UNCHANGEABLE = frozenset((type(None), bool, int, float, str, bytes))


class ABSENT:
    """Stands for a value that is not at hand (the class itself, so that it survives pickling)."""


class Outcome(NamedTuple):
    """What became of a job: its record, or its value where that could not be stored, or both.

    `warning` says why there is no record.
    """

    record: Record | None
    value: Any = ABSENT
    warning: KacheryWarning | None = None


class Unusable(DigestMismatch):
    """A record is there, but the result that it names is lost or damaged."""


def known(store: Store, job_id: str, definition: Definition) -> Record | None:
    """What answers a job so that nothing has to run, or None.

    That is the record of a task, and of a query an answer that is not older than its `max_age`;
    what is known of an action is no record (see performing.py).
    """
    if definition.kind == ACTION or current().refreshes(definition.name):
        return None
    if definition.kind == QUERY:
        return fresh_answer(store, job_id, definition.policy.max_age)
    return lookup(store, job_id, definition.name)


def load(store: Store, record: Record) -> Any:
    """The value that a record names.

    Raises Unusable when it is lost or damaged; the record is set aside then, so that the job is
    computed again. CannotDecode when this program lacks a class of it, or has another version. An
    exception that was kept as the result is raised.
    """
    for name, code in record.result.classes:
        _check_class(name, code)

    def load_blob(digest: bytes, size: int) -> memoryview:
        memory = store.blobs.map(Digest("blake3", digest.hex()))
        if memory.nbytes != size:
            raise DigestMismatch(f"blob {digest.hex()} has {memory.nbytes} bytes, not {size}")
        return memory

    pickles = {
        Made(job_id, number, made): (digest, size)
        for job_id, number, made, digest, size in record.result.pickles
    }

    def load_opaque(made: Made) -> Any:
        if made not in pickles:
            raise CannotDecode(f"{record.uri} does not say where what {made.job_id} made is")
        return _unpickled(load_blob(*pickles[made]), made)

    encoding = encoding_of(store, record)
    try:
        with reading(store, record.job_id):
            value = decode(encoding, load_blob, load_opaque)
    except OutOfReach:
        raise  # it is not lost
    except (NotFound, DigestMismatch) as error:
        raise _unusable(store, record, error) from error
    if type(value) is Raised:
        kept = raised_again(value)
        add_note(kept, _kept_since(record))
        raise kept
    return value


def _kept_since(record: Record) -> str:
    moment = datetime.datetime.fromtimestamp(record.started).astimezone()
    return (
        f"kept as the result of {record.task} since {moment:%Y-%m-%d %H:%M:%S};"
        f" `kachery jobs forget {record.job_id[:12]}` lets it run again"
    )


def _unpickled(memory: memoryview, made: Made) -> Any:
    import cloudpickle

    try:
        value = cloudpickle.loads(memory)
    except Exception as error:  # a module that is not here, a class that has changed
        raise CannotDecode(f"what job {made.job_id} made cannot be unpickled: {error}") from error
    remember(value, made)
    return value


def _check_class(name: str, code: str) -> None:
    cls = find_class(name)
    if cls is None:
        raise CannotDecode(f"the class {name} is not in this program: import its module first")
    if codes_of([cls], package_of(cls)) not in ({(name, code)}, set()):
        raise CannotDecode(f"the class {name} is not what it was when the result was stored")


def value_of(store: Store, outcome: Outcome, *, pickling: bool = True) -> Any:
    """The value of an outcome for one job alone: from the store, or a private copy (see there)."""
    if outcome.record is not None:
        return load(store, outcome.record)
    with reading(store):
        return private(outcome.value, pickling=pickling)


def private(value: Any, *, pickling: bool = True) -> Any:
    """A copy of a value that is not in the store, so that no job sees what another does to its own.

    It is made as by the store, through the encoding; with `pickling`, of what has none, through pickle.
    What neither can copy is handed out itself, and shared.
    """
    if type(value) in _UNCHANGEABLE:
        return value
    try:
        return _decoded(encode_result(value, "", pickling=False))
    except KacheryError:
        return _repickled(value) if pickling else value


def _decoded(encoded: Encoded) -> Any:
    if any(find_class(qualified_name(one)) is not one for one in encoded.classes):
        raise CannotDecode("by that name there is another class now")
    blobs = {blob.digest: blob.memory for blob in encoded.blobs}
    pickles = {one.made: one.pickled for one in encoded.opaques}
    return decode(
        encoded.data,
        lambda digest, _: memoryview(bytearray(blobs[digest])),
        lambda made: _unpickled(memoryview(pickles[made]), made),
    )


def _repickled(value: Any) -> Any:
    import cloudpickle

    try:
        copy = cloudpickle.loads(cloudpickle.dumps(value))
    except MemoryError:
        raise  # it could be copied
    except Exception:  # noqa: BLE001 - whatever the methods of its parts raise
        return value
    return copy if type(copy) is type(value) else value  # an open file comes back as its content


def encoding_of(store: Store, record: Record) -> bytes:
    """The encoding of a result. Unusable as for `load`."""
    if record.result.inline is not None:
        return record.result.inline
    try:
        return store.blobs.read(Digest("blake3", record.result.address.hex()))
    except OutOfReach:
        raise
    except (NotFound, DigestMismatch) as error:
        raise _unusable(store, record, error) from error


def _unusable(store: Store, record: Record, error: Exception) -> Unusable:
    store.jobs.set_aside(record.job_id, "has lost its result")
    return Unusable(f"the result of job {record.job_id} ({record.task}) is lost: {error}")
