"""Who a job is: its id, from its code and its arguments."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgpack

from kachery_store.digest import blake3_bytes

from .binding import Arguments
from .code import class_fingerprint
from .definition import Definition
from .errors import CannotEncode
from .names import class_name
from .values import Encoder

_KIND = "kachery job 1"

Special = dict[type, Callable[[Any, Encoder], bytes]]


# Names of classes and the fingerprints of their code.
ClassCodes = frozenset[tuple[str, str]]


class Addresses(NamedTuple):
    """The addresses of a call's arguments.

    `of`: parameter -> 32 bytes. `classes`: the project's classes whose instances were met. `size`:
    bytes of all encodings and blobs. `callables`: the functions that were met.
    """

    of: dict[str, bytes]
    classes: ClassCodes
    size: int
    callables: tuple[Any, ...]


def addresses_of(
    definition: Definition,
    arguments: Arguments,
    special: Special | None = None,
    known: Addresses | None = None,
    unknown: Collection[str] = (),
) -> Addresses:
    """The addresses of the arguments that identify a call; CannotEncode names the place.

    `special` encodes further types; see Encoder. `known` are addresses computed before, of which
    only those of the parameters in `unknown` are computed anew.
    """
    of: dict[str, bytes] = {} if known is None else dict(known.of)
    classes: ClassCodes = frozenset() if known is None else known.classes
    size = 0 if known is None else known.size
    callables: tuple[Any, ...] = () if known is None else known.callables
    encoder = Encoder(special)
    for name in definition.identifying:
        if name in of and name not in unknown:
            continue
        try:
            encoded = encoder.encode(arguments[name], pickling=name in definition.opaque)
        except CannotEncode as error:
            error.advice = "; or leave the parameter out of the identity with ignore=(...)"
            raise error.inside(f"{definition.name.rpartition(':')[2]}({name})") from error.__cause__
        of[name] = encoded.address
        size += encoded.size
        if encoded.classes:
            classes |= codes_of(encoded.classes, definition.package)
        callables += tuple(encoded.callables)
    return Addresses(of, classes, size, callables)


def codes_of(classes: Iterable[type], package: str) -> ClassCodes:
    """The names and fingerprints of those of the classes that are the project's, from a package."""
    codes = ((class_name(cls), class_fingerprint(cls, package)) for cls in classes)
    return frozenset((name, code.digest) for name, code in codes if code is not None)


def identify(definition: Definition, addresses: Mapping[str, bytes], classes: ClassCodes) -> str:
    """64 hex digits: the digest of kind, name, fingerprint and argument addresses.

    The code of the project's classes among the arguments counts like the task's own.
    """
    fingerprint = definition.fingerprint().digest
    if classes:
        fingerprint = blake3_bytes(msgpack.packb([fingerprint, sorted(classes)])).hex()
    pieces = [_head(definition.kind, definition.name, fingerprint, len(addresses))]
    for name, address in addresses.items():
        pieces += (_named(name), address)
    return blake3_bytes(b"".join(pieces)).hex()


# The id is the digest of one msgpack array (docs/formats/record.md), whose constant pieces are kept.


@lru_cache(maxsize=1024)
def _head(kind: str, name: str, fingerprint: str, count: int) -> bytes:
    head: bytes = msgpack.packb([_KIND, kind, name, fingerprint, [None] * count])
    return head[: len(head) - count]


@lru_cache(maxsize=1024)
def _named(name: str) -> bytes:
    pair: bytes = msgpack.packb([name, bytes(32)])
    return pair[:-32]
