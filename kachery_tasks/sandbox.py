"""The sandbox of kachery 2: a folder of its own for the files and mutables of a test or a trial.

It is chosen by environment variables, so that it holds in child processes as well.
"""

from __future__ import annotations

import atexit
import os
import shutil

from kachery_store.store import default_root

_SWITCH = "KACHERY_USE_SANDBOX"
_FOLDER = "KACHERY_SANDBOX_DIR"

_made: dict[str, int] = {}  # folder -> the process that made it, and will remove it


def use_sandbox(use: bool = True) -> None:
    """Store and load files and mutables in an empty folder from now on, or (False) no more.

    The folder is KACHERY_SANDBOX_DIR, by default a new one below the store. If this call made it, it
    is removed when the program ends. A folder that `using` or `configure` names is not replaced.
    """
    os.environ[_SWITCH] = "1" if use else "0"
    if not use:
        return
    folder = os.environ.setdefault(_FOLDER, f"{default_root()}/sandbox/{os.urandom(4).hex()}")
    if not os.path.exists(folder):
        os.makedirs(folder, exist_ok=True)
        _made[folder] = os.getpid()


def sandbox() -> str | None:
    """The folder of the sandbox, where one is in use."""
    if os.environ.get(_SWITCH) != "1":
        return None
    return os.environ.get(_FOLDER) or None


def _remove() -> None:
    for folder, process in _made.items():
        if process == os.getpid():  # not in a child that was forked since
            shutil.rmtree(folder, ignore_errors=True)


atexit.register(_remove)
