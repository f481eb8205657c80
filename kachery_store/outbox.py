"""What a zone should get and could not be sent: names under `outbox/<zone>/` of the local store.

The bytes are in the store already. An entry is written before anything is acknowledged, and removed
when the zone has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote

from .digest import hash_buffer
from .local_backend import LocalBackend


class Item(NamedTuple):
    """Something to be sent: a blob (`kind` is its algorithm), or what a folder of refs has."""

    kind: str
    name: str


_LAST = {"arrays": 1, "jobs": 2}


class Outbox:
    """What waits for one zone."""

    def __init__(self, backend: LocalBackend, zone: str) -> None:
        self._backend = backend
        name = quote(zone, safe="")
        self._folder = f"outbox/{name}"
        self._mark = f"zones/{name}"

    def add(self, item: Item, *, durable: bool) -> None:
        """Note that something is to be sent. Raises StoreUnavailable."""
        self._backend.create(self._path(item), b"", durable=durable)

    def remove(self, item: Item) -> None:
        """Note that it need not be sent: the zone has it, or nobody has it any more."""
        self._backend.remove(self._path(item))

    def has(self, item: Item) -> bool:
        """Whether something waits."""
        return self._backend.status(self._path(item)) is not None

    def items(self) -> list[Item]:
        """What waits, in the order in which it must be sent: what names the rest comes last."""
        found = (name.rsplit("/", 2)[1:] for name in self._names())
        return sorted((Item(*parts) for parts in found), key=lambda item: _LAST.get(item.kind, 0))

    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return next(self._names(), None) is None

    def has_seen(self, url: str) -> bool:
        """Whether a zone was there, at that URL, for this store or another process that uses it."""
        return self._backend.status(self._mark_of(url)) is not None

    def note_seen(self, url: str) -> None:
        """Note that the zone is there. Raises StoreUnavailable."""
        self._backend.create(self._mark_of(url), b"", durable=False)

    def _mark_of(self, url: str) -> str:
        return f"{self._mark}-{hash_buffer('blake3', url.encode(errors='replace'))[:16]}"

    def _names(self) -> Iterator[str]:
        return self._backend.names(self._folder)

    def _path(self, item: Item) -> str:
        return f"{self._folder}/{item.kind}/{item.name}"
