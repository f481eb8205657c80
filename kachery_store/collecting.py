"""A collection of garbage in a zone, as those who write there see it: `gc.lock`.

A bucket has no locks and deletes without conditions. So whoever collects says first, in `gc.lock`, what
it is about to delete (condemned), looks at each of these once more, and then deletes. Who renews
something that was old waits until it is not condemned, and then looks whether it is still there
(docs/keeping.md has the argument).
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from .backend import Backend, Status
from .errors import Busy, NotFound, StoreUnavailable
from .local_backend import LocalBackend
from .sweep import file_time

LOCK_FILE = "gc.lock"
GRACE = 86_400.0  # seconds; what is younger may be about to be named by whoever stored it

BATCH_SECONDS = 60.0  # after which whoever collects begins nothing more of what it condemned
_PATIENCE = 180.0  # seconds; a batch, and the longest time that one request is repeated
_POLL_SECONDS = 0.25
_BEAT_SECONDS = 60.0
_AT_LEAST = 3600.0  # seconds before a lock is taken over, however short the grace period is

_dead: set[tuple[str, str]] = set()  # locks that were waited for in vain: url, version


def server_time(backend: Backend) -> float:
    """Seconds since 1970 by the clock of whoever keeps the bytes. StoreUnavailable."""
    if isinstance(backend, LocalBackend):
        return file_time(backend) / 1e9
    name = f"tmp/clock.{os.urandom(8).hex()}"
    backend.create(name, b"", durable=False)
    status = backend.status(name)
    with suppress(StoreUnavailable):  # who may not delete leaves it to whoever collects
        backend.remove(name)
    if status is None:
        raise StoreUnavailable(
            f"the store at {backend.url} does not keep what was written a moment ago ({name})",
            place=backend.url,
        )
    return status.modified


def condemned(backend: Backend) -> tuple[frozenset[str], str]:
    """What is about to be deleted by a collection under way, and which batch of it that is."""
    content = _content(backend)
    batch = f"{content.get('token')}.{content.get('batch')}"
    if (backend.url, batch) in _dead:
        return frozenset(), batch
    return frozenset(map(str, content.get("condemned", ()))), batch


def await_verdict(backend: Backend, name: str | None = None) -> None:
    """Return when no collection is about to delete a name (None: anything) without looking again.

    Whoever collects looks at everything once more in each batch. Who died meanwhile deletes nothing
    any more, and is waited for once.
    """
    give_up = time.monotonic() + _PATIENCE
    names, first = condemned(backend)
    batch = first
    while batch == first and (names if name is None else name in names):
        if time.monotonic() > give_up:
            _dead.add((backend.url, batch))
            return
        time.sleep(_POLL_SECONDS)
        names, batch = condemned(backend)


class OnlyCollection:
    """With-block during which nobody else collects or repairs in a zone. Busy, StoreUnavailable.

    A lock that is older than `grace` seconds, and an hour, is taken over. `began`: the server's time
    when this one got it.
    """

    def __init__(self, backend: Backend, grace: float) -> None:
        self.began = 0.0
        self._backend = backend
        self._grace = max(grace, _AT_LEAST)
        self._token = os.urandom(8).hex()
        self._version = ""
        self._batch = 0
        self._condemned: list[str] = []
        self._beaten = time.monotonic()

    def __enter__(self) -> Self:
        if not self._backend.create(LOCK_FILE, self._text(), durable=True):
            self._take_over()
        self.began = self._confirmed().modified
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if _content(self._backend).get("token") == self._token:
            self._backend.remove(LOCK_FILE)

    def condemn(self, names: Iterable[str]) -> None:
        """Say what is about to be deleted, all of it. Busy when the lock is not ours any more."""
        self._batch += 1
        self._condemned = list(names)
        self._write()

    def beat(self) -> None:
        """Say now and then that we are alive. Busy as for `condemn`."""
        if time.monotonic() - self._beaten > _BEAT_SECONDS:
            self._write()

    def _write(self) -> None:
        self._beaten = time.monotonic()
        if self._backend.capabilities.swap:
            if not self._backend.swap(LOCK_FILE, self._text(), self._version):
                raise self._lost()
        else:
            self._confirmed()
            self._backend.replace(LOCK_FILE, self._text())
        self._confirmed()

    def _take_over(self) -> None:
        old = self._backend.status(LOCK_FILE)
        if old is not None and old.modified >= server_time(self._backend) - self._grace:
            raise self._busy()
        if old is not None and self._backend.capabilities.swap:
            taken = self._backend.swap(LOCK_FILE, self._text(), old.version)
        else:
            self._backend.remove(LOCK_FILE)
            taken = self._backend.create(LOCK_FILE, self._text(), durable=True)
        if not taken:
            raise self._busy()

    def _confirmed(self) -> Status:
        """The status of the lock, which is ours."""
        status = self._backend.status(LOCK_FILE)
        if status is None or _content(self._backend).get("token") != self._token:
            raise self._lost()
        self._version = status.version
        return status

    def _busy(self) -> Busy:
        holder = _content(self._backend)
        who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}"
        return Busy(
            f"garbage is being collected at {self._backend.url}, by {who}; one at a time is enough. If"
            f" that process is gone, delete {LOCK_FILE} there; it is taken over"
            f" {self._grace / 3600:g} hours after its last sign of life"
        )

    def _lost(self) -> Busy:
        return Busy(
            f"somebody else has taken over {LOCK_FILE} at {self._backend.url}, so this collection has"
            " stopped; nothing that is needed has gone"
        )

    def _text(self) -> bytes:
        """What the lock says. `time` is for people."""
        content = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "time": time.time(),
            "token": self._token,
            "batch": self._batch,
            "condemned": self._condemned,
        }
        return json.dumps(content).encode()


def _content(backend: Backend) -> dict[str, Any]:
    try:
        found = json.loads(backend.read(LOCK_FILE))
    except (NotFound, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
