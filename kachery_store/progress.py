"""A progress bar in bytes, on a terminal and in notebooks, for what lasts longer than two seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SHOW_AFTER = 2.0  # seconds


class _Bar:
    def __init__(self, title: str, total: int | None, unit: str) -> None:
        self._options = {"desc": title, "total": total, "unit": unit, "unit_scale": unit == "B"}
        self._due = time.monotonic() + SHOW_AFTER
        self._bar: Any = None
        self._unseen = 0

    def add(self, size: int) -> None:
        self._unseen += size
        if self._bar is None and time.monotonic() >= self._due:
            from tqdm.auto import tqdm

            self._bar = tqdm(**self._options)
        if self._bar is not None:
            self._bar.update(self._unseen)
            self._unseen = 0

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()


@contextmanager
def progress_bar(
    title: str, total: int | None, *, unit: str = "B", always: bool = False
) -> Iterator[Callable[[int], object]]:
    """A function to be told the number of bytes after each piece; it shows them after a while.

    With another `unit`, it is told the number of those.

    Nothing is shown where nobody watches, unless `always`.
    """
    if not (always or sys.stderr.isatty() or "ipykernel" in sys.modules):
        yield lambda size: None  # noqa: ARG005
        return
    bar = _Bar(title, total, unit)
    try:
        yield bar.add
    finally:
        bar.close()
