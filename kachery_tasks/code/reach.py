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
import functools
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

from ..errors import CannotEncode, CannotFingerprint
from ..names import class_name, module_name, qualified_name
from ..project import is_project_class, is_project_module
from ..summary import summary_of
from ..values import Encoded, encode
from ..values.class_types import is_plain_class, state_of
from .classes import describe_class, described_call
from .digests import digest_of_code
from .guards import MISSING, Guards
from .inert import is_inert
from .references import ABOUT_THE_MODULE, Import, references_of
from .things import (
    IMMUTABLE,
    advise,
    could_be_project,
    defaults_of,
    have_namesakes,
    identities,
    identities_of_keywords,
    identities_of_state,
    imported,
    is_builtin,
    is_found,
    is_immutable,
    module_of,
    name_in_package,
    named,
    names_in,
)
from .wrappers import parts_of

# What functools.wraps copies into a function's dict when it wraps something that has these in its own,
# such as a function of NumPy; there they hide behind the function's own.
_OF_WRAPPING = frozenset(
    ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__", "__annotate__")
    + ("__type_params__",)
)
_WRAPPED = ("__wrapped__", "py_func", "pyfunc")  # of lru_cache, numba, np.vectorize
_FUNCTIONS = (FunctionType, types.MethodType, functools.partial)
_LARGE = 1 << 20  # bytes of a constant that is hashed at every call


