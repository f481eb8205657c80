"""From what a task returned to what is stored of it: blobs first, then the record."""

from __future__ import annotations

import getpass
import os
import platform
import socket
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

from kachery_store import Digest, Store
from kachery_store.digest import blake3_bytes

from ._version import __version__
from .binding import Arguments
from .code import Fingerprint, callable_fingerprint, class_fingerprint
from .definition import RETURN, Definition
from .identity import Addresses, ClassCodes, codes_of
from .kept_code import keep_code
from .names import find_class
from .purity import parent_job
from .record import FINISHED, INLINE_UP_TO, Record, Result
from .summary import summary_of, type_name
from .values import Encoded, encode_result, remember

Codes = list[tuple[str, Fingerprint]]  # classes and functions among the arguments, by name


class Took(NamedTuple):
    """When a run of a task's function began, and the seconds that it took."""

    started: float
    seconds: float


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
    codes += [(summary_of(value), callable_fingerprint(value)) for value in callables]
    return list({code.digest: (name, code) for name, code in codes}.values())


def record_of(
    job_id: str,
    definition: Definition,
    arguments: list[tuple[str, bytes, str]],
    codes: Codes,
    took: Took,
    value: Any,
) -> tuple[Record, Encoded]:
    """The record of a run and the encoding of what it returned. Raises CannotEncode."""
    encoded = encode_result(value, job_id, pickling=RETURN in definition.opaque)
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
        python=platform.python_version(),
        kachery=__version__,
        codes=[(name, code.digest) for name, code in codes],
        asks=list(definition.allow),
        parent=parent_job(),
    )
    return record, encoded


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
    for blob in encoded.blobs:
        store.blobs.put(Digest("blake3", blob.digest.hex()), blob.memory, durable=False)
    for opaque, (*_, digest, _) in zip(encoded.opaques, record.result.pickles, strict=True):
        store.blobs.put(Digest("blake3", digest.hex()), memoryview(opaque.pickled), durable=False)
    if record.result.inline is None:
        address = Digest("blake3", encoded.address.hex())
        store.blobs.put(address, encoded.data, durable=False)
    if replace:
        store.jobs.replace(record.job_id, record.to_bytes())
    elif not store.jobs.create(record.job_id, record.to_bytes()):
        return False
    for opaque in encoded.opaques:
        remember(opaque.value, opaque.made, blake3_bytes(opaque.pickled))
    return True


def keep_differing(store: Store, record: Record) -> None:
    """Keep the record of a run whose result was not the stored one: the task is nondeterministic."""
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


@cache
def here() -> tuple[str, str]:
    """Host and user, as records name them."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container without a name for this user
        user = str(os.getuid())
    return socket.gethostname(), user
