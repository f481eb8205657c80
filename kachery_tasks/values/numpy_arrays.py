"""Arrays of NumPy: dtype, shape, order, and what fills them."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from ..errors import CannotDecode
from .numpy_dtypes import LONG_BITS, Dtype, describe, dtype_of, is_long
from .registry import Buffer

Array = np.ndarray[Any, Any]

_X87_BITS = 63  # of mantissa; such a float has ten bytes, and then come some that are never set


def order_of(array: Array) -> str:
    """`F` when only that is how the array lies in memory, else `C`."""
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"


def encode_array(array: Array) -> list[Any]:
    """The parts of an array, which is exactly an ndarray."""
    order = order_of(array)
    return [describe(array.dtype), list(array.shape), order, _content(array, order)]


def _content(array: Array, order: str) -> Any:
    """What fills the array: memory, or a list of values where memory holds more than the values."""
    flat = array.reshape(-1, order=cast(Any, order))  # a view where it is contiguous
    if array.dtype.names is not None:
        return [flat[name] for name in array.dtype.names]  # without padding
    if array.dtype.kind == "T":
        return [item if isinstance(item, str) else None for item in flat.tolist()]
    if array.dtype.hasobject:
        return flat.tolist()
    if array.dtype.itemsize == 0 or array.size == 0:
        return b""
    flat = np.ascontiguousarray(flat)
    if is_long(array.dtype) and LONG_BITS == _X87_BITS:
        flat = _without_padding(flat)
    return Buffer(memoryview(cast(Any, flat.view(np.uint8))))


def _without_padding(flat: Array) -> Array:
    """A copy of 80-bit floats in which the unused bytes, which are never set, are zero."""
    size = np.dtype(np.longdouble).itemsize
    copy = np.array(flat)
    bytes_of = copy.view(np.uint8).reshape(-1, size)
    if flat.dtype.str[0] == ">":
        bytes_of[:, : size - 10] = 0
    else:
        bytes_of[:, 10:] = 0
    return copy


def decode_array(description: Any, shape: list[int], order: str, content: Any) -> Array:
    """The array of the parts that `encode_array` gave."""
    dtype, count = dtype_of(description), _count(shape)
    flat = _filled(dtype, count, content)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _filled(dtype: Dtype, count: int, content: Any) -> Array:
    if dtype.names is not None:
        return _of_columns(dtype, count, content)
    if dtype.kind == "T":
        return _of_texts(cast(Any, dtype), content)
    if dtype.hasobject:
        return _of_objects(dtype, count, content)
    if count == 0 or dtype.itemsize == 0:
        return np.ndarray(count, dtype)  # np.zeros makes strings of no length longer
    return np.frombuffer(bytearray(content) if isinstance(content, bytes) else content, dtype)


def _of_columns(dtype: Dtype, count: int, columns: list[Any]) -> Array:
    fields = [cast(Any, dtype.fields)[name][0] for name in cast(Any, dtype.names)]
    for field, column in zip(fields, columns, strict=True):
        # NumPy would convert what differs, and crashes where a dimension has no length.
        if type(column) is not np.ndarray or column.dtype != field.base:
            raise CannotDecode("a field of a structured array has another dtype")
        if column.shape != (count, *field.shape):
            raise CannotDecode("a field of a structured array has another shape")
    flat = np.zeros(count, dtype)
    for name, column in zip(cast(Any, dtype.names), columns, strict=True):
        flat[name] = column
    return flat


def _of_texts(dtype: Any, texts: list[str | None]) -> Array:
    if not set(map(type, texts)) <= {str, type(None)}:
        raise CannotDecode("an array of strings holds something else")
    missing = getattr(dtype, "na_object", None)
    return np.array([missing if text is None else text for text in texts], dtype)


def _of_objects(dtype: Dtype, count: int, items: list[Any]) -> Array:
    if len(items) != count:
        raise CannotDecode(f"an array of {count} items holds {len(items)}")
    flat = np.empty(count, dtype)
    for position, item in enumerate(items):
        flat[position] = item
    return flat


def _count(shape: list[int]) -> int:
    count = 1
    for length in shape:
        if type(length) is not int or length < 0:
            raise CannotDecode(f"{length!r} is no length of an array")
        count *= length
    return count
