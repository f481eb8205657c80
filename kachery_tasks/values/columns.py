"""What columns are made of in Polars, PyArrow and pandas' strings, in one canonical form.

Arrow leaves much open that is no part of the values: what stands under a null, where a slice begins,
what fills the last byte of a bitmap. Here all of that has one form. Nothing of either library is
imported.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from ..errors import CannotDecode
from .registry import Buffer

Array = np.ndarray[Any, np.dtype[Any]]

_LARGEST = 1 << 48  # no column is longer


def memory_of(values: Array) -> Buffer:
    """The memory of an array, little-endian, without a copy where it is that and contiguous."""
    flat = np.ascontiguousarray(values, values.dtype.newbyteorder("<")).reshape(-1)
    return Buffer(memoryview(cast(Any, flat.view(np.uint8)))) if flat.size else Buffer(_NOTHING)


_NOTHING = memoryview(b"")


def bits_of(flags: Array) -> Buffer:
    """Flags as bits, the first of each byte in its lowest bit; what is left of the last is zero."""
    return memory_of(np.packbits(flags, bitorder="little"))


def presence_of(present: Array | None) -> Buffer | None:
    """Which values of a column are not null: bits, or None when no value is."""
    return None if present is None or present.all() else bits_of(present)


def without_hidden(values: Array, present: Array | None) -> Array:
    """The values of a column, zero where they are null; a copy only where some are."""
    if present is None or present.all():
        return values
    units = values.reshape(len(present), -1).copy()
    np.copyto(units, np.zeros((), units.dtype), where=~present[:, None])
    return units.reshape(-1)


def offsets_of(lengths: Array) -> Array:
    """Where each of a row of parts begins, and where the last one ends."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def positions_of(starts: Array, lengths: Array) -> Array:
    """The positions that the ranges with these starts and lengths hold, one range after the other."""
    ends = np.cumsum(lengths, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - (ends - lengths), lengths)


# The way back. What is read may be anything, and must not be believed.


def checked_count(count: Any) -> int:
    """A number of values."""
    if type(count) is not int or not 0 <= count < _LARGEST:
        raise CannotDecode(f"{count!r} is no number of rows")
    return count


def read_memory(part: Any, dtype: str, count: int) -> Array:
    """Exactly so many values of a type, from memory."""
    values = np.frombuffer(part, dtype)
    if len(values) != count:
        raise CannotDecode(f"a column holds {len(values)} values and should hold {count}")
    return values


def read_bits(part: Any, count: int) -> Array:
    """Exactly so many flags."""
    octets = read_memory(part, "u1", (count + 7) // 8)
    return np.unpackbits(octets, count=count, bitorder="little").view(bool)


def read_presence(part: Any, count: int) -> Array | None:
    """Which values are not null; None when no value is."""
    return None if part is None else read_bits(part, count)


def read_offsets(part: Any, count: int) -> Array:
    """The offsets of so many parts: they begin at zero and never fall."""
    offsets = read_memory(part, "<i8", count + 1)
    if offsets[0] != 0 or (offsets[1:] < offsets[:-1]).any() or offsets[-1] >= _LARGEST:
        raise CannotDecode("the offsets of a column do not rise from zero")
    return offsets
