"""mandala (on PyPI: pymandala)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from mandala.imports import Storage, op

from .adapter import Adapter


class Peer(Adapter):
    """Its storage in one SQLite file, large values beside it; what a call made is committed at its end."""

    def open(self) -> None:
        large = os.path.join(self.folder, "large")
        os.makedirs(large, exist_ok=True)
        self.storage = Storage(db_path=os.path.join(self.folder, "calls.db"), overflow_dir=large)

    def memoize(self, function: Callable[..., Any]) -> Callable[..., Any]:
        remembered = op(function)
        storage = self.storage

        def memoized(*args: Any) -> Any:
            with storage:
                return storage.unwrap(remembered(*args))

        return memoized
