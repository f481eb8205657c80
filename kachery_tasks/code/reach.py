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
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

from kachery_store.saying import warn

from ..errors import CannotEncode, CannotFingerprint, LargeGlobalWarning
from ..names import class_name, module_name, qualified_name
from ..project import is_installed_file, is_project_module
from ..summary import summary_of
from ..values import encode
from ..values.class_types import is_plain_class, state_of
from .classes import describe_class
from .digests import digest_of_code
from .guards import MISSING, Guards
from .inert import is_inert
from .references import ABOUT_THE_MODULE, Import, references_of
from .wrappers import parts_of

_BUILTINS = dict(vars(builtins))
_WRAPPED = ("__wrapped__", "py_func", "pyfunc")  # of lru_cache, numba, np.vectorize
_LARGE = 1 << 20  # bytes of a constant that is hashed at every call
_IMMUTABLE = (type(None), bool, int, float, complex, str, bytes, range, type(...), enum.Enum)


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
        self._open: set[int] = set()  # containers that the walk is inside of

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
                for name, default in sorted(_defaults(function))
                if name not in ignore
            },
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
            if value is not MISSING and value is _BUILTINS.get(name):
                return ["name", f"builtins:{name}"]
        return self._follow(value, name, attributes, function)

    def _follow(self, value: Any, name: str, attributes: list[str], function: FunctionType) -> Any:
        while isinstance(value, ModuleType) and attributes:
            if not is_project_module(value.__name__, self.package):
                return ["name", ".".join([f"{value.__name__}:{attributes[0]}", *attributes[1:]])]
            name, *attributes = attributes
            value = self._attribute_of_module(value, name)
        return self.reference(value, f"the global {name!r} that {function.__name__} reads")

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
        if not _could_be_project(name, self.package):
            return
        module = _imported(name)
        if module is None or not is_project_module(name, self.package):
            return
        self.guards.name(sys.modules, name)
        if not statement.names:
            found[f"import {name}"] = self._module_reference(module)
        for attribute in statement.names:
            value = self._attribute_of_module(module, attribute)
            if value is MISSING:
                value = _imported(f"{name}.{attribute}")
            found[f"import {name}.{attribute}"] = self.reference(
                value, f"{attribute!r}, which {function.__name__} imports from {name},"
            )

    def _describe_module(self, module: ModuleType) -> Any:
        described = {}
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
            if is_project_module(value.__module__, self.package):
                return self.class_(value)
            return ["name", qualified_name(value)]
        if isinstance(value, ModuleType):
            return self._module_reference(value)
        if getattr(type(value), "__kachery_task__", False):
            node = self.function(value.definition.function, value.definition.version)
            bound = getattr(value, "instance", MISSING)
            return (
                ["task", node] if bound is MISSING else ["task", node, self.reference(bound, place)]
            )
        return self._wrapped_reference(value, place)

    def _module_reference(self, module: ModuleType) -> Any:
        """A module that is used as a whole: what is taken of it cannot be seen, so all counts."""
        name = module_name(module.__name__)
        if not is_project_module(module.__name__, self.package):
            return ["name", name]
        return self._node(module, name, lambda: self._describe_module(module))

    def _function_reference(self, function: FunctionType) -> Any:
        module = function.__globals__.get("__name__") or function.__module__ or ""
        if is_project_module(module, self.package):
            return self.function(function)
        # An installed function may wrap one of the project: a decorator's closure holds it.
        closure = [self._of_installed(cell) for cell in function.__closure__ or ()]
        return ["name", f"{module}:{function.__code__.co_qualname}", closure]

    def _of_installed(self, cell: types.CellType) -> Any:
        """What an installed function's closure holds: functions and parameters, but not its state."""
        value = self.guards.cell(cell)
        if isinstance(value, dict):  # such as the implementations of functools.singledispatch
            self._kept.append(list(value.items()))
            self.guards.content(value, _identities(value), _identities)
            return [
                [self._of_closure(name), self._of_closure(member)]
                for name, member in value.items()
                if callable(member)
            ]
        return self._of_closure(value)

    def _of_closure(self, value: Any) -> Any:
        if value is MISSING or callable(value) or _is_immutable(value):
            try:
                return self.reference(value, "a closure")
            except CannotFingerprint:
                pass
        return ["unidentified", qualified_name(type(value))]

    def _wrapped_reference(self, value: Any, place: str) -> Any:
        if isinstance(value, types.BuiltinMethodType) and self._installed_name(value) is None:
            return ["method", value.__name__, self.reference(value.__self__, place)]
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
            return ["inert", kind]
        if (name := self._installed_name(value)) is not None:
            return ["name", name]
        try:
            return self._content_reference(value, place)
        except CannotEncode as error:
            if type(value) in (list, tuple, dict):
                return self._members_reference(value, place)
            if is_project_module(type(value).__module__, self.package) and is_plain_class(
                type(value)
            ):
                return self._instance_reference(value, place)
            raise CannotFingerprint(
                f"{place} is a {kind}, which cannot be part of the identity of the code ({error})."
                " Pass it as an argument, make it inside the function, or give the task version=,"
                " so that its source does not count"
            ) from error

    def _content_reference(self, value: Any, place: str) -> Any:
        """A constant, by its content; if it can change, that is looked at again at each call."""
        encoded = encode(value)
        # Strings and bytes of the program may be secrets that it got from its environment.
        self.summaries[encoded.address.hex()] = summary_of(value, texts=False)
        if not _is_immutable(value):
            self.guards.content(value, encoded.address, lambda v: encode(v).address)
            if encoded.size > _LARGE:
                _advise(place, encoded.size)
        classes = [
            self.reference(cls, "a class") for cls in sorted(encoded.classes, key=qualified_name)
        ]
        return ["value", encoded.address.hex(), *classes]

    def _members_reference(self, value: Any, place: str) -> Any:
        """A list, tuple or dict that holds functions and the like."""
        members = list(value.items()) if isinstance(value, dict) else list(value)
        self._kept.append(members)
        self.guards.content(value, _identities(value), _identities)
        with self._inside(value, place):
            references = [self.reference(member, f"something in {place}") for member in members]
        return [type(value).__name__, references]

    def _instance_reference(self, value: Any, place: str) -> Any:
        """An instance of a class of the project: its class and its attributes."""
        state = state_of(value)
        self._kept.append((value, state))
        self.guards.content(value, _identities(state), lambda v: _identities(state_of(v)))
        with self._inside(value, place):
            attributes = {
                name: self.reference(member, f"{place}, in its attribute {name!r},")
                for name, member in state.items()
            }
        return ["instance", self.class_(type(value)), attributes]

    @contextmanager
    def _inside(self, value: Any, place: str) -> Iterator[None]:
        if id(value) in self._open:
            raise CannotFingerprint(f"{place} contains itself. Pass it as an argument")
        self._open.add(id(value))
        try:
            yield
        finally:
            self._open.discard(id(value))

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
        if is_project_module(module, self.package) or not _is_found(value, module, name):
            return None
        return f"{module}:{name}"


def _defaults(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """The parameters that have a default, with it."""
    positional = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = function.__defaults__ or ()
    yield from zip(positional[len(positional) - len(defaults) :], defaults, strict=True)
    yield from (function.__kwdefaults__ or {}).items()


@functools.cache
def _advise(place: str, size: int) -> None:
    """Say once what a large global costs."""
    warn(
        LargeGlobalWarning(
            f"{place} has {size / 1e6:.3g} MB, and since it can change, all of it is looked at in"
            " every call. Pass it as an argument instead"
        )
    )


def _identities(value: Any) -> bytes:
    """What tells whether a container still holds the same objects."""
    members = [*value, *value.values()] if isinstance(value, dict) else value
    return repr([id(member) for member in members]).encode()


def _is_found(value: Any, module: str, name: str) -> bool:
    """Whether a thing is what its name says, and not something that took over a name."""
    found: Any = sys.modules.get(module)
    for attribute in name.split("."):
        found = getattr(found, attribute, None)
    if isinstance(value, types.BuiltinMethodType):  # made anew each time it is looked up
        return bool(found == value)
    return found is value or type(value).__module__ == "typing"


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
