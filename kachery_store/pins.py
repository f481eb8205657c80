"""Pins: what is never collected as garbage.

A pin is a file in `pins/` whose name alone says what it protects (`sha1-<hex>`, `job-<hex>`), so that a
damaged one still does. In it are the URI, when it was pinned, and why.
"""

from __future__ import annotations

import fcntl
import json
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import NamedTuple

from .backend import Backend
from .digest import HEX_LENGTH, Digest, make_digest
from .errors import BadURI, NotFound
from .local_backend import LocalBackend
from .sweep import locked
from .uri import parse_uri

FOLDER = "pins"
JOB = "job"


class Pin(NamedTuple):
    """What is pinned: a URI. `reason`: for people, may be empty. `time`: seconds since 1970."""

    uri: str
    reason: str = ""
    time: float = 0.0


class Pinned(NamedTuple):
    """What a pin protects: `kind` is `job` or the algorithm of a digest; `hex` the id or hash."""

    kind: str
    hex: str

    @property
    def uri(self) -> str:
        """The URI without a label."""
        return f"{self.kind}://{self.hex}"

    @property
    def name(self) -> str:
        """Where the file is in the store."""
        if self.kind == JOB:
            return f"jobs/{self.hex[:2]}/{self.hex}"
        return Digest(self.kind, self.hex).path


def parse_pinned(uri: str) -> Pinned:
    """What a URI of a stored file or of a job would protect. BadURI."""
    if isinstance(uri, str) and uri.startswith("job://"):
        return Pinned(JOB, make_digest("blake3", uri.removeprefix("job://")).hex)
    return Pinned(*parse_uri(uri).digest)


class Pins:
    """The pins of one store, or of a zone."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def add(self, uri: str, reason: str = "") -> Pin:
        """Pin what a URI names; durable. A second pin of the same thing replaces the first.

        Raises BadURI, NotFound when it is not in the store, StoreUnavailable. In a zone, see
        zone_pins.
        """
        pinned = parse_pinned(uri)
        pin = Pin(uri, reason, time.time())
        # While the lock is held nothing is taken away: what is there now is there when it is pinned.
        with self._nothing_taken():
            if self._backend.status(pinned.name) is None:
                raise self.not_there(uri)
            self.write(pin)
        return pin

    def write(self, pin: Pin) -> None:
        """Write a pin, whether what it names is there or not."""
        text = json.dumps(pin._asdict()).encode() + b"\n"
        self._backend.replace(_path(parse_pinned(pin.uri)), text)

    def not_there(self, uri: str) -> NotFound:
        """The error that says that something cannot be pinned."""
        return NotFound(
            f"{uri} is not in the store at {self._backend.url}, so it cannot be pinned:"
            " store or compute it first"
        )

    def _nothing_taken(self) -> AbstractContextManager[None]:
        if isinstance(self._backend, LocalBackend):
            return locked(self._backend, fcntl.LOCK_SH)
        return nullcontext()

    def remove(self, uri: str) -> bool:
        """Unpin what a URI names; False when it was not pinned."""
        return self._backend.remove(_path(parse_pinned(uri)))

    def has(self, uri: str) -> bool:
        """Whether there is a pin for what a URI names."""
        return self._backend.status(_path(parse_pinned(uri))) is not None

    def all(self) -> list[Pin]:
        """All pins, oldest first."""
        return sorted((self._read(one) for one in self.pinned()), key=lambda pin: pin.time)

    def pinned(self) -> set[Pinned]:
        """What is pinned; this much also a damaged pin tells."""
        found = set()
        for path in self._backend.names(FOLDER):
            kind, _, hex = path.rpartition("/")[2].partition("-")
            with suppress(BadURI):
                if kind == JOB:
                    make_digest("blake3", hex)
                    found.add(Pinned(kind, hex))
                elif kind in HEX_LENGTH:
                    found.add(Pinned(*make_digest(kind, hex)))
        return found

    def _read(self, pinned: Pinned) -> Pin:
        try:
            fields = json.loads(self._backend.read(_path(pinned)))
            return Pin(str(fields["uri"]), str(fields["reason"]), float(fields["time"]))
        except (NotFound, ValueError, KeyError, TypeError):
            return Pin(pinned.uri)


def _path(pinned: Pinned) -> str:
    return f"{FOLDER}/{pinned.kind}-{pinned.hex}"
