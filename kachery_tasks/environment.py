"""What is the same for all runs of a process: machine, Python, packages, the state of the repository.

Records name it by its address (docs/formats/environment.md): it is the encoding of a dict, and a blob.
That of processes of one kind is one blob, so nothing in it tells one process from another.
"""

from __future__ import annotations

import getpass
import logging
import os
import platform
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from kachery_store import Digest, Store
from kachery_store.errors import KacheryError

from ._version import __version__
from .definition import Definition
from .imports import packages_of
from .repository import Repository, repository_of
from .values import decode, encode

FORMAT = 1

_AGAIN_AFTER = 1800.0  # seconds; what no record names yet is safe from a collection for twice that
_MOST_ARGUMENTS, _LONGEST_ARGUMENT = 100, 1000  # of the command line
_LARGEST = 1 << 20  # bytes of an environment that is read


class _Known(NamedTuple):
    """The address of an environment, and how much was loaded when it was found."""

    address: bytes
    modules: int
    names: int


_log = logging.getLogger("kachery.tasks")

_known: WeakKeyDictionary[Definition, _Known] = WeakKeyDictionary()
_encodings: dict[bytes, bytes] = {}  # by address
_kept: WeakKeyDictionary[Store, dict[bytes, float]] = WeakKeyDictionary()  # when they were stored

_worker: ContextVar[str] = ContextVar("kachery_worker", default="")


@contextmanager
def at_worker(address: str) -> Iterator[None]:
    """While this lasts, what runs here runs on the Dask worker with that address, or on none."""
    reset = _worker.set(address)
    try:
        yield
    finally:
        _worker.reset(reset)


def worker_here() -> str:
    """The address of the Dask worker that this runs on, or nothing."""
    return _worker.get()


@cache
def here() -> tuple[str, str]:
    """Host and user, as records name them."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container without a name for this user
        user = str(os.getuid())
    return socket.gethostname(), user


def ask_repository(definition: Definition) -> None:
    """Begin to find out what state the code of a task is in, which takes a moment."""
    if definition not in _known:
        repository_of(definition.function)


def environment_of(definition: Definition) -> bytes:
    """The address of what a task runs in, found again when modules were loaded since."""
    modules, names = len(sys.modules), len(definition.function.__globals__)
    known = _known.get(definition)
    if known is not None and known.modules == modules and known.names == names:
        return known.address
    try:
        encoded = encode(_facts(definition))
    except Exception as why:  # noqa: BLE001 - what lies about in modules is not ours, the result is
        _log.warning("it cannot be told where %s runs: %s: %s", definition.name, type(why), why)
        address = b""
    else:
        address = encoded.address
        _encodings[address] = encoded.data
    _known[definition] = _Known(address, modules, names)
    return address


def keep_environment(store: Store, address: bytes) -> None:
    """Have an environment of this process in a store. Raises StoreUnavailable."""
    kept = _kept.setdefault(store, {})
    stored = kept.get(address)
    now = time.monotonic()
    if (stored is None or now - stored > _AGAIN_AFTER) and address in _encodings:
        store.blobs.put(Digest("blake3", address.hex()), _encodings[address], durable=False)
        kept[address] = now


def environment_at(store: Store, address: bytes) -> dict[str, Any] | None:
    """What a record tells of where its job ran; None when that is lost, or is not what it should be."""
    if not address:
        return None
    digest = Digest("blake3", address.hex())
    try:
        if store.blobs.size(digest) > _LARGEST:
            return None
        found = decode(store.blobs.read(digest), _nothing, _nothing)
    except KacheryError:
        return None
    return found if type(found) is dict and all(type(name) is str for name in found) else None


def _nothing(*_: Any) -> Any:
    raise KacheryError("an environment has neither blobs nor pickles")


def _facts(definition: Definition) -> dict[str, Any]:
    repository = repository_of(definition.function)
    return {
        "environment": FORMAT,
        **_process(),
        "packages": packages_of(definition),
        **_git(repository),
        "command": _command(),
    }


@cache
def _process() -> dict[str, str]:
    host, user = here()
    return {
        "host": host,
        "user": user,
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": _platform(),
        "kachery": __version__,
    }


def _platform() -> str:
    if sys.platform == "darwin":
        return platform.platform()
    system = os.uname()
    text = f"{system.sysname}-{system.release}-{system.machine}"
    try:
        libc = os.confstr("CS_GNU_LIBC_VERSION")  # platform.platform() looks for it in a large file
    except (OSError, ValueError):
        libc = None
    return f"{text}-with-{libc.replace(' ', '')}" if libc else text


def _git(repository: Repository | None) -> dict[str, Any]:
    state = None if repository is None else repository.state()
    return {} if state is None else {"git": {"commit": state.commit, "dirty": state.is_dirty}}


def _command() -> list[str]:
    arguments = [str(one) for one in getattr(sys, "argv", ())]
    cut = arguments[:_MOST_ARGUMENTS] + ["..."] * (len(arguments) > _MOST_ARGUMENTS)
    return [one[:_LONGEST_ARGUMENT] for one in cut]
