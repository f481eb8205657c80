"""Calling a task's function: the only place where that happens."""

from __future__ import annotations

from typing import Any

from .awaiting import completed
from .binding import Arguments
from .definition import Definition
from .errors import NotStored
from .purity import running
from .settings import applied, current


def call(definition: Definition, arguments: Arguments) -> Any:
    """Call a task's function.

    Jobs that it starts run in this process, on threads of their own: whoever waits for this job may
    hold all places on the cluster, or in the pool that this thread belongs to.
    """
    settings = current()
    if settings.read_only:
        raise NotStored(f"{definition.name} would have to run, and read_only=True")
    inside = settings.changed(client=None, refresh=settings.refresh_inside())
    with applied(inside), running(definition):
        value = definition.parameters.call(arguments)
        return completed(value) if definition.is_async else value
