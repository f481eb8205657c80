"""Encodings of the standard library's types, and of enums, dataclasses and named tuples."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import pathlib
import random
import re
import types
import uuid
import zoneinfo
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import CannotDecode, CannotEncode
from ..names import class_name, find_class
from ..project import is_project_module
from .registry import Buffer, Codec, Fields, add_codec, add_fallback


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


# Classes of the program's own. The encoding names the class; its code joins the job id.


def _class(name: str) -> type:
    found = find_class(name)
    if found is None:
        raise CannotDecode(f"the class {name} is not in this program: import its module first")
    return found


def _encode_enum(member: enum.Enum) -> list[Any]:
    return [class_name(type(member)), member.name, member.value]


def _decode_enum(cls: str, name: str | None, value: Any) -> Any:
    kind = _class(cls)
    if not issubclass(kind, enum.Enum):
        raise CannotDecode(f"{cls} is no enum here")
    if name is not None and name in kind.__members__:
        return kind[name]
    try:
        return kind(value)  # a combination of flags
    except ValueError as error:
        raise CannotDecode(f"{cls} has no member {name} ({value!r}) here") from error


def is_plain_class(kind: type) -> bool:
    """Whether all that an instance holds is in its attributes.

    What inherits from a type written in C holds more, and so is larger than its slots explain.
    """
    if any(base.__module__ == "builtins" for base in kind.__mro__[:-1]):
        return False
    pointer = object.__basicsize__ // 2
    slots = sum(len(_slots_of(base)) for base in kind.__mro__)
    places = slots + (kind.__dictoffset__ > 0) + (kind.__weakrefoffset__ > 0)
    return kind.__basicsize__ <= object.__basicsize__ + places * pointer


def state_of(instance: Any) -> dict[str, Any]:
    """All attributes of an instance but those that `cached_property` put there when looked at."""
    kind = type(instance)
    slots = [
        name
        for base in kind.__mro__
        for name in _slots_of(base)
        if name not in ("__dict__", "__weakref__") and hasattr(instance, name)
    ]
    state = {name: getattr(instance, name) for name in slots}
    state |= {
        name: value
        for name, value in getattr(instance, "__dict__", {}).items()
        if not isinstance(getattr(kind, name, None), functools.cached_property)
    }
    return dict(sorted(state.items()))


def _slots_of(base: type) -> Sequence[str]:
    slots = base.__dict__.get("__slots__", ())
    names = [slots] if isinstance(slots, str) else list(slots)
    return [
        f"_{base.__name__.lstrip('_')}{name}"
        if name.startswith("__") and not name.endswith("__")
        else name
        for name in names
    ]


def _encode_dataclass(instance: Any) -> list[Any]:
    return [class_name(type(instance)), Fields(state_of(instance))]


def _decode_dataclass(cls: str, state: dict[str, Any]) -> Any:
    kind = _class(cls)
    if not dataclasses.is_dataclass(kind):
        raise CannotDecode(f"{cls} is no dataclass here")
    instance = object.__new__(kind)
    for name, value in state.items():
        object.__setattr__(instance, name, value)  # the class may be frozen
    return instance


def _encode_instance(instance: Any) -> list[Any]:
    kind = type(instance)
    if getattr(kind, "__getstate__", None) is not _NO_GETSTATE:
        return [class_name(kind), instance.__getstate__()]
    return [class_name(kind), Fields(state_of(instance))]


def _decode_instance(cls: str, state: Any) -> Any:
    kind = _class(cls)
    if not is_plain_class(kind):
        raise CannotDecode(f"{cls} holds more than attributes here")
    instance: Any = object.__new__(kind)
    if hasattr(kind, "__setstate__"):
        instance.__setstate__(state)
        return instance
    for name, value in dict(state).items():
        object.__setattr__(instance, name, value)
    return instance


def _encode_named_tuple(value: Any) -> list[Any]:
    return [class_name(type(value)), Fields(value._asdict())]


def _decode_named_tuple(cls: str, fields: dict[str, Any]) -> Any:
    kind = _class(cls)
    if not issubclass(kind, tuple) or list(fields) != list(getattr(kind, "_fields", ())):
        raise CannotDecode(f"{cls} has other fields here")
    return tuple.__new__(kind, fields.values())


_ENUM = Codec("class.enum", _encode_enum, _decode_enum)
_DATACLASS = Codec("class.dataclass", _encode_dataclass, _decode_dataclass)
_NO_GETSTATE: Any = object.__getstate__  # what a class has that defines none
_INSTANCE = Codec("class.instance", _encode_instance, _decode_instance)
_TYPE = Codec("class.type", lambda cls: [class_name(cls)], _class)
_NAMED_TUPLE = Codec("class.namedtuple", _encode_named_tuple, _decode_named_tuple)


def _codec_for_class(kind: type) -> Codec | None:
    if issubclass(kind, enum.Enum):
        return _ENUM
    if dataclasses.is_dataclass(kind):
        return _DATACLASS if is_plain_class(kind) else None
    if kind.__bases__ == (tuple,) and hasattr(kind, "_field_defaults"):
        return _NAMED_TUPLE
    if issubclass(kind, type):
        return _TYPE
    if is_project_module(kind.__module__) and is_plain_class(kind):
        return _INSTANCE
    return None


add_fallback(_codec_for_class, _ENUM, _DATACLASS, _NAMED_TUPLE, _INSTANCE, _TYPE)
