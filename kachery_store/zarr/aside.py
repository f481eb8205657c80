"""Work aside from the event loop of zarr.

Not in the loop's own threads: codecs wait for these, so that all of them could wait for each other.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_threads: ThreadPoolExecutor | None = None


async def aside(work: Callable[..., T], *args: object) -> T:
    """What a function returns, called in a thread."""
    global _threads
    if _threads is None:
        count = min(32, (os.cpu_count() or 1) + 4)
        _threads = ThreadPoolExecutor(count, thread_name_prefix="kachery-zarr")
    return await asyncio.get_running_loop().run_in_executor(_threads, work, *args)


def _forget_after_fork() -> None:
    global _threads
    _threads = None


os.register_at_fork(after_in_child=_forget_after_fork)
