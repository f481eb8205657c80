"""Prefect."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from .adapter import Adapter


class Peer(Adapter):
    """A task outside a flow, known by its arguments and its source; with a server of its own."""

    def open(self) -> None:
        os.environ.update(
            PREFECT_HOME=self.folder,
            PREFECT_LOCAL_STORAGE_PATH=os.path.join(self.folder, "results"),
            PREFECT_LOGGING_LEVEL="ERROR",
            PREFECT_SERVER_ANALYTICS_ENABLED="false",
            DO_NOT_TRACK="1",
        )

    def memoize(self, function: Callable[..., Any]) -> Callable[..., Any]:
        # Imported after `open` has said where everything is kept.
        from prefect import task
        from prefect.cache_policies import INPUTS, TASK_SOURCE

        memoized: Callable[..., Any] = task(
            cache_policy=INPUTS + TASK_SOURCE, persist_result=True, log_prints=False
        )(function)
        return memoized
