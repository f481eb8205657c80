"""Columns of pandas: a list of the kind of their values and what that kind needs.

The extension arrays of pandas, alone or in a series, an index or a frame, are all columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from pandas.arrays import (
    BooleanArray,
    DatetimeArray,
    FloatingArray,
    IntegerArray,
    IntervalArray,
    NumpyExtensionArray,
    PeriodArray,
    SparseArray,
    TimedeltaArray,
)

from ..errors import CannotDecode, CannotEncode
from .pandas_dtypes import is_of_pandas, masked_array, zone_name, zone_of
from .pandas_strings import decode_strings, encode_strings
from .registry import Codec, add_fallback

Column = list[Any]


def column_of(holder: Any) -> Column:
    """The column of a series or an index."""
    plain = isinstance(holder.dtype, np.dtype)
    return ["numpy", holder.to_numpy()] if plain else encode_column(holder.array)


def encode_column(values: Any) -> Column:
    """The column that an extension array of pandas is."""
    if is_of_pandas(type(values)):
        for kind, encode in _ENCODERS:
            if isinstance(values, kind):
                return encode(values)
        if isinstance(values.dtype, pd.StringDtype):
            return encode_strings(values)
        if isinstance(values.dtype, pd.ArrowDtype):
            return ["arrow", values.__arrow_array__()]
    raise CannotEncode(
        f"columns of dtype {values.dtype} have no encoding; convert the column with astype() first"
    )


def _encode_masked(values: Any) -> Column:
    missing = np.asarray(values.isna())
    return ["masked", values.to_numpy(dtype=values.dtype.numpy_dtype, na_value=0), missing]


def _encode_datetimes(values: Any) -> Column:
    return ["datetime", values.asi8, values.unit, zone_name(values.tz)]


def _encode_sparse(values: Any) -> Column:
    places = values.sp_index.to_int_index().indices
    return ["sparse", values.sp_values, places, len(values), values.fill_value, values.kind]


def _encode_intervals(values: Any) -> Column:
    return ["interval", column_of(values.left), column_of(values.right), values.closed]


_ENCODERS: tuple[tuple[Any, Callable[[Any], Column]], ...] = (
    (pd.Categorical, lambda c: ["category", c.categories, c.codes, c.ordered]),
    ((IntegerArray, FloatingArray, BooleanArray), _encode_masked),
    (DatetimeArray, _encode_datetimes),
    (TimedeltaArray, lambda t: ["timedelta", t.asi8, t.unit]),
    (PeriodArray, lambda p: ["period", p.asi8, p.freqstr]),
    (IntervalArray, _encode_intervals),
    (SparseArray, _encode_sparse),
)


def decode_column(column: Column) -> Any:
    """The array of a column: NumPy's for the kind `numpy`, else an extension array."""
    kind, *parts = column
    if kind not in _DECODERS:
        raise CannotDecode(f"{kind!r} is no kind of column")
    return _DECODERS[kind](*parts)


def _plain(values: Any, dtype: str = "") -> Any:
    """Values that are an array of one dimension, and of that dtype; pandas would not ask."""
    fits = type(values) is np.ndarray and values.ndim == 1 and dtype in ("", values.dtype)
    if not fits:
        raise CannotDecode(f"a column holds something else than an array {dtype}".rstrip())
    return values


def dtype_to_keep(column: Column) -> Any:
    """The dtype of plain values; left to itself, pandas would make dates out of some objects."""
    return column[1].dtype if column[0] == "numpy" else None


def _decode_category(categories: Any, codes: Any, ordered: bool | None) -> Any:
    return pd.Categorical.from_codes(_plain(codes), categories=categories, ordered=ordered)


def _decode_masked(plain: Any, missing: Any) -> Any:
    return masked_array(_plain(plain), _plain(missing, "bool"))


def _decode_datetimes(stamps: Any, unit: str, zone: Any) -> Any:
    naive = pd.Series(_plain(stamps, "int64").view(f"M8[{unit}]"))
    if zone is None:
        return naive.array
    return naive.dt.tz_localize("UTC").dt.tz_convert(zone_of(zone)).array


def _decode_timedeltas(spans: Any, unit: str) -> Any:
    return pd.Series(_plain(spans, "int64").view(f"m8[{unit}]")).array


def _decode_periods(ordinals: Any, text: str) -> Any:
    return PeriodArray(_plain(ordinals, "int64"), dtype=pd.PeriodDtype(text))


def _decode_intervals(left: Column, right: Column, closed: Any) -> Any:
    return IntervalArray.from_arrays(_as_index(left), _as_index(right), closed)


def _as_index(column: Column) -> Any:
    return pd.Index(decode_column(column), dtype=dtype_to_keep(column))


def _decode_sparse(values: Any, places: Any, length: int, fill_value: Any, kind: Any) -> Any:
    _plain(values)
    _plain(places, "int32")
    if hasattr(SparseArray, "from_indices"):
        return SparseArray.from_indices(
            values, places, length, fill_value=fill_value, kind=kind, dtype=values.dtype
        )
    index = type(SparseArray([0]).sp_index)(length, places)
    if kind == "block":
        index = index.to_block_index()
    return SparseArray(values, sparse_index=index, dtype=pd.SparseDtype(values.dtype, fill_value))


_DECODERS: dict[str, Callable[..., Any]] = {
    "numpy": _plain,
    "category": _decode_category,
    "masked": _decode_masked,
    "datetime": _decode_datetimes,
    "timedelta": _decode_timedeltas,
    "period": _decode_periods,
    "interval": _decode_intervals,
    "sparse": _decode_sparse,
    "string": decode_strings,
    "arrow": pd.arrays.ArrowExtensionArray,
}


# Extension arrays by themselves


def _encode_array(values: Any) -> list[Any]:
    if isinstance(values, NumpyExtensionArray) and type(values.dtype) is not pd.StringDtype:
        return [["numpy", values.to_numpy()]]
    return [encode_column(values)]


def _decode_array(column: Column) -> Any:
    values = decode_column(column)
    return NumpyExtensionArray(values) if isinstance(values, np.ndarray) else values


_ARRAY = Codec("pandas.array", _encode_array, _decode_array)


def _codec_for_array(kind: type) -> Codec | None:
    extension = issubclass(kind, pd.api.extensions.ExtensionArray) and is_of_pandas(kind)
    return _ARRAY if extension else None


add_fallback(_codec_for_array, _ARRAY)
