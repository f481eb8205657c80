"""Encodings of the program's own classes: enums, dataclasses, attrs, pydantic, named tuples, others.

The encoding names the class; its code joins the job id.
"""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Callable
from typing import Any

from ..errors import CannotDecode
from ..names import class_name, find_class
from ..project import is_project_module
from .attributes import (
    CONTENT,
    adds_only_attributes,
    cached_kept,
    dict_of,
    filled,
    filled_slots,
    is_plain_class,
    refuse_values_elsewhere,
    restore,
    slots_of,
    state_of,
)
from .registry import Codec, Fields, add_fallback

__all__ = ("is_plain_class", "is_pydantic", "state_of")

# Types that say they are in `builtins`, where nothing has their name: NoneType, function, ...
_OF_INTERPRETER = {class_name(one): one for one in vars(types).values() if isinstance(one, type)}


def _class(name: str) -> type:
    found = _OF_INTERPRETER.get(name) or find_class(name)
    if found is None:
        raise CannotDecode(f"the class {name} is not in this program: import its module first")
    return found


def _encode_enum(member: Any) -> list[Any]:
    attributes = _attributes_of_member(member)
    extra = [Fields(attributes)] if attributes else []
    return [class_name(type(member)), member._name_, member._value_, *extra]


def _attributes_of_member(member: Any) -> dict[str, Any]:
    """The attributes of a member of an enum but those that every member has."""
    attributes = sorted((dict_of(member) or {}).items())
    return {name: one for name, one in attributes if not (name[:1] == name[-1:] == "_")}


def _decode_enum(cls: str, name: str | None, value: Any, attributes: Any = None) -> Any:
    kind = _class(cls)
    if not issubclass(kind, enum.Enum):
        raise CannotDecode(f"{cls} is no enum here")
    member = _member(kind, name, value)
    if attributes or _attributes_of_member(member):
        from .encoding import encode  # which imports this module's callers

        present = encode(_attributes_of_member(member))
        if encode(dict(attributes or {})).address != present.address:
            raise CannotDecode(f"{cls}.{name} has other attributes here")
    return member


def _member(kind: type[enum.Enum], name: str | None, value: Any) -> Any:
    if name is not None and name in kind.__members__:
        return kind[name]
    try:
        return kind(value)  # a combination of flags
    except ValueError as error:
        raise CannotDecode(f"{class_name(kind)} has no member {name} ({value!r}) here") from error


def _encode_attributes(instance: Any) -> list[Any]:
    refuse_values_elsewhere(instance)
    return [class_name(type(instance)), Fields(state_of(instance))]


def _decoder(kind_of_class: str, fits: Callable[[type], bool]) -> Callable[[str, Any], Any]:
    """What makes an instance of its attributes, if the class is still of its kind."""

    def decode(cls: str, state: dict[str, Any]) -> Any:
        kind = _class(cls)
        if not fits(kind) or not is_plain_class(kind):
            raise CannotDecode(f"{cls} is no {kind_of_class} here")
        return restore(object.__new__(kind), dict(state))

    return decode


def _is_attrs(kind: type) -> bool:
    return hasattr(kind, "__attrs_attrs__")


def is_pydantic(kind: type) -> bool:
    """Whether a class is a model of pydantic."""
    return any(base.__module__ == "pydantic.main" for base in kind.__mro__)


_OF_MODELS = ("__pydantic_extra__", "__pydantic_private__", "__pydantic_fields_set__")


def _encode_model(model: Any) -> list[Any]:
    slots = filled_slots(model)
    rest = [slots.pop(name, None) for name in _OF_MODELS]
    own = [Fields(slots)] if slots else []
    fields = cached_kept(model, dict_of(model) or {})
    return [_name_of_model(type(model)), Fields(fields), *rest, *own]


def _name_of_model(kind: Any) -> Any:
    """The name of the class, or the generic class that it is made of and its arguments."""
    made = kind.__dict__.get("__pydantic_generic_metadata__") or {}
    if made.get("origin") is None or made.get("parameters"):
        return class_name(kind)
    return [made["origin"], list(made["args"])]


