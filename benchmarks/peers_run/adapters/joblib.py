"""joblib.Memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from joblib import Memory

from .adapter import Adapter


class Peer(Adapter):
    """With its defaults."""

    def open(self) -> None:
        self.memory = Memory(self.folder, verbose=0)

    def memoize(self, function: Callable[..., Any]) -> Callable[..., Any]:
        memoized: Callable[..., Any] = self.memory.cache(function)
        return memoized
