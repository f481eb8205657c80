"""Which installed packages the code of a project imports, and in which versions."""

from __future__ import annotations

import dis
import sys
import threading
from collections.abc import Iterator
from functools import cache
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from .definition import Definition
from .names import MAIN_NAMES
from .project import Rule, is_project_module, rule

_IMPORT = dis.opmap["IMPORT_NAME"]
_OWN = ("kachery", "kachery_store", "kachery_tasks")
_DASK = ("dask", "distributed")  # told wherever they are loaded: they run the jobs


class _Project:
    """The modules that count as a project, of those that are loaded, and what each imports."""

    def __init__(self, package: str) -> None:
        self._package = package
        self._named = {name.partition(".")[0] for name in rule().project}
        self._tops: dict[
            str, bool
        ] = {}  # whether something of a top-level name may be of the project
        self._looked_at: set[str] = set()
        self._imports: dict[str, frozenset[str]] = {}

    def imports(self) -> set[str]:
        """The top-level names that the modules of the project import, and more that they use."""
        new = set(sys.modules) - self._looked_at
        grown = [name for name in MAIN_NAMES if name in self._imports]  # a notebook
        for name in (*new, *grown):
            module = sys.modules.get(name)
            if not isinstance(module, ModuleType) or not self._has(name, module):
                self._looked_at.add(name)
            else:
                self._imports[name] = frozenset(_imported(vars(module), name))
                if not _is_being_imported(module):
                    self._looked_at.add(name)
        return set().union(*self._imports.values())

    def _has(self, name: str, module: ModuleType) -> bool:
        """Whether a module is the project's. One without a file is what its package is."""
        top = name.partition(".")[0]
        if top not in self._tops:
            self._tops[top] = self._may_have(top)
        if not self._tops[top]:
            return False  # without a look at each of a thousand files
        return is_project_module(name if "__file__" in vars(module) else top, self._package)

    def _may_have(self, top: str) -> bool:
        if top == self._package or top in self._named:
            return True
        return top not in sys.stdlib_module_names and is_project_module(top, self._package)


def _is_being_imported(module: ModuleType) -> bool:
    """Whether another thread is at it, so that there is more to come."""
    return bool(getattr(vars(module).get("__spec__"), "_initializing", False))


_projects: dict[tuple[str, Rule], _Project] = {}
_lock = threading.Lock()


def packages_of(definition: Definition) -> dict[str, str]:
    """Names and versions of the packages that a task's project imports and that are loaded now.

    The version is empty where nobody says it.
    """
    function = definition.function
    with _lock:
        package = definition.package
        names = _projects.setdefault((package, rule()), _Project(package)).imports()
    names |= set(_imported(function.__globals__, function.__module__))  # it may have come by value
    found = {name for name in names if _is_package(name, package)}
    found.update(name for name in _DASK if name in sys.modules)
    return {name: _version(name) for name in sorted(found)}


def _is_package(name: str, package: str) -> bool:
    return (
        name in sys.modules
        and name not in sys.stdlib_module_names
        and name not in _OWN
        and not is_project_module(name, package)
    )


@cache
def _version(name: str) -> str:
    module = sys.modules.get(name)
    version = vars(module).get("__version__") if isinstance(module, ModuleType) else None
    if isinstance(version, str):
        return version
    import importlib.metadata

    try:
        return importlib.metadata.version(name)
    except Exception:  # noqa: BLE001 - whatever is wrong with what lies about in site-packages
        return ""


def _imported(namespace: dict[str, Any], module: str) -> Iterator[str]:
    """Top-level names of the modules that a namespace has, or has something of, or code imports."""
    for value in list(namespace.values()):
        kind = type(value)
        if getattr(kind, "__kachery_task__", False):
            value = value.definition.function  # noqa: PLW2901
            kind = type(value)
        if issubclass(kind, ModuleType):
            yield from _top(vars(value).get("__name__"))
        elif issubclass(kind, FunctionType):
            yield from _of_function(value, module)
        elif issubclass(kind, type):
            yield from _of_class(value, module)
        elif issubclass(kind, BuiltinFunctionType):
            yield from _top(value.__module__)
        else:
            yield from _top(kind.__module__)


def _of_function(function: FunctionType, module: str) -> Iterator[str]:
    if function.__module__ != module:
        yield from _top(function.__module__)
    else:
        yield from _named_in(function.__code__)


def _of_class(cls: type, module: str) -> Iterator[str]:
    own = vars(cls)
    if own.get("__module__") != module:
        yield from _top(own.get("__module__"))
        return
    for value in list(own.values()):
        function = getattr(value, "__func__", value) if type(value) in _METHODS else value
        if type(function) is FunctionType:
            yield from _named_in(function.__code__)


_METHODS = (classmethod, staticmethod)


def _named_in(code: CodeType) -> Iterator[str]:
    """What code imports when it runs."""
    waiting = [code]
    while waiting:
        one = waiting.pop()
        if _IMPORT in one.co_code[::2]:  # or it looks so: the next line costs more
            for step in dis.get_instructions(one):
                if step.opcode == _IMPORT:
                    yield from _top(step.argval)
        waiting += (part for part in one.co_consts if isinstance(part, CodeType))


def _top(name: Any) -> Iterator[str]:
    if isinstance(name, str) and name:
        yield name.partition(".")[0]
