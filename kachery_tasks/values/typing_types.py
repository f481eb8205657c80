"""Encodings of what `types` and `typing` make: namespaces, and type expressions such as `int | None`."""

from __future__ import annotations

import collections.abc
import functools
import operator
import types
import typing
from typing import Any

from ..errors import CannotDecode, CannotEncode
from ..names import qualified_name
from .registry import Codec, Fields, add_codec, add_fallback

_UNION = "types:UnionType"
_FORMS = (
    getattr(typing, "_SpecialForm"),  # noqa: B009 - private, but there is no other name for it
    getattr(typing, "_SpecialGenericAlias"),  # noqa: B009
    type(typing.Callable),
    type(typing.Tuple),  # noqa: UP006 - the object, not an annotation
)


_NO_ITEMS = ((),)  # the arguments of Tuple[()], which is not Tuple
_OF_ONE = frozenset(
    ("ClassVar", "Final", "Required", "NotRequired", "ReadOnly", "TypeGuard", "TypeIs", "Unpack")
)


def alias_of(value: Any) -> tuple[str, tuple[Any, ...]] | None:
    """A type expression as the name of what it begins with, and its arguments; None for others."""
    if isinstance(value, types.UnionType):
        return _UNION, value.__args__
    if isinstance(value, types.GenericAlias):
        star = "*" if value.__unpacked__ else ""
        return star + qualified_name(value.__origin__), value.__args__
    if isinstance(value, typing.NewType):
        return f"typing:NewType {value.__name__}", (value.__supertype__,)
    if isinstance(value, typing.TypeVar):
        return f"typing:TypeVar {value.__name__}", (value.__bound__, *value.__constraints__)
    if type(value).__module__ != "typing":
        return None
    if isinstance(value, _FORMS) or typing.get_origin(value) is None:
        return repr(value).replace("typing.", "typing:"), ()
    return _name_of(value), typing.get_args(value) or _NO_ITEMS


def _name_of(alias: Any) -> str:
    origin = typing.get_origin(alias)
    name = getattr(alias, "_name", None) or getattr(origin, "_name", None)
    if origin is typing.Union:
        name = "Union"  # also of what was written as Optional
    if name is not None and alias.__module__ == "typing" and hasattr(typing, name):
        return f"typing:{name}"
    return "typing:Annotated" if origin is typing.Annotated else qualified_name(origin)


def named_fields(namespace: Any) -> Fields:
    """The attributes of a namespace, which must have names."""
    if not all(type(name) is str for name in vars(namespace)):
        raise CannotEncode("it has attributes whose names are no strings; use a dict instead")
    return Fields(vars(namespace))


def _decode_namespace(fields: dict[str, Any]) -> types.SimpleNamespace:
    namespace = types.SimpleNamespace()
    vars(namespace).update(fields)
    return namespace


def _encode_builtin(alias: Any) -> list[Any]:
    return [alias.__origin__, list(alias.__args__), *([True] if alias.__unpacked__ else [])]


def _decode_builtin(origin: Any, arguments: list[Any], unpacked: bool = False) -> Any:
    if not isinstance(origin, type):
        raise CannotDecode(f"{origin!r} is no class")
    alias = types.GenericAlias(origin, tuple(arguments))
    return next(iter(alias)) if unpacked else alias


def _encode_typing(alias: Any) -> list[Any]:
    found = alias_of(alias)
    origin = typing.get_origin(alias)
    if found is not None and not found[0].startswith("typing:") and _is_generic(origin):
        return ["", [origin, *found[1]]]
    if found is None or not found[0].startswith("typing:") or " " in found[0]:
        raise CannotEncode(f"the type expression {alias!r} has no encoding")
    return [found[0].removeprefix("typing:"), list(found[1])]


def _is_generic(origin: Any) -> bool:
    return isinstance(origin, type) and issubclass(origin, typing.Generic)


def _decode_typing(name: str, arguments: list[Any]) -> Any:
    if not name:  # a class of the program
        origin: Any = arguments[0]
        if not _is_generic(origin):
            raise CannotDecode(f"{origin!r} is no generic class here")
        return origin[tuple(arguments[1:])]
    if name not in typing.__all__:
        raise CannotDecode(f"typing has no {name} here")
    form = getattr(typing, name)
    if not arguments:
        return form
    if name == "Callable":
        return form[arguments[0], arguments[1]]
    if arguments == list(_NO_ITEMS):
        return form[()]
    return form[arguments[0] if name in _OF_ONE else tuple(arguments)]


add_codec(
    types.SimpleNamespace,
    Codec(
        "types.SimpleNamespace",
        lambda namespace: [named_fields(namespace)],
        _decode_namespace,
    ),
)
add_codec(
    types.GenericAlias,
    Codec("types.GenericAlias", _encode_builtin, _decode_builtin),
)
add_codec(
    type(collections.abc.Callable[..., None]),
    Codec(
        "types.CallableAlias",
        lambda alias: list(typing.get_args(alias)),
        lambda arguments, result: collections.abc.Callable[arguments, result],
    ),
)
add_codec(
    types.UnionType,
    Codec(
        "types.UnionType",
        lambda union: [list(union.__args__)],
        lambda args: functools.reduce(operator.or_, args),
    ),
)
_TYPING = Codec("typing.alias", _encode_typing, _decode_typing)
add_fallback(
    lambda kind: _TYPING if kind.__module__ == "typing" and not issubclass(kind, type) else None,
    _TYPING,
)
