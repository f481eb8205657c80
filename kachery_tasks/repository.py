"""The git repository that the code of a task is in: its commit, and whether files were changed since."""

from __future__ import annotations

import atexit
import os
import re
import sys
import threading
from contextlib import suppress
from functools import lru_cache
from types import FunctionType
from typing import TYPE_CHECKING, NamedTuple

from .names import MAIN_NAMES
from .project import is_installed_file

if TYPE_CHECKING:
    import subprocess

_PATIENCE = 2.0  # seconds that git may take when its answer is needed
# It is to read only, and to run nothing that the settings of the repository name.
_ASK = ("git", "--no-optional-locks", "-c", "core.fsmonitor=false", "status")
_FORM = ("--porcelain=v2", "--branch", "--untracked-files=no", "--ignore-submodules=dirty")
_MISLEADING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")  # what hooks of another one are told
_COMMIT = re.compile(rb"# branch\.oid ([0-9a-f]{40,64})")


class State(NamedTuple):
    """`is_dirty`: files that git knows are not as they are in the commit."""

    commit: str
    is_dirty: bool


class Repository:
    """A repository that git was asked about, once; nobody waits before the answer is needed."""

    def __init__(self, folder: str) -> None:
        self._lock = threading.Lock()
        self._state: State | None = None
        self._asked = _started(folder)

    def state(self) -> State | None:
        """What git says; None when it does not, or not in time."""
        with self._lock:
            if self._asked is not None:
                self._state = _answer(self._asked)
                self._asked = None
            return self._state

    def end(self) -> None:
        """Let git go, whose answer nobody needs any more."""
        if self._asked is not None:
            self._asked.kill()
            with suppress(OSError, ValueError):
                self._asked.communicate()


_found: dict[str, Repository] = {}
_lock = threading.Lock()


def repository_of(function: FunctionType) -> Repository | None:
    """The repository that a function's source is in; None when there is none."""
    folder = _folder_of(function)
    root = None if folder is None else _root_above(folder)
    if root is None:
        return None
    with _lock:
        if root not in _found:
            _found[root] = Repository(root)
        return _found[root]


def _folder_of(function: FunctionType) -> str | None:
    file = function.__code__.co_filename
    if os.path.isabs(file) and os.path.isfile(file):
        return None if is_installed_file(file) else os.path.dirname(os.path.realpath(file))
    main = sys.modules.get("__main__")  # a notebook works where its file is
    is_main = function.__module__ in MAIN_NAMES and function.__globals__ is vars(main)
    return os.getcwd() if is_main else None


@lru_cache(maxsize=1024)
def _root_above(folder: str) -> str | None:
    while not os.path.exists(os.path.join(folder, ".git")):
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above
    return folder


def _started(folder: str) -> subprocess.Popen[bytes] | None:
    import subprocess

    try:
        return subprocess.Popen(  # noqa: S603 - git, without a shell
            (*_ASK, *_FORM),
            cwd=folder,
            env={name: text for name, text in os.environ.items() if name not in _MISLEADING},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except (OSError, ValueError):  # there is no git
        return None


def _answer(asked: subprocess.Popen[bytes]) -> State | None:
    import subprocess

    try:
        told, _ = asked.communicate(timeout=_PATIENCE)
    except (subprocess.TimeoutExpired, OSError, ValueError):
        asked.kill()
        asked.communicate()
        return None
    found = _COMMIT.match(told)
    if asked.returncode != 0 or found is None:
        return None
    changed = any(line and not line.startswith(b"#") for line in told.splitlines())
    return State(found[1].decode(), changed)


@atexit.register
def _end() -> None:
    for repository in list(_found.values()):
        repository.end()


def _forget() -> None:
    """In a forked child: the answers come to its parent."""
    global _lock
    _lock = threading.Lock()
    _found.clear()


os.register_at_fork(after_in_child=_forget)
