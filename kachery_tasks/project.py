"""Which code is the project's own, so that its content counts, and which is installed.

The rule: a module is installed when its file lies in the standard library, in a site-packages folder
or in another folder of installed packages. Everything else is the project: scripts, notebooks,
packages in the working folder, editable installs. Modules of the same top-level package as the task
are the project too, wherever they lie. `configure(project=, installed=)` names packages and modules
of which it is not so. kachery itself never is the project.
"""

from __future__ import annotations

import functools
import os
import site
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import NamedTuple

from .names import MAIN_NAMES


class Rule(NamedTuple):
    """Packages and modules that count as the project, or as installed, wherever they lie."""

    project: frozenset[str] = frozenset()
    installed: frozenset[str] = frozenset()


_OWN = frozenset(("kachery", "kachery_store", "kachery_tasks", "kachery_hub"))


_configured = Rule()
_of_client: ContextVar[Rule | None] = ContextVar("kachery_rule_of_client", default=None)


def rule() -> Rule:
    """The exceptions to the rule that are in force."""
    return _of_client.get() or _configured


def configure_rule(project: Iterable[str], installed: Iterable[str]) -> None:
    """Set the exceptions for the rest of the program; ValueError for what names no module."""
    global _configured
    names = Rule(_names(project), _names(installed))
    both = sorted(names.project & names.installed)
    if both:
        raise ValueError(f"{', '.join(both)} cannot be both the project's and installed")
    _configured = names


@contextmanager
def rule_known(names: Rule) -> Iterator[None]:
    """While this lasts, the exceptions are those of the client's process."""
    reset = _of_client.set(names)
    try:
        yield
    finally:
        _of_client.reset(reset)


def _names(names: Iterable[str]) -> frozenset[str]:
    if not isinstance(names, Iterable):
        raise TypeError(f"{names!r} is no tuple of names of packages and modules")
    listed = frozenset([names] if isinstance(names, str) else names)
    for name in listed:
        if not isinstance(name, str) or not all(map(str.isidentifier, name.split("."))):
            raise ValueError(f"{name!r} is not the name of a package or module")
    return listed


def is_project_module(name: str, package: str = "") -> bool:
    """Whether the module of that name is the project's, seen from a task in `package`."""
    top = name.partition(".")[0]
    if name in MAIN_NAMES:
        return True
    if top in _OWN:
        return False
    if (named := _as_configured(name)) is not None:
        return named
    return (top == package and top != "") or not _is_installed(name, sys.modules.get(name))


def is_project_class(cls: type, package: str = "") -> bool:
    """Whether a class is the project's; what `types` or dataclasses made for it has no module."""
    module = cls.__module__
    if module == "types" and getattr(types, cls.__qualname__, None) is not cls:
        return True
    return is_project_module(module, package)


def _as_configured(name: str) -> bool | None:
    """What the exceptions say of a module: the longest name that it is in counts."""
    names = rule()
    if not names.project and not names.installed:
        return None
    while name:
        if name in names.project or name in names.installed:
            return name in names.project
        name = name.rpartition(".")[0]
    return None


def _is_installed(name: str, module: ModuleType | None) -> bool:
    top = name.partition(".")[0]
    file = getattr(module, "__file__", None)
    if file is None:
        return top in sys.stdlib_module_names or top in sys.builtin_module_names
    return is_installed_file(file)


@functools.lru_cache(maxsize=4096)
def is_installed_file(file: str) -> bool:
    """Whether a source file lies where packages are installed."""
    path = os.path.realpath(file)
    if {"site-packages", "dist-packages"} & set(path.split(os.sep)):
        return True
    return any(path.startswith(folder + os.sep) for folder in _installed_folders())


@functools.cache
def _installed_folders() -> frozenset[str]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = [sysconfig.get_paths()[name] for name in names]
    folders.append(site.getusersitepackages())
    return frozenset(os.path.realpath(folder) for folder in folders)
