"""Everything of the project that a function reaches, as a list of nodes that refer to each other.

A node is a function or a class of the project. What a node refers to is written as plain data:

    ["node", 3]                another node
    ["value", address]         a constant, by its content
    ["name", "numpy:mean"]     something installed, by its name
    ["inert", "logging.Logger"] something that does not affect results, by its type
    ["missing"]                a name that is nowhere (yet)
"""

from __future__ import annotations

import builtins
import enum
import functools
import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from typing import Any

from ..errors import CannotEncode, CannotFingerprint
from ..names import class_name, module_name, qualified_name
from ..values import encode
from .digests import digest_of_code
from .guards import MISSING, Guards
from .inert import INERT, is_incidental
from .project import is_installed_file, is_project_module
from .references import Import, references_of

_IMMUTABLE = (type(None), bool, int, float, complex, str, bytes, range, type(...), enum.Enum)


class Reach:
    """A walk over what a function of a package reaches."""

    def __init__(self, package: str) -> None:
        self.nodes: list[Any] = []
        self.guards = Guards()
        self.main_syntax: dict[str, str] = {}  # see digest_of_code
        self._package = package
        self._positions: dict[int, int] = {}  # id -> position in nodes
        self._kept: list[Any] = []  # so that no id is used twice
        self._open: set[int] = set()  # containers that the walk is inside of

    # Nodes

    def function(self, function: FunctionType, version: str | None = None) -> list[Any]:
        """The node of a function; with `version` its source and what that reaches do not count."""
        return self._node(
            function, qualified_name(function), lambda: self._describe(function, version)
        )

    def class_(self, cls: type) -> list[Any]:
        """The node of a class, which a decoder can find from now on."""
        return self._node(cls, class_name(cls), lambda: self._describe_class(cls))

    def _node(self, thing: Any, name: str, describe: Callable[[], Any]) -> list[Any]:
        position = self._positions.get(id(thing))
        if position is None:
            position = self._positions[id(thing)] = len(self.nodes)
            self._kept.append(thing)
            self.nodes.append([name, None])  # it has a place before what it reaches
            self.nodes[position][1] = describe()
        return ["node", position]

    def _describe(self, function: FunctionType, version: str | None) -> Any:
        self.guards.function(function)
        described: dict[str, Any] = {
            "defaults": self._all(function.__defaults__ or ()),
            "keyword defaults": self._named(function.__kwdefaults__ or {}),
            "closure": {
                name: self._cell(cell, name, function)
                for name, cell in zip(
                    function.__code__.co_freevars, function.__closure__ or (), strict=True
                )
            },
        }
        if function.__dict__:  # f.rate = 3, or what a decorator left there
            described["attributes"] = {
                name: self._of_closure(value) for name, value in sorted(function.__dict__.items())
            }
        if version is not None:
            return {"version": version, **described}
        return {
            "syntax": digest_of_code(function, self.main_syntax),
            **described,
            "globals": self._globals(function),
        }

    def _cell(self, cell: types.CellType, name: str, function: FunctionType) -> Any:
        return self.reference(
            self.guards.cell(cell), f"the variable {name!r} in the closure of {function.__name__}"
        )

    def _globals(self, function: FunctionType) -> dict[str, Any]:
        references = references_of(function.__code__)
        found = {".".join(chain): self._chain(function, chain) for chain in references.chains}
        for statement in references.imports:
            self._import(function, statement, found)
        return dict(sorted(found.items()))

    def _chain(self, function: FunctionType, chain: tuple[str, ...]) -> Any:
        name, *attributes = chain
        value = self.guards.name(function.__globals__, name)
        if value is MISSING:
            value = getattr(builtins, name, MISSING)
            return ["missing"] if value is MISSING else ["name", f"builtins:{name}"]
        return self._follow(value, name, attributes, function)

    def _follow(self, value: Any, name: str, attributes: list[str], function: FunctionType) -> Any:
        while isinstance(value, ModuleType) and attributes:
            if not is_project_module(value.__name__, self._package):
                return ["name", ".".join([f"{value.__name__}:{attributes[0]}", *attributes[1:]])]
            name, *attributes = attributes
            value = self.guards.name(value.__dict__, name)
        return self.reference(value, f"the global {name!r} that {function.__name__} reads")

    def _import(self, function: FunctionType, statement: Import, found: dict[str, Any]) -> None:
        package = function.__globals__.get("__package__") or ""
        try:
            name = statement.absolute(package)
        except ImportError:
            return  # the import will fail in the same way when the function runs
        if not _could_be_project(name, self._package):
            return
        module = _imported(name)
        if module is None or not is_project_module(name, self._package):
            return
        if not statement.names:
            found[f"import {name}"] = self._module_reference(module)
        for attribute in statement.names:
            value = self.guards.name(module.__dict__, attribute)
            if value is MISSING:
                value = _imported(f"{name}.{attribute}")
            found[f"import {name}.{attribute}"] = self.reference(
                value, f"{attribute!r}, which {function.__name__} imports from {name},"
            )

    def _describe_module(self, module: ModuleType) -> Any:
        described = {}
        for name in sorted(module.__dict__):
            if name.startswith("__"):
                continue
            value = self.guards.name(module.__dict__, name)
            try:
                described[name] = self.reference(value, f"{module.__name__}.{name}")
            except CannotFingerprint:
                described[name] = ["unidentified", qualified_name(type(value))]
        return described

    def _describe_class(self, cls: type) -> Any:
        self.guards.type(cls)
        if issubclass(cls, enum.Enum):
            members = {name: member.value for name, member in cls.__members__.items()}
            described = {**self._own_functions(cls), "members": self._in_order(cls, members)}
        elif cls.__bases__ == (tuple,) and "_field_defaults" in cls.__dict__:  # a named tuple
            defaults = self._in_order(cls, cls.__dict__["_field_defaults"])
            fields = [list(cls.__dict__["_fields"]), defaults]
            described = {**self._own_functions(cls), "fields": fields}
        else:
            described = {
                name: self._attribute(cls, name, value)
                for name, value in sorted(cls.__dict__.items())
                if not is_incidental(name, value)
            }
        if (parameters := cls.__dict__.get("__dataclass_params__")) is not None:
            described["dataclass"] = [
                getattr(parameters, name)
                for name in ("init", "repr", "eq", "order", "unsafe_hash", "frozen")
            ]
        bases = [self.reference(base, f"a base of {cls.__name__}") for base in cls.__bases__]
        if is_project_module(type(cls).__module__, self._package):
            bases.append(self.reference(type(cls), f"the metaclass of {cls.__name__}"))
        return {"bases": bases, "attributes": described}

    def _own_functions(self, cls: type) -> dict[str, Any]:
        """What the user wrote into a class that is otherwise made by the standard library."""
        functions = (FunctionType, property, staticmethod, classmethod)
        described = {
            name: self._attribute(cls, name, value)
            for name, value in sorted(cls.__dict__.items())
            if isinstance(value, functions) and not is_incidental(name, value)
        }
        return {name: value for name, value in described.items() if _has_node(value)}

    def _in_order(self, cls: type, values: Mapping[str, Any]) -> list[Any]:
        return [[n, self.reference(v, f"{cls.__name__}.{n}")] for n, v in values.items()]

    def _attribute(self, cls: type, name: str, value: Any) -> Any:
        if name == "__dataclass_fields__":
            return ["fields", [_field(field, self) for field in value.values()]]
        return self.reference(value, f"{cls.__name__}.{name}")

    # References

    def reference(self, value: Any, place: str) -> Any:
        """What stands for a value that code refers to; CannotFingerprint names the place."""
        if value is MISSING:
            return ["missing"]
        if isinstance(value, FunctionType):
            return self._function_reference(value)
        if isinstance(value, type):
            if is_project_module(value.__module__, self._package):
                return self.class_(value)
            return ["name", qualified_name(value)]
        if isinstance(value, ModuleType):
            return self._module_reference(value)
        if getattr(type(value), "__kachery_task__", False):
            return ["task", self.function(value.definition.function, value.definition.version)]
        return self._wrapped_reference(value, place)

    def _module_reference(self, module: ModuleType) -> Any:
        """A module that is used as a whole: what is taken of it cannot be seen, so all counts."""
        name = module_name(module.__name__)
        if not is_project_module(module.__name__, self._package):
            return ["name", name]
        return self._node(module, name, lambda: self._describe_module(module))

    def _function_reference(self, function: FunctionType) -> Any:
        module = function.__globals__.get("__name__", function.__module__)
        if is_project_module(module, self._package) and not is_installed_file(
            function.__code__.co_filename
        ):
            return self.function(function)
        # An installed function may wrap one of the project: a decorator's closure holds it.
        closure = [self._of_installed(cell) for cell in function.__closure__ or ()]
        return ["name", f"{module}:{function.__code__.co_qualname}", closure]

    def _of_installed(self, cell: types.CellType) -> Any:
        """What an installed function's closure holds: functions and parameters, but not its state."""
        value = self.guards.cell(cell)
        if isinstance(value, dict):  # such as the implementations of functools.singledispatch
            self._kept.append(list(value.values()))
            self.guards.content(value, _identities(value), _identities)
            return [self._of_closure(member) for member in value.values() if callable(member)]
        return self._of_closure(value)

    def _of_closure(self, value: Any) -> Any:
        if value is MISSING or callable(value) or _is_immutable(value):
            try:
                return self.reference(value, "a closure")
            except CannotFingerprint:
                pass
        return ["unidentified", qualified_name(type(value))]

    def _wrapped_reference(self, value: Any, place: str) -> Any:
        if isinstance(value, functools.partial):
            return [
                "partial",
                self.reference(value.func, place),
                self._all(value.args),
                self._named(value.keywords),
            ]
        if isinstance(value, types.MethodType):
            return [
                "method",
                self.reference(value.__func__, place),
                self.reference(value.__self__, place),
            ]
        if isinstance(value, types.BuiltinMethodType) and self._installed_name(value) is None:
            return ["method", value.__name__, self.reference(value.__self__, place)]
        if isinstance(value, staticmethod | classmethod):
            return [type(value).__name__, self.reference(value.__func__, place)]
        if isinstance(value, property):
            return [
                "property",
                *(self.reference(f, place) for f in (value.fget, value.fset, value.fdel)),
            ]
        if isinstance(value, functools.cached_property):
            return ["cached_property", self.reference(value.func, place)]
        wrapped = getattr(value, "__wrapped__", None) or getattr(value, "py_func", None)
        if isinstance(wrapped, FunctionType):
            return ["wrapped", qualified_name(type(value)), self.reference(wrapped, place)]
        return self._value_reference(value, place)

    def _value_reference(self, value: Any, place: str) -> Any:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        if kind in INERT:
            return ["inert", kind]
        if (name := self._installed_name(value)) is not None:
            return ["name", name]
        try:
            return self._content_reference(value)
        except CannotEncode as error:
            if type(value) in (list, tuple, dict):
                return self._members_reference(value, place)
            raise CannotFingerprint(
                f"{place} is a {kind}, which cannot be part of the identity of the code ({error})."
                " Pass it as an argument, make it inside the function, or give the task version=,"
                " so that its source does not count"
            ) from error

    def _content_reference(self, value: Any) -> Any:
        """A constant, by its content; if it can change, that is looked at again at each call."""
        encoded = encode(value)
        if not _is_immutable(value):
            self.guards.content(value, encoded.address, lambda v: encode(v).address)
        classes = [
            self.reference(cls, "a class") for cls in sorted(encoded.classes, key=qualified_name)
        ]
        return ["value", encoded.address.hex(), *classes]

    def _members_reference(self, value: Any, place: str) -> Any:
        """A list, tuple or dict that holds functions and the like."""
        if id(value) in self._open:
            raise CannotFingerprint(f"{place} contains itself. Pass it as an argument")
        self._open.add(id(value))
        members = list(value.items()) if isinstance(value, dict) else list(value)
        self._kept.append(members)
        self.guards.content(value, _identities(value), _identities)
        references = [self.reference(member, f"something in {place}") for member in members]
        self._open.discard(id(value))
        return [type(value).__name__, references]

    def _installed_name(self, value: Any) -> str | None:
        """The name of a built-in or installed thing that is found again under its name."""
        if not callable(value):
            return None
        name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
        module = getattr(value, "__module__", None)
        owner = getattr(value, "__objclass__", None) or getattr(value, "__self__", None)
        if isinstance(owner, ModuleType):
            module = owner.__name__
        elif isinstance(owner, type):
            module = owner.__module__
        elif owner is not None:
            return None  # bound to some instance, which counts
        if not isinstance(module, str) and type(value).__module__.partition(".")[0] == "numpy":
            module = "numpy"  # its ufuncs do not tell
        if not isinstance(module, str) or not isinstance(name, str):
            return None
        return None if is_project_module(module, self._package) else f"{module}:{name}"

    def _all(self, values: Any) -> list[Any]:
        return [
            self.reference(value, f"a default or bound argument ({value!r:.40})")
            for value in values
        ]

    def _named(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: self.reference(value, f"the default or bound argument {name!r}")
            for name, value in sorted(values.items())
        }


