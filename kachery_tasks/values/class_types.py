"""Encodings of the program's own classes: enums, dataclasses, attrs, pydantic, named tuples, others.

The encoding names the class; its code joins the job id.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import types
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import CannotDecode
from ..names import class_name, find_class
from ..project import is_project_module
from .registry import Codec, Fields, add_fallback


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
    builtin = any(base.__module__ == "builtins" for base in kind.__mro__[:-1])
    return not builtin and _adds_only_attributes(kind, object)


def _adds_only_attributes(kind: type, base: type) -> bool:
    """Whether instances of a class have nothing but attributes that those of a base have not."""
    pointer = object.__basicsize__ // 2
    slots = sum(len(_slots_of(one)) for one in kind.__mro__)
    places = slots + (kind.__dictoffset__ != 0) + (kind.__weakrefoffset__ != 0)
    return kind.__basicsize__ <= base.__basicsize__ + places * pointer


def state_of(instance: Any) -> dict[str, Any]:
    """All attributes of an instance but those that were put there when it was looked at."""
    kind = type(instance)
    slots = [
        name
        for base in kind.__mro__
        for name in _slots_of(base)
        if name not in ("__dict__", "__weakref__")
        and not _is_of_attrs(base, name)
        and hasattr(instance, name)
    ]
    state = {name: getattr(instance, name) for name in slots}
    state |= {
        name: value
        for name, value in getattr(instance, "__dict__", {}).items()
        if not isinstance(getattr(kind, name, None), functools.cached_property)
        and name != _ATTRS_HASH
    }
    return dict(sorted(state.items()))


_ATTRS_HASH = "_attrs_cached_hash"


def _is_of_attrs(base: type, name: str) -> bool:
    """Whether attrs made a slot to remember something in: a hash, a cached property."""
    fields = base.__dict__.get("__attrs_attrs__")
    return fields is not None and all(field.name != name for field in fields)


def _slots_of(base: type) -> Sequence[str]:
    slots = base.__dict__.get("__slots__", ())
    names = [slots] if isinstance(slots, str) else list(slots)
    return [
        f"_{base.__name__.lstrip('_')}{name}"
        if name.startswith("__") and not name.endswith("__")
        else name
        for name in names
    ]


def _restore(instance: Any, state: dict[str, Any]) -> Any:
    """Give an instance its attributes; no code of its class runs."""
    attributes = getattr(instance, "__dict__", None)
    for name, value in state.items():
        slot = isinstance(getattr(type(instance), name, None), types.MemberDescriptorType)
        if slot or attributes is None:
            object.__setattr__(instance, name, value)
        else:
            attributes[name] = value
    return instance


def _encode_attributes(instance: Any) -> list[Any]:
    return [class_name(type(instance)), Fields(state_of(instance))]


def _decoder(kind_of_class: str, fits: Callable[[type], bool]) -> Callable[[str, Any], Any]:
    """What makes an instance of its attributes, if the class is still of its kind."""

    def decode(cls: str, state: dict[str, Any]) -> Any:
        kind = _class(cls)
        if not fits(kind) or not is_plain_class(kind):
            raise CannotDecode(f"{cls} is no {kind_of_class} here")
        return _restore(object.__new__(kind), dict(state))

    return decode


def _is_attrs(kind: type) -> bool:
    return hasattr(kind, "__attrs_attrs__")


def is_pydantic(kind: type) -> bool:
    """Whether a class is a model of pydantic."""
    return any(base.__module__ == "pydantic.main" for base in kind.__mro__)


_OF_MODELS = ("__pydantic_extra__", "__pydantic_private__", "__pydantic_fields_set__")


def _encode_model(model: Any) -> list[Any]:
    fields = {
        name: value
        for name, value in vars(model).items()
        if not isinstance(getattr(type(model), name, None), functools.cached_property)
    }
    return [class_name(type(model)), Fields(fields), *(getattr(model, n, None) for n in _OF_MODELS)]


def _decode_model(cls: str, fields: dict[str, Any], *rest: Any) -> Any:
    kind = _class(cls)
    if not is_pydantic(kind):
        raise CannotDecode(f"{cls} is no model of pydantic here")
    model: Any = object.__new__(kind)
    object.__setattr__(model, "__dict__", fields)
    for name, value in zip(_OF_MODELS, rest, strict=True):
        object.__setattr__(model, name, value)
    return model


def _state(instance: Any) -> Any:
    """What the class says the state is, or all attributes."""
    if getattr(type(instance), "__getstate__", None) is not _NO_GETSTATE:
        return instance.__getstate__()
    return Fields(state_of(instance))


def _with_state(instance: Any, state: Any) -> Any:
    if hasattr(instance, "__setstate__"):
        instance.__setstate__(state)
        return instance
    return _restore(instance, dict(state))


def _encode_instance(instance: Any) -> list[Any]:
    return [class_name(type(instance)), _state(instance)]


def _decode_instance(cls: str, state: Any) -> Any:
    kind = _class(cls)
    if not is_plain_class(kind):
        raise CannotDecode(f"{cls} holds more than attributes here")
    return _with_state(object.__new__(kind), state)


# Subclasses of built-in types: what the base holds, taken without the class's own methods, and the
# attributes.

_CONTENT: dict[type, Callable[[Any], Any]] = {
    collections.OrderedDict: lambda d: dict(collections.OrderedDict.items(d)),
    collections.defaultdict: lambda d: collections.defaultdict(d.default_factory, dict.items(d)),
    collections.deque: lambda d: collections.deque(collections.deque.__iter__(d), d.maxlen),
    dict: lambda d: dict(dict.items(d)),
    list: lambda x: list(list.__iter__(x)),
    tuple: lambda x: tuple(tuple.__iter__(x)),
    set: lambda x: set(set.__iter__(x)),
    frozenset: lambda x: frozenset(frozenset.__iter__(x)),
    str: str.__str__,
    bytes: lambda x: memoryview(x).tobytes(),
    bytearray: lambda x: bytearray(memoryview(x)),
    int: int.__int__,
    float: float.__float__,
    complex: complex.__complex__,
}
_FILL: dict[type, Callable[[Any, Any], Any]] = {
    collections.OrderedDict: collections.OrderedDict.update,
    dict: dict.update,
    list: list.extend,
    set: set.update,
    bytearray: bytearray.extend,
}


def _builtin_base(kind: type) -> type | None:
    """The built-in type whose content an instance has, if that and attributes are all it has."""
    base = next((one for one in kind.__mro__ if one in _CONTENT), None)
    if base is None or kind is base or not _adds_only_attributes(kind, base):
        return None
    others = [one for one in kind.__mro__ if one.__module__ == "builtins" and one is not object]
    return base if all(issubclass(base, one) for one in others) else None


def _encode_subclass(value: Any) -> list[Any]:
    kind = type(value)
    base = _builtin_base(kind)
    assert base is not None  # noqa: S101 - otherwise it has no codec
    return [class_name(kind), base.__name__, _CONTENT[base](value), _state(value)]


def _decode_subclass(cls: str, base_name: str, content: Any, state: Any) -> Any:
    kind: Any = _class(cls)
    base: Any = _builtin_base(kind)
    if base is None or base.__name__ != base_name:
        raise CannotDecode(f"{cls} is no subclass of {base_name} here")
    if base in _FILL:
        value = base.__new__(kind)
        _FILL[base](value, content)
    elif base is collections.defaultdict:
        value = base.__new__(kind)
        base.__init__(value, content.default_factory, content)
    elif base is collections.deque:
        value = base.__new__(kind)
        base.__init__(value, content, content.maxlen)
    else:
        value = base.__new__(kind, content)
    return _with_state(value, state)


def _encode_named_tuple(value: Any) -> list[Any]:
    return [class_name(type(value)), Fields(value._asdict())]


def _decode_named_tuple(cls: str, fields: dict[str, Any]) -> Any:
    kind = _class(cls)
    if not issubclass(kind, tuple) or list(fields) != list(getattr(kind, "_fields", ())):
        raise CannotDecode(f"{cls} has other fields here")
    return tuple.__new__(kind, fields.values())


_ENUM = Codec("class.enum", _encode_enum, _decode_enum)
_DATACLASS = Codec(
    "class.dataclass", _encode_attributes, _decoder("dataclass", dataclasses.is_dataclass)
)
_ATTRS = Codec("class.attrs", _encode_attributes, _decoder("class of attrs", _is_attrs))
_MODEL = Codec("class.pydantic", _encode_model, _decode_model)
_NO_GETSTATE: Any = object.__getstate__  # what a class has that defines none
_INSTANCE = Codec("class.instance", _encode_instance, _decode_instance)
_SUBCLASS = Codec("class.subclass", _encode_subclass, _decode_subclass)
_TYPE = Codec("class.type", lambda cls: [class_name(cls)], _class)
_NAMED_TUPLE = Codec("class.namedtuple", _encode_named_tuple, _decode_named_tuple)


def _codec_for_class(kind: type) -> Codec | None:
    if issubclass(kind, enum.Enum):
        return _ENUM
    if issubclass(kind, type):
        return _TYPE
    if kind.__bases__ == (tuple,) and hasattr(kind, "_field_defaults"):
        return _NAMED_TUPLE
    if is_pydantic(kind):
        return _MODEL
    if is_plain_class(kind):
        return _codec_for_plain_class(kind)
    project = is_project_module(kind.__module__)
    return _SUBCLASS if project and _builtin_base(kind) is not None else None


def _codec_for_plain_class(kind: type) -> Codec | None:
    if dataclasses.is_dataclass(kind):
        return _DATACLASS
    if _is_attrs(kind):
        return _ATTRS
    return _INSTANCE if is_project_module(kind.__module__) else None


add_fallback(
    _codec_for_class,
    *(_ENUM, _DATACLASS, _ATTRS, _MODEL, _NAMED_TUPLE, _INSTANCE, _SUBCLASS, _TYPE),
)
