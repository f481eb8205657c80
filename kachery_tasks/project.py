"""Which code is the project's own, so that its content counts, and which is installed.

The rule: a module is installed when its file lies in the standard library, in a site-packages folder
or in another folder of installed packages. Everything else is the project: scripts, notebooks,
packages in the working folder, editable installs. Modules of the same top-level package as the task
are the project too, wherever they lie. kachery itself never is.
"""

from __future__ import annotations

import functools
import os
import site
import sys
import sysconfig
from types import ModuleType

from .names import MAIN_NAMES

_OWN = frozenset(("kachery", "kachery_store", "kachery_tasks", "kachery_hub"))


def is_project_module(name: str, package: str = "") -> bool:
    """Whether the module of that name is the project's, seen from a task in `package`."""
    top = name.partition(".")[0]
    if name in MAIN_NAMES:
        return True
    if top in _OWN:
        return False
    return (top == package and top != "") or not _is_installed(name, sys.modules.get(name))


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
