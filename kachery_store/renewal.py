"""Counting on what a zone has already.

What a writer finds there may be old, and named by nothing that a collection of garbage sees. So it is
written again when it is older than half of the grace period: what anybody counts on is young from then
on, and no collection takes it before the record that names it is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .backend import Backend, Status
from .collecting import GRACE, await_verdict, server_time
from .errors import StoreUnavailable
from .local_backend import LocalBackend
from .sweep import refresh

if TYPE_CHECKING:
    from typing_extensions import Buffer

RENEW_AFTER = GRACE / 2

_CLOCK_SECONDS = 600.0  # for which a server's clock is reckoned from what it last said
_ATTEMPTS = 5
# A clock that goes on while the machine sleeps.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

_clocks: dict[str, tuple[float, float]] = {}  # of servers: what it said, and when we asked


def put(zone: Backend, name: str, data: Buffer) -> None:
    """Have bytes under a name in a zone, durably. Raises StoreUnavailable."""
    if not zone.create(name, data, durable=True):
        put_unless_there(zone, name, data)


def put_unless_there(zone: Backend, name: str, data: Buffer) -> None:
    """As `put`, for bytes that the zone may well have: it is asked before anything is sent."""
    found = zone.status(name)
    if found is None:
        if zone.create(name, data, durable=True):
            return
        found = zone.status(name)
    if found is None or found.size != memoryview(data).nbytes:
        keep(zone, name, lambda: zone.replace(name, data))
    elif isinstance(zone, LocalBackend):  # renewing costs nothing there
        keep(zone, name, lambda: refresh(zone, name) or zone.create(name, data, durable=True))
    elif is_old(zone, found):
        keep(zone, name, lambda: zone.replace(name, data))


def keep(zone: Backend, name: str, renew: Callable[[], object]) -> None:
    """Renew something that a collection under way may have taken for old, until it is safe."""
    for _ in range(_ATTEMPTS):
        renew()
        await_verdict(zone, name)
        if zone.status(name) is not None:
            return
    raise StoreUnavailable(
        f"{name} is deleted at {zone.url} as often as it is written; see `kachery doctor`",
        place=zone.url,
    )


def is_old(zone: Backend, found: Status) -> bool:
    """Whether something in a zone has to be renewed by who counts on it."""
    return _now(zone) - found.modified > RENEW_AFTER


def _now(zone: Backend) -> float:
    """The server's time, or a little more."""
    asked = time.clock_gettime(_CLOCK)
    said, when = _clocks.get(zone.url, (0.0, float("-inf")))
    if asked - when > _CLOCK_SECONDS:
        said, when = _clocks[zone.url] = server_time(zone), asked
    return said + time.clock_gettime(_CLOCK) - when
