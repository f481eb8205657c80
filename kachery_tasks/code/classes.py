"""What a class of the project is, as plain data: its attributes, bases, and what made it.

Names that a user chose are keys of dicts, and never the first item of a list, where they could be taken
for the tag of a reference.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from types import FunctionType
from typing import Any, Protocol, get_origin

from ..errors import CannotFingerprint
from ..names import qualified_name
from ..project import is_project_module
from ..values.class_types import is_pydantic
from ..values.typing_types import alias_of
from .guards import Guards
from .inert import is_generated, is_incidental


class Referrer(Protocol):
    """A walk over code, as far as classes need it."""

    guards: Guards
    package: str

    def reference(self, value: Any, place: str) -> Any:
        """What stands for a value that code refers to."""


def describe_class(reach: Referrer, cls: type) -> Any:
    """The description of a class; see docs/formats/fingerprint.md."""
    reach.guards.type(cls)
    is_enum = issubclass(cls, enum.Enum)
    described: dict[str, Any] = {
        "bases": [reach.reference(base, f"a base of {cls.__name__}") for base in cls.__bases__],
        "attributes": {
            name: _attribute(reach, cls, name, value)
            for name, value in sorted(cls.__dict__.items())
            if not is_incidental(name, value)
            and not is_generated(cls, name, value)
            and not (is_enum and _is_of_enums(cls, name, value))
        },
    }
    if is_project_module(type(cls).__module__, reach.package):
        described["bases"].append(reach.reference(type(cls), f"the metaclass of {cls.__name__}"))
    if issubclass(cls, enum.Enum):
        described["enum"] = _described_enum(reach, cls)
    if (parameters := cls.__dict__.get("__dataclass_params__")) is not None:
        described["dataclass"] = {
            name: getattr(parameters, name)
            for name in ("init", "repr", "eq", "order", "unsafe_hash", "frozen")
        }
    if is_pydantic(cls) or "__pydantic_fields__" in cls.__dict__:
        described["model"] = _described_model(reach, cls)
    elif annotations := cls.__dict__.get("__annotations__"):  # noqa: RUF063 - and of no base
        described["annotations"] = _by_name(
            (name, _text_of(annotation)) for name, annotation in annotations.items()
        )
    return described


def _attribute(reach: Referrer, cls: type, name: str, value: Any) -> Any:
    if name == "__dataclass_fields__":
        return _by_name((field.name, _field(reach, field)) for field in value.values())
    if name == "__attrs_attrs__":
        return _by_name(
            (field.name, _parts(reach, field, _OF_ATTRS, f"{cls.__name__}.{field.name}"))
            for field in value
        )
    if name == "__attrs_props__":
        return ["name", repr(value)]
    if name == "_generate_next_value_":  # some versions make it a staticmethod
        value = getattr(value, "__func__", value)
    if name in cls.__dict__.get("__pydantic_fields__", ()):  # a default, or what Field() made
        return _of_library(reach, value, f"{cls.__name__}.{name}")
    return reach.reference(value, f"{cls.__name__}.{name}")


def _by_name(described: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Things that have names and an order."""
    members = dict(described)
    return {"order": {str(i): name for i, name in enumerate(members)}, "members": members}


# Enums


def _described_enum(reach: Referrer, cls: type[enum.Enum]) -> dict[str, Any]:
    """The members; what else the standard library makes of them is, in each version, its own."""
    boundary = getattr(cls, "_boundary_", None)
    return {
        "boundary": None if boundary is None else boundary.name,
        **_by_name(
            (name, reach.reference(member.value, f"{cls.__name__}.{name}"))
            for name, member in cls.__members__.items()
        ),
    }


# What the standard library, in some version, keeps in an enum.
_KEPT_IN_ENUMS = frozenset(
    ("_all_bits_", "_boundary_", "_flag_mask_", "_hashable_values_", "_inverted_", "_member_map_")
    + ("_member_names_", "_member_type_", "_singles_mask_", "_unhashable_values_", "_use_args_")
    + ("_unhashable_values_map_", "_value2member_map_", "_ignore_", "_order_")
)
_FUNCTIONS_IN_ENUMS = frozenset(
    ("_generate_next_value_", "_iter_member_", "_new_member_", "__new_member__", "_value_repr_")
    + ("__reduce_ex__",)
)
_OPERATORS = frozenset(
    f"__{name}__" for name in ("or", "and", "xor", "ror", "rand", "rxor", "invert")
)


