"""The git repository that the code of a task is in: its commit, and whether files were changed since."""

from __future__ import annotations

import atexit
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from types import FunctionType
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from .names import MAIN_NAMES
from .project import is_installed_file

if TYPE_CHECKING:
    import subprocess

_PATIENCE = 2.0  # seconds that git may take when its answer is needed
_FRESH = 5.0  # seconds for which an answer holds for other tasks, if no file is newer
_FORGOTTEN = 600.0  # seconds after which no run waits for an answer
_LAST_WAIT = 0.5  # seconds for what has been killed
_CLOCK = 0.05  # seconds by which the clock of a file system may be behind
_MOST_CHANGED, _LARGEST = 100, 16 << 20  # files that are looked at, and bytes of one
_SUFFIX = ".py"
_SHA1_DIGITS = 40
# It is to read only, and to run nothing that the settings of the repository name: the filters of files
# of which it would look at the content are set to nothing.
_SCRIPT = r"""
set -f
git() { command git --no-optional-locks -c core.fsmonitor=false "$@"; }
commit=$(git rev-parse --verify 'HEAD^{commit}') || exit 1
filters=$(git config --name-only --get-regexp '^filter\..*\.(clean|process|required)$')
set --
IFS='
'
for name in $filters; do
  case $name in *=*) exit 1 ;; esac
  set -- "$@" -c "$name="
done
git "$@" diff-index --cached --quiet --ignore-submodules=dirty HEAD --
staged=$?
[ $staged -le 1 ] || exit 1
printf '%s %s\n' "$commit" $staged
git "$@" diff-files --raw -z --ignore-submodules=dirty || exit 1
printf '\0'
exec git "$@" ls-files -z -- '*.py'
"""
_MISLEADING = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")  # what hooks of another one are told
_BOUNDED = {"GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1"}
_HEAD = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64}) ([01])\n")
_CHANGE = re.compile(rb":([0-7]{6}) ([0-7]{6}) ([0-9a-f]{40,64}) [0-9a-f]+ ([A-Z])")


class State(NamedTuple):
    """`is_dirty`: files that git knows are not as in the commit. `known`: its Python files."""

    commit: str
    is_dirty: bool
    known: frozenset[str]


class Repository:
    """A repository that git was asked about, once; nobody waits before the answer is needed."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._lock = threading.Lock()
        self._state: State | None = None
        self._asked_at = time.time()
        self._asked = _started(root)
        _end_old()
        _unanswered.add(self)

    def state(self) -> State | None:
        """What git says; None when it does not, or not in time."""
        with self._lock:
            if self._asked is not None:
                self._state = _answer(self._asked, self.root)
                self._asked = None
                _unanswered.discard(self)
            return self._state

    def has(self, files: Iterable[str]) -> bool:
        """Whether git knows the Python files of those that are in this repository."""
        state = self.state()
        return state is not None and not any(
            name not in state.known for name in map(self._name_of, files) if name is not None
        )

    def _name_of(self, file: str) -> str | None:
        path = os.path.realpath(file)
        if not path.endswith(_SUFFIX) or _root_above(os.path.dirname(path)) != self.root:
            return None
        return os.path.relpath(path, self.root)

    def holds_for(self, file: str | None) -> bool:
        """Whether the answer is young enough for a task in that file."""
        now = time.time()
        if not 0 <= now - self._asked_at < _FRESH:
            return False
        git = os.path.join(self.root, ".git")
        logs = (os.path.join(git, name) for name in ("HEAD", "index", "logs/HEAD"))
        paths = (*logs, file) if file is not None else logs
        return not any(_changed_at(path) > self._asked_at - _CLOCK for path in paths)

    def leave_to_parent(self) -> None:
        """In a forked child: git is the parent's."""
        if self._asked is not None:
            self._asked.returncode = 0
            if self._asked.stdout is not None:
                self._asked.stdout.close()
            self._asked = None

    def is_old(self) -> bool:
        """Whether nobody has needed the answer for so long that nobody will."""
        return time.time() - self._asked_at > _FORGOTTEN

    def end(self) -> None:
        """Let git go, whose answer nobody needs any more."""
        with self._lock:
            if self._asked is not None:
                _stop(self._asked)
                self._asked = None
        _unanswered.discard(self)


