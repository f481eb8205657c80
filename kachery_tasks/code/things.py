"""Questions about the things that code refers to."""

from __future__ import annotations

import builtins
import enum
import functools
import importlib
import importlib.util
import sys
import types
from collections.abc import Iterator, MutableMapping
from types import FunctionType, ModuleType
from typing import Any

from kachery_store.saying import warn

from ..errors import LargeGlobalWarning
from ..names import public_name, qualified_name
from ..project import is_installed_file, is_project_module
from ..values.class_types import state_of
from .guards import MISSING
from .references import ABOUT_THE_MODULE

IMMUTABLE = (type(None), bool, int, float, complex, str, bytes, range, type(...))


def defaults_of(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """The parameters that have a default, with it."""
    positional = function.__code__.co_varnames[: function.__code__.co_argcount]
    defaults = function.__defaults__ or ()
    yield from zip(positional[len(positional) - len(defaults) :], defaults, strict=True)
    yield from (function.__kwdefaults__ or {}).items()


@functools.cache
def advise(place: str, size: int) -> None:
    """Say once what a large global costs."""
    warn(
        LargeGlobalWarning(
            f"{place} has {size / 1e6:.3g} MB, and since it can change, all of it is looked at in"
            " every call. Pass it as an argument instead"
        )
    )


def identities(value: Any) -> bytes:
    """What tells whether a container still holds the same objects."""
    members = [*value, *value.values()] if isinstance(value, dict) else value
    return repr([id(member) for member in members]).encode()


def identities_of_state(instance: Any) -> bytes:
    """The same for an instance: its class, and what its attributes are."""
    return repr(id(type(instance))).encode() + identities(state_of(instance))


def identities_of_keywords(partial: functools.partial[Any]) -> bytes:
    """The same for the keywords of a partial, which is a dict that can be changed."""
    return identities(partial.keywords)


def names_in(module: ModuleType) -> bytes:
    """What tells whether a module still has the same names."""
    return repr(sorted(module.__dict__.keys() - ABOUT_THE_MODULE)).encode()


def have_namesakes(classes: list[type]) -> bool:
    """Whether two of the classes have one name."""
    return len(classes) > 1 and len(set(map(qualified_name, classes))) < len(classes)


def module_of(function: FunctionType) -> str:
    """The module that a function was written in."""
    return function.__globals__.get("__name__") or function.__module__ or ""


def named(cls: type) -> list[str]:
    """What stands for an installed class."""
    return ["name", public_name(cls)]


def is_builtin(value: Any, name: str) -> bool:
    """Whether what a name stands for is the built-in of that name.

    Notebooks have an `open` of their own among their globals, which is pickled by value.
    """
    if isinstance(value, FunctionType) and module_of(value) == "IPython.core.interactiveshell":
        value = value.__dict__.get("__wrapped__", value)
    return name in _BUILTINS and value is _BUILTINS[name]


def _is_given(value: Any) -> bool:
    """Whether a built-in is Python's, or of the shell, and not what a program has put there."""
    if isinstance(value, types.BuiltinFunctionType):
        return isinstance(value.__self__, ModuleType)
    if value is Ellipsis or value is NotImplemented:
        return True
    function = getattr(value, "__func__", value)
    if isinstance(function, FunctionType):
        module = module_of(function)
    else:
        module = (value if isinstance(value, type) else type(value)).__module__
        if module == "builtins":
            return isinstance(value, type)
    return module.partition(".")[0] in ("_sitebuiltins", "IPython")


_BUILTINS = {name: value for name, value in vars(builtins).items() if _is_given(value)}


def is_found(value: Any, module: str, name: str) -> bool:
    """Whether a thing is what its name says, and not something that took over a name."""
    found: Any = sys.modules.get(module)
    for attribute in name.split("."):
        found = getattr(found, attribute, None)
    if isinstance(value, types.BuiltinMethodType):  # made anew each time it is looked up
        return bool(found == value)
    return found is value or type(value).__module__ == "typing"


def name_in_package(value: Any) -> str | None:
    """Where a package offers an object of one of its own types: `matplotlib:colormaps`.

    None for settings, which programs change.
    """
    kind = type(value)
    is_set_by_name = any("__setattr__" in base.__dict__ for base in kind.__mro__[:-1])
    if isinstance(value, MutableMapping) or is_set_by_name:
        return None
    parts = kind.__module__.split(".")
    for length in range(1, len(parts) + 1):
        module = ".".join(parts[:length])
        offered = getattr(sys.modules.get(module), "__dict__", {})
        for name, thing in list(offered.items()):
            if thing is value and not name.startswith("_"):
                return f"{module}:{name}"
    return None


def is_immutable(value: Any) -> bool:
    """Whether a constant cannot change in place."""
    if isinstance(value, tuple | frozenset):
        return type(value) in (tuple, frozenset) and all(map(is_immutable, value))
    return type(value) in IMMUTABLE or isinstance(value, enum.Enum)


def could_be_project(name: str, package: str) -> bool:
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


def imported(name: str) -> Any:
    """A module; None when it cannot be imported, MISSING when it may be no module but a name in one."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return MISSING if "." in name else None
