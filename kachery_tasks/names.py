"""Names of functions and classes that mean the same in every process.

A name is `module:qualname`. What a script or a notebook defines has the module `__main__` there and
another one elsewhere, so `__main__` is resolved to the module or script that it is; a worker is told
the name by the client.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from types import ModuleType
from typing import Any
from weakref import WeakValueDictionary

_COMPREHENSION = re.compile(r"<(list|set|dict)comp>\.(<locals>\.)?")

MAIN_NAMES = ("__main__", "__mp_main__")

_main_of_client: ContextVar[str | None] = ContextVar("kachery_main_of_client", default=None)
_classes_met: WeakValueDictionary[str, type] = WeakValueDictionary()


def main_name() -> str:
    """What `__main__` is called: the module of `python -m`, the script's stem, or `__main__`."""
    told = _main_of_client.get()
    if told is not None:
        return told
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name not in MAIN_NAMES:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return _stem(file) if file else "__main__"


@cache
def _stem(file: str) -> str:
    return os.path.splitext(os.path.basename(file))[0]


@contextmanager
def main_known_as(name: str) -> Iterator[None]:
    """While this lasts, `__main__` is what it is in the client's process."""
    reset = _main_of_client.set(name)
    try:
        yield
    finally:
        _main_of_client.reset(reset)


def works_for_client() -> bool:
    """Whether what runs here was sent by a client, to which what it raises goes back pickled."""
    return _main_of_client.get() is not None


def module_name(module: str) -> str:
    """A module's name, with `__main__` resolved."""
    return main_name() if module in MAIN_NAMES else module


def qualified_name(thing: Any) -> str:
    """`module:qualname` of a function or class."""
    module = getattr(thing, "__module__", None) or "builtins"
    name: str = thing.__qualname__
    if "comp>." in name:  # up to Python 3.11, comprehensions are functions of their own
        name = _COMPREHENSION.sub("", name)
    return f"{module_name(module)}:{name}"


def public_name(cls: type) -> str:
    """`module:qualname` of an installed class, by the shortest module that offers it.

    Where in its package a class is defined differs between versions: `pathlib._local:Path`.
    """
    module = cls.__module__
    parts = module.split(".")
    for length in range(1, len(parts)):
        offering = ".".join(parts[:length])
        if getattr(sys.modules.get(offering), cls.__qualname__, None) is cls:
            return f"{offering}:{cls.__qualname__}"
    return qualified_name(cls)


def class_name(cls: type) -> str:
    """`module:qualname` of a class, which is remembered for `find_class`."""
    name = qualified_name(cls)
    _classes_met[name] = cls
    return name


def find_class(name: str) -> type | None:
    """The class of that name if the program has it already; nothing is ever imported."""
    module, _, qualname = name.partition(":")
    for loaded in _loaded_modules(module):
        found: Any = loaded
        for attribute in qualname.split("."):
            found = getattr(found, attribute, None)
        if isinstance(found, type) and qualified_name(found) == name:
            return found
    return _classes_met.get(name)


def callable_name(value: Any) -> str | None:
    """`module:qualname` under which `find_callable` finds a function; None when it does not."""
    qualname = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if not isinstance(qualname, str):
        return None
    places = getattr(value, "__module__", None), type(value).__module__.partition(".")[0]
    for module in places:  # functions made in C may not tell where they are from
        name = f"{module_name(module)}:{qualname}" if isinstance(module, str) else ""
        if name and find_callable(name) is value:
            return name
    return None


def find_callable(name: str) -> Any:
    """What is called in the module of that name, if that is loaded and has it; nothing is imported."""
    module, _, qualname = name.partition(":")
    for loaded in _loaded_modules(module):
        found: Any = loaded
        for attribute in qualname.split("."):
            found = inspect.getattr_static(
                found, attribute, None
            )  # modules may have code for getattr
            found = found.__func__ if isinstance(found, staticmethod) else found
        if callable(found) and not isinstance(found, type):
            return found
    return None


def _loaded_modules(name: str) -> Iterator[ModuleType]:
    if name == main_name():
        if _main_of_client.get() is not None:
            return  # the client's `__main__` came with the task; this process has another one
        yield sys.modules["__main__"]
    if (module := sys.modules.get(name)) is not None:
        yield module