def _changed_at(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


_unanswered: set[Repository] = set()  # whose git may run, whether or not a function still needs it
_newest: dict[str, Repository] = {}
_of: WeakKeyDictionary[FunctionType, Repository] = WeakKeyDictionary()
_lock = threading.Lock()


def repository_of(function: FunctionType) -> Repository | None:
    """The repository that a function's source is in; None when there is none.

    A function has the same answer always: that of when it was first asked for.
    """
    with _lock:
        known = _of.get(function)
    if known is not None:
        return known
    file = _file_of(function)
    folder = _folder_of(function) if file is None else os.path.dirname(file)
    if folder is None or (file is not None and is_installed_file(file)):
        return None
    root = _root_above(folder)
    if root is None:
        return None
    with _lock:
        found = _newest.get(root)
        if found is None or not found.holds_for(file):
            found = _newest[root] = Repository(root)
        _of[function] = found
        return found


def _file_of(function: FunctionType) -> str | None:
    file = function.__code__.co_filename
    return os.path.realpath(file) if os.path.isabs(file) and os.path.isfile(file) else None


def _folder_of(function: FunctionType) -> str | None:
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

    kept = {name: text for name, text in os.environ.items() if name not in _MISLEADING}
    try:
        return subprocess.Popen(  # noqa: S603 - git, and the shell that starts it
            ("/bin/sh", "-c", _SCRIPT),
            cwd=folder,
            env={**kept, **_BOUNDED},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that all that it starts can be ended
        )
    except (OSError, ValueError):
        return None


def _answer(asked: subprocess.Popen[bytes], root: str) -> State | None:
    import subprocess

    try:
        told, _ = asked.communicate(timeout=_PATIENCE)
    except (subprocess.TimeoutExpired, OSError, ValueError):
        _stop(asked)
        return None
    head = _HEAD.match(told)
    if asked.returncode != 0 or head is None:
        return None
    changes, known = _parts(told[head.end() :].split(b"\0"))
    is_dirty = head[2] == b"1" or _is_changed(root, changes)
    return State(head[1].decode(), is_dirty, frozenset(map(os.fsdecode, known)))


def _stop(asked: subprocess.Popen[bytes]) -> None:
    """End git and what it has started, and wait for nobody who does not end."""
    import subprocess

    with suppress(OSError):
        os.killpg(asked.pid, signal.SIGKILL)  # the number is still its own: nobody waited
    with suppress(OSError, ValueError):
        if asked.stdout is not None:
            asked.stdout.close()
    with suppress(subprocess.TimeoutExpired):
        asked.wait(_LAST_WAIT)


def _parts(fields: list[bytes]) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
    """What git told: changes with their paths, and the Python files that it knows."""
    end = fields.index(b"")
    return list(zip(fields[:end:2], fields[1:end:2], strict=True)), fields[end + 1 : -1]


def _is_changed(root: str, changes: list[tuple[bytes, bytes]]) -> bool:
    """Whether files differ from the index; of some git tells only that they may: their times differ."""
    return len(changes) > _MOST_CHANGED or any(
        _differs(os.path.join(os.fsencode(root), path), told) for told, path in changes
    )


def _differs(path: bytes, told: bytes) -> bool:
    change = _CHANGE.fullmatch(told)
    if change is None or change[1] != change[2] or change[4] != b"M" or change[1][:2] != b"10":
        return True
    import hashlib  # rarely needed, and OpenSSL takes a while to load

    digest = hashlib.new(
        "sha1" if len(change[3]) == _SHA1_DIGITS else "sha256", usedforsecurity=False
    )
    try:
        if os.stat(path).st_size > _LARGEST:
            return True
        with open(path, "rb") as file:
            content = file.read()
    except OSError:
        return True
    digest.update(b"blob %d\0" % len(content) + content)
    return digest.hexdigest().encode() != change[3]


def _end_old() -> None:
    """End those that were asked for runs that came to nothing."""
    for repository in list(_unanswered):
        if repository.is_old():
            repository.end()


@atexit.register
def _end() -> None:
    for repository in list(_unanswered):
        repository.end()


def _forget() -> None:
    """In a forked child: the answers come to its parent."""
    global _lock
    _lock = threading.Lock()
    for repository in _unanswered:
        repository.leave_to_parent()
    _unanswered.clear()
    _newest.clear()
    _of.clear()


os.register_at_fork(after_in_child=_forget)
