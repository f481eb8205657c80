"""Encodings of PyArrow: arrays and tables as columns, whatever chunks and slices they are held in."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.types as kinds

from ..errors import CannotDecode, CannotEncode
from .arrow_chunks import concatenated
from .arrow_columns import decode_column, encode_column
from .columns import checked_count
from .registry import Buffer, Codec, add_codec, add_fallback

# Types and fields

_PLAIN = {
    **{name: getattr(pa, name)() for name in ("null", "bool_", "float16", "float32", "float64")},
    **{f"{sign}int{bits}": getattr(pa, f"{sign}int{bits}")()
       for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{name: getattr(pa, name)() for name in ("string", "large_string", "string_view")},
    **{name: getattr(pa, name)() for name in ("binary", "large_binary", "binary_view")},
    **{name: getattr(pa, name)() for name in ("date32", "date64", "month_day_nano_interval")},
}  # fmt: skip
_PLAIN_NAMES = {kind: name.rstrip("_") for name, kind in _PLAIN.items()}
_PLAIN["bool"] = _PLAIN.pop("bool_")

_LISTS = {
    "list": pa.list_,
    "large_list": pa.large_list,
    "list_view": pa.list_view,
    "large_list_view": pa.large_list_view,
}
_PARAMETERS: dict[str, Callable[[Any], list[Any]]] = {
    "timestamp": lambda kind: [kind.unit, kind.tz],
    **dict.fromkeys(("time32", "time64", "duration"), lambda kind: [kind.unit]),
    **dict.fromkeys(
        ("decimal32", "decimal64", "decimal128", "decimal256"),
        lambda kind: [kind.precision, kind.scale],
    ),
    "fixed_size_binary": lambda kind: [kind.byte_width],
    **dict.fromkeys(_LISTS, lambda kind: [_describe_field(kind.value_field)]),
    "fixed_size_list": lambda kind: [_describe_field(kind.value_field), kind.list_size],
    "struct": lambda kind: [[_describe_field(field) for field in kind]],
    "map": lambda kind: [
        _describe_field(kind.key_field),
        _describe_field(kind.item_field),
        kind.keys_sorted,
    ],
    "dictionary": lambda kind: [
        _describe(kind.index_type),
        _describe(kind.value_type),
        kind.ordered,
    ],
}
_NAMES = {getattr(pa.lib, f"Type_{name.upper()}", None): name for name in _PARAMETERS}


def _describe(kind: Any) -> Any:
    """A type as plain data: its name, or a list of its name and its parameters."""
    if isinstance(kind, pa.BaseExtensionType):
        raise CannotEncode(
            f"the extension type {kind} has no encoding; pass its .storage, or cast the column to"
            f" {kind.storage_type}"
        )
    if kind in _PLAIN_NAMES:
        return _PLAIN_NAMES[kind]
    name = _NAMES.get(kind.id)
    if name is None:
        raise CannotEncode(
            f"the type {kind} has no encoding; pass what it is made of instead (run ends with"
            " pyarrow.compute.run_end_decode(), a union as its .type_codes and .field()s)"
        )
    return [name, *_PARAMETERS[name](kind)]


def _describe_field(field: Any) -> list[Any]:
    return [field.name, _describe(field.type), field.nullable, field.metadata]


def _type(description: Any) -> Any:
    if isinstance(description, str):
        return _PLAIN[description]
    name, *parameters = description
    if name not in _PARAMETERS:
        raise CannotDecode(f"{name!r} is no type of PyArrow")
    if name in _LISTS:
        return _LISTS[name](_field(*parameters[0]))
    if name == "fixed_size_list":
        return pa.list_(_field(*parameters[0]), checked_count(parameters[1]))
    if name == "fixed_size_binary":
        return pa.binary(checked_count(parameters[0]))
    if name == "struct":
        return pa.struct([_field(*field) for field in parameters[0]])
    if name == "map":
        return pa.map_(_field(*parameters[0]), _field(*parameters[1]), parameters[2])
    if name == "dictionary":
        return pa.dictionary(_type(parameters[0]), _type(parameters[1]), parameters[2])
    return getattr(pa, name)(*parameters)


def _field(name: str, description: Any, nullable: bool, metadata: Any) -> Any:
    return pa.field(name, _type(description), nullable, metadata)


def _describe_schema(schema: Any) -> list[Any]:
    return [[_describe_field(field) for field in schema], schema.metadata]


def _schema(fields: list[Any], metadata: Any) -> Any:
    return pa.schema([_field(*field) for field in fields], metadata)


# Arrays


def _parts_of(array: Any) -> list[Any]:
    return encode_column(_sound(array))


def _sound(array: Any) -> Any:
    """The array, checked; PyArrow itself leaves things under nulls that do not pass its checks."""
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        array.validate()
        return _array(array.type, len(array), _readable(encode_column(array)))
    return array


def _readable(part: Any) -> Any:
    """Parts as a decoder gets them."""
    if isinstance(part, list):
        return list(map(_readable, part))
    return part.memory if isinstance(part, Buffer) else part


def _array(kind: Any, count: int, parts: list[Any]) -> Any:
    array = decode_column(kind, checked_count(count), parts)
    array.validate(full=True)
    return array


def _whole(chunked: Any) -> Any:
    """The one array that the chunks make up."""
    chunks = [chunk for chunk in chunked.chunks if len(chunk)] or chunked.chunks
    if len(chunks) == 1:
        return chunks[0]
    return concatenated(list(map(_sound, chunks))) if chunks else chunked.combine_chunks()


def _encode_array(array: Any) -> list[Any]:
    return [_describe(array.type), len(array), _parts_of(array)]


def _decode_array(description: Any, count: int, parts: list[Any]) -> Any:
    return _array(_type(description), count, parts)


def _encode_chunked(chunked: Any) -> list[Any]:
    return [_describe(chunked.type), len(chunked), _parts_of(_whole(chunked))]


def _decode_chunked(description: Any, count: int, parts: list[Any]) -> Any:
    return pa.chunked_array([_decode_array(description, count, parts)])


def _encode_scalar(scalar: Any) -> list[Any]:
    return [_describe(scalar.type), _parts_of(_array_of(scalar))]


def _array_of(scalar: Any) -> Any:
    if kinds.is_dictionary(scalar.type):
        index = pa.array([scalar.index.as_py()], scalar.type.index_type)
        ordered = scalar.type.ordered
        return pa.DictionaryArray.from_arrays(index, scalar.dictionary, ordered=ordered)
    try:
        return pa.repeat(scalar, 1)
    except ValueError:  # it cannot repeat views and nulls
        return pa.array([scalar.as_py()], scalar.type)


def _decode_scalar(description: Any, parts: list[Any]) -> Any:
    return _array(_type(description), 1, parts)[0]


# Tables


def _encode_table(table: Any) -> list[Any]:
    columns = [
        _encode_member(name, column)
        for name, column in zip(table.schema.names, table.itercolumns(), strict=True)
    ]
    return [*_describe_schema(table.schema), table.num_rows, columns]


def _encode_member(name: str, column: Any) -> list[Any]:
    try:
        return _parts_of(_whole(column) if isinstance(column, pa.ChunkedArray) else column)
    except CannotEncode as error:
        raise error.inside(f"[{name!r}]") from error.__cause__
    except pa.ArrowException as error:
        raise CannotEncode(f"PyArrow cannot take it apart: {error}", f"[{name!r}]") from error


def _decode_table(kind: Any, fields: list[Any], metadata: Any, count: int, columns: Any) -> Any:
    schema = _schema(fields, metadata)
    arrays = [
        _array(field.type, count, parts) for field, parts in zip(schema, columns, strict=True)
    ]
    if not arrays:  # without columns there may be rows
        rows = pa.nulls(checked_count(count))
        return kind.from_arrays([rows], schema=schema.append(pa.field("", pa.null()))).select([])
    return kind.from_arrays(arrays, schema=schema)


_ARRAY = Codec("pyarrow.Array", _encode_array, _decode_array)
_SCALAR = Codec("pyarrow.Scalar", _encode_scalar, _decode_scalar)
_TYPE = Codec("pyarrow.DataType", lambda kind: [_describe(kind)], _type)

add_codec(pa.ChunkedArray, Codec("pyarrow.ChunkedArray", _encode_chunked, _decode_chunked))
for _table in (pa.Table, pa.RecordBatch):
    _decode = functools.partial(_decode_table, _table)
    add_codec(_table, Codec(f"pyarrow.{_table.__name__}", _encode_table, _decode))
add_codec(pa.Schema, Codec("pyarrow.Schema", _describe_schema, _schema))
add_codec(pa.Field, Codec("pyarrow.Field", _describe_field, _field))


def _codec_for(kind: type) -> Codec | None:
    for base, codec in ((pa.Array, _ARRAY), (pa.Scalar, _SCALAR), (pa.DataType, _TYPE)):
        if issubclass(kind, base):
            return codec
    return None


add_fallback(_codec_for, _ARRAY, _SCALAR, _TYPE)
