"""Encodings of the standard library's types."""

from __future__ import annotations

import argparse
import array
import collections
import datetime
import decimal
import fractions
import gc
import ipaddress
import pathlib
import random
import re
import string
import struct
import sys
import types
import uuid
import zoneinfo
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import CannotDecode, CannotEncode
from .registry import Buffer, Codec, Fields, add_codec
from .typing_types import named_fields


def _simple(kind: type, name: str, encode: Callable[[Any], Sequence[Any]]) -> None:
    """A codec whose parts are the arguments that construct the value."""
    add_codec(kind, Codec(name, encode, kind))


_simple(complex, "builtins.complex", lambda z: [z.real, z.imag])
_simple(range, "builtins.range", lambda r: [r.start, r.stop, r.step])
_simple(slice, "builtins.slice", lambda s: [s.start, s.stop, s.step])
_simple(decimal.Decimal, "decimal.Decimal", lambda d: [str(d)])
_simple(fractions.Fraction, "fractions.Fraction", lambda f: [f.numerator, f.denominator])
_simple(datetime.timedelta, "datetime.timedelta", lambda t: [t.days, t.seconds, t.microseconds])
add_codec(re.Pattern, Codec("re.Pattern", lambda p: [p.pattern, p.flags], re.compile))
_simple(datetime.date, "datetime.date", lambda d: [d.year, d.month, d.day])

add_codec(
    bytearray,
    Codec("builtins.bytearray", lambda b: [Buffer(memoryview(b))], bytearray),
)
add_codec(types.EllipsisType, Codec("builtins.Ellipsis", lambda _: [], lambda: ...))
add_codec(
    types.NotImplementedType,
    Codec("builtins.NotImplemented", lambda _: [], lambda: NotImplemented),
)
add_codec(
    uuid.UUID,
    Codec(
        "uuid.UUID",
        lambda u: [u.bytes, u.is_safe.value],
        lambda data, safe: uuid.UUID(bytes=data, is_safe=uuid.SafeUUID(safe)),
    ),
)

_simple(struct.Struct, "struct.Struct", lambda s: [s.format])
for _address_class in (
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
):
    _simple(_address_class, f"ipaddress.{_address_class.__name__}", lambda address: [str(address)])

for _path_class in (
    pathlib.PurePosixPath,
    pathlib.PureWindowsPath,
    pathlib.PosixPath,
    pathlib.WindowsPath,
):
    _simple(_path_class, f"pathlib.{_path_class.__name__}", lambda path: [str(path)])


# Containers of `collections`. Some of them can have attributes.


def _decode_ordered(items: dict[Any, Any], attributes: dict[str, Any]) -> Any:
    return _with_attributes(collections.OrderedDict(items), attributes)


def _decode_counter(items: dict[Any, Any], attributes: dict[str, Any]) -> Any:
    return _with_attributes(collections.Counter(items), attributes)


def _with_attributes(value: Any, attributes: dict[str, Any]) -> Any:
    vars(value).update(attributes)
    return value


def _encode_template(template: string.Template) -> list[Any]:
    attributes = dict(sorted(vars(template).items()))
    text = attributes.pop("template")
    return [text, Fields(attributes)] if attributes else [text]


def _decode_template(text: str, attributes: dict[str, Any] | None = None) -> string.Template:
    template = string.Template(text)
    vars(template).update(attributes or {})
    return template


add_codec(string.Template, Codec("string.Template", _encode_template, _decode_template))


def _encode_array(values: array.array[Any]) -> list[Any]:
    if values.typecode in "uw":
        return [values.typecode, values.tounicode()]
    numbers = values if sys.byteorder == "little" else _swapped(values)
    return [values.typecode, values.itemsize, Buffer(memoryview(numbers).cast("B"))]


def _decode_array(typecode: str, *parts: Any) -> array.array[Any]:
    if len(parts) == 1:
        return array.array(typecode, parts[0])
    itemsize, content = parts
    values = array.array(typecode, bytes(content))
    if values.itemsize != itemsize:
        raise CannotDecode(
            f"an array of {itemsize}-byte {typecode!r} does not exist on this machine"
        )
    return values if sys.byteorder == "little" else _swapped(values)


def _swapped(values: array.array[Any]) -> array.array[Any]:
    copy = values[:]
    copy.byteswap()
    return copy


add_codec(array.array, Codec("array.array", _encode_array, _decode_array))
add_codec(
    types.MappingProxyType,
    Codec("builtins.mappingproxy", gc.get_referents, types.MappingProxyType),  # [what it shows]
)
add_codec(
    argparse.Namespace,
    Codec(
        "argparse.Namespace",
        lambda namespace: [named_fields(namespace)],
        lambda fields: _with_attributes(argparse.Namespace(), fields),
    ),
)
_simple(collections.deque, "collections.deque", lambda d: [list(d), d.maxlen])
add_codec(
    collections.OrderedDict,
    Codec("collections.OrderedDict", lambda d: [dict(d), Fields(vars(d))], _decode_ordered),
)
add_codec(
    collections.Counter,
    Codec("collections.Counter", lambda c: [dict(c), Fields(vars(c))], _decode_counter),
)
add_codec(
    collections.defaultdict,
    Codec(
        "collections.defaultdict",
        lambda d: [d.default_factory, dict(d)],
        collections.defaultdict,
    ),
)


# Dates and times. `fold` tells apart the two readings of an hour that a clock change repeats.


def _encode_time(t: datetime.time) -> list[Any]:
    return [t.hour, t.minute, t.second, t.microsecond, t.tzinfo, t.fold]


def _decode_time(*parts: Any) -> datetime.time:
    *fields, fold = parts
    return datetime.time(*fields, fold=fold)


def _encode_datetime(t: datetime.datetime) -> list[Any]:
    return [t.year, t.month, t.day, *_encode_time(t.timetz())]


def _decode_datetime(*parts: Any) -> datetime.datetime:
    *fields, fold = parts
    return datetime.datetime(*fields, fold=fold)


def _arguments_of_timezone(zone: Any) -> Sequence[Any]:
    arguments: Sequence[Any] = zone.__getinitargs__()
    return arguments


def _encode_zoneinfo(zone: zoneinfo.ZoneInfo) -> list[Any]:
    if zone.key is None:
        raise CannotEncode("a time zone that was read from a file has no name; use ZoneInfo(name)")
    return [zone.key]


add_codec(datetime.time, Codec("datetime.time", _encode_time, _decode_time))
add_codec(datetime.datetime, Codec("datetime.datetime", _encode_datetime, _decode_datetime))
add_codec(datetime.timezone, Codec("datetime.timezone", _arguments_of_timezone, datetime.timezone))
add_codec(zoneinfo.ZoneInfo, Codec("zoneinfo.ZoneInfo", _encode_zoneinfo, zoneinfo.ZoneInfo))


# Random generators are their state.


def _decode_random(version: int, state: tuple[int, ...], gauss: float | None) -> random.Random:
    generator = random.Random()
    generator.setstate((version, state, gauss))
    return generator


add_codec(random.Random, Codec("random.Random", lambda r: list(r.getstate()), _decode_random))
