"""diskcache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diskcache import Cache

from .adapter import Adapter

_ROOM = 1 << 40  # bytes; its default forgets the oldest beyond 1 GB


class Peer(Adapter):
    """With its defaults, but for the limit of its size."""

    def open(self) -> None:
        self.cache = Cache(self.folder, size_limit=_ROOM)

    def memoize(self, function: Callable[..., Any]) -> Callable[..., Any]:
        memoized: Callable[..., Any] = self.cache.memoize()(function)
        return memoized

    def results(self) -> int:
        return len(list(self.cache))
