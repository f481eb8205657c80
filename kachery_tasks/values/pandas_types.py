"""Encodings of pandas: frames and series as their columns, whatever blocks they are held in."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd

from ..errors import CannotDecode
from .pandas_columns import Column, column_of, decode_column, dtype_to_keep
from .pandas_dtypes import encode_frequency, zone_name, zone_of
from .registry import Codec, add_codec

# Indexes


def _encode_index(index: Any) -> list[Any]:
    return [column_of(index), index.name]


def _decode_index(column: Column, name: Any) -> Any:
    return pd.Index(decode_column(column), name=name, dtype=dtype_to_keep(column))


def _encode_dated_index(index: Any) -> list[Any]:
    return [*_encode_index(index), encode_frequency(index.freq)]


def _decode_dated_index(column: Column, name: Any, frequency: Any) -> Any:
    index: Any = pd.Index(decode_column(column), name=name)
    if frequency is not None:
        index.freq = frequency
    return index


def _decode_range_index(start: int, stop: int, step: int, name: Any) -> pd.RangeIndex:
    return pd.RangeIndex(start, stop, step, name=name)


def _encode_multi_index(index: Any) -> list[Any]:
    codes = [np.asarray(c, np.int64) for c in index.codes]
    order = [] if index.sortorder is None else [index.sortorder]
    return [list(index.levels), codes, list(index.names), *order]


def _decode_multi_index(
    levels: list[Any], codes: list[Any], names: list[Any], order: int | None = None
) -> pd.MultiIndex:
    for level, places in zip(levels, codes, strict=True):
        # pandas would read beyond the level
        if len(places) and not -1 <= places.min() <= places.max() < len(level):
            raise CannotDecode("the codes of an index point outside its levels")
    if len({len(places) for places in codes}) > 1:
        raise CannotDecode("the levels of an index have different numbers of codes")
    return pd.MultiIndex(
        levels=levels, codes=codes, names=names, sortorder=order, verify_integrity=False
    )


for _kind in (pd.Index, pd.CategoricalIndex, pd.IntervalIndex, pd.PeriodIndex):
    add_codec(_kind, Codec(f"pandas.{_kind.__name__}", _encode_index, _decode_index))
for _kind in (pd.DatetimeIndex, pd.TimedeltaIndex):
    add_codec(_kind, Codec(f"pandas.{_kind.__name__}", _encode_dated_index, _decode_dated_index))
add_codec(
    pd.RangeIndex,
    Codec("pandas.RangeIndex", lambda i: [i.start, i.stop, i.step, i.name], _decode_range_index),
)
add_codec(pd.MultiIndex, Codec("pandas.MultiIndex", _encode_multi_index, _decode_multi_index))


# Series and frames


def _flags(holder: Any) -> list[Any]:
    return [holder.flags.allows_duplicate_labels]


def _encode_series(series: Any) -> list[Any]:
    return [column_of(series), series.index, series.name, series.attrs, _flags(series)]


def _series(column: Column, index: Any, name: Any = None) -> pd.Series:
    values, dtype = decode_column(column), dtype_to_keep(column)
    return pd.Series(values, index=index, name=name, dtype=dtype, copy=False)


def _decode_series(
    column: Column, index: Any, name: Any, attrs: dict[Any, Any], flags: list[Any]
) -> Any:
    return _with_notes(_series(column, index, name), attrs, flags)


def _encode_frame(frame: Any) -> list[Any]:
    columns = [column_of(frame.iloc[:, i]) for i in range(frame.shape[1])]
    return [frame.columns, frame.index, columns, frame.attrs, _flags(frame)]


def _decode_frame(
    labels: Any, index: Any, columns: list[Column], attrs: dict[Any, Any], flags: list[Any]
) -> Any:
    series = {position: _series(column, index) for position, column in enumerate(columns)}
    frame = pd.DataFrame(series, index=index, copy=False)
    frame.columns = labels
    return _with_notes(frame, attrs, flags)


def _with_notes(holder: Any, attrs: dict[Any, Any], flags: list[Any]) -> Any:
    holder.attrs = attrs
    holder.flags.allows_duplicate_labels = flags[0]
    return holder


add_codec(pd.Series, Codec("pandas.Series", _encode_series, _decode_series))
add_codec(pd.DataFrame, Codec("pandas.DataFrame", _encode_frame, _decode_frame))


# Scalars


def _encode_timestamp(stamp: Any) -> list[Any]:
    return [stamp.asm8.view("i8").item(), stamp.unit, zone_name(stamp.tz), stamp.fold]


def _decode_timestamp(value: int, unit: str, zone: Any, fold: int) -> Any:
    stamp: Any = pd.Timestamp(np.datetime64(value, cast(Any, unit))).as_unit(cast(Any, unit))
    if zone is not None:
        stamp = stamp.tz_localize("UTC").tz_convert(zone_of(zone))
    return stamp if stamp.fold == fold else stamp.replace(fold=fold)


def _decode_timedelta(value: int, unit: str) -> Any:
    return pd.Timedelta(np.timedelta64(value, cast(Any, unit))).as_unit(cast(Any, unit))


def _decode_period(ordinal: int, frequency: str) -> Any:
    return pd.Period(ordinal=ordinal, freq=frequency)


add_codec(pd.Timestamp, Codec("pandas.Timestamp", _encode_timestamp, _decode_timestamp))
add_codec(
    pd.Timedelta,
    Codec("pandas.Timedelta", lambda t: [t.asm8.view("i8").item(), t.unit], _decode_timedelta),
)
add_codec(type(pd.NaT), Codec("pandas.NaT", lambda _: [], lambda: pd.NaT))
add_codec(type(pd.NA), Codec("pandas.NA", lambda _: [], lambda: pd.NA))
add_codec(pd.Period, Codec("pandas.Period", lambda p: [p.ordinal, p.freqstr], _decode_period))
add_codec(
    pd.Interval,
    Codec("pandas.Interval", lambda i: [i.left, i.right, i.closed], pd.Interval),
)
