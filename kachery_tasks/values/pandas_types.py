"""Encodings of pandas: frames and series as their columns, whatever blocks they are held in."""

from __future__ import annotations

import datetime
from typing import Any, cast

import numpy as np
import pandas as pd
from pandas.arrays import (
    BooleanArray,
    DatetimeArray,
    FloatingArray,
    IntegerArray,
    IntervalArray,
    PeriodArray,
    TimedeltaArray,
)

from ..errors import CannotDecode, CannotEncode
from .registry import Codec, add_codec

# A column is a list: the kind of its values, then what that kind needs.


def _encode_column(values: Any) -> list[Any]:
    """The values of one column, given as an array of NumPy or an extension array of pandas."""
    if isinstance(values, np.ndarray):
        return ["numpy", values]
    if isinstance(values, pd.Categorical):
        return ["category", values.categories, values.codes, values.ordered]
    if isinstance(values, IntegerArray | FloatingArray | BooleanArray):
        missing = np.asarray(values.isna())
        plain = np.array(values.to_numpy(dtype=values.dtype.numpy_dtype, na_value=0))
        return ["masked", plain, missing]
    if isinstance(values, DatetimeArray) and values.tz is not None:
        return ["datetime", values.asi8, values.unit, _zone(values.tz)]
    if isinstance(values, DatetimeArray | TimedeltaArray):
        return ["numpy", values.to_numpy()]
    if isinstance(values, PeriodArray):
        return ["period", values.asi8, values.freqstr]
    if isinstance(values, IntervalArray):
        return ["interval", values.left, values.right, values.closed]
    if isinstance(values.dtype, pd.StringDtype):
        texts = [text if isinstance(text, str) else None for text in values]
        return ["string", texts, values.dtype.na_value is pd.NA]
    if isinstance(values.dtype, np.dtype):
        return ["numpy", values.to_numpy()]
    raise CannotEncode(
        f"columns of dtype {values.dtype} have no encoding; convert the column with astype() first"
    )


def _decode_column(column: list[Any]) -> Any:
    kind, *parts = column
    if kind == "numpy":
        return parts[0]
    if kind == "category":
        categories, codes, ordered = parts
        return pd.Categorical.from_codes(codes, categories=categories, ordered=ordered)
    if kind == "masked":
        plain, missing = parts
        kinds = {"i": IntegerArray, "u": IntegerArray, "f": FloatingArray, "b": BooleanArray}
        return kinds[plain.dtype.kind](plain, missing)
    if kind == "datetime":
        stamps, unit, zone = parts
        utc = pd.Series(stamps.view(f"M8[{unit}]")).dt.tz_localize("UTC")
        return utc.dt.tz_convert(zone).array
    if kind == "period":
        ordinals, frequency = parts
        return PeriodArray(ordinals, dtype=pd.PeriodDtype(frequency))
    if kind == "interval":
        left, right, closed = parts
        return IntervalArray.from_arrays(left, right, closed)
    if kind == "string":
        texts, missing_is_na = parts
        dtype = pd.StringDtype() if missing_is_na else pd.StringDtype(na_value=np.nan)
        return pd.array(texts, dtype=dtype)
    raise CannotDecode(f"{kind!r} is no kind of column")


def _frequency(offset: Any) -> str | None:
    """The text of a frequency, if it says all."""
    if offset is None:
        return None
    text: str = offset.freqstr
    if pd.tseries.frequencies.to_offset(text) != offset:
        raise CannotEncode(f"the frequency {offset!r} has no encoding; set freq to None first")
    return text


def _zone(zone: Any) -> Any:
    """A time zone by its name: which library's object stands for it depends on the pandas."""
    if zone is datetime.UTC:
        return "UTC"
    return getattr(zone, "key", None) or getattr(zone, "zone", None) or zone


def _values_of(holder: Any) -> Any:
    """The array behind a series or an index, as `_encode_column` takes it."""
    return holder.to_numpy() if isinstance(holder.dtype, np.dtype) else holder.array


# Indexes


def _encode_index(index: Any) -> list[Any]:
    return [_encode_column(_values_of(index)), index.name]


def _decode_index(column: list[Any], name: Any) -> Any:
    return pd.Index(_decode_column(column), name=name, dtype=_dtype_to_keep(column))


def _dtype_to_keep(column: list[Any]) -> Any:
    # Left to itself, pandas would make dates and strings out of columns of objects.
    return column[1].dtype if column[0] == "numpy" else None


def _encode_dated_index(index: Any) -> list[Any]:
    return [*_encode_index(index), _frequency(index.freq)]


def _decode_dated_index(column: list[Any], name: Any, frequency: str | None) -> Any:
    index: Any = pd.Index(_decode_column(column), name=name)
    if frequency is not None:
        index.freq = frequency
    return index


