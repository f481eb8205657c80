"""From what a task returned to what is stored of it: blobs first, then the record."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from kachery_store import Digest, Store, StoreUnavailable
from kachery_store.digest import blake3_bytes

from ._version import __version__
from .binding import Arguments
from .code import Fingerprint, callable_fingerprint, class_fingerprint
from .definition import RETURN, Definition
from .environment import environment_of, here, keep_environment, worker_here
from .identity import Addresses, ClassCodes, codes_of
from .kept_code import keep_code
from .names import callable_name, find_class
from .parts import Parts
from .purity import Seen, parent_job
from .record import FINISHED, INLINE_UP_TO, Record, Result
from .run_journal import note_run
from .summary import summary_of, type_name
from .values import Encoded, Keep, encode_result, remember

_PYTHON = sys.version.split()[0]  # as platform.python_version() has it
_MOST_VALUES = 8192  # bytes of encodings of arguments in a record

Codes = list[tuple[str, Fingerprint]]  # classes and functions among the arguments, by name


class Took(NamedTuple):
    """When a run of a task's function began, what it took, and what it has seen: see Record.

    `attempt` is how often the function was called for it.
    """

    started: float
    seconds: float
    cpu_seconds: float
    peak_memory: int
    attempt: int
    seen: Seen


def stated(
    definition: Definition, arguments: Arguments, addresses: Addresses
) -> list[tuple[str, bytes, str]]:
    """What a record tells of the arguments: name, address, summary; of secret ones only the name."""
    return [
        (name, b"", "secret")
        if name in definition.secret
        else (name, address, summary_of(arguments[name]))
        for name, address in addresses.of.items()
    ]


def codes_among(package: str, classes: ClassCodes, callables: Iterable[Any]) -> Codes:
    """The fingerprints of classes and functions that a record may tell of."""
    codes: Codes = []
    for name, digest in sorted(classes):
        cls = find_class(name)
        code = None if cls is None else class_fingerprint(cls, package)
        if code is not None and code.digest == digest:  # not a later class of the same name
            codes.append((name, code))
    codes += [(_callable_text(value), callable_fingerprint(value)) for value in callables]
    return list({code.digest: (name, code) for name, code in codes}.values())


def _callable_text(value: Any) -> str:
    """The name under which a function is found again, or a few words about it."""
    return callable_name(value) or summary_of(value)


def record_of(
    job_id: str,
    definition: Definition,
    arguments: list[tuple[str, bytes, str]],
    codes: Codes,
    took: Took,
    value: Any,
    addresses: Addresses,
    keep: Keep | None = None,
) -> tuple[Record, Encoded]:
    """The record of a run and the encoding of what it returned. Raises CannotEncode.

    `addresses` are those of the arguments before the run, with the parts that were found after it.
    `keep` is that of `keeping`, if the record is going to be committed.
    """
    encoded = encode_result(value, job_id, pickling=RETURN in definition.opaque, keep=keep)
    host, user = here()
    record = Record(
        job_id=job_id,
        kind=definition.kind,
        task=definition.name,
        version=definition.version,
        fingerprint=definition.fingerprint().digest,
        arguments=arguments,
        result=_result(encoded, value, definition.package),
        status=FINISHED,
        started=took.started,
        seconds=took.seconds,
        host=host,
        user=user,
        pid=os.getpid(),
        python=_PYTHON,
        kachery=__version__,
        codes=[(name, code.digest) for name, code in codes],
        asks=list(definition.allow),
        parent=parent_job(),
        inputs=addresses.makers,
        children=took.seen.children(),
        reads=took.seen.reads(),
        cpu_seconds=took.cpu_seconds,
        peak_memory=took.peak_memory,
        attempt=took.attempt,
        worker=worker_here(),
        environment=environment_of(definition),
        values=_values(definition, addresses.small),
        parts=_parts(definition, addresses.parts),
    )
    return record, encoded


def _values(definition: Definition, small: dict[str, bytes]) -> list[tuple[str, bytes]]:
    """The encodings of arguments that a record keeps, so that the job can be run from it again."""
    kept = [(name, data) for name, data in small.items() if name not in definition.secret]
    while sum(len(data) for _, data in kept) > _MOST_VALUES:
        kept.pop()
    return kept


def _parts(definition: Definition, parts: dict[str, Parts]) -> list[tuple[str, bytes, bool]]:
    """What is in lists, tuples and dicts among the arguments, so that it can be told who made that."""
    return [
        (name, b"".join(found.addresses), found.complete)
        for name, found in parts.items()
        if name not in definition.secret
    ]


def keeping(store: Store | None) -> Keep | None:
    """What stores large buffers while they are hashed, which takes little longer than one of both.

    None without a store, and with a zone, where the way there takes most of the time.
    """
    if store is None or store.uplink is not None:
        return None

    def keep(memory: memoryview) -> bytes | None:
        try:
            return bytes.fromhex(store.blobs.put_unhashed(memory).hex)
        except StoreUnavailable:
            return None  # `commit` meets the same, and raises it

    return keep


def commit(
    store: Store,
    record: Record,
    encoded: Encoded,
    codes: Iterable[Fingerprint],
    *,
    replace: bool = False,
) -> bool:
    """Store a result: who finds the record finds what it names.

    False if there is a record already, unless that is to be replaced. Raises StoreUnavailable.
    """
    keep_code(store, codes)
    keep_environment(store, record.environment)
    for blob in encoded.blobs:
        if not blob.is_stored:
            store.blobs.put(Digest("blake3", blob.digest.hex()), blob.memory, durable=False)
    for opaque, (*_, digest, _) in zip(encoded.opaques, record.result.pickles, strict=True):
        store.blobs.put(Digest("blake3", digest.hex()), memoryview(opaque.pickled), durable=False)
    if record.result.inline is None:
        address = Digest("blake3", encoded.address.hex())
        store.blobs.put(address, encoded.data, durable=False)
    data = record.to_bytes()
    if replace:
        store.jobs.replace(record.job_id, data)
    elif not store.jobs.create(record.job_id, data):
        return False
    note_run(store, record, data)
    for opaque in encoded.opaques:
        remember(opaque.value, opaque.made, blake3_bytes(opaque.pickled))
    return True


def keep_differing(store: Store, record: Record) -> None:
    """Keep the record of a run whose result was not the stored one: the task is nondeterministic."""
    keep_environment(store, record.environment)
    address = record.result.address.hex()
    store.differing.create(f"{record.job_id}-{address[:16]}", record.to_bytes())


def _result(encoded: Encoded, value: Any, package: str) -> Result:
    small = len(encoded.data) <= INLINE_UP_TO
    return Result(
        address=encoded.address,
        size=encoded.size,
        type=type_name(value),
        classes=sorted(codes_of(encoded.classes, package)),
        inline=encoded.data if small else None,
        pickles=[
            (*one.made, blake3_bytes(one.pickled), len(one.pickled)) for one in encoded.opaques
        ],
    )