class Reach:
    """A walk over what a function of a package reaches."""

    def __init__(self, package: str) -> None:
        self.nodes: list[Any] = []
        self.guards = Guards()
        self.main_syntax: dict[str, str] = {}  # bytecode -> syntax; see digest_of_code
        self.sources: dict[str, str] = {}  # digest of syntax -> source text
        self.summaries: dict[str, str] = {}  # address of a constant -> a few words
        self.package = package
        self._positions: dict[int, int] = {}  # id -> position in nodes
        self._kept: list[Any] = []  # so that no id is used twice
        self._open: dict[int, None] = {}  # containers that the walk is inside of

    # Nodes

    def function(
        self, function: FunctionType, version: str | None = None, ignore: Collection[str] = ()
    ) -> list[Any]:
        """The node of a function.

        With `version` its source and what that reaches do not count; the defaults of the parameters in
        `ignore` do not count either.
        """
        return self._node(
            function, qualified_name(function), lambda: self._describe(function, version, ignore)
        )

    def class_(self, cls: type) -> list[Any]:
        """The node of a class, which a decoder can find from now on."""
        return self._node(cls, class_name(cls), lambda: describe_class(self, cls))

    def _node(self, thing: Any, name: str, describe: Callable[[], Any]) -> list[Any]:
        position = self._positions.get(id(thing))
        if position is None:
            position = self._positions[id(thing)] = len(self.nodes)
            self._kept.append(thing)
            self.nodes.append([name, None])  # it has a place before what it reaches
            self.nodes[position][1] = describe()
        return ["node", position]

    def _describe(
        self, function: FunctionType, version: str | None, ignore: Collection[str]
    ) -> Any:
        self.guards.function(function)
        described: dict[str, Any] = {
            "defaults": {
                name: self.reference(default, f"the default of {name!r} in {function.__name__}")
                for name, default in sorted(defaults_of(function))
                if name not in ignore
            },
            "closure": {
                name: self._cell(cell, name, function)
                for name, cell in zip(
                    function.__code__.co_freevars, function.__closure__ or (), strict=True
                )
            },
        }
        attributes = [one for one in function.__dict__.items() if one[0] not in _OF_WRAPPING]
        if attributes:  # f.rate = 3, or what a decorator left there
            described["attributes"] = {
                name: self._or_unidentified(value, f"{function.__name__}.{name}")
                for name, value in sorted(attributes)
            }
        if version is not None:
            return {"version": version, **described}
        return {
            "syntax": self._code(function),
            **described,
            "globals": self._globals(function),
        }

    def _code(self, function: FunctionType) -> str:
        code = digest_of_code(function)
        if code.bytecode is not None:
            self.main_syntax[code.bytecode] = code.digest
        if code.source is not None:
            self.sources[code.digest] = code.source
        return code.digest

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
            value = self.guards.name(builtins.__dict__, name)
        if value is not MISSING and is_builtin(value, name):
            return ["name", f"builtins:{name}"]
        return self._follow(value, name, attributes, function)

    def _follow(self, value: Any, name: str, attributes: list[str], function: FunctionType) -> Any:
        while isinstance(value, ModuleType) and attributes:
            if not is_project_module(value.__name__, self.package):
                return self._of_installed_module(value, attributes)
            name, *attributes = attributes
            value = self._attribute_of_module(value, name)
        return self.reference(value, f"the global {name!r} that {function.__name__} reads")

    def _of_installed_module(self, module: ModuleType, attributes: list[str]) -> Any:
        """What is taken of an installed module: a name, or what the project has put in its place."""
        value: Any = module
        for attribute in attributes:
            if not isinstance(value, ModuleType):
                break
            value = self.guards.name(value.__dict__, attribute)
        if isinstance(value, FunctionType | type) and self._is_of_project(value):
            return self.reference(value, f"{module.__name__}.{'.'.join(attributes)}")
        return ["name", f"{module.__name__}:{'.'.join(attributes)}"]

    def _is_of_project(self, thing: FunctionType | type) -> bool:
        if isinstance(thing, type):
            return is_project_class(thing, self.package)
        return is_project_module(module_of(thing), self.package)

    def _attribute_of_module(self, module: ModuleType, name: str) -> Any:
        value = self.guards.name(module.__dict__, name)
        if value is MISSING:  # the module may have a function that makes it
            value = self.guards.name(module.__dict__, "__getattr__")
        return value

    def _import(self, function: FunctionType, statement: Import, found: dict[str, Any]) -> None:
        package = function.__globals__.get("__package__") or ""
        try:
            name = statement.absolute(package)
        except ImportError:
            return  # the import will fail in the same way when the function runs
        if not could_be_project(name, self.package):
            return
        module = imported(name)
        if module is None or module is MISSING or not is_project_module(name, self.package):
            return
        self.guards.name(sys.modules, name)
        if not statement.names:
            found[f"import {name}"] = self._module_reference(module)
        for attribute in statement.names:
            value = self._attribute_of_module(module, attribute)
            if value is MISSING:
                value = imported(f"{name}.{attribute}")
            found[f"import {name}.{attribute}"] = self.reference(
                value, f"{attribute!r}, which {function.__name__} imports from {name},"
            )

    def _describe_module(self, module: ModuleType) -> Any:
        described = {}
        self.guards.content(module, names_in(module), names_in)
        for name in sorted(module.__dict__):
            if name not in ABOUT_THE_MODULE:
                value = self.guards.name(module.__dict__, name)
                described[name] = self.reference(value, f"{module.__name__}.{name}")
        return described

    # References

    def reference(self, value: Any, place: str) -> Any:
        """What stands for a value that code refers to; CannotFingerprint names the place."""
        if value is MISSING:
            return ["missing"]
        if isinstance(value, FunctionType):
            return self._function_reference(value)
        if isinstance(value, type):
            return self.class_(value) if self._is_of_project(value) else named(value)
        if isinstance(value, ModuleType):
            return self._module_reference(value)
        if any("__kachery_task__" in base.__dict__ for base in type(value).__mro__):
            node = self.function(value.definition.function, value.definition.version)
            if value.is_bound:
                return ["task", node, self.reference(value.instance, place)]
            return ["task", node]
        return self._wrapped_reference(value, place)

    def _module_reference(self, module: ModuleType) -> Any:
        """A module that is used as a whole: what is taken of it cannot be seen, so all counts."""
        name = module_name(module.__name__)
        if not is_project_module(module.__name__, self.package):
            return ["name", name]
        return self._node(module, name, lambda: self._describe_module(module))

    def _function_reference(self, function: FunctionType) -> Any:
        if self._is_of_project(function):
            return self.function(function)
        # An installed function may wrap one of the project: a decorator's closure holds it.
        closure = [self._of_installed(cell) for cell in function.__closure__ or ()]
        name: list[Any] = [
            "name",
            f"{module_of(function)}:{function.__code__.co_qualname}",
            closure,
        ]
        if (wrapped := function.__dict__.get("__wrapped__")) is not None:
            self.guards.function(function)
            name.append(self._of_closure(wrapped))
            if module_of(function) == "pydantic._internal._validate_call":
                name.append(described_call(self, function))
        return name

    def _of_installed(self, cell: types.CellType) -> Any:
        """What an installed function's closure holds: functions and parameters, but not its state."""
        value = self.guards.cell(cell)
        if isinstance(value, dict):  # such as the implementations of functools.singledispatch
            self._kept.append(list(value.items()))
            self.guards.content(value, identities(value), identities)
            return [
                [self._of_closure(name), self._of_closure(member)]
                for name, member in value.items()
                if callable(member)
            ]
        return self._of_closure(value)

    def _of_closure(self, value: Any) -> Any:
        if value is MISSING or callable(value) or is_immutable(value):
            return self._or_unidentified(value, "a closure")
        return ["unidentified", qualified_name(type(value))]

    def _or_unidentified(self, value: Any, place: str) -> Any:
        """What stands for a value that a decorator may have left there for itself."""
        try:
            return self.reference(value, place)
        except CannotFingerprint:
            return ["unidentified", qualified_name(type(value))]

    def _wrapped_reference(self, value: Any, place: str) -> Any:
        if isinstance(value, types.MethodType | types.BuiltinMethodType) and (
            (name := self._name_in_module(value)) is not None
        ):
            return ["name", name]
        if isinstance(value, types.BuiltinMethodType) and self._installed_name(value) is None:
            return ["method", value.__name__, self.reference(value.__self__, place)]
        if isinstance(value, functools.partial):
            self.guards.content(value, identities(value.keywords), identities_of_keywords)
        origin = typing.get_origin(value)
        if isinstance(origin, type) and self._is_of_project(origin):
            arguments = [self.reference(one, place) for one in typing.get_args(value)]
            return ["alias", self.class_(origin), arguments]
        if (wrapper := parts_of(value)) is not None:
            name, parts = wrapper
            return [name, *(self._part(part, place) for part in parts)]
        if is_project_module(type(value).__module__, self.package):
            return self._value_reference(value, place)
        for attribute in _WRAPPED:
            wrapped = getattr(value, attribute, None)
            if isinstance(wrapped, FunctionType | functools.partial | types.MethodType):
                return ["wrapped", qualified_name(type(value)), self.reference(wrapped, place)]
        return self._value_reference(value, place)

    def _name_in_module(self, method: Any) -> str | None:
        """The name of a method that an installed module offers as a function: `random.choice`."""
        module = type(method.__self__).__module__
        if is_project_module(module, self.package):
            return None
        found = getattr(sys.modules.get(module), method.__name__, None)
        same = type(found) is type(method) and found == method
        return f"{module}:{method.__name__}" if same else None

    def _part(self, part: Any, place: str) -> Any:
        """A part of a wrapper; several parts are in a list or a dict."""
        if type(part) is list:
            return [self.reference(one, f"something in {place}") for one in part]
        if type(part) is dict:
            return {
                name: self.reference(one, f"{name!r} in {place}")
                for name, one in sorted(part.items())
            }
        return self.reference(part, place)

    def _value_reference(self, value: Any, place: str) -> Any:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        if is_inert(type(value)):
            own = [base for base in type(value).__mro__ if self._is_of_project(base)]
            return ["inert", kind, *map(self.class_, own[:1])]
        if (name := self._installed_name(value)) is not None:
            return ["name", name]
        if type(value) is object:
            return ["object"]  # a sentinel: it is nothing but itself
        if self._holds_functions(value):  # which are nodes, and may lead back here
            return self._taken_apart(value, place)
        try:
            encoded = encode(value)
            if have_namesakes(encoded.classes):
                return self._taken_apart(value, place) or self._constant(value, encoded, place)
            return self._constant(value, encoded, place)
        except CannotEncode as error:
            apart = None if error.final else self._taken_apart(value, place)
            if apart is not None:
                return apart
            if not is_project_module(type(value).__module__, self.package) and (
                (name := name_in_package(value)) is not None
            ):
                return ["name", name]
            raise CannotFingerprint(
                f"{place} is a {kind}, which cannot be part of the identity of the code ({error})."
                " Pass it as an argument, make it inside the function, or give the task version=,"
                " so that its source does not count",
                final=error.final,
            ) from error

    def _holds_functions(self, value: Any) -> bool:
        """Whether something that can be taken apart has functions in it, at any depth."""
        seen: set[int] = set()
        waiting = [value]
        while waiting:
            one = waiting.pop()
            if id(one) in seen:
                continue
            seen.add(id(one))
            if type(one) in (list, tuple):
                members: Iterable[Any] = one
            elif type(one) is dict:
                members = [*one, *one.values()]
            elif self._is_plain_instance(one):
                members = state_of(one).values()
            else:
                continue
            for member in members:
                if type(member) in _FUNCTIONS:
                    return True
                if type(member) not in IMMUTABLE:
                    waiting.append(member)
        return False

    def _is_plain_instance(self, value: Any) -> bool:
        kind = type(value)
        return self._is_of_project(kind) and is_plain_class(kind)

    def _taken_apart(self, value: Any, place: str) -> Any:
        """A list, tuple, dict or instance, member by member; None for what is none."""
        if id(value) in self._open:  # such as an instance that has a bound method of its own
            return ["around", list(reversed(self._open)).index(id(value))]
        if type(value) in (list, tuple, dict):
            return self._members_reference(value, place)
        if self._is_plain_instance(value):
            return self._instance_reference(value, place)
        return None

    def _constant(self, value: Any, encoded: Encoded, place: str) -> Any:
        """A constant, by its content; if it can change, that is looked at again at each call."""
        if have_namesakes(encoded.classes):
            raise CannotEncode("there are different classes of the same name in it", final=True)
        # Strings and bytes of the program may be secrets that it got from its environment.
        self.summaries[encoded.address.hex()] = summary_of(value, texts=False)
        if not is_immutable(value):
            self.guards.content(value, encoded.address, lambda v: encode(v).address)
            if encoded.size > _LARGE:
                advise(place, encoded.size)
        classes = [
            self.reference(cls, "a class") for cls in sorted(encoded.classes, key=qualified_name)
        ]
        return ["value", encoded.address.hex(), *classes]

    def _members_reference(self, value: Any, place: str) -> Any:
        """A list, tuple or dict that holds functions and the like."""
        members = list(value.items()) if isinstance(value, dict) else list(value)
        self._kept.append(members)
        self.guards.content(value, identities(value), identities)
        with self._inside(value):
            references = [self.reference(member, f"something in {place}") for member in members]
        return [type(value).__name__, references]

    def _instance_reference(self, value: Any, place: str) -> Any:
        """An instance of a class of the project: its class and its attributes."""
        state = state_of(value)
        self._kept.append((value, state))
        self.guards.content(value, identities_of_state(value), identities_of_state)
        with self._inside(value):
            attributes = {
                name: self.reference(member, f"{place}, in its attribute {name!r},")
                for name, member in state.items()
            }
        return ["instance", self.class_(type(value)), attributes]

    @contextmanager
    def _inside(self, value: Any) -> Iterator[None]:
        self._open[id(value)] = None
        try:
            yield
        finally:
            del self._open[id(value)]

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
        if is_project_module(module, self.package) or not is_found(value, module, name):
            return None
        return f"{module}:{name}"
