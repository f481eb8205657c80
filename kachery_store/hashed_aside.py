"""Hashing what is being written, in a thread of its own: both then cost the longer of the two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .digest import Digest, new_hasher

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor
    from typing import Self

    from typing_extensions import Buffer

_ASIDE_FROM = 1 << 20  # bytes; a thread is not worth it for less


class HashedAside:
    """The digest of pieces that come one after the other.

    A piece must stay as it is until the next call of `update` or `digest` returns.
    """

    def __init__(self, algorithm: str) -> None:
        self._algorithm = algorithm
        self._hasher = new_hasher(algorithm)
        self._pool: ThreadPoolExecutor | None = None
        self._last: Future[Any] | None = None

    def update(self, piece: Buffer) -> None:
        """Take in a piece; the one before has been hashed when this returns."""
        self._wait()
        if self._pool is None and memoryview(piece).nbytes < _ASIDE_FROM:
            self._hasher.update(piece)
            return
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(1, thread_name_prefix="kachery-hash")
        try:
            self._last = self._pool.submit(self._hasher.update, piece)
        except RuntimeError:  # the interpreter is shutting down
            self._hasher.update(piece)

    def digest(self) -> Digest:
        """The digest of all pieces so far."""
        self._wait()
        return Digest(self._algorithm, self._hasher.hexdigest())

    def _wait(self) -> None:
        if self._last is not None:
            self._last.result()
            self._last = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()
