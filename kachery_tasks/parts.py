"""The parts of an encoding, as names of content, and which content is telling. Pure: no I/O."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import msgpack

from kachery_store.digest import blake3_bytes
from kachery_store.zarr.content import ARRAY, GROUP

from .values import ext
from .values.encoding import PREFIX

_MOST_LOOKED_AT, _MOST = 20_000, 2_000  # parts of one value
_DEEPEST = 6  # levels of containers that are opened
_LARGEST = 8 << 20  # bytes of an encoding that is opened
_TELLING = 16  # bytes of an encoding that two tasks do not come to by chance
_TELLING_DISTINCT = 4  # different bytes: neither zeros, nor ones, nor a mask
_SAMPLE = 101  # bytes
_HEAD = 5  # bytes at most, before the bytes of a text or a buffer
_TELLING_FLOAT = 8  # characters: 0.123456, and not 300.0
_FLOAT, _FLOAT_SIZE = 0xCB, 9
_unpack_float = struct.Struct(">d").unpack_from
_EXTENSIONS = (*range(0xC7, 0xCA), *range(0xD4, 0xD9))
_ARRAY_NAME = msgpack.packb(ARRAY)
_PART_HEADS = (0x97, 0x98)  # of a list of 7, which is an array in a group, and of 8, an array alone


class Parts(NamedTuple):
    """The addresses of what is in the containers of a value, those nearest to it first.

    `complete`: nothing telling in it is missing.
    """

    addresses: list[bytes]
    complete: bool


def parts_of(encoding: bytes, most: int = _MOST_LOOKED_AT) -> Parts:
    """The parts of a value that are telling; so many are looked at, at most."""
    if len(encoding) > _LARGEST or not encoding.startswith(PREFIX):
        return Parts([], complete=False)
    found: list[bytes] = []
    level, looked = [encoding[len(PREFIX) :]], 0
    for _ in range(_DEEPEST):
        below: list[bytes] = []
        rest = most - looked
        for packed in level:
            below += _members(packed, rest - len(below) + 1)
            if len(below) > rest:
                break
        found += (blake3_bytes(PREFIX + part) for part in below[:rest] if is_telling(part))
        if not below:
            return Parts(found, complete=True)
        if len(below) > rest or len(found) >= _MOST:
            break
        level, looked = below, looked + len(below)
    return Parts(found[:_MOST], complete=False)


def is_telling(packed: bytes) -> bool:
    """Whether equal values, by their encoding without its prefix, are hardly so by chance."""
    if len(packed) == _FLOAT_SIZE and packed[0] == _FLOAT:
        return len(repr(abs(_unpack_float(packed, 1)[0]))) >= _TELLING_FLOAT
    return len(packed) >= _TELLING and _has_distinct(_content(packed)[_HEAD:])


def _has_distinct(content: bytes) -> bool:
    some = content[:: len(content) // _SAMPLE + 1]  # mostly enough, and fast
    return len(set(some)) >= _TELLING_DISTINCT or len(set(content)) >= _TELLING_DISTINCT


def _content(packed: bytes) -> bytes:
    """The longest piece of what has a type, without its name and the like; else all."""
    try:
        pieces = list(_items(_typed(packed), mapping=False)) if packed[0] in _EXTENSIONS else []
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException):
        pieces = []
    return max(pieces, key=len, default=packed)


def _typed(packed: bytes) -> bytes:
    code, payload = msgpack.unpackb(packed, max_ext_len=len(packed))
    return payload if code == ext.TYPED else b"\x90"


def _members(packed: bytes, most: int) -> list[bytes]:
    """The encodings of the members of a container, without the prefix; of anything else none."""
    if len(packed) <= _FLOAT_SIZE:
        return []
    try:
        return list(islice(_split(packed), most))
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException):
        return []  # whoever wrote that: it has no parts


def _split(packed: bytes) -> Iterator[bytes]:
    first = packed[0]
    if 0x80 <= first <= 0x8F or first in (0xDE, 0xDF):
        yield from _items(packed, mapping=True)
    elif 0x90 <= first <= 0x9F or first in (0xDC, 0xDD):
        yield from _items(packed, mapping=False)
    elif first in _EXTENSIONS:
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
    for _ in range(count):
        if mapping:
            unpacker.skip()
        start = unpacker.tell()
        unpacker.skip()
        yield packed[start : unpacker.tell()]
