"""Encodings of NumPy's masked arrays. What is under the mask does not count."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import numpy as np

from ..errors import CannotEncode
from .numpy_arrays import Array, order_of
from .numpy_subclasses import refuse_attributes
from .registry import Codec, add_codec

_OF_MASKED = frozenset(vars(np.ma.MaskedArray([0])))
_OF_MEMMAP = frozenset(("_mmap", "filename", "offset", "mode"))


def _encode_masked(array: Any) -> list[Any]:
    mapped = isinstance(array.data, np.memmap)
    refuse_attributes(array, _OF_MASKED | _OF_MEMMAP if mapped else _OF_MASKED)
    mask = None if array.mask is np.ma.nomask else np.asarray(array.mask)
    return [_without_hidden(array.data, mask), mask, _fill_value(array), bool(array.hardmask)]


def _without_hidden(data: Array, mask: Array | None) -> Array:
    if mask is None or (mask.dtype.names is None and not mask.any()):
        return data
    copy = np.array(data, order=cast(Any, order_of(data)), subok=True)
    _hide(copy, mask)
    return copy


def _hide(data: Array, mask: Array) -> None:
    """Put zeros where the mask is set, in each field of its own."""
    if mask.dtype.names is None:
        data[mask] = np.zeros((), data.dtype)
        return
    if _overlap(data.dtype):
        raise CannotEncode(
            "a masked array whose fields overlap has no encoding; pass data and mask"
        )
    for name in mask.dtype.names:
        _hide(data[name], mask[name])


def _overlap(dtype: np.dtype[Any]) -> bool:
    fields = [cast(Any, dtype.fields)[name] for name in cast(Any, dtype.names)]
    spans = sorted((offset, offset + field.itemsize) for field, offset, *_ in fields)
    return any(end > start for (_, end), (start, _) in pairwise(spans))


def _fill_value(array: Any) -> Array | None:
    """The fill value; None for NumPy's default, which arrays take on when they are looked at."""
    fill = vars(array)["_fill_value"]
    return None if fill is None or _is_default(fill, array.dtype) else np.asarray(fill)


def _is_default(fill: Array, dtype: np.dtype[Any]) -> bool:
    try:
        with np.errstate(all="ignore"):
            default = np.asarray(np.ma.default_fill_value(dtype))
    except (TypeError, ValueError):  # NumPy has none for structures with dates
        return False
    return _alike(fill, default)


def _alike(fill: Array, default: Array) -> bool:
    if fill.dtype.names is not None:
        return all(_alike(fill[name], default[name]) for name in fill.dtype.names)
    a, b = fill.ravel().tolist(), default.ravel().tolist()
    return all(type(x) is type(y) and x == y for x, y in zip(a, b, strict=True))


def _decode_masked(data: Any, mask: Array | None, fill: Any, hard: bool) -> Any:
    hidden: Any = np.ma.nomask if mask is None else mask
    return np.ma.MaskedArray(data, mask=hidden, fill_value=fill, hard_mask=hard)


add_codec(np.ma.MaskedArray, Codec("numpy.ma.MaskedArray", _encode_masked, _decode_masked))
add_codec(type(np.ma.masked), Codec("numpy.ma.masked", lambda _: [], lambda: np.ma.masked))
