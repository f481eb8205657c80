"""Async functions: their results where nothing is awaited, and threads for those who await."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


def completed(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, run in an event loop of its own."""
    import asyncio

    if _is_in_loop():
        return started(
            lambda: asyncio.run(coroutine)
        ).result()  # this thread's loop is busy with us
    return asyncio.run(coroutine)


def _is_in_loop() -> bool:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def in_thread(function: Callable[[], T]) -> T:
    """The result of a function that runs in a thread of its own, in a copy of this context.

    Not in a pool, whose places could all be taken by those who wait for each other.
    """
    future = started(function)
    await done(future)
    return future.result()


async def done(future: Future[Any]) -> None:
    """Wait for a future of another thread, whatever becomes of it.

    asyncio's own bridge never ends for one that raises StopIteration.
    """
    import asyncio

    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not waiting.done():
            waiting.set_result(None)

    def tell(_: Future[Any]) -> None:
        with suppress(RuntimeError):  # nobody waits any more: the loop is closed
            loop.call_soon_threadsafe(wake)

    future.add_done_callback(tell)
    await waiting


def started(function: Callable[[], T]) -> Future[T]:
    """A function, started in a daemon thread of its own, in a copy of this context."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            result = function()
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            with suppress(InvalidStateError):  # nobody waits any more
                future.set_exception(error)
        else:
            with suppress(InvalidStateError):
                future.set_result(result)

    context = copy_context()
    threading.Thread(target=context.run, args=(run,), name="kachery-async", daemon=True).start()
    return future