def _decode_model(cls: Any, fields: dict[str, Any], *rest: Any) -> Any:
    kind: Any = _class(cls) if isinstance(cls, str) else cls[0]
    if not isinstance(kind, type) or not is_pydantic(kind):
        raise CannotDecode(f"{cls} is no model of pydantic here")
    if not isinstance(cls, str):
        generic: Any = kind
        kind = generic[tuple(cls[1])]
    model: Any = object.__new__(kind)
    object.__setattr__(model, "__dict__", fields)
    for name, value in zip(_OF_MODELS, rest, strict=False):
        object.__setattr__(model, name, value)
    return restore(model, dict(rest[3])) if len(rest) > len(_OF_MODELS) else model


def _method(instance: Any, name: str) -> Any:
    """A method that the class has, bound; an instance's own attributes are not asked."""
    for base in type(instance).__mro__[:-1]:
        if name in base.__dict__:
            method = base.__dict__[name]
            bind = getattr(type(method), "__get__", None)
            return method if bind is None else bind(method, instance, type(instance))
    return None


def _state(instance: Any) -> Any:
    """What the class says the state is, or all attributes."""
    getstate = _method(instance, "__getstate__")
    if getstate is not None:
        return getstate()
    refuse_values_elsewhere(instance)
    return Fields(state_of(instance))


def _with_state(instance: Any, state: Any) -> Any:
    """An instance with a state, given to it as pickle does."""
    setstate = _method(instance, "__setstate__")
    if setstate is not None:
        if _method(instance, "__getstate__") is None:
            state = _state_of_pickle(instance, dict(state))
        if state is not None:
            setstate(state)
        return instance
    if state is None:
        return instance
    two = isinstance(state, tuple) and len(state) == 2
    for attributes in state if two else (state,):
        if not isinstance(attributes, dict | None):
            raise CannotDecode(
                f"{class_name(type(instance))} has a __getstate__ whose result is no dict, and no"
                " __setstate__"
            )
        restore(instance, attributes or {})
    return instance


def _state_of_pickle(instance: Any, state: dict[str, Any]) -> Any:
    """What object.__getstate__ returns for an instance with these attributes."""
    slots = slots_of(type(instance))
    in_slots = {name: value for name, value in state.items() if name in slots}
    rest = {name: value for name, value in state.items() if name not in slots} or None
    return (rest, in_slots) if in_slots else rest


def _encode_instance(instance: Any) -> list[Any]:
    return [class_name(type(instance)), _state(instance)]


def _decode_instance(cls: str, state: Any) -> Any:
    kind = _class(cls)
    if not is_plain_class(kind):
        raise CannotDecode(f"{cls} holds more than attributes here")
    return _with_state(object.__new__(kind), state)


# Subclasses of built-in types: what the base holds, and the attributes.


def _builtin_base(kind: type) -> type | None:
    """The built-in type whose content an instance has, if that and attributes are all it has."""
    base = next((one for one in kind.__mro__ if one in CONTENT), None)
    if base is None or kind is base or not adds_only_attributes(kind, base):
        return None
    others = [one for one in kind.__mro__ if one.__module__ == "builtins" and one is not object]
    return base if all(issubclass(base, one) for one in others) else None


def _encode_subclass(value: Any) -> list[Any]:
    kind = type(value)
    base = _builtin_base(kind)
    assert base is not None  # noqa: S101 - otherwise it has no codec
    return [class_name(kind), base.__name__, CONTENT[base](value), _state(value)]


def _decode_subclass(cls: str, base_name: str, content: Any, state: Any) -> Any:
    kind: Any = _class(cls)
    base: Any = _builtin_base(kind)
    if base is None or base.__name__ != base_name:
        raise CannotDecode(f"{cls} is no subclass of {base_name} here")
    return _with_state(filled(kind, base, content), state)


def _encode_named_tuple(value: Any) -> list[Any]:
    fields = dict(zip(type(value)._fields, tuple.__iter__(value), strict=True))
    return [class_name(type(value)), Fields(fields)]


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
