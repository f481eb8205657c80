"""Tasks that records name, as they are here and now, and what has changed since in their code."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from types import ModuleType
from typing import Any, NamedTuple

from kachery_store import NotFound, Store
from kachery_store.errors import KacheryError

from .code import Description, Fingerprint, callable_fingerprint, changes, class_fingerprint
from .definition import Definition
from .errors import NotStored
from .kept_code import kept_code
from .names import find_callable, find_class, main_name
from .record import Record
from .settings import using


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
        with _only_importing():
            _import_each(name)
    except NotStored as error:
        raise NotFound(
            f"the module {name} runs tasks while it is imported ({error}): put what runs them under"
            ' `if __name__ == "__main__":`'
        ) from error
    except (Exception, SystemExit) as error:  # its own code runs
        raise NotFound(
            f"the module {name} cannot be imported here ({type(error).__name__}: {error}): run this in"
            " the folder that it is in, with all that it needs"
        ) from error


def _import_each(name: str) -> None:
    """Import a module and the packages that it is in; each finds its own file on the command line."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        module = ".".join(parts[:length])
        spec = None if module in sys.modules else importlib.util.find_spec(module)
        sys.argv = [(spec and spec.origin) or module]
        importlib.import_module(module)


@contextmanager
def _only_importing() -> Iterator[None]:
    """While this lasts, nothing runs, and what is printed is no part of what somebody reads.

    A script without a guard does all its work when it is imported.
    """
    before = sys.argv
    try:
        with using(read_only=True), redirect_stdout(sys.stderr):
            yield
    finally:
        sys.argv = before


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


class Changes(NamedTuple):
    """What differs between the code of a job and the code that is here now.

    `told`: in words; nothing if the code is the same. `unknown`: why something among the arguments
    cannot be compared.
    """

    told: list[str]
    unknown: list[str]


def code_changes(store: Store, definition: Definition, record: Record) -> Changes:
    """Compare the code of a task, and of classes and functions among the arguments, with a record's.

    The modules of those are imported, as that of a task is. CannotFingerprint.
    """
    now = definition.fingerprint()
    found = Changes([], [])
    if now.digest != record.fingerprint:
        then = kept_code(store, record.fingerprint)
        found.told.extend(_told(now.description, then, definition.name))
    for name, digest in record.codes:
        try:
            code = _code_named(name, definition.package)
        except KacheryError as error:
            found.unknown.append(f"{name}, among its arguments, cannot be compared: {error}")
            continue
        if code is not None and code.digest != digest:
            found.told.extend(_told(code.description, kept_code(store, digest), name))
    return found


def _code_named(name: str, package: str) -> Fingerprint | None:
    """The code of a class or a function as it is now; None for what counts by name only.

    NotFound says why there is none, CannotFingerprint.
    """
    module, _, qualname = name.partition(":")
    cls = find_class(name)
    if cls is None and (not qualname or " " in name or "<" in name):
        raise NotFound("it has no name by which it is found")
    found = find_callable(name) if cls is None else None
    if cls is None and found is None:
        if module.partition(".")[0] in sys.stdlib_module_names:
            return None
        _imported(module)
        cls = find_class(name)
        found = find_callable(name) if cls is None else None
    if cls is not None:
        return class_fingerprint(cls, package)
    if found is None:
        raise NotFound(f"there is no {qualname} in {module} here")
    return callable_fingerprint(found)


def _told(now: Description, then: Description | None, name: str) -> list[str]:
    if then is None:
        return [f"the code of {name} is another; what it was is not kept"]
    return [
        f"{change.what}: {change.there} then, {change.here} now"
        if change.here or change.there
        else f"{change.what} changed"
        for change in changes(now, then)
    ] or [f"the code of {name} is another"]
