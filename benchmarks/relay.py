"""A relay before a server on this machine, that makes it as far away as one in another town."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

_PIECE = 1 << 18


class Relay:
    """Passes on what comes, each way half of `seconds` later. `endpoint` is its URL.

    It delays, and lets as many bytes through as come: what is sent together arrives together.
    """

    def __init__(self, upstream: str, seconds: float) -> None:
        parts = urlsplit(upstream)
        self._upstream = parts.hostname, parts.port
        self._delay = seconds / 2
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.endpoint = ""

    def __enter__(self) -> Self:
        self._thread.start()
        started = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(started, self._loop).result()
        self.endpoint = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # what was closed is let go of in the next round

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            there, back = await asyncio.open_connection(*self._upstream)
            writers.append(back)
            await asyncio.gather(self._later(reader, back), self._later(there, writer))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for one in writers:
                one.close()

    async def _later(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction, until its end."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sending = asyncio.create_task(self._send(waiting, writer))
        with suppress(OSError):
            while data := await reader.read(_PIECE):
                waiting.put_nowait((self._loop.time() + self._delay, data))
        waiting.put_nowait((self._loop.time() + self._delay, b""))
        await sending

    async def _send(
        self, waiting: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while True:
                due, data = await waiting.get()
                await asyncio.sleep(due - self._loop.time())
                if not data:
                    break
                writer.write(data)
                await writer.drain()
        writer.close()