def _is_of_enums(cls: type[enum.Enum], name: str, value: Any) -> bool:
    """Whether the standard library put an attribute into an enum."""
    if name in cls.__members__ or name in _KEPT_IN_ENUMS:
        return True
    function = getattr(value, "__func__", value)
    is_own = isinstance(function, FunctionType) and function.__module__ != "enum"
    if name in _FUNCTIONS_IN_ENUMS:
        return not is_own
    if name == "__new__":
        return not is_own  # what the user wrote is _new_member_
    if name in _OPERATORS:
        return value is getattr(enum.Flag, name, None)
    if not (name.startswith("__") and name.endswith("__")):
        return False
    bases = [base for base in cls.__bases__ if issubclass(base, enum.Enum)]
    return bool(bases) and value is getattr(bases[-1], name, cls)


# Fields of dataclasses and attrs


def _field(reach: Referrer, field: Any) -> dict[str, Any]:
    """What a dataclass makes of one of its fields; its type is among the annotations."""
    place = f"field {field.name!r}"
    options = {name: getattr(field, name) for name in ("init", "repr", "hash", "compare")}
    return {
        **options,
        "kw_only": field.kw_only is True,
        "kind": str(getattr(field._field_type, "name", None)),  # noqa: SLF001 - ClassVar or InitVar
        "metadata": reach.reference(dict(field.metadata), f"the metadata of {place}"),
        **{
            name: ["missing"] if _is_missing(value) else _of_library(reach, value, place)
            for name, value in (
                ("default", field.default),
                ("default_factory", field.default_factory),
            )
        },
    }


def _is_missing(default: Any) -> bool:
    # cloudpickle makes a copy of dataclasses.MISSING, so it is known by its type's name
    return type(default).__name__ == "_MISSING_TYPE"


_OF_ATTRS = (
    *("alias", "default", "validator", "converter", "on_setattr", "init", "kw_only"),
    *("repr", "eq", "eq_key", "order", "order_key", "hash", "metadata"),
)


# Models of pydantic, and whatever else is described by the attributes that a library gave it

_OF_MODELS = (
    *("annotation", "default", "default_factory", "alias", "validation_alias", "metadata"),
    *("serialization_alias", "discriminator", "exclude", "exclude_if", "frozen", "init"),
    *("init_var", "kw_only", "repr", "validate_default"),
)
_NAMES = {  # of the attributes of some types that count
    "attr._make.Factory": ("factory", "takes_self"),
    "pydantic.fields.FieldInfo": _OF_MODELS,
    "pydantic.fields.ModelPrivateAttr": ("default", "default_factory"),
}
_LIBRARIES = frozenset(("annotated_types", "attr", "attrs", "pydantic", "pydantic_core"))


def _described_model(reach: Referrer, cls: Any) -> Any:
    """What pydantic makes of a class: it validates by the annotations, so they count."""
    place = cls.__name__
    private = cls.__dict__.get("__private_attributes__") or {}
    config = cls.__dict__.get("__pydantic_config__")
    return {
        "fields": _by_name(
            (name, _parts(reach, field, _OF_MODELS, f"{place}.{name}"))
            for name, field in cls.__pydantic_fields__.items()
        ),
        "private": _by_name(
            (name, _of_library(reach, field, f"{place}.{name}")) for name, field in private.items()
        ),
        "decorators": _decorators(reach, cls.__pydantic_decorators__, place),
        "config": _of_library(reach, config, f"the configuration of {place}"),
    }


def _decorators(reach: Referrer, decorators: Any, place: str) -> dict[str, Any]:
    """The validators, serializers and computed fields of a model; their functions are attributes."""
    return {
        kind: _by_name(
            (name, _parts(reach, one.info, _names_of(one.info), f"{place}.{name}"))
            for name, one in ones.items()
        )
        for kind, ones in sorted(
            (name, getattr(decorators, name)) for name in _names_of(decorators)
        )
        if isinstance(ones, Mapping) and ones
    }


def _parts(
    reach: Referrer, thing: Any, names: Iterable[str], place: str, inside: tuple[int, ...] = ()
) -> dict[str, Any]:
    """Some attributes of what a library made."""
    return {
        name: _of_library(reach, getattr(thing, name, None), f"{name} of {place}", inside)
        for name in names
    }


