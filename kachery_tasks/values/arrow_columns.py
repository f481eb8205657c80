"""The arrays of PyArrow in the canonical form of `columns`.

What is encoded was validated before, and what is decoded is validated after its buffers and offsets
were found to have the sizes that the type wants: so that PyArrow never reads where nothing is.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.types as kinds

from ..errors import CannotDecode, CannotEncode
from .arrow_chunks import concatenated
from .columns import (
    Array,
    bits_of,
    checked_count,
    memory_of,
    offsets_of,
    positions_of,
    presence_of,
    read_bits,
    read_memory,
    read_offsets,
    read_presence,
    without_hidden,
)

if sys.byteorder != "little":  # the memory of Arrow is taken as it is
    raise CannotEncode("values of PyArrow have an encoding on little-endian hosts only")

_LARGEST_SMALL = 2**31 - 1  # the largest offset of types that are not `large_`


def encode_column(array: Any, hidden: Array | None = None) -> list[Any]:
    """The values of an array as parts: which are not null, then what their type needs.

    `hidden` are rows that a null further out hides: they are null too, whatever stands there.
    """
    if kinds.is_null(array.type):
        return []
    present = _present(array, hidden)
    return [presence_of(present), *_form_of(array.type).encode(array, present)]


def _present(array: Any, hidden: Array | None) -> Array | None:
    present = None
    if array.null_count:
        present = _bits(array.buffers()[0], array)
    if hidden is None:
        return present
    return ~hidden if present is None else present & ~hidden


def _bits(buffer: Any, array: Any) -> Array:
    """The bits of a buffer that belong to an array."""
    octets = np.frombuffer(buffer or b"", "u1")[array.offset // 8 :]
    first = array.offset % 8
    return np.unpackbits(octets, count=first + len(array), bitorder="little")[first:].view(bool)


def decode_column(kind: Any, count: int, parts: list[Any]) -> Any:
    """The array of a type with so many rows that `encode_column` took apart."""
    if kinds.is_null(kind):
        return pa.Array.from_buffers(kind, count, [None])
    present = read_presence(parts[0], count)
    return _form_of(kind).decode(kind, count, present, parts[1:])


def _made(kind: Any, count: int, present: Array | None, buffers: list[Any], *children: Any) -> Any:
    """An array; PyArrow checks at once that the buffers are large enough."""
    bitmap = None if present is None else _buffer(np.packbits(present, bitorder="little"))
    return pa.Array.from_buffers(kind, count, [bitmap, *buffers], children=list(children) or None)


def _buffer(values: Array) -> Any:
    return pa.py_buffer(values)


# Values that all have one size


def _encode_fixed(array: Any, present: Array | None) -> list[Any]:
    width = _width(array.type)
    if width == 0 or len(array) == 0:
        return [memory_of(np.zeros(0, "u1"))]
    unit = math.gcd(width, 8)
    units = width // unit
    last = (array.offset + len(array)) * units
    values = np.frombuffer(array.buffers()[1], f"<u{unit}", count=last)[array.offset * units :]
    return [memory_of(without_hidden(values, present))]


def _width(kind: Any) -> int:
    """Bytes of a value."""
    width: int = kind.byte_width
    return width


def _decode_fixed(kind: Any, count: int, present: Array | None, parts: list[Any]) -> Any:
    return _made(kind, count, present, [_buffer(read_memory(parts[0], "u1", count * _width(kind)))])


def _encode_flags(array: Any, present: Array | None) -> list[Any]:
    flags = _bits(array.buffers()[1], array)
    return [bits_of(flags if present is None else flags & present)]


def _decode_flags(kind: Any, count: int, present: Array | None, parts: list[Any]) -> Any:
    read_bits(parts[0], count)
    return _made(kind, count, present, [_buffer(read_memory(parts[0], "u1", (count + 7) // 8))])


# Text, and bytes of any length


def _encode_text(array: Any, present: Array | None) -> list[Any]:
    starts, lengths = _ranges(array, present)
    content = np.frombuffer(array.buffers()[2] or b"", "u1")
    return [memory_of(offsets_of(lengths)), memory_of(content[_picked(starts, lengths)])]


def _ranges(array: Any, present: Array | None) -> tuple[Array, Array]:
    """Where the parts of each row begin, and how many they are: none where it is null."""
    large = kinds.is_large_string(array.type) or kinds.is_large_binary(array.type)
    large = large or kinds.is_large_list(array.type)
    if len(array) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    last = array.offset + len(array) + 1
    offsets = np.frombuffer(array.buffers()[1], "<i8" if large else "<i4", count=last)
    offsets = offsets[array.offset :].astype(np.int64, copy=False)
    return offsets[:-1], without_hidden(np.diff(offsets), present)


def _picked(starts: Array, lengths: Array) -> slice | Array:
    """What the ranges hold: a slice where each begins where the one before ends."""
    filled = lengths > 0
    if not filled.any():
        return slice(0, 0)
    ends = np.cumsum(lengths)
    first = int(starts[filled][0])
    if (starts == first + ends - lengths)[filled].all():
        return slice(first, first + int(ends[-1]))
    return positions_of(starts, lengths)


def _encode_view(array: Any, present: Array | None) -> list[Any]:
    wide = pa.large_string() if kinds.is_string_view(array.type) else pa.large_binary()
    parts = _encode_text(array.cast(wide), present)
    if parts[1].memory.nbytes > _LARGEST_SMALL:
        raise CannotEncode(f"its {array.type} holds more than 2 GiB; cast it to {wide} first")
    return parts


def _decode_text(kind: Any, count: int, present: Array | None, parts: list[Any]) -> Any:
    large = kinds.is_large_string(kind) or kinds.is_large_binary(kind)
    offsets = read_offsets(parts[0], count)
    content = read_memory(parts[1], "u1", int(offsets[-1]))
    offsets = offsets if large else _small(offsets)
    return _made(kind, count, present, [_buffer(offsets), _buffer(content)])


def _small(offsets: Array) -> Array:
    if offsets[-1] > _LARGEST_SMALL:
        raise CannotDecode("a column holds more than its type can")
    return offsets.astype("<i4")


def _decode_view(kind: Any, count: int, present: Array | None, parts: list[Any]) -> Any:
    wide = pa.large_string() if kinds.is_string_view(kind) else pa.large_binary()
    return _decode_text(wide, count, present, parts).cast(kind)


# Nested values


def _encode_list(array: Any, present: Array | None) -> list[Any]:
    starts, lengths = _ranges(array, present)
    return _list_parts(array, starts, lengths)


def _list_parts(array: Any, starts: Array, lengths: Array) -> list[Any]:
    return [memory_of(offsets_of(lengths)), encode_column(_items(array.values, starts, lengths))]


def _items(values: Any, starts: Array, lengths: Array) -> Any:
    picked = _picked(starts, lengths)
    if isinstance(picked, slice):
        return values[picked]
    try:
        return values.take(pa.array(picked))
    except pa.ArrowNotImplementedError:  # it does not take views
        ranges = zip(starts.tolist(), lengths.tolist(), strict=True)
        return concatenated([values.slice(start, length) for start, length in ranges if length])


def _encode_list_view(array: Any, present: Array | None) -> list[Any]:
    starts = np.asarray(array.offsets).astype(np.int64)
    lengths = without_hidden(np.asarray(array.sizes).astype(np.int64), present)
    return _list_parts(array, starts, lengths)


def _decode_list(kind: Any, count: int, present: Array | None, parts: list[Any]) -> Any:
    offsets = read_offsets(parts[0], count)
    items = decode_column(_item_type(kind), int(offsets[-1]), parts[1])
    offsets = offsets if kinds.is_large_list(kind) else _small(offsets)
    return _made(kind, count, present, [_buffer(offsets)], items)


def _item_type(kind: Any) -> Any:
    return pa.struct([kind.key_field, kind.item_field]) if kinds.is_map(kind) else kind.value_type


def _decode_list_view(kind: Any, count: int, present: Array | None, parts: list[Any]) -> Any:
    offsets = read_offsets(parts[0], count)
    items = decode_column(kind.value_type, int(offsets[-1]), parts[1])
    offsets = offsets if kinds.is_large_list_view(kind) else _small(offsets)
    buffers = [_buffer(offsets[:-1]), _buffer(np.diff(offsets))]
    return _made(kind, count, present, buffers, items)


def _encode_fixed_list(array: Any, present: Array | None) -> list[Any]:
    size = array.type.list_size
    items = array.values.slice(array.offset * size, len(array) * size)
    return [encode_column(items, None if present is None else ~np.repeat(present, size))]


def _decode_fixed_list(kind: Any, count: int, present: Array | None, parts: list[Any]) -> Any:
    items = decode_column(kind.value_type, checked_count(count * kind.list_size), parts[0])
    return _made(kind, count, present, [], items)


def _encode_struct(array: Any, present: Array | None) -> list[Any]:
    hidden = None if present is None else ~present
    return [encode_column(array.field(i), hidden) for i in range(array.type.num_fields)]


def _decode_struct(kind: Any, count: int, present: Array | None, parts: list[Any]) -> Any:
    fields = zip(kind, parts, strict=True)
    return _made(
        kind,
        count,
        present,
        [],
        *[decode_column(field.type, count, part) for field, part in fields],
    )


def _encode_dictionary(array: Any, present: Array | None) -> list[Any]:
    codes = _encode_fixed(array.indices, present)
    return [*codes, len(array.dictionary), encode_column(array.dictionary)]


def _decode_dictionary(kind: Any, count: int, present: Array | None, parts: list[Any]) -> Any:
    codes = _decode_fixed(kind.index_type, count, present, parts)
    values = decode_column(kind.value_type, checked_count(parts[1]), parts[2])
    return pa.DictionaryArray.from_arrays(codes, values, ordered=kind.ordered, safe=True)


class _Form(NamedTuple):
    encode: Callable[[Any, Array | None], list[Any]]  # array, which rows are present
    decode: Callable[[Any, int, Array | None, list[Any]], Any]  # type, rows, the same, parts


_TEXT = _Form(_encode_text, _decode_text)
_VIEW = _Form(_encode_view, _decode_view)
_LIST = _Form(_encode_list, _decode_list)
_LIST_VIEW = _Form(_encode_list_view, _decode_list_view)
_FIXED = _Form(_encode_fixed, _decode_fixed)
_FORMS = {
    pa.lib.Type_BOOL: _Form(_encode_flags, _decode_flags),
    pa.lib.Type_STRING: _TEXT,
    pa.lib.Type_LARGE_STRING: _TEXT,
    pa.lib.Type_BINARY: _TEXT,
    pa.lib.Type_LARGE_BINARY: _TEXT,
    pa.lib.Type_STRING_VIEW: _VIEW,
    pa.lib.Type_BINARY_VIEW: _VIEW,
    pa.lib.Type_LIST: _LIST,
    pa.lib.Type_LARGE_LIST: _LIST,
    pa.lib.Type_MAP: _LIST,
    pa.lib.Type_LIST_VIEW: _LIST_VIEW,
    pa.lib.Type_LARGE_LIST_VIEW: _LIST_VIEW,
    pa.lib.Type_FIXED_SIZE_LIST: _Form(_encode_fixed_list, _decode_fixed_list),
    pa.lib.Type_STRUCT: _Form(_encode_struct, _decode_struct),
    pa.lib.Type_DICTIONARY: _Form(_encode_dictionary, _decode_dictionary),
}


def _form_of(kind: Any) -> _Form:
    return _FORMS.get(kind.id, _FIXED)
