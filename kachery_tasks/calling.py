"""Calling a task's function: the only place where that happens, and where a call is tried again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import wait
from typing import Any, TypeVar

from kachery_store.errors import (
    Busy,
    DownloadFailed,
    DownloadRefused,
    KacheryError,
    OutOfReach,
    StoreUnavailable,
)

from .awaiting import completed, started
from .binding import Arguments
from .definition import Definition
from .errors import NotStored, RunFailed, TookTooLong
from .kept_errors import is_kept
from .purity import running
from .settings import applied, current
from .summary import call_text, summary_of

FIRST_WAIT, LONGEST_WAIT = 0.1, 10.0  # seconds before a run is tried again; they double

_GRACE = 1.0  # seconds that a coroutine has to end in when it is cancelled
_MAY_CHANGE = (Busy, DownloadFailed, OutOfReach, RunFailed, StoreUnavailable, TookTooLong)

_log = logging.getLogger("kachery.tasks")

T = TypeVar("T")


class Tries:
    """How often a function was called for one run; `after_failure` is called before each next time."""

    def __init__(self, after_failure: Callable[[], object] = lambda: None) -> None:
        self.count = 0
        self.after_failure = after_failure


def call(
    definition: Definition, arguments: Arguments, tries: Tries | None = None, *, job_id: str = ""
) -> Any:
    """Call a task's function for a job, within its `timeout`, and up to `retries` times again.

    Jobs that it starts run in this process, on threads of their own: whoever waits for this job may
    hold all places on the cluster, or in the pool that this thread belongs to.
    """
    settings = current()
    if settings.read_only:
        raise NotStored(f"{definition.name} would have to run, and read_only=True")
    inside = settings.changed(client=None, refresh=settings.refresh_inside())
    with applied(inside), running(definition, job_id):
        if definition.policy.retries:
            return _persistently(definition, arguments, tries or Tries())
        if tries is not None:
            tries.count = 1
        return _once(definition, arguments)


def _persistently(definition: Definition, arguments: Arguments, tries: Tries) -> Any:
    pause = FIRST_WAIT
    while True:
        tries.count += 1
        try:
            return _once(definition, arguments)
        except Exception as error:
            if tries.count > definition.policy.retries or not _may_change(definition, error):
                raise
            _log.warning(
                "%s failed (attempt %d of %d): %s: %s; again in %.3g s",
                definition.name,
                tries.count,
                definition.policy.retries + 1,
                type(error).__name__,
                error,
                pause,
            )
        tries.after_failure()
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_WAIT)


def _may_change(definition: Definition, error: Exception) -> bool:
    """Whether another attempt may end in another way."""
    if isinstance(error, KacheryError):
        return isinstance(error, _MAY_CHANGE) and not isinstance(error, DownloadRefused)
    return not is_kept(error, definition.policy.cache_errors)


def _once(definition: Definition, arguments: Arguments) -> Any:
    if definition.policy.timeout is not None:
        return _limited(definition, arguments, definition.policy.timeout)
    value = definition.parameters.call(arguments)
    return completed(value) if definition.is_async else value


def _limited(definition: Definition, arguments: Arguments, seconds: float) -> Any:
    """Call a function in a thread, which is left to itself when it takes too long."""

    def run() -> Any:
        value = definition.parameters.call(arguments)
        return completed(_cancelled_after(seconds, value)) if definition.is_async else value

    future = started(run)
    patience = seconds + _GRACE if definition.is_async else seconds
    try:
        if wait([future], patience).done:
            return future.result()
    except _Expired:
        pass
    raise TookTooLong(
        f"{_shown(definition, arguments)} took longer than its timeout of {seconds:g} s. Give it more"
        " with timeout=, or let it do less"
    )


def _shown(definition: Definition, arguments: Arguments) -> str:
    texts = {
        name: "secret" if name in definition.secret else summary_of(arguments[name])
        for name in definition.identifying
    }
    return call_text(definition.name, texts)


class _Expired(Exception):
    """A coroutine was cancelled because its time was over."""


async def _cancelled_after(seconds: float, coroutine: Coroutine[Any, Any, T]) -> T:
    import asyncio

    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await coroutine
    except TimeoutError:
        if limit.expired():
            raise _Expired from None
        raise  # the function's own