def _of_library(reach: Referrer, value: Any, place: str, inside: tuple[int, ...] = ()) -> Any:
    """What stands for a value that may be made by a library, of functions and types.

    What has no identity inside of it is known by its type, and what it says of itself.
    """
    kind = type(value)
    if id(value) in inside:
        return ["unidentified", qualified_name(kind)]
    inside = (*inside, id(value))
    if isinstance(value, Mapping) and (kind is dict or kind.__name__ == "mappingproxy"):
        items = [item for pair in value.items() for item in pair]
        return ["dict", [_of_library(reach, item, place, inside) for item in items]]
    if kind in (list, tuple):
        return [kind.__name__, [_of_library(reach, one, place, inside) for one in value]]
    if alias_of(value) is not None:
        return _alias(reach, value, place, inside)
    if not isinstance(value, type):
        if kind.__module__.partition(".")[0] in _LIBRARIES and not isinstance(value, FunctionType):
            return _by_attributes(reach, value, place, inside)
        if not is_project_module(kind.__module__, reach.package):
            try:
                return reach.reference(value, place)
            except CannotFingerprint:
                return _by_attributes(reach, value, place, inside)
    try:
        return reach.reference(value, place)
    except CannotFingerprint:
        return _unidentified(value)


def _alias(reach: Referrer, value: Any, place: str, inside: tuple[int, ...]) -> Any:
    """A type expression, such as `list[Annotated[int, Field(gt=1)]]`."""
    found = alias_of(value)
    assert found is not None  # noqa: S101 - it was asked before
    name, arguments = found
    origin = get_origin(value)
    is_own = isinstance(origin, type) and is_project_module(origin.__module__, reach.package)
    return [
        "alias",
        reach.reference(origin, place) if is_own else name,
        [_of_library(reach, one, place, inside) for one in arguments],
    ]


def _by_attributes(reach: Referrer, value: Any, place: str, inside: tuple[int, ...]) -> Any:
    names = _names_of(value)
    if not names:
        return _unidentified(value)
    return [
        "instance of",
        qualified_name(type(value)),
        _parts(reach, value, names, place, inside),
    ]


def _unidentified(value: Any) -> Any:
    text = repr(value)
    return ["unidentified", qualified_name(type(value)), *([] if " at 0x" in text else [text])]


def _names_of(instance: Any) -> list[str]:
    """The names of the attributes that something has."""
    kind = type(instance)
    chosen = _NAMES.get(f"{kind.__module__}.{kind.__qualname__}")
    if chosen is not None:
        return list(chosen)
    names = set(getattr(instance, "__dict__", ()))
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        names.update([slots] if isinstance(slots, str) else slots)
        names.update(base.__dict__.get("__dataclass_fields__", ()))
    return sorted(name for name in names if not name.startswith("__"))


def described_call(reach: Referrer, function: FunctionType) -> dict[str, Any]:
    """What pydantic's `validate_call` makes of a function: it validates by the annotations."""
    place = f"validate_call of {function.__name__}"
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    owners = [getattr(cell, "__self__", None) for cell in cells]
    owner = next((one for one in owners if hasattr(one, "validate_return")), None)
    config = getattr(getattr(owner, "config_wrapper", None), "config_dict", None)
    return {
        "annotations": annotations_of(reach, function),
        "validate_return": getattr(owner, "validate_return", None),
        "config": _of_library(reach, config, place),
    }


def annotations_of(reach: Referrer, function: FunctionType) -> dict[str, Any]:
    """The annotations of a function, for what reads them at run time."""
    return _by_name(
        (name, _of_library(reach, annotation, f"the annotation of {name!r}"))
        for name, annotation in function.__annotations__.items()
    )


# Annotations of other classes, which only what reads them can see


def _text_of(annotation: Any) -> str:
    """A type as text, the same in every process and with every version of Python."""
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, list | tuple):
        return f"[{', '.join(map(_text_of, annotation))}]"
    if (alias := alias_of(annotation)) is not None:
        name, arguments = alias
        return f"{name}[{', '.join(map(_text_of, arguments))}]" if arguments else name
    if isinstance(annotation, type):
        return qualified_name(annotation)
    if type(annotation).__name__ == "ForwardRef":
        return str(annotation.__forward_arg__)
    text = repr(annotation)
    return qualified_name(type(annotation)) if " at 0x" in text else text
