"""Waiting for many runs, with a progress bar."""

from __future__ import annotations

import time
from collections.abc import Collection
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any

from kachery_store.progress import progress_of

_REFRESH_EVERY = 0.5  # seconds


def wait_for(futures: Collection[Future[Any]], *, served: int, progress: bool) -> None:
    """Return when all are done, whatever became of them, with a progress bar that counts them.

    `served` of them were known from the beginning. The bar tells how many run, as far as this process
    knows, and how many have failed.
    """
    ended: SimpleQueue[Future[Any]] = SimpleQueue()
    for future in futures:
        future.add_done_callback(ended.put)
    failed = 0
    said = time.monotonic()

    def state() -> str:
        counts = {
            "served": served,
            "running": sum(future.running() for future in futures),
            "failed": failed,
        }
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count)

    with progress_of("jobs", len(futures), unit="job", wanted=progress) as bar:
        for _ in futures:
            while (done := _next(ended)) is None:
                bar.say(state)
            failed += int(done.cancelled() or done.exception() is not None)
            bar.add()
            if time.monotonic() - said > _REFRESH_EVERY:
                said = time.monotonic()
                bar.say(state)
        bar.say(state)


def _next(ended: SimpleQueue[Future[Any]]) -> Future[Any] | None:
    try:
        return ended.get(timeout=_REFRESH_EVERY)
    except Empty:
        return None
