"""Tasks that records name, as they are here and now, and what has changed since in their code."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from kachery_store import NotFound, Store

from .code import Description, changes, class_fingerprint
from .definition import Definition
from .kept_code import kept_code
from .names import find_class, main_name
from .record import Record


def task_named(name: str, imports: Iterable[str] = ()) -> Definition:
    """The task of that name, whose module is imported: only for who asked for just that.

    imports: modules to import first, where a task has another name than its module. NotFound says why
    there is none; a module may raise anything, which is said.
    """
    for module in imports:
        _imported(module)
    module, _, qualname = name.partition(":")
    found = _among_loaded(name)
    if found is None and qualname and "<locals>" not in qualname and module != "__main__":
        _imported(module)
        found = _among_loaded(name)
    if found is not None:
        return found
    if "<locals>" in qualname:
        raise NotFound(f"the task {name} is made inside of a function, where nobody else finds it")
    raise NotFound(
        f"there is no task {name} here: say with --import which module defines it, or go to where it is"
    )


def _imported(name: str) -> None:
    if name in sys.modules or name == main_name():
        return
    if name.partition(".")[0] in sys.stdlib_module_names:
        raise NotFound(f"{name} is a module of Python itself, which has no tasks")
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:  # its own code runs
        raise NotFound(
            f"the module {name} cannot be imported here ({type(error).__name__}: {error}): run this in"
            " the folder that it is in, with all that it needs"
        ) from error


def _among_loaded(name: str) -> Definition | None:
    """The task of that name in modules that are loaded: where the name says, or else anywhere."""
    module, _, qualname = name.partition(":")
    places = [sys.modules.get("__main__")] if module == main_name() else []
    for place in (*places, sys.modules.get(module)):
        found: Any = place
        for attribute in qualname.split("."):
            found = inspect.getattr_static(found, attribute, None)
            found = found.__func__ if isinstance(found, staticmethod) else found
        if _is_task(found, name):
            definition: Definition = found.definition
            return definition
    return next(_given(name), None)


def _given(name: str) -> Iterator[Definition]:
    """The tasks whose names were given, with `name=`."""
    for module in list(sys.modules.values()):
        if not isinstance(module, ModuleType):
            continue
        for value in list(vars(module).values()):
            if _is_task(value, name):
                yield value.definition
            elif isinstance(value, type) and value.__module__ == module.__name__:
                for one in list(vars(value).values()):
                    if _is_task(one, name):
                        yield one.definition


def _is_task(value: Any, name: str) -> bool:
    is_task = "__kachery_task__" in {key for kind in type(value).__mro__ for key in vars(kind)}
    return is_task and value.definition.name == name


def code_changes(store: Store, definition: Definition, record: Record) -> list[str]:
    """What differs between the code of a task now and that of a record; nothing if that is the same.

    Of the classes among the arguments, those that are loaded are compared. CannotFingerprint.
    """
    now = definition.fingerprint()
    found = []
    if now.digest != record.fingerprint:
        found += _told(now.description, kept_code(store, record.fingerprint), definition.name)
    for name, digest in record.codes:
        cls = find_class(name)
        code = None if cls is None else class_fingerprint(cls, definition.package)
        if code is not None and code.digest != digest:
            found += _told(code.description, kept_code(store, digest), name)
    return found


def _told(now: Description, then: Description | None, name: str) -> list[str]:
    if then is None:
        return [f"the code of {name} is another; what it was is not kept"]
    return [
        f"{change.what}: {change.there} then, {change.here} now"
        if change.here or change.there
        else f"{change.what} changed"
        for change in changes(now, then)
    ] or [f"the code of {name} is another"]
