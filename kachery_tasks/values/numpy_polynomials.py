"""Encodings of the polynomials and other series of numpy.polynomial."""

from __future__ import annotations

from typing import Any

import numpy as np

from .numpy_arrays import Array
from .numpy_subclasses import refuse_attributes
from .registry import Codec, add_codec

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
    refuse_attributes(series, _OF_SERIES)
    ranges = [_own_range(series, name) for name in ("domain", "window")]
    return [type(series).__name__, series.coef, *ranges, series.symbol]


def _own_range(series: Any, name: str) -> Array | None:
    """The domain or window; None for that of the class, whose dtype depends on the NumPy."""
    own, usual = getattr(series, name), getattr(type(series), name)
    same = own.dtype.kind in "if" and own.astype("f8").tobytes() == usual.astype("f8").tobytes()
    return None if same else own


def _decode_series(kind: str, coef: Any, domain: Any, window: Any, symbol: str) -> Any:
    return _SERIES[kind](coef, domain, window, symbol)


for _kind in _SERIES.values():
    add_codec(_kind, Codec("numpy.polynomial", _encode_series, _decode_series))