def _field(field: Any, reach: Reach) -> Any:
    """What a dataclass makes of one of its fields, without its type."""
    default, factory = field.default, field.default_factory
    return [
        field.name,
        [field.init, field.repr, field.hash, field.compare, field.kw_only is True],
        *(
            ["missing"] if _is_missing(value) else reach.reference(value, f"field {field.name!r}")
            for value in (default, factory)
        ),
    ]


def _identities(value: Any) -> bytes:
    """What tells whether a container still holds the same objects."""
    members = [*value, *value.values()] if isinstance(value, dict) else value
    return repr([id(member) for member in members]).encode()


def _is_missing(default: Any) -> bool:
    # cloudpickle makes a copy of dataclasses.MISSING, so it is known by its type's name
    return type(default).__name__ == "_MISSING_TYPE"


def _has_node(reference: Any) -> bool:
    return isinstance(reference, list) and (
        reference[:1] == ["node"] or any(map(_has_node, reference))
    )


def _is_immutable(value: Any) -> bool:
    if isinstance(value, tuple | frozenset):
        return type(value) in (tuple, frozenset) and all(map(_is_immutable, value))
    return isinstance(value, _IMMUTABLE)


def _could_be_project(name: str, package: str) -> bool:
    """False for what is certainly installed, so that fingerprinting does not import it."""
    if name in sys.modules:
        return is_project_module(name, package)
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return False
    if spec is None or name.partition(".")[0] in sys.stdlib_module_names:
        return False
    return name.partition(".")[0] == package or not (spec.origin and is_installed_file(spec.origin))


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return MISSING if "." in name else None
