"""What a class of the project is, as plain data: its attributes, bases, and what made it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Protocol

from ..errors import CannotFingerprint
from ..names import qualified_name
from ..project import is_project_module
from ..values.class_types import is_pydantic
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
    described = {
        name: _attribute(reach, cls, name, value)
        for name, value in sorted(cls.__dict__.items())
        if not is_incidental(name, value) and not is_generated(cls, name, value)
    }
    if issubclass(cls, enum.Enum):
        described = _described_enum(reach, cls, described)
    if (parameters := cls.__dict__.get("__dataclass_params__")) is not None:
        described["dataclass"] = [
            getattr(parameters, name)
            for name in ("init", "repr", "eq", "order", "unsafe_hash", "frozen")
        ]
    if is_pydantic(cls):
        described["model"] = _described_model(reach, cls)
    bases = [reach.reference(base, f"a base of {cls.__name__}") for base in cls.__bases__]
    if is_project_module(type(cls).__module__, reach.package):
        bases.append(reach.reference(type(cls), f"the metaclass of {cls.__name__}"))
    return {"bases": bases, "attributes": described}


def _attribute(reach: Referrer, cls: type, name: str, value: Any) -> Any:
    if issubclass(cls, enum.Enum) and (name in cls.__members__ or _is_sunder(name)):
        return ["of the standard library"]
    if name == "__dataclass_fields__":
        return ["fields", [_field(reach, field) for field in value.values()]]
    if name == "__attrs_attrs__":
        return [
            "fields",
            [_parts(reach, field, _OF_ATTRS, f"{cls.__name__}.{field.name}") for field in value],
        ]
    if name == "__attrs_props__":
        return ["name", repr(value)]
    return reach.reference(value, f"{cls.__name__}.{name}")


# Enums


def _described_enum(
    reach: Referrer, cls: type[enum.Enum], described: dict[str, Any]
) -> dict[str, Any]:
    """What the user wrote; the rest is made by the standard library, in each version its own."""
    members = {name: member.value for name, member in cls.__members__.items()}
    own = {
        name: reference
        for name, reference in described.items()
        if name not in members and (not name.startswith("_") or _has_node(reference))
    }
    boundary = getattr(cls, "_boundary_", None)
    return {
        **own,
        "boundary": None if boundary is None else boundary.name,
        "members": [
            [name, reach.reference(value, f"{cls.__name__}.{name}")]
            for name, value in members.items()
        ],
    }


def _is_sunder(name: str) -> bool:
    functions = ("_missing_", "_generate_next_value_")
    return name[0] == name[-1] == "_" != name[1] and name not in functions


def _has_node(reference: Any) -> bool:
    return isinstance(reference, list) and (
        reference[:1] == ["node"] or any(map(_has_node, reference))
    )


# Fields of dataclasses, attrs and pydantic


def _field(reach: Referrer, field: Any) -> Any:
    """What a dataclass makes of one of its fields, without its type."""
    return [
        field.name,
        [field.init, field.repr, field.hash, field.compare, field.kw_only is True],
        str(getattr(field._field_type, "name", None)),  # noqa: SLF001 - ClassVar or InitVar
        reach.reference(dict(field.metadata), f"the metadata of field {field.name!r}"),
        *(
            ["missing"] if _is_missing(value) else reach.reference(value, f"field {field.name!r}")
            for value in (field.default, field.default_factory)
        ),
    ]


def _is_missing(default: Any) -> bool:
    # cloudpickle makes a copy of dataclasses.MISSING, so it is known by its type's name
    return type(default).__name__ == "_MISSING_TYPE"


_OF_ATTRS = (
    *("name", "alias", "default", "validator", "converter", "on_setattr", "init", "kw_only"),
    *("repr", "eq", "eq_key", "order", "order_key", "hash", "metadata"),
)
_OF_FACTORIES = ("factory", "takes_self")
_OF_MODELS = (
    *("annotation", "default", "default_factory", "alias", "validation_alias", "metadata"),
    *("serialization_alias", "discriminator", "exclude", "frozen", "init", "kw_only", "repr"),
    *("validate_default",),
)


def _described_model(reach: Referrer, cls: Any) -> Any:
    """What pydantic makes of a model: it validates by the annotations, so they count."""
    place = cls.__name__
    return {
        "fields": [
            [name, _parts(reach, field, _OF_MODELS, f"{place}.{name}")]
            for name, field in cls.__pydantic_fields__.items()
        ],
        "private": [
            [name, _parts(reach, field, ("default", "default_factory"), f"{place}.{name}")]
            for name, field in cls.__private_attributes__.items()
        ],
        "decorators": _decorators(reach, cls.__pydantic_decorators__, place),
    }


def _decorators(reach: Referrer, decorators: Any, place: str) -> list[Any]:
    """The validators, serializers and computed fields of a model; their functions are attributes."""
    found = []
    for kind, ones in sorted(_attributes_of(decorators).items()):
        if isinstance(ones, Mapping):
            for name, one in ones.items():
                info = _attributes_of(one.info)
                found.append([kind, name, _parts(reach, one.info, tuple(sorted(info)), place)])
    return found


def _attributes_of(instance: Any) -> dict[str, Any]:
    names = getattr(
        type(instance), "__dataclass_fields__", vars(type(instance)).get("__slots__", ())
    )
    return {name: getattr(instance, name, None) for name in names}


def _parts(reach: Referrer, thing: Any, names: tuple[str, ...], place: str) -> list[Any]:
    """Some attributes of what a library made; what has no identity is known by its type."""
    parts = []
    for name in names:
        value: Any = getattr(thing, name, None)
        if type(value).__qualname__ == "Factory":  # of attrs
            parts.append([name, _parts(reach, value, _OF_FACTORIES, place)])
            continue
        if name == "metadata":
            value = dict(value) if isinstance(value, Mapping) else list(value)
        try:
            parts.append([name, reach.reference(value, f"{name} of {place}")])
        except CannotFingerprint:
            parts.append([name, ["unidentified", qualified_name(type(value))]])
    return parts
