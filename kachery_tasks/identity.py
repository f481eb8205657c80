"""Who a job is: its id, from its code and its arguments."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import msgpack

from kachery_store.digest import blake3_bytes

from .binding import Arguments
from .code import Fingerprint, callable_fingerprint, class_fingerprint
from .definition import Definition
from .errors import CannotEncode
from .names import class_name, qualified_name
from .parts import Parts, parts_of
from .values import SCALARS, Encoded, Encoder, cached_values

SMALL = 1024  # bytes of an encoding that is kept with the address
_MOST_PARTS = 300  # of an argument that are looked at
_CONTAINERS = (list, tuple, dict)

_KIND = "kachery job 1"

Special = dict[type, Callable[[Any, Encoder], bytes]]


# Names of classes and the fingerprints of their code.
ClassCodes = frozenset[tuple[str, str]]


class Addresses(NamedTuple):
    """The addresses of a call's arguments.

    `of`: parameter -> 32 bytes. `classes`: the project's classes whose instances were met. `size`:
    bytes of all encodings and blobs. `callables`: the functions that were met. `told`: those of the
    classes and functions that are not in secret arguments. `present`: which cached values the
    instances had, by identity; see cached_values. `small`: encodings from which arguments can be had
    again. `makers`: parameters and the ids of jobs whose results are in them. `parts`: after a run, of
    lists, tuples and dicts that are not small, what they have in them.
    """

    of: dict[str, bytes]
    classes: ClassCodes
    size: int
    callables: tuple[Any, ...]
    told: tuple[ClassCodes, tuple[Any, ...]]
    present: dict[int, frozenset[str]]
    small: dict[str, bytes]
    makers: list[tuple[str, str]]
    parts: dict[str, Parts]


def addresses_of(
    definition: Definition,
    arguments: Arguments,
    special: Special | None = None,
    known: Addresses | None = None,
    unknown: Collection[str] = (),
    before: Addresses | None = None,
) -> Addresses:
    """The addresses of the arguments that identify a call; CannotEncode names the place.

    `special` encodes further types; see Encoder. `known` are addresses computed before, of which
    only those of the parameters in `unknown` are computed anew. `before` are those before a run: values
    that cached properties have taken on since do not count.
    """
    if known is None:
        known = _NONE
    of, classes, size, callables, (told, named) = dict(known.of), *known[1:5]
    encoder, small, parts = Encoder(special), dict(known.small), dict(known.parts)
    present = dict(known.present) if before is None else before.present
    with cached_values(present, again=before is not None):
        for name in definition.identifying:
            if name in of and name not in unknown:
                continue
            encoded = _encoded(encoder, definition, name, arguments[name])
            data, of[name], blobs, met, functions, opaques, also = encoded
            if blobs or opaques or functions or len(data) > SMALL:
                size += encoded.size
                small.pop(name, None)
                if before is not None and type(arguments[name]) in _CONTAINERS:
                    parts[name] = parts_of(data, _MOST_PARTS)
            else:
                size += len(data)
                small[name] = data
            if not met and not functions:
                continue
            codes = codes_of(met, definition.package) | _codes_named(also)
            classes |= codes
            callables += tuple(functions)
            if name not in definition.secret:
                told |= codes
                named += tuple(functions)
    if len(classes) > 1:
        _refuse_namesakes(classes, f"{definition.name.rpartition(':')[2]}(...)")
    return Addresses(
        of, classes, size, callables, (told, named), present, small, known.makers, parts
    )


_NONE = Addresses({}, frozenset(), 0, (), (frozenset(), ()), {}, {}, [], {})


def _codes_named(functions: Iterable[Any]) -> ClassCodes:
    digests = ((qualified_name(one), callable_fingerprint(one).digest) for one in functions)
    return frozenset((f"{name} {digest}", digest) for name, digest in digests)


def _encoded(encoder: Encoder, definition: Definition, name: str, value: Any) -> Encoded:
    try:
        return encoder.encode(value, pickling=name in definition.opaque)
    except CannotEncode as error:
        error.advice = "; or leave the parameter out of the identity with ignore=(...)"
        if name in definition.secret:
            error.place = ""  # it may tell what is in a dict
        raise error.inside(f"{definition.name.rpartition(':')[2]}({name})") from error.__cause__


def _refuse_namesakes(codes: ClassCodes, place: str = "") -> None:
    """Refuse classes of one name and different code: which instance is of which would not count."""
    if len(codes) < 2:
        return
    names = [name for name, _ in codes]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CannotEncode(
            f"there are different classes called {', '.join(twice)} in it. Give them names of their"
            " own, in __qualname__, or register one of them",
            place,
        )


def codes_of(classes: Iterable[type], package: str) -> ClassCodes:
    """The names and fingerprints of those of the classes that are the project's, from a package."""
    found = ((class_name(cls), class_fingerprint(cls, package)) for cls in classes)
    codes = frozenset((name, code.digest) for name, code in found if code is not None)
    _refuse_namesakes(codes)
    return codes


def are_constant(definition: Definition, arguments: Arguments) -> bool:
    """Whether the arguments that identify a call are such that nothing can change them."""
    return SCALARS.issuperset([type(arguments[name]) for name in definition.identifying])


def identify(definition: Definition, addresses: Addresses, before: Addresses | None = None) -> str:
    """The job id: 64 hex digits, as of `identified`."""
    return identified(definition, addresses, before)[0]


def identified(
    definition: Definition, addresses: Addresses, before: Addresses | None = None
) -> tuple[str, Fingerprint]:
    """The job id and the code that is in it.

    It is 64 hex digits: the digest of kind, name, fingerprint and argument addresses.

    The code of the project's classes among the arguments counts like the task's own. `before` is as
    for `addresses_of`.
    """
    present = addresses.present if before is None else before.present
    with cached_values(present, again=before is not None):
        code = definition.fingerprint()
    fingerprint = code.digest
    classes = addresses.classes
    if classes:
        fingerprint = blake3_bytes(msgpack.packb([fingerprint, sorted(classes)])).hex()
    pieces = [_head(definition.kind, definition.name, fingerprint, len(addresses.of))]
    for name, address in addresses.of.items():
        pieces += (_named(name), address)
    return blake3_bytes(b"".join(pieces)).hex(), code


# The id is the digest of one msgpack array (docs/formats/record.md), whose constant pieces are kept.


@lru_cache(maxsize=1024)
def _head(kind: str, name: str, fingerprint: str, count: int) -> bytes:
    head: bytes = msgpack.packb([_KIND, kind, name, fingerprint, [None] * count])
    return head[: len(head) - count]


@lru_cache(maxsize=1024)
def _named(name: str) -> bytes:
    pair: bytes = msgpack.packb([name, bytes(32)])
    return pair[:-32]
