"""Encodings of masked arrays, of NumPy's other subclasses of ndarray, and of its polynomials."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import Any, cast

import numpy as np

from ..errors import CannotDecode, CannotEncode
from .numpy_arrays import Array, decode_array, encode_array, order_of
from .registry import Codec, add_codec, add_fallback


def _refuse_attributes(instance: Any, known: frozenset[str] = frozenset()) -> None:
    """CannotEncode when somebody has set attributes on an instance: its encoding has no room."""
    extra = sorted(set(vars(instance)) - known - {"_getitem"})  # this one np.matrix sets itself
    if extra:
        raise CannotEncode(
            f"a {type(instance).__name__} with attributes of its own ({', '.join(extra)}) has no"
            " encoding; pass them beside it"
        )


# Masked arrays. What is under the mask does not count.

_OF_MASKED = frozenset(vars(np.ma.MaskedArray([0])))
_OF_MEMMAP = frozenset(("_mmap", "filename", "offset", "mode"))


def _encode_masked(array: Any) -> list[Any]:
    mapped = isinstance(array.data, np.memmap)
    _refuse_attributes(array, _OF_MASKED | _OF_MEMMAP if mapped else _OF_MASKED)
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


# Other subclasses are arrays that are seen through a class.


def _encode_view(array: Any) -> list[Any]:
    _refuse_attributes(array)
    return encode_array(np.asarray(array))


def _decode_records(*parts: Any) -> Any:
    return decode_array(*parts).view(np.recarray)


def _decode_matrix(*parts: Any) -> Any:
    array = decode_array(*parts)
    if array.ndim != 2:
        raise CannotDecode(f"a matrix has not {array.ndim} dimensions")
    return array.view(np.matrix)


def _decode_chararray(*parts: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return decode_array(*parts).view(np.char.chararray)


_CHARARRAY = Codec("numpy.chararray", _encode_view, _decode_chararray)


def _codec_for_chararray(kind: type) -> Codec | None:
    ours = kind.__module__ in ("numpy", "numpy.char") and kind.__name__ == "chararray"
    return _CHARARRAY if ours else None


add_codec(np.recarray, Codec("numpy.recarray", _encode_view, _decode_records))
add_codec(np.matrix, Codec("numpy.matrix", _encode_view, _decode_matrix))
add_fallback(_codec_for_chararray, _CHARARRAY)  # by name: newer versions warn when it is touched


# Polynomials, and the days on which business is done.

_OF_SERIES = frozenset(("coef", "domain", "window", "_symbol"))
_SERIES = {
    kind.__name__: kind
    for kind in (
        np.polynomial.Polynomial,
        np.polynomial.Chebyshev,
        np.polynomial.Legendre,
        np.polynomial.Laguerre,
        np.polynomial.Hermite,
        np.polynomial.HermiteE,
    )
}


def _encode_series(series: Any) -> list[Any]:
    _refuse_attributes(series, _OF_SERIES)
    ranges = [_own_range(series, name) for name in ("domain", "window")]
    return [type(series).__name__, series.coef, *ranges, series.symbol]


def _own_range(series: Any, name: str) -> Array | None:
    """The domain or window; None for that of the class, whose dtype depends on the NumPy."""
    own, usual = getattr(series, name), getattr(type(series), name)
    same = own.dtype.kind in "if" and own.astype("f8").tobytes() == usual.astype("f8").tobytes()
    return None if same else own


def _decode_series(kind: str, coef: Any, domain: Any, window: Any, symbol: str) -> Any:
    return _SERIES[kind](coef, domain, window, symbol)


def _encode_poly1d(polynomial: Any) -> list[Any]:
    _refuse_attributes(polynomial, frozenset(("coeffs", "_variable")))
    return [polynomial.coeffs, polynomial.variable]


def _decode_poly1d(coefficients: Any, variable: str) -> Any:
    if type(coefficients) is not np.ndarray or coefficients.ndim != 1:
        raise CannotDecode("a polynomial has no coefficients")
    polynomial = np.poly1d([0], variable=variable)
    vars(polynomial)["coeffs"] = coefficients  # those given to the class lose their zeros
    return polynomial


for _kind in _SERIES.values():
    add_codec(_kind, Codec("numpy.polynomial", _encode_series, _decode_series))
add_codec(np.poly1d, Codec("numpy.poly1d", _encode_poly1d, _decode_poly1d))


def _encode_calendar(calendar: Any) -> list[Any]:
    return ["".join("01"[day] for day in calendar.weekmask.tolist()), calendar.holidays]


add_codec(
    np.busdaycalendar,
    Codec("numpy.busdaycalendar", _encode_calendar, np.busdaycalendar),
)
