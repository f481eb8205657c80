"""What instances hold, attributes and the content of a built-in base: taken and given back without
the methods of their class, which may say something else.
"""

from __future__ import annotations

import collections
import functools
import types
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from ..errors import CannotDecode, CannotEncode
from ..names import class_name

_FACTORY = vars(collections.defaultdict)["default_factory"]
_LENGTH_LIMIT = vars(collections.deque)["maxlen"]


def _ordered_items(ordered: Any) -> dict[Any, Any]:
    keys = list(collections.OrderedDict.__iter__(ordered))
    if len(keys) != dict.__len__(ordered):
        raise CannotEncode("an OrderedDict was changed with the methods of dict")
    return {key: dict.__getitem__(ordered, key) for key in keys}


def _default_items(items: Any) -> Any:
    return collections.defaultdict(_FACTORY.__get__(items), dict.items(items))


def _deque_items(items: Any) -> Any:
    return collections.deque(collections.deque.__iter__(items), _LENGTH_LIMIT.__get__(items))


# The types whose subclasses have an encoding, and what takes the content of an instance.
CONTENT: dict[type, Callable[[Any], Any]] = {
    collections.OrderedDict: _ordered_items,
    collections.defaultdict: _default_items,
    collections.deque: _deque_items,
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


def _fill_ordered(ordered: Any, content: dict[Any, Any]) -> None:
    for key, value in content.items():  # OrderedDict.update would ask the subclass
        collections.OrderedDict.__setitem__(ordered, key, value)


def _fill_default(items: Any, content: Any) -> None:
    _FACTORY.__set__(items, content.default_factory)
    dict.update(items, dict(content))


_FILL: dict[type, Callable[[Any, Any], Any]] = {
    collections.OrderedDict: _fill_ordered,
    collections.defaultdict: _fill_default,
    collections.deque: lambda d, content: collections.deque.__init__(d, content, content.maxlen),
    dict: dict.update,
    list: list.extend,
    set: set.update,
    bytearray: bytearray.extend,
}


def filled(kind: type, base: Any, content: Any) -> Any:
    """An instance of a subclass of `base` that holds the content."""
    if base not in _FILL:
        return base.__new__(kind, content)
    value = base.__new__(kind)
    _FILL[base](value, content)
    return value


def is_plain_class(kind: type) -> bool:
    """Whether all that an instance holds is in its attributes.

    What inherits from a type written in C holds more, and so is larger than its slots explain.
    """
    builtin = any(base.__module__ == "builtins" for base in kind.__mro__[:-1])
    return not builtin and adds_only_attributes(kind, object)


def adds_only_attributes(kind: type, base: type) -> bool:
    """Whether instances of a class have nothing but attributes that those of a base have not.

    The attributes must be in reach: a class may have put something else in a slot's place.
    """
    pointer = object.__basicsize__ // 2
    slots = len(slots_of(kind))
    if slots != sum(len(_slot_names(one)) for one in kind.__mro__):
        return False
    if kind.__dictoffset__ != 0 and _descriptor_of_dict(kind) is None:
        return False
    places = slots + (kind.__dictoffset__ != 0) + (kind.__weakrefoffset__ != 0)
    return kind.__basicsize__ <= base.__basicsize__ + places * pointer


# An attribute is read where it is: `__getattribute__`, properties and the like are not asked.


def state_of(instance: Any) -> dict[str, Any]:
    """All attributes of an instance, with what cached properties put there; no code of it runs."""
    slots = slots_of(type(instance))
    state = filled_slots(instance)
    for name, value in (dict_of(instance) or {}).items():
        state[f"{name}{_IN_DICT}" if name in slots else name] = value
    state.pop(_ATTRS_HASH, None)
    return dict(sorted(cached_kept(instance, state).items()))


def refuse_values_elsewhere(instance: Any) -> None:
    """Refuse an instance of which a descriptor keeps something in a mapping of its own."""
    for base in type(instance).__mro__[:-1]:
        for name, descriptor in base.__dict__.items():
            if type(descriptor) not in _KEEP_NOTHING and hasattr(type(descriptor), "__set__"):
                _refuse_kept_value(instance, name, descriptor)


_KEEP_NOTHING = frozenset(
    {types.FunctionType, types.MemberDescriptorType, types.GetSetDescriptorType, property}
    | {staticmethod, classmethod, functools.cached_property, str, int, tuple, dict, type(None)}
)


def _refuse_kept_value(instance: Any, name: str, descriptor: Any) -> None:
    for held in [*filled_slots(descriptor).values(), *(dict_of(descriptor) or {}).values()]:
        if _keeps(held, instance):
            raise CannotEncode(
                f"its attribute {name} is kept by the {type(descriptor).__qualname__} of its class,"
                " not by itself. Give the class a __getstate__ that says all that makes it"
            )


def _keeps(held: Any, instance: Any) -> bool:
    """Whether a mapping has an entry for an instance, by itself, its id or a weak reference."""
    if isinstance(held, weakref.WeakKeyDictionary):
        own = vars(held)["_remove"]  # called when a key of this mapping dies
        return any(one.__callback__ is own for one in weakref.getweakrefs(instance))
    if not isinstance(held, dict):
        return False
    return id(instance) in dict.keys(held) or any(key is instance for key in dict.keys(held))


_ATTRS_HASH = "_attrs_cached_hash"
_IN_DICT = "@__dict__"  # what is in the dict although there is a slot of that name


def filled_slots(instance: Any) -> dict[str, Any]:
    """What is in the slots of an instance."""
    state = {}
    for name, slot in slots_of(type(instance)).items():
        try:
            state[name] = slot.__get__(instance)
        except AttributeError:
            continue  # it is empty
    return state


def slots_of(kind: type) -> dict[str, Any]:
    """The slots of instances; one that another of its name hides is `name@1`."""
    slots: dict[str, Any] = {}
    for base in kind.__mro__:
        for name in _slot_names(base):
            slot = base.__dict__.get(name)
            if isinstance(slot, types.MemberDescriptorType):
                hidden = sum(one.partition("@")[0] == name for one in slots)
                slots[f"{name}@{hidden}" if hidden else name] = slot
    return slots


def _slot_names(base: type) -> list[str]:
    slots = base.__dict__.get("__slots__", ())
    names = [slots] if isinstance(slots, str) else list(slots)
    return [
        f"_{base.__name__.lstrip('_')}{name}"
        if name.startswith("__") and not name.endswith("__") and base.__name__.strip("_")
        else name
        for name in names
        if name not in ("__dict__", "__weakref__")
    ]


def dict_of(instance: Any) -> dict[str, Any] | None:
    """The `__dict__` of an instance, whatever its class says that it is."""
    descriptor = _descriptor_of_dict(type(instance))
    return None if descriptor is None else descriptor.__get__(instance)


def _descriptor_of_dict(kind: type) -> Any:
    found = (base.__dict__.get("__dict__") for base in kind.__mro__)
    return next((one for one in found if isinstance(one, types.GetSetDescriptorType)), None)


def restore(instance: Any, state: dict[str, Any]) -> Any:
    """Give an instance its attributes; no code of its class runs."""
    slots = slots_of(type(instance))
    attributes = dict_of(instance)
    for name, value in state.items():
        if name in slots:
            slots[name].__set__(instance, value)
        elif attributes is None:
            raise CannotDecode(f"{class_name(type(instance))} has no place for {name} here")
        else:
            plain = name.removesuffix(_IN_DICT) if isinstance(name, str) else name
            attributes[plain if plain in slots else name] = value
    return instance


# What a cached property put into an instance counts, since a function sees it. That a task looks at
# a property of its argument for the first time is no change of the argument, though.

_Present = dict[int, frozenset[str]]
_noted: ContextVar[tuple[_Present, bool] | None] = ContextVar("kachery_cached_values", default=None)


class cached_values:  # noqa: N801 - it is used like a function, and costs less than one
    """While this lasts, it is noted which cached values the encoded instances have, by identity.

    With `again`, those are left out that an instance had not when this was noted. The instances
    must live in between.
    """

    __slots__ = ("_noted", "_reset")

    def __init__(self, present: _Present, *, again: bool = False) -> None:
        self._noted = (present, again)

    def __enter__(self) -> None:
        self._reset = _noted.set(self._noted)

    def __exit__(self, *_: object) -> None:
        _noted.reset(self._reset)


def cached_kept(instance: Any, state: dict[str, Any]) -> dict[str, Any]:
    """The state without the cached values that are to be left out now, which is mostly none."""
    noted = _noted.get()
    if noted is None:
        return state
    present, again = noted
    cached = frozenset(name for name in state if _is_cached(type(instance), name))
    if not again:
        present[id(instance)] = cached
        return state
    new = cached - present.get(id(instance), cached)
    return {name: value for name, value in state.items() if name not in new}


def _is_cached(kind: type, name: str) -> bool:
    for base in kind.__mro__:
        if name in base.__dict__:
            fields = base.__dict__.get("__attrs_attrs__")
            slot = isinstance(base.__dict__[name], types.MemberDescriptorType)
            of_attrs = slot and fields is not None and all(one.name != name for one in fields)
            return of_attrs or isinstance(base.__dict__[name], functools.cached_property)
    return False
