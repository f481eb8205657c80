"""The columns of Polars in the canonical form of `columns`.

Only what Polars says in public is used, so that nothing depends on PyArrow being installed, and no
memory of Polars' own is made out of bytes that may be damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from .columns import (
    Array,
    bits_of,
    checked_count,
    memory_of,
    offsets_of,
    presence_of,
    read_bits,
    read_memory,
    read_offsets,
    read_presence,
)

FIXED = {  # the types whose values all have one size, and how they are in memory
    **{f"{kind}{bits}": f"<{kind[0].lower()}{bits // 8}"
       for kind in ("Int", "UInt", "Float") for bits in (8, 16, 32, 64)},
    "Date": "<i4",
    "Time": "<i8",
    "Datetime": "<i8",
    "Duration": "<i8",
}  # fmt: skip
WIDE = ("Int128", "UInt128", "Decimal")
_BLOCK = 1 << 30  # Polars wants texts of less than 4 GiB at once


def encode_column(series: Any) -> list[Any]:
    """The values of a series as parts: which are not null, then what their type needs."""
    name = series.dtype.base_type().__name__
    if name == "Null":
        return []
    if name == "Object":
        return [series.to_list()]
    present = series.is_not_null().to_numpy() if series.has_nulls() else None
    return [presence_of(present), *_FORMS[name].encode(series)]


def decode_column(dtype: Any, count: int, parts: list[Any]) -> Any:
    """The series of a type with so many rows that `encode_column` took apart."""
    name = dtype.base_type().__name__
    if name == "Null":
        return pl.repeat(None, count, dtype=pl.Null, eager=True)
    if name == "Object":
        return pl.Series(parts[0], dtype=pl.Object)
    present = read_presence(parts[0], count)
    series = _FORMS[name].decode(dtype, count, present, parts[1:])
    if name == "Array" or present is None:
        return series
    return _spread(series, present, np.arange(count))


def _spread(series: Any, present: Array, positions: Array) -> Any:
    """The values at the positions, and null where none is present."""
    frame = pl.DataFrame({"present": present, "at": positions})
    return series.gather(frame.select(pl.when("present").then("at")).to_series())


def _encode_fixed(series: Any) -> list[Any]:
    physical = series.to_physical()
    return [
        memory_of(physical.fill_null(0).to_numpy() if physical.has_nulls() else physical.to_numpy())
    ]


def _decode_fixed(dtype: Any, count: int, _: Any, parts: list[Any]) -> Any:
    values = read_memory(parts[0], FIXED[dtype.base_type().__name__], count)
    return pl.Series(values).cast(dtype)


def _encode_wide(series: Any) -> list[Any]:
    """128 bits of each value, as two halves."""
    values = series.to_physical().fill_null(0)
    base = pl.lit(2**64, dtype=values.dtype)
    high = pl.col("value") // base
    low = (pl.col("value") - high * base).cast(pl.UInt64)
    high = high.cast(pl.UInt64 if _is_unsigned(values.dtype) else pl.Int64)
    split = values.alias("value").to_frame().select(low=low, high=high)
    halves = np.empty((len(values), 2), "<u8")
    halves[:, 0] = split["low"].to_numpy()
    halves[:, 1] = split["high"].to_numpy().view("u8")
    return [memory_of(halves)]


def _is_unsigned(dtype: Any) -> bool:
    return bool(dtype.base_type().__name__ == "UInt128")  # which not every Polars has


def _decode_wide(dtype: Any, count: int, _: Any, parts: list[Any]) -> Any:
    octets = read_memory(parts[0], "u1", 16 * count)
    kind = dtype if _is_unsigned(dtype) else pl.Int128
    values = _texts(octets, np.arange(count + 1) * 16).bin.reinterpret(dtype=kind)
    return values if values.dtype == dtype else values.reinterpret(dtype=dtype)


def _encode_flags(series: Any) -> list[Any]:
    return [bits_of(series.fill_null(value=False).to_numpy())]


def _decode_flags(_dtype: Any, count: int, _: Any, parts: list[Any]) -> Any:
    return pl.Series(read_bits(parts[0], count))


def _encode_text(series: Any) -> list[Any]:
    octets = series.cast(pl.Binary)
    offsets = offsets_of(octets.bin.size().fill_null(0).to_numpy())
    pieces = [
        _exploded(octets[first:last].cast(pl.List(pl.UInt8)), offsets[first : last + 1]).to_numpy()
        for first, last in _blocks(offsets)
    ]
    content = pieces[0] if len(pieces) == 1 else np.concatenate([np.zeros(0, "u1"), *pieces])
    return [memory_of(offsets), memory_of(content)]


def _decode_text(dtype: Any, count: int, _: Any, parts: list[Any]) -> Any:
    offsets = read_offsets(parts[0], count)
    return _texts(read_memory(parts[1], "u1", int(offsets[-1])), offsets).cast(dtype)


def _texts(octets: Array, offsets: Array) -> Any:
    """Binary values, cut out of one after the other."""
    pieces = [pl.Series(dtype=pl.Binary)]
    for first, last in _blocks(offsets):
        begin, end = offsets[first], offsets[last]
        places = pl.DataFrame(
            {"at": offsets[first:last] - begin, "size": np.diff(offsets[first : last + 1])}
        )
        whole = pl.lit(octets[begin:end].tobytes())
        pieces.append(places.select(whole.bin.slice(pl.col("at"), pl.col("size"))).to_series())
    return pl.concat(pieces)


def _blocks(offsets: Array) -> Iterator[tuple[int, int]]:
    """Ranges of rows that hold no more than a block of bytes."""
    first, rows = 0, len(offsets) - 1
    while first < rows:
        fitting = int(np.searchsorted(offsets, offsets[first] + _BLOCK, side="right")) - 1
        last = max(first + 1, fitting)
        yield first, last
        first = last


def _encode_list(series: Any) -> list[Any]:
    offsets = offsets_of(series.list.len().fill_null(0).to_numpy())
    return [memory_of(offsets), encode_column(_exploded(series, offsets))]


def _exploded(series: Any, offsets: Array) -> Any:
    """The items of lists in one column; for an empty or missing list, `explode` would make a null."""
    filled = np.diff(offsets) > 0
    return (series if filled.all() else series.filter(pl.Series(filled))).explode()


def _decode_list(dtype: Any, count: int, _: Any, parts: list[Any]) -> Any:
    offsets = read_offsets(parts[0], count)
    items = decode_column(dtype.inner, int(offsets[-1]), parts[1])
    return _lists(items, offsets)


def _lists(items: Any, offsets: Array) -> Any:
    """Lists of the items; grouping is the way to make them that Polars has for items of all types."""
    lengths = np.diff(offsets)
    rows = pl.Series(np.repeat(np.arange(len(lengths)), lengths)).set_sorted()
    groups = pl.DataFrame({"row": rows, "item": items}).group_by("row", maintain_order=True)
    lists = groups.agg("item")["item"]
    filled = lengths > 0
    if filled.all():
        return lists
    places = np.where(filled, np.cumsum(filled) - 1, len(lists))
    return pl.concat([lists, items.clear().implode()]).gather(pl.Series(places))


def _encode_map(series: Any) -> list[Any]:
    return _encode_list(series.cast(_entries(series.dtype)))


def _entries(dtype: Any) -> Any:
    return pl.List(pl.Struct([pl.Field("key", dtype.key), pl.Field("value", dtype.value)]))


def _decode_map(dtype: Any, count: int, present: Any, parts: list[Any]) -> Any:
    return _decode_list(_entries(dtype), count, present, parts).cast(dtype)


def _encode_array(series: Any) -> list[Any]:
    rows = series.drop_nulls()
    items = (
        rows.explode() if len(rows) and series.dtype.size else pl.Series(dtype=series.dtype.inner)
    )
    return [encode_column(items)]


def _decode_array(dtype: Any, count: int, present: Any, parts: list[Any]) -> Any:
    rows = count if present is None else int(present.sum())
    items = decode_column(dtype.inner, checked_count(rows * dtype.size), parts[0])
    series = _lists(items, np.arange(rows + 1) * dtype.size).list.to_array(dtype.size)
    return series if present is None else _spread(series, present, np.cumsum(present) - 1)


def _encode_struct(series: Any) -> list[Any]:
    return [encode_column(series.struct.field(name)) for name in series.struct.fields]


def _decode_struct(dtype: Any, count: int, _: Any, parts: list[Any]) -> Any:
    if not dtype.fields:
        return pl.DataFrame(height=count).to_struct()
    fields = zip(dtype.fields, parts, strict=True)
    columns = {field.name: decode_column(field.dtype, count, part) for field, part in fields}
    return pl.DataFrame(columns).to_struct()


def _encode_categorical(series: Any) -> list[Any]:
    """Each category where it first occurs: the codes of Polars depend on what else the process did."""
    distinct = series.drop_nulls().unique(maintain_order=True)
    known = distinct.to_physical().to_numpy()
    table = np.zeros(int(known.max(initial=0)) + 1, "<u4")
    table[known] = np.arange(len(known))
    codes = table[series.to_physical().fill_null(known[0] if len(known) else 0).to_numpy()]
    return [len(known), encode_column(distinct.cast(pl.String)), memory_of(codes)]


def _decode_categorical(dtype: Any, count: int, _: Any, parts: list[Any]) -> Any:
    distinct = decode_column(pl.String, checked_count(parts[0]), parts[1]).cast(dtype)
    return _chosen(distinct, count, parts[2])


def _encode_enum(series: Any) -> list[Any]:
    return [memory_of(series.to_physical().cast(pl.UInt32).fill_null(0).to_numpy())]


def _decode_enum(dtype: Any, count: int, _: Any, parts: list[Any]) -> Any:
    return _chosen(dtype.categories.cast(dtype), count, parts[0])


def _chosen(distinct: Any, count: int, codes: Any) -> Any:
    codes = pl.Series(read_memory(codes, "<u4", count))
    return distinct.gather(codes) if len(distinct) else distinct.extend_constant(None, count)


class _Form(NamedTuple):
    encode: Callable[[Any], list[Any]]
    decode: Callable[[Any, int, Any, list[Any]], Any]  # type, rows, which are present, parts


_FORMS = {
    **dict.fromkeys(FIXED, _Form(_encode_fixed, _decode_fixed)),
    **dict.fromkeys(WIDE, _Form(_encode_wide, _decode_wide)),
    **dict.fromkeys(("String", "Binary"), _Form(_encode_text, _decode_text)),
    "Boolean": _Form(_encode_flags, _decode_flags),
    "List": _Form(_encode_list, _decode_list),
    "Map": _Form(_encode_map, _decode_map),
    "Array": _Form(_encode_array, _decode_array),
    "Struct": _Form(_encode_struct, _decode_struct),
    "Categorical": _Form(_encode_categorical, _decode_categorical),
    "Enum": _Form(_encode_enum, _decode_enum),
}
