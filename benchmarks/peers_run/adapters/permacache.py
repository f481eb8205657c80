"""permacache."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

from permacache import permacache, stable_hash

from .adapter import Adapter

_LARGE = ("array", "entries", "frame")  # parameters whose arguments are known by a digest


class Peer(Adapter):
    """One file for each result, which is what it offers for large ones."""

    def memoize(self, function: Callable[..., Any]) -> Callable[..., Any]:
        digests = {
            name: stable_hash for name in inspect.signature(function).parameters if name in _LARGE
        }
        memoized: Callable[..., Any] = permacache(
            os.path.join(self.folder, function.__name__),
            key_function=digests,
            shelf_type="individual-file",
        )(function)
        return memoized
