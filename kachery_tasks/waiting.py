"""Waiting for many runs, with a progress bar."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any

from kachery_store.progress import progress_of

_REFRESH_EVERY = 0.5  # seconds


def wait_for(futures: Collection[Future[Any]], *, served: int, progress: bool) -> None:
    """Return when all are done, whatever became of them, with a progress bar that counts them.

    `served` of them were known from the beginning.
    """
    ended: SimpleQueue[Future[Any]] = SimpleQueue()
    for future in futures:
        future.add_done_callback(ended.put)
    title = f"jobs ({served} served)" if served else "jobs"
    with progress_of(title, len(futures), unit="job", wanted=progress) as bar:
        for _ in futures:
            while True:
                try:
                    ended.get(timeout=_REFRESH_EVERY)
                    break
                except Empty:
                    bar.look()
            bar.add()
