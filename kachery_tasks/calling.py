"""Calling a task's function: the only place where that happens, and where a call is tried again."""

from __future__ import annotations

import datetime
import logging
import os
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, wait
from pathlib import PurePath
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
from .purity import Seen, running
from .settings import applied, current
from .summary import call_text, summary_of

FIRST_WAIT, LONGEST_WAIT = 0.1, 10.0  # seconds before a run is tried again; they double

_GRACE = 1.0  # seconds that a coroutine has to end in when it is cancelled
_MAY_CHANGE = (Busy, DownloadFailed, OutOfReach, RunFailed, StoreUnavailable, TookTooLong)

# Whoever else has one of these cannot change it.
_CONSTANT = (
    str,
    bytes,
    int,
    float,
    complex,
    type(None),
    PurePath,
    datetime.date,
    datetime.timedelta,
)

# Runs that took too long and still go on, and which arguments they may still change.
_left_alone: dict[Future[Any], list[Any]] = {}
os.register_at_fork(after_in_child=_left_alone.clear)

_log = logging.getLogger("kachery.tasks")

T = TypeVar("T")


class Tries:
    """How often a function was called for one run; `after_failure` is called before each next time.

    `is_shared`: a run that took too long was still using the same arguments meanwhile. `seen`: what the
    last call has asked for and read; what one that took too long still asks for is not in it.
    """

    def __init__(self, after_failure: Callable[[], object] = lambda: None) -> None:
        self.count = 0
        self.seen = Seen()
        self.is_shared = False
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
    with applied(inside):
        tries = tries or Tries()
        if definition.policy.retries:
            return _persistently(definition, arguments, tries, job_id)
        return _counted(definition, arguments, tries, job_id)


def _persistently(definition: Definition, arguments: Arguments, tries: Tries, job_id: str) -> Any:
    pause = FIRST_WAIT
    while True:
        try:
            return _counted(definition, arguments, tries, job_id)
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


def _counted(definition: Definition, arguments: Arguments, tries: Tries, job_id: str) -> Any:
    tries.count += 1
    tries.is_shared = _is_shared(definition, arguments)
    with running(definition, job_id) as tries.seen:
        return _once(definition, arguments)


def _is_shared(definition: Definition, arguments: Arguments) -> bool:
    """Whether a run that was left alone may change these arguments, and change them back, unseen."""
    if not _left_alone:
        return False
    theirs = {id(one) for held in _left_alone.copy().values() for one in held}
    return any(id(one) in theirs for one in _changeable(definition, arguments))


def _changeable(definition: Definition, arguments: Arguments) -> list[Any]:
    found: list[Any] = []
    others = definition.parameters._others  # noqa: SLF001 - what `**` catches
    waiting: list[Any] = [arguments[name] for name in definition.identifying]
    while waiting:
        one = waiting.pop()
        if type(one) is tuple:
            waiting += one
        elif others is not None and one is arguments[others]:
            waiting += one.values()  # the call makes a dictionary of its own of it
        elif not isinstance(one, _CONSTANT):
            found.append(one)
    return found


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
    finally:
        _leave_alone(future, definition, arguments)
    raise TookTooLong(
        f"{_shown(definition, arguments)} took longer than its timeout of {seconds:g} s. Give it more"
        " with timeout=, or let it do less"
    )


def _leave_alone(run: Future[Any], definition: Definition, arguments: Arguments) -> None:
    if not run.done():
        _left_alone[run] = _changeable(definition, arguments)
        run.add_done_callback(lambda run: _left_alone.pop(run, None))


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
            value = await coroutine
    except Exception:
        if limit.expired():
            raise _Expired from None
        raise  # the function's own, even if it is a TimeoutError
    if limit.expired():  # it caught the cancellation: this is what it had by then
        raise _Expired
    return value
