"""cachier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cachier import cachier

from .adapter import Adapter


class Peer(Adapter):
    """On files, one for each result: with one file for all, each miss writes all of them again."""

    def memoize(self, function: Callable[..., Any]) -> Callable[..., Any]:
        memoized: Callable[..., Any] = cachier(cache_dir=self.folder, separate_files=True)(function)
        return memoized
