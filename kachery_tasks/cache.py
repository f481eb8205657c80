"""Looking up, running and committing one job.

`call` is the only place where a task's function is called. `run_job` promises: a known result is not
computed again; equal jobs asked for at the same time run once; what is stored is what the function
made of exactly the arguments that the job id stands for.
"""

from __future__ import annotations

import getpass
import os
import platform
import socket
import time
from contextlib import ExitStack
from functools import cache
from typing import Any, NamedTuple

from kachery_store import Digest, DigestMismatch, NotFound, Store, StoreUnavailable
from kachery_store.errors import KacheryError, KacheryWarning

from ._version import __version__
from .binding import Arguments
from .code import package_of
from .definition import Definition
from .errors import CannotDecode, CannotEncode, ImpureTaskWarning, NotStoredWarning
from .identity import Addresses, addresses_of, codes_of, job_id
from .lease import lease
from .names import find_class
from .record import INLINE_UP_TO, Record, Result
from .settings import UNCHANGED, applied, current
from .values import Encoded, decode, encode

ALWAYS_CHECKED_UP_TO = 64 << 20  # bytes of arguments that are hashed again after every run

_ATTEMPTS = 3  # against stored results that turn out to be damaged


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


def lookup(store: Store, id: str) -> Record | None:
    """The record of a job, or None; a damaged one is set aside, with a warning."""
    try:
        data = store.jobs.read(id)
    except NotFound:
        return None
    try:
        return Record.from_bytes(data, id)
    except DigestMismatch:
        store.jobs.set_aside(id)
        return None


def load(store: Store, record: Record) -> Any:
    """The value that a record names.

    Raises Unusable when it is lost or damaged; the record is set aside then, so that the job is
    computed again. CannotDecode when this program lacks a class of it, or has another version.
    """
    for name, code in record.result.classes:
        _check_class(name, code)

    def load_blob(digest: bytes, size: int) -> memoryview:
        memory = store.blobs.map(Digest("blake3", digest.hex()))
        if memory.nbytes != size:
            raise DigestMismatch(f"blob {digest.hex()} has {memory.nbytes} bytes, not {size}")
        return memory

    encoding = encoding_of(store, record)
    try:
        return decode(encoding, load_blob)
    except (NotFound, DigestMismatch) as error:
        raise _unusable(store, record, error) from error


def _check_class(name: str, code: str) -> None:
    cls = find_class(name)
    if cls is None:
        raise CannotDecode(f"the class {name} is not in this program: import its module first")
    if codes_of([cls], package_of(cls)) not in ({(name, code)}, set()):
        raise CannotDecode(f"the class {name} is not what it was when the result was stored")


