"""Feeds as users hold them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from ..backend import Backend
from ..errors import NotFound, NotWriteable
from ..signing import Signer
from .log import Log
from .memory import Memory
from .names import FOLDER, INBOX, Place, is_subfeed, place_of
from .subfeed import Subfeed


class Feed:
    """A feed: all logs that one key signs. `backends`: where to look for a subfeed, in this order."""

    def __init__(
        self,
        feed_id: str,
        backends: Sequence[Backend],
        signer: Signer | None = None,
        memory: Memory | None = None,
        snapshot: Callable[[Sequence[Log]], Feed] | None = None,
        uri: str | None = None,
        trusted: Callable[[], Collection[str]] = frozenset,
    ) -> None:
        self._feed_id = place_of(feed_id, "x").feed
        self._backends = backends
        self._signer = signer
        self._memory = memory
        self._snapshot = snapshot
        self._uri = uri
        self._trusted = trusted

    @property
    def feed_id(self) -> str:
        """The public key, 64 hex digits."""
        return self._feed_id

    @property
    def uri(self) -> str:
        """feed://<64 hex digits>; of a snapshot, the URI of its file."""
        return self._uri or f"feed://{self._feed_id}"

    @property
    def is_writeable(self) -> bool:
        """Whether the private key is here."""
        return self._signer is not None

    def load_subfeed(self, name: Any) -> Subfeed:
        """A subfeed, named by text or by a JSON object; it may be one that has no messages yet."""
        place = place_of(self._feed_id, name)
        return Subfeed(Log(self._backend(place), place, self._memory), self._signer, self._trusted)

    def subfeed_names(self) -> list[str]:
        """The subfeeds that have messages, where this feed is looked for."""
        found = {
            tuple(name.split("/")[2:4])
            for backend in self._backends
            for name in backend.names(f"{FOLDER}/{self._feed_id}")
        }
        return sorted({one[0] for one in found if is_subfeed(one[0]) and one[1:] != (INBOX,)})

    def create_snapshot(self, subfeed_names: Sequence[Any]) -> Feed:
        """Store what these subfeeds have now as a file, and return it as a feed that does not change."""
        if self._snapshot is None:
            raise NotWriteable("a snapshot has no snapshots: it is one")
        logs = []
        for name in subfeed_names:
            place = place_of(self._feed_id, name)
            log = Log(self._backend(place), place, self._memory)
            log.refresh()
            logs.append(log)
        return self._snapshot(logs)

    def _backend(self, place: Place) -> Backend:
        for backend in self._backends:
            for name in (place.checkpoint, place.staged(0)):
                if len(self._backends) > 1 and _has(backend, name):
                    return backend
        return self._backends[0]

    def __repr__(self) -> str:
        return f"Feed({self.uri!r})"


def _has(backend: Backend, name: str) -> bool:
    try:
        backend.read(name, 0, 1)
    except NotFound:
        return False
    return True