def _decode_range_index(start: int, stop: int, step: int, name: Any) -> pd.RangeIndex:
    return pd.RangeIndex(start, stop, step, name=name)


def _decode_multi_index(levels: list[Any], codes: list[Any], names: list[Any]) -> pd.MultiIndex:
    return pd.MultiIndex(levels=levels, codes=codes, names=names, verify_integrity=False)


add_codec(pd.Index, Codec("pandas.Index", _encode_index, _decode_index))
add_codec(pd.CategoricalIndex, Codec("pandas.CategoricalIndex", _encode_index, _decode_index))
add_codec(pd.IntervalIndex, Codec("pandas.IntervalIndex", _encode_index, _decode_index))
add_codec(pd.PeriodIndex, Codec("pandas.PeriodIndex", _encode_index, _decode_index))
for _dated in (pd.DatetimeIndex, pd.TimedeltaIndex):
    add_codec(_dated, Codec(f"pandas.{_dated.__name__}", _encode_dated_index, _decode_dated_index))
add_codec(
    pd.RangeIndex,
    Codec("pandas.RangeIndex", lambda i: [i.start, i.stop, i.step, i.name], _decode_range_index),
)
add_codec(
    pd.MultiIndex,
    Codec(
        "pandas.MultiIndex",
        lambda i: [list(i.levels), [np.asarray(c, np.int64) for c in i.codes], list(i.names)],
        _decode_multi_index,
    ),
)


# Series and frames


def _encode_series(series: Any) -> list[Any]:
    column = _encode_column(_values_of(series))
    return [column, series.index, series.name, series.attrs, _flags(series)]


def _flags(holder: Any) -> list[Any]:
    return [holder.flags.allows_duplicate_labels]


def _decode_series(
    column: list[Any], index: Any, name: Any, attrs: dict[Any, Any], flags: list[Any]
) -> Any:
    values = _decode_column(column)
    series = pd.Series(values, index=index, name=name, dtype=_dtype_to_keep(column), copy=False)
    series.attrs = attrs
    series.flags.allows_duplicate_labels = flags[0]
    return series


def _encode_frame(frame: Any) -> list[Any]:
    columns = [_encode_column(_values_of(frame.iloc[:, i])) for i in range(frame.shape[1])]
    return [frame.columns, frame.index, columns, frame.attrs, _flags(frame)]


def _decode_frame(
    labels: Any, index: Any, columns: list[Any], attrs: dict[Any, Any], flags: list[Any]
) -> Any:
    series = {
        position: pd.Series(
            _decode_column(column), index=index, dtype=_dtype_to_keep(column), copy=False
        )
        for position, column in enumerate(columns)
    }
    frame = pd.DataFrame(series, index=index, copy=False)
    frame.columns = labels
    frame.attrs = attrs
    frame.flags.allows_duplicate_labels = flags[0]
    return frame


add_codec(pd.Series, Codec("pandas.Series", _encode_series, _decode_series))
add_codec(pd.DataFrame, Codec("pandas.DataFrame", _encode_frame, _decode_frame))


# Scalars


def _encode_timestamp(stamp: Any) -> list[Any]:
    return [stamp.asm8.view("i8").item(), stamp.unit, _zone(stamp.tz), stamp.fold]


def _decode_timestamp(value: int, unit: str, zone: Any, fold: int) -> Any:
    stamp = pd.Timestamp(np.datetime64(value, cast(Any, unit))).as_unit(unit)
    if zone is not None:
        stamp = stamp.tz_localize("UTC").tz_convert(zone)
    return stamp.replace(fold=fold)


def _decode_timedelta(value: int, unit: str) -> Any:
    return pd.Timedelta(np.timedelta64(value, cast(Any, unit))).as_unit(unit)


add_codec(pd.Timestamp, Codec("pandas.Timestamp", _encode_timestamp, _decode_timestamp))
add_codec(
    pd.Timedelta,
    Codec("pandas.Timedelta", lambda t: [t.asm8.view("i8").item(), t.unit], _decode_timedelta),
)
add_codec(type(pd.NaT), Codec("pandas.NaT", lambda _: [], lambda: pd.NaT))
add_codec(type(pd.NA), Codec("pandas.NA", lambda _: [], lambda: pd.NA))
add_codec(
    pd.Period,
    Codec(
        "pandas.Period",
        lambda p: [p.ordinal, p.freqstr],
        lambda ordinal, frequency: pd.Period(ordinal=ordinal, freq=frequency),
    ),
)
add_codec(
    pd.Interval,
    Codec("pandas.Interval", lambda i: [i.left, i.right, i.closed], pd.Interval),
)
