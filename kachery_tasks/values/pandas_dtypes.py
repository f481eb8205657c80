"""Encodings of pandas' dtypes, date offsets and frequencies, and its names for time zones."""

from __future__ import annotations

import datetime
import importlib
import zoneinfo
from typing import Any

import numpy as np
import pandas as pd
from pandas.arrays import BooleanArray, FloatingArray, IntegerArray, NumpyExtensionArray

from ..errors import CannotDecode, CannotEncode
from .registry import Codec, add_codec, add_fallback

# Time zones


def zone_name(zone: Any) -> Any:
    """A time zone by its name: which library's object stands for it depends on the pandas."""
    library = type(zone).__module__.partition(".")[0]
    if zone is datetime.UTC:
        return "UTC"
    if type(zone) is zoneinfo.ZoneInfo:
        return zone.key or zone
    if library == "pytz":
        return zone.zone or datetime.timezone(zone.utcoffset(None))
    if library == "dateutil":
        raise CannotEncode(
            f"the time zone {zone!r} has no encoding; use tz_convert() with the name of a zone, such"
            " as 'Europe/Berlin'"
        )
    return zone


def zone_of(name: Any) -> Any:
    """What pandas makes the zone of that name from."""
    if isinstance(name, str) and (name.startswith("dateutil/") or name.endswith("()")):
        raise CannotDecode(f"{name!r} is no name of a time zone")
    return name


# Offsets

_OFFSETS: dict[str, Any] = {
    kind.__name__: kind
    for kind in vars(pd.offsets).values()
    if isinstance(kind, type) and issubclass(kind, pd.offsets.BaseOffset)
}
_SAID_BY_TEXT = frozenset(("Day", "Hour", "Minute", "Second", "Milli", "Micro", "Nano"))


def _encode_offset(offset: Any) -> list[Any]:
    kind, details = type(offset).__name__, dict(sorted(offset.kwds.items()))
    if kind == "Easter" and details.get("method") == 3:
        del details["method"]  # older versions of pandas know no other
    return [kind, offset.n, offset.normalize, details]


def _decode_offset(kind: str, n: int, normalize: bool, details: dict[str, Any]) -> Any:
    return _OFFSETS[kind](n, normalize=normalize, **details)


def encode_frequency(offset: Any) -> Any:
    """The frequency of an index: a text where that says all in every version, else the offset."""
    return offset.freqstr if type(offset).__name__ in _SAID_BY_TEXT else offset


_weekday: Any = importlib.import_module("dateutil.relativedelta").weekday
for _kind in _OFFSETS.values():
    add_codec(_kind, Codec("pandas.offset", _encode_offset, _decode_offset))
add_codec(_weekday, Codec("pandas.weekday", lambda day: [day.weekday, day.n], _weekday))


# Dtypes


def string_dtype(missing_is_na: bool, storage: str | None = None) -> Any:
    """The dtype of strings whose missing value is NA, or else NaN."""
    if missing_is_na:
        return pd.StringDtype(storage)
    try:
        return pd.StringDtype(storage, na_value=np.nan)
    except TypeError:  # pandas 2.2 has these strings under another name
        return pd.StringDtype("pyarrow_numpy")


def _describe(dtype: Any) -> list[Any]:
    """What makes a dtype of pandas what it is; how strings are held is not part of it."""
    if isinstance(dtype, pd.CategoricalDtype):
        return ["category", dtype.categories, dtype.ordered]
    if isinstance(dtype, pd.DatetimeTZDtype):
        return ["datetime", dtype.unit, zone_name(dtype.tz)]
    if isinstance(dtype, pd.PeriodDtype):
        return ["period", dtype.name.removeprefix("period[").removesuffix("]")]
    if isinstance(dtype, pd.IntervalDtype):
        return ["interval", dtype.subtype, dtype.closed]
    if isinstance(dtype, pd.SparseDtype):
        return ["sparse", dtype.subtype, dtype.fill_value]
    if isinstance(dtype, pd.StringDtype):
        return ["string", dtype.na_value is pd.NA]
    if isinstance(dtype, pd.ArrowDtype):
        return ["arrow", dtype.pyarrow_dtype]
    if not hasattr(dtype, "numpy_dtype"):
        raise CannotEncode(f"the dtype {dtype!r} has no encoding; pass its name")
    return ["numpy" if type(dtype) is _PLAIN else "masked", dtype.numpy_dtype]


def _dtype_of(kind: str, *parts: Any) -> Any:
    if kind not in _KINDS:
        raise CannotDecode(f"{kind!r} is no kind of dtype")
    return _KINDS[kind](*parts)


def masked_array(plain: Any, missing: Any) -> Any:
    """The nullable array of these values."""
    return _MASKED[plain.dtype.kind](plain, missing)


def _numpy(dtype: np.dtype[Any]) -> Any:
    return NumpyExtensionArray(np.empty(0, dtype)).dtype


_MASKED = {"i": IntegerArray, "u": IntegerArray, "f": FloatingArray, "b": BooleanArray}
_PLAIN = type(_numpy(np.dtype("i8")))
_KINDS: dict[str, Any] = {
    "category": pd.CategoricalDtype,
    "datetime": lambda unit, zone: pd.DatetimeTZDtype(unit, zone_of(zone)),
    "period": pd.PeriodDtype,
    "interval": pd.IntervalDtype,
    "sparse": pd.SparseDtype,
    "string": string_dtype,
    "arrow": pd.ArrowDtype,
    "numpy": _numpy,
    "masked": lambda dtype: masked_array(np.empty(0, dtype), np.empty(0, bool)).dtype,
}
_DTYPE = Codec("pandas.dtype", _describe, _dtype_of)


def is_of_pandas(kind: type) -> bool:
    """Whether a class is pandas' own, and no other library's that builds on it."""
    return kind.__module__.partition(".")[0] == "pandas"


def _codec_for_dtype(kind: type) -> Codec | None:
    extension = issubclass(kind, pd.api.extensions.ExtensionDtype) and is_of_pandas(kind)
    return _DTYPE if extension else None


add_fallback(_codec_for_dtype, _DTYPE)
