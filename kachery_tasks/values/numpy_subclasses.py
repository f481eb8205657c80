"""Encodings of NumPy's own subclasses of ndarray, `poly1d` and `busdaycalendar`.

Masked arrays and the series of numpy.polynomial are in modules of their own: importing those parts of
NumPy takes longer than encoding most arrays.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ..errors import CannotDecode, CannotEncode
from .numpy_arrays import decode_array, encode_array
from .registry import Codec, add_codec, add_fallback


def refuse_attributes(instance: Any, known: frozenset[str] = frozenset()) -> None:
    """CannotEncode when somebody has set attributes on an instance: its encoding has no room."""
    extra = sorted(set(vars(instance)) - known - {"_getitem"})  # this one np.matrix sets itself
    if extra:
        raise CannotEncode(
            f"a {type(instance).__name__} with attributes of its own ({', '.join(extra)}) has no"
            " encoding; pass them beside it"
        )


# They are arrays that are seen through a class.


def _encode_view(array: Any) -> list[Any]:
    refuse_attributes(array)
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


# Polynomials of the older kind, and the days on which business is done.


def _encode_poly1d(polynomial: Any) -> list[Any]:
    refuse_attributes(polynomial, frozenset(("coeffs", "_variable")))
    return [polynomial.coeffs, polynomial.variable]


def _decode_poly1d(coefficients: Any, variable: str) -> Any:
    if type(coefficients) is not np.ndarray or coefficients.ndim != 1:
        raise CannotDecode("a polynomial has no coefficients")
    polynomial = np.poly1d([0], variable=variable)
    vars(polynomial)["coeffs"] = coefficients  # those given to the class lose their zeros
    return polynomial


add_codec(np.poly1d, Codec("numpy.poly1d", _encode_poly1d, _decode_poly1d))


def _encode_calendar(calendar: Any) -> list[Any]:
    return ["".join("01"[day] for day in calendar.weekmask.tolist()), calendar.holidays]


add_codec(
    np.busdaycalendar,
    Codec("numpy.busdaycalendar", _encode_calendar, np.busdaycalendar),
)
