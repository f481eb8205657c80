"""redun."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from redun import Scheduler, task
from redun.config import Config

from .adapter import Adapter


class Peer(Adapter):
    """Its scheduler in this process, its database in the folder."""

    def open(self) -> None:
        database = f"sqlite:///{os.path.join(self.folder, 'redun.db')}"
        self.scheduler = Scheduler(config=Config({"backend": {"db_uri": database}}))
        self.scheduler.load()

    def memoize(self, function: Callable[..., Any]) -> Callable[..., Any]:
        made = task(namespace="peers")(function)

        def memoized(*args: Any) -> Any:
            return self.scheduler.run(made(*args))

        return memoized
