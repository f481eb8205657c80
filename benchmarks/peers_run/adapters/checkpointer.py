"""checkpointer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from checkpointer import Checkpointer

from .adapter import Adapter


class Peer(Adapter):
    """With its defaults, in silence."""

    def open(self) -> None:
        self.checkpoint = Checkpointer(directory=self.folder, verbosity=0)

    def memoize(self, function: Callable[..., Any]) -> Callable[..., Any]:
        memoized: Callable[..., Any] = self.checkpoint(function)
        return memoized