def run_job(
    store: Store,
    id: str,
    definition: Definition,
    arguments: Arguments,
    addresses: Addresses,
    *,
    strict: bool = False,
) -> Outcome:
    """Get a job done: found in the store, waited for, or computed here and committed.

    `id` is the job id, and the addresses are those of the arguments, at this moment. Raises what the
    function raises; then nothing is stored.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(lease(store, id))
            record = lookup(store, id)
        except StoreUnavailable as error:
            return Outcome(None, call(definition, arguments), _not_stored(definition, error))
        if record is not None:
            return Outcome(record)
        return _compute(store, id, definition, arguments, addresses, strict)


def answer(
    store: Store,
    definition: Definition,
    arguments: Arguments,
    addresses: Addresses,
    *,
    strict: bool,
) -> tuple[Any, KacheryWarning | None]:
    """The value of a call whose argument addresses are known, and a warning if it was not stored.

    Raises what the function raises.
    """
    id = job_id(definition, addresses.of, addresses.classes)
    for _ in range(_ATTEMPTS):
        try:
            record = lookup(store, id)
        except StoreUnavailable:
            record = None  # run_job meets the same and says so
        if record is None:
            outcome = run_job(store, id, definition, arguments, addresses, strict=strict)
            if outcome.record is None or outcome.value is not ABSENT:
                return outcome.value, outcome.warning
            record = outcome.record
        try:
            return load(store, record), None
        except Unusable:
            continue  # it has been set aside, so now it is computed
        except (CannotDecode, StoreUnavailable) as error:
            return call(definition, arguments), _not_stored(definition, error)
    damage = DigestMismatch("what is stored of it was damaged each time it was read")
    return call(definition, arguments), _not_stored(definition, damage)


def call(definition: Definition, arguments: Arguments) -> Any:
    """Call a task's function.

    Jobs that it starts run in this process, on threads of their own: whoever waits for this job may
    hold all places on the cluster, or in the pool that this thread belongs to.
    """
    with applied(current().changed(UNCHANGED, None, UNCHANGED)):
        return definition.parameters.call(arguments)


def run_submitted(
    store: Store,
    definition: Definition,
    arguments: Arguments,
    *,
    expected: str | None,
    strict: bool,
) -> Outcome:
    """`run_job` for arguments that have waited, or travelled, since the job was made.

    `expected` is the job id, if it was known then; KacheryError when the arguments have changed.
    """
    addresses = addresses_of(definition, arguments)
    id = job_id(definition, addresses.of, addresses.classes)
    if expected is not None and id != expected:
        raise KacheryError(
            f"the arguments of {definition.name} (job {expected}), or a global that it reads, are"
            " not what they were when the job was made. Do not change them before it is done"
        )
    return run_job(store, id, definition, arguments, addresses, strict=strict)


def value_of(store: Store, outcome: Outcome) -> Any:
    """The value of an outcome: a copy of its own from the store, if it is there."""
    return outcome.value if outcome.record is None else load(store, outcome.record)


def encoding_of(store: Store, record: Record) -> bytes:
    """The encoding of a result. Unusable as for `load`."""
    if record.result.inline is not None:
        return record.result.inline
    try:
        return store.blobs.read(Digest("blake3", record.result.address.hex()))
    except (NotFound, DigestMismatch) as error:
        raise _unusable(store, record, error) from error


def _unusable(store: Store, record: Record, error: Exception) -> Unusable:
    store.jobs.set_aside(record.job_id, "has lost its result")
    return Unusable(f"the result of job {record.job_id} ({record.task}) is lost: {error}")


def _compute(
    store: Store,
    id: str,
    definition: Definition,
    arguments: Arguments,
    addresses: Addresses,
    strict: bool,
) -> Outcome:
    described = [
        (name, address, describe(arguments[name])) for name, address in addresses.of.items()
    ]
    started = time.time()
    clock = time.perf_counter()
    value = call(definition, arguments)
    seconds = time.perf_counter() - clock
    if impurity := _impurity(id, definition, arguments, addresses, strict):
        return Outcome(None, value, impurity)
    try:
        encoded = encode(value)
        if encoded.callables:
            raise CannotEncode("functions can be arguments, but not results")
        record = Record(
            job_id=id,
            kind=definition.kind,
            task=definition.name,
            version=definition.version,
            fingerprint=definition.fingerprint().digest,
            arguments=described,
            result=_result(encoded, value, definition.package),
            status="finished",
            started=started,
            seconds=seconds,
            host=_here()[0],
            user=_here()[1],
            pid=os.getpid(),
            python=platform.python_version(),
            kachery=__version__,
        )
        _commit(store, record, encoded)
    except CannotEncode as error:
        return Outcome(None, value, _not_stored(definition, error.inside("its result")))
    except StoreUnavailable as error:
        return Outcome(None, value, _not_stored(definition, error))
    return Outcome(record, value)


def _impurity(
    id: str, definition: Definition, arguments: Arguments, before: Addresses, strict: bool
) -> KacheryWarning | None:
    """What speaks against storing the result of a run that has just ended."""
    after = before
    if before.size <= ALWAYS_CHECKED_UP_TO or strict:
        try:
            after = addresses_of(definition, arguments)
        except CannotEncode as error:
            return _changed_its(definition, f"arguments ({error})")
    changed = [repr(name) for name, address in before.of.items() if after.of[name] != address]
    if changed:
        return _changed_its(definition, f"argument {', '.join(changed)}")
    if job_id(definition, after.of, after.classes) != id:
        return ImpureTaskWarning(
            f"the code of {definition.name}, or a global that it reads, changed while it ran: the"
            " value is returned and not stored"
        )
    return None


def _changed_its(definition: Definition, what: str) -> ImpureTaskWarning:
    return ImpureTaskWarning(
        f"{definition.name} changed its {what}: the value is returned and not stored, because a"
        " stored result would not change the argument next time. Let the task work on a copy"
    )


def _commit(store: Store, record: Record, encoded: Encoded) -> None:
    """Store the blobs, then the record: who finds the record finds what it names."""
    for blob in encoded.blobs:
        store.blobs.put(Digest("blake3", blob.digest.hex()), blob.memory, durable=False)
    if record.result.inline is None:
        address = Digest("blake3", encoded.address.hex())
        store.blobs.put(address, encoded.data, durable=False)
    store.jobs.create(record.job_id, record.to_bytes())


def _result(encoded: Encoded, value: Any, package: str) -> Result:
    small = len(encoded.data) <= INLINE_UP_TO
    return Result(
        address=encoded.address,
        size=encoded.size,
        type=_type_name(value),
        classes=sorted(codes_of(encoded.classes, package)),
        inline=encoded.data if small else None,
    )


def describe(value: Any) -> str:
    """A few words about a value: what it is, for small plain values in full."""
    if type(value) in (type(None), bool, int, float, complex):
        return _cut(repr(value))
    if type(value) in (str, bytes):
        return _cut(repr(value[:41]))
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(shape, tuple) and dtype is not None:
        return _cut(f"{_type_name(value)} {dtype} {shape}")
    if isinstance(value, list | tuple | dict | set | frozenset):
        return _cut(f"{_type_name(value)} of {len(value)}")
    return _cut(_type_name(value))


def _cut(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def _type_name(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


@cache
def _here() -> tuple[str, str]:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container without a name for this user
        user = str(os.getuid())
    return socket.gethostname(), user


def _not_stored(definition: Definition, error: Exception) -> NotStoredWarning:
    return NotStoredWarning(f"the result of {definition.name} is returned but not stored: {error}")
