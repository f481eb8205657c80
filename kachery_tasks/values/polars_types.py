"""Encodings of Polars: frames and series as columns, whatever chunks they are held in."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import polars as pl

from ..errors import CannotDecode, CannotEncode
from .columns import checked_count
from .polars_columns import FIXED, WIDE, decode_column, encode_column
from .registry import Codec, add_codec

# Types


def _describe(dtype: Any) -> Any:
    """A type as plain data: its name, or a list of its name and its parameters."""
    if isinstance(dtype, type):  # `Int64` for `Int64()`, or a `Datetime` without a unit
        return _checked_name(dtype.__name__)
    name = _checked_name(type(dtype).__name__)
    parameters = _PARAMETERS.get(name)
    return name if parameters is None else [name, *parameters(dtype)]


def _checked_name(name: str) -> str:
    if name not in _NAMES:
        raise CannotEncode(
            f"the type {name} of Polars has no encoding; cast to a type of Polars' own first"
            " (an extension type with .ext.storage())"
        )
    return name


def _categories(dtype: Any) -> list[Any]:
    categories = dtype.categories
    return [categories.name(), categories.namespace(), _describe(categories.physical())]


_PARAMETERS: dict[str, Callable[[Any], list[Any]]] = {
    "Datetime": lambda dtype: [dtype.time_unit, dtype.time_zone],
    "Duration": lambda dtype: [dtype.time_unit],
    "Decimal": lambda dtype: [dtype.precision, dtype.scale],
    "Enum": lambda dtype: [dtype.categories.to_list()],
    "Categorical": _categories,
    "List": lambda dtype: [_describe(dtype.inner)],
    "Array": lambda dtype: [_describe(dtype.inner), dtype.size],
    "Map": lambda dtype: [_describe(dtype.key), _describe(dtype.value)],
    "Struct": lambda dtype: [[[field.name, _describe(field.dtype)] for field in dtype.fields]],
}
_NAMES = {*FIXED, *WIDE, *_PARAMETERS, "Boolean", "String", "Binary", "Null", "Object"}


def _dtype(description: Any) -> Any:
    whole: list[Any] = [description] if isinstance(description, str) else description
    name, *parameters = whole
    if name not in _NAMES:
        raise CannotDecode(f"{name!r} is no type of Polars")
    kind = getattr(pl, name)
    if not parameters:
        return kind
    if name == "Categorical":
        return kind(pl.Categories(parameters[0], parameters[1], _dtype(parameters[2])))
    if name == "Struct":
        return kind([pl.Field(field, _dtype(inner)) for field, inner in parameters[0]])
    if name in ("List", "Map"):
        return kind(*map(_dtype, parameters))
    if name == "Array":
        return kind(_dtype(parameters[0]), checked_count(parameters[1]))
    return kind(*parameters)


# Polars panics where others raise, and Python takes a panic for the end of the program.


def _encoding(encode: Callable[[Any], list[Any]]) -> Callable[[Any], list[Any]]:
    @functools.wraps(encode)
    def guarded(value: Any) -> list[Any]:
        try:
            return encode(value)
        except pl.exceptions.PanicException as error:
            raise CannotEncode(f"Polars cannot take it apart: {error}") from error

    return guarded


def _decoding(decode: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(decode)
    def guarded(*parts: Any) -> Any:
        try:
            return decode(*parts)
        except pl.exceptions.PanicException as error:
            raise CannotDecode(f"Polars cannot put it together: {error}") from error

    return guarded


def _refusal(kind: type, advice: str) -> Codec:
    def refuse(_: Any) -> list[Any]:
        raise CannotEncode(f"a {kind.__name__} of Polars is no value yet: {advice}")

    def reject(*_: Any) -> Any:
        raise CannotDecode(f"a {kind.__name__} of Polars is never encoded")

    return Codec(f"polars.{kind.__name__}", refuse, reject)


# Series and frames


def _encode_series(series: Any) -> list[Any]:
    return [series.name, len(series), _describe(series.dtype), *encode_column(series)]


def _decode_series(name: str, count: int, description: Any, *parts: Any) -> Any:
    series = decode_column(_dtype(description), checked_count(count), list(parts))
    return series.alias(name)


def _encode_frame(frame: Any) -> list[Any]:
    return [frame.height, {series.name: _encode_member(series) for series in frame}]


def _encode_member(series: Any) -> list[Any]:
    try:
        return [_describe(series.dtype), *encode_column(series)]
    except CannotEncode as error:
        raise error.inside(f"[{series.name!r}]") from error.__cause__


def _decode_frame(height: int, columns: dict[str, list[Any]]) -> Any:
    count = checked_count(height)
    if not columns:
        return pl.DataFrame(height=count)
    return pl.DataFrame(
        {
            name: decode_column(_dtype(description), count, parts)
            for name, (description, *parts) in columns.items()
        }
    )


add_codec(pl.Series, Codec("polars.Series", _encoding(_encode_series), _decoding(_decode_series)))
add_codec(
    pl.DataFrame, Codec("polars.DataFrame", _encoding(_encode_frame), _decoding(_decode_frame))
)
for _kind, _advice in (
    (pl.LazyFrame, "collect() it first"),
    (pl.Expr, "pass the columns that it gives, or build it inside the task"),
):
    add_codec(_kind, _refusal(_kind, _advice))


# Types as values


def _decode_type(description: Any) -> Any:
    dtype = _dtype(description)
    return dtype() if isinstance(dtype, type) else dtype


def _decode_schema(fields: dict[str, Any]) -> Any:
    return pl.Schema({name: _decode_type(description) for name, description in fields.items()})


for _name in sorted(_NAMES):
    if hasattr(pl, _name):
        add_codec(
            getattr(pl, _name),
            Codec("polars.DataType", lambda dtype: [_describe(dtype)], _decoding(_decode_type)),
        )
add_codec(
    type(pl.Int64), Codec("polars.DataTypeClass", lambda kind: [_describe(kind)], _decoding(_dtype))
)
add_codec(
    pl.Schema,
    Codec(
        "polars.Schema",
        lambda schema: [{name: _describe(dtype) for name, dtype in schema.items()}],
        _decoding(_decode_schema),
    ),
)
