"""Encodings of what `types` and `typing` make: namespaces, and type expressions such as `int | None`."""

from __future__ import annotations

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


def alias_of(value: Any) -> tuple[str, tuple[Any, ...]] | None:
    """A type expression as the name of what it begins with, and its arguments; None for others."""
    if isinstance(value, types.UnionType):
        return _UNION, value.__args__
    if isinstance(value, types.GenericAlias):
        return qualified_name(value.__origin__), value.__args__
    if isinstance(value, typing.NewType):
        return f"typing:NewType {value.__name__}", (value.__supertype__,)
    if isinstance(value, typing.TypeVar):
        return f"typing:TypeVar {value.__name__}", (value.__bound__, *value.__constraints__)
    if type(value).__module__ != "typing":
        return None
    if isinstance(value, _FORMS) or typing.get_origin(value) is None:
        return repr(value).replace("typing.", "typing:"), ()
    return _name_of(value), typing.get_args(value)


def _name_of(alias: Any) -> str:
    origin = typing.get_origin(alias)
    name = getattr(alias, "_name", None) or getattr(origin, "_name", None)
    if origin is typing.Union:
        name = "Union"  # also of what was written as Optional
    if name is not None and alias.__module__ == "typing" and hasattr(typing, name):
        return f"typing:{name}"
    return "typing:Annotated" if origin is typing.Annotated else qualified_name(origin)


def _encode_builtin(alias: types.GenericAlias) -> list[Any]:
    return [alias.__origin__, list(alias.__args__)]


def _encode_typing(alias: Any) -> list[Any]:
    found = alias_of(alias)
    if found is None or not found[0].startswith("typing:") or " " in found[0]:
        raise CannotEncode(f"the type expression {alias!r} has no encoding")
    return [found[0].removeprefix("typing:"), list(found[1])]


def _decode_typing(name: str, arguments: list[Any]) -> Any:
    if name not in typing.__all__:
        raise CannotDecode(f"typing has no {name} here")
    form = getattr(typing, name)
    if not arguments:
        return form
    if name == "Callable":
        return form[arguments[0], arguments[1]]
    return form[tuple(arguments)]


add_codec(
    types.SimpleNamespace,
    Codec(
        "types.SimpleNamespace",
        lambda namespace: [Fields(vars(namespace))],
        lambda fields: types.SimpleNamespace(**fields),
    ),
)
add_codec(
    types.GenericAlias,
    Codec("types.GenericAlias", _encode_builtin, lambda origin, args: origin[tuple(args)]),
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
