"""kachery, from the working tree."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

import kachery

from .adapter import Adapter


class Peer(Adapter):
    """With its defaults."""

    def open(self) -> None:
        os.environ["KACHERY_DIR"] = self.folder

    def memoize(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return kachery.task(function)

    def settle(self) -> None:
        flusher = sys.modules.get("kachery_store.flusher")
        if flusher is not None:
            flusher.sync_pending()

    def results(self) -> int:
        from kachery_tasks.settings import current

        return len(list(current().store.jobs.names()))

    def map_on(
        self, client: Any, function: Callable[..., Any], items: Iterable[int], runs: str
    ) -> list[Any]:
        with kachery.using(dir=self.folder, client=client):
            jobs = kachery.task(function).map(items, runs=runs, progress=False)
            return list(kachery.gather(jobs, progress=False))
