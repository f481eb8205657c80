"""Progress bars: on a terminal and in notebooks, for what takes longer than two seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

_SHOW_AFTER = 2.0  # seconds
_REFRESH_EVERY = 0.5


class Progress:
    """A count that becomes visible when it has run for a while. This one never does."""

    def add(self, n: int = 1) -> None:
        """Count `n` more."""

    def look(self) -> None:
        """Show how things are, without counting."""

    def close(self) -> None:
        """End the display."""


class _Visible(Progress):
    def __init__(self, title: str, total: int) -> None:
        self._options = {"desc": title, "total": total, "unit": "job"}
        self._due = time.monotonic() + _SHOW_AFTER
        self._bar: Any = None
        self._unseen = 0

    def add(self, n: int = 1) -> None:
        self._unseen += n
        self.look()

    def look(self) -> None:
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
def progress_of(title: str, total: int, *, wanted: bool) -> Iterator[Progress]:
    """A progress bar for a with-block; silent where nobody watches, and if it is not wanted."""
    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    progress = _Visible(title, total) if wanted and watched else Progress()
    try:
        yield progress
    finally:
        progress.close()


def wait_for(futures: Collection[Future[Any]], *, served: int, progress: bool) -> None:
    """Return when all are done, whatever became of them, with a progress bar that counts them.

    `served` of them were known from the beginning.
    """
    ended: SimpleQueue[Future[Any]] = SimpleQueue()
    for future in futures:
        future.add_done_callback(ended.put)
    title = f"jobs ({served} served)" if served else "jobs"
    with progress_of(title, len(futures), wanted=progress) as bar:
        for _ in futures:
            while True:
                try:
                    ended.get(timeout=_REFRESH_EVERY)
                    break
                except Empty:
                    bar.look()
            bar.add()
