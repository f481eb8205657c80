"""What a job made and took, as names of content. Pure: no I/O.

A thing is an address in hex (of a value, or of a part of one), or the URI of bytes (`sha1://HASH`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgpack

from kachery_store.digest import blake3_bytes
from kachery_store.zarr.content import ARRAY, GROUP

from ..errors import CannotDecode
from ..holdings import files_named_in
from ..record import Record
from ..values import ext
from ..values.blob_walk import blobs_in
from ..values.encoding import PREFIX

# How a job came to a thing: it is its result; its result, but many jobs have such a one (True, 3, "");
# a part of its result; bytes that its result names or consists of.
WHOLE, SLIGHT, PART, BYTES = 0, 1, 2, 3

_MOST_PARTS = 2_000  # of one result
_DEEPEST = 6  # levels of containers that are opened
_LARGEST = 8 << 20  # bytes of an encoding that is opened
_TELLING = 16  # bytes of an encoding that two tasks do not come to by chance
_TELLING_FLOAT = 8  # characters: 0.123456, and not 300.0
_FLOAT, _FLOAT_SIZE = 0xCB, 9
_ARRAY_NAME = msgpack.packb(ARRAY)
_PART_HEADS = (0x97, 0x98)  # of a list of 7, which is an array in a group, and of 8, an array alone


class Made(NamedTuple):
    """A thing, and how a job came to it."""

    thing: str
    how: int


class Taken(NamedTuple):
    """An argument. `exact`: its address, or "" of a secret one; `inside`: things that it has in it."""

    name: str
    exact: str
    inside: tuple[str, ...]
    summary: str


def made_by(record: Record, encoding: bytes | None) -> list[Made]:
    """What a job made; `encoding`: of its result, None when that is not at hand."""
    address = record.result.address.hex()
    if encoding is None:
        return [Made(address, WHOLE)]
    found = {address: WHOLE if _is_telling(encoding[len(PREFIX) :]) else SLIGHT}
    for part in _parts_of(encoding):
        found.setdefault(part, PART)
    for digest in files_named_in([encoding]):
        found.setdefault(str(digest), BYTES)
    for blob in _blobs_in(encoding):
        found.setdefault(f"blake3://{blob.hex()}", BYTES)
    return [Made(thing, how) for thing, how in found.items()]


def taken_by(record: Record) -> list[Taken]:
    """What a job took, argument by argument."""
    kept = dict(record.values)
    return [
        Taken(name, address.hex(), tuple(_inside(kept.get(name), summary)), summary)
        for name, address, summary in record.arguments
    ]


def _inside(encoding: bytes | None, summary: str) -> Iterator[str]:
    """The files that an argument names, and its parts, as far as the record tells."""
    texts = [summary.encode(errors="replace"), encoding or b""]
    yield from (str(digest) for digest in files_named_in(texts))
    if encoding is not None:
        yield from _parts_of(encoding)


def _is_telling(packed: bytes) -> bool:
    """Whether equal values are hardly so by chance: one of them was made of the other."""
    if len(packed) == _FLOAT_SIZE and packed[0] == _FLOAT:
        return len(repr(abs(msgpack.unpackb(packed)))) >= _TELLING_FLOAT
    return len(packed) >= _TELLING


def _blobs_in(encoding: bytes) -> Iterable[bytes]:
    try:
        return [digest for digest, _ in blobs_in(encoding)]
    except CannotDecode:
        return []


def _parts_of(encoding: bytes) -> list[str]:
    """The addresses of what is in the containers of a value, those nearest to it first."""
    if len(encoding) > _LARGEST or not encoding.startswith(PREFIX):
        return []
    found: list[str] = []
    level = [encoding[len(PREFIX) :]]
    for _ in range(_DEEPEST):
        level = [part for packed in level for part in _members(packed)]
        found += (blake3_bytes(PREFIX + part).hex() for part in level if _is_telling(part))
        if not level or len(found) >= _MOST_PARTS:
            break
    return found[:_MOST_PARTS]


def _members(packed: bytes) -> list[bytes]:
    """The encodings of the members of a container, without the prefix; of anything else none."""
    if len(packed) <= _FLOAT_SIZE:
        return []
    try:
        return list(_split(packed))
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException):
        return []  # whoever wrote that: it has no parts


def _split(packed: bytes) -> Iterator[bytes]:
    first = packed[0]
    if 0x80 <= first <= 0x8F or first in (0xDE, 0xDF):
        yield from _items(packed, mapping=True)
    elif 0x90 <= first <= 0x9F or first in (0xDC, 0xDD):
        yield from _items(packed, mapping=False)
    elif 0xC7 <= first <= 0xC9 or 0xD4 <= first <= 0xD8:
        code, payload = msgpack.unpackb(packed, max_ext_len=len(packed))
        if code in (ext.TUPLE, ext.SET, ext.FROZENSET):
            yield from _items(payload, mapping=False)
        elif code == ext.TYPED:
            yield from _fields(payload)


def _fields(payload: bytes) -> Iterator[bytes]:
    """What is in an instance of a class, or in a group of arrays."""
    name, *parts = _items(payload, mapping=False)
    kind = msgpack.unpackb(name)
    if isinstance(kind, str) and kind.startswith(("class.", "registered.")):
        yield from parts
    elif kind == GROUP and parts:
        for node in _items(parts[0], mapping=True):
            if node[0] == _PART_HEADS[0]:
                alone = bytes((_PART_HEADS[1],)) + _ARRAY_NAME + node[1:]
                yield msgpack.packb(msgpack.ExtType(ext.TYPED, alone))


def _items(packed: bytes, *, mapping: bool) -> Iterator[bytes]:
    """The bytes of each item of a list, or of each value of a map."""
    unpacker = msgpack.Unpacker(max_buffer_size=0, strict_map_key=False)
    unpacker.feed(packed)
    count = unpacker.read_map_header() if mapping else unpacker.read_array_header()
    for _ in range(min(count, _MOST_PARTS)):
        if mapping:
            unpacker.skip()
        start = unpacker.tell()
        unpacker.skip()
        yield packed[start : unpacker.tell()]
