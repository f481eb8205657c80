"""Bytes by digest.

Every byte is checked against its digest before it is handed out. A file that was checked is
remembered for the life of the process, so that its bytes are hashed once; it is checked again as
soon as the file system says that it changed.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from io import FileIO
from itertools import cycle
from typing import TYPE_CHECKING

from .digest import Digest, hash_buffer
from .errors import DamagedWarning, DigestMismatch, NotFound
from .hashed_aside import HashedAside
from .local_backend import LocalBackend
from .saying import warn
from .sweep import refresh

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from .local_backend import TemporaryFile

_PIECE = 4 << 20
_SMALLEST = 1 << 16
_ATTEMPTS = 3  # against others who store, or take away, the same blob at the same moment
# A file changed twice within one tick of the file system's clock shows one time for both, so a file
# that changed this recently is not remembered as checked.
_SETTLED_NANOSECONDS = 50_000_000

_State = tuple[int, int, int, int, int]


class Blobs:
    """The blobs of one store."""

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend
        self._checked: set[_State] = set()

    def put(self, digest: Digest, data: Buffer, *, durable: bool) -> None:
        """Store bytes whose digest is known; nothing is written when they are there, and intact."""
        for _ in range(_ATTEMPTS):
            if self._is_kept(digest):
                if durable:
                    self._backend.sync(digest.path)
                return
            if self._backend.create(digest.path, data, durable=durable):
                return

    def put_unhashed(self, data: Buffer) -> Digest:
        """Store bytes by BLAKE3 that are hashed while they are written; returns their digest.

        For large ones, which are unlikely to be there: those that are turn out to be so after they
        have been written once more. StoreUnavailable.
        """
        with self._backend.temporary() as temporary, HashedAside("blake3") as hashed:
            hashed.update(data)
            temporary.write(data)
            digest = hashed.digest()
            self._name(temporary, digest, durable=False)
        return digest

    def put_file(
        self, source: str, algorithm: str, progress: Callable[[int], object]
    ) -> tuple[Digest, int]:
        """Copy a file into the store in one reading; returns its digest and size, durably stored.

        What is stored is what was hashed, also when the file changes meanwhile. `progress` is told
        the number of bytes after each piece. OSError for the source, StoreUnavailable for the store.
        """
        try:
            return self._copy(source, algorithm, progress)
        except _SourceError as error:
            raise error.reason from None

    def _copy(
        self, source: str, algorithm: str, progress: Callable[[int], object]
    ) -> tuple[Digest, int]:
        size = 0
        with (
            open(source, "rb", buffering=0) as file,
            self._backend.temporary() as temporary,
            HashedAside(algorithm) as hashed,
        ):
            for piece in _pieces(file):
                hashed.update(piece)
                temporary.write(piece)
                size += len(piece)
                progress(len(piece))
            digest = hashed.digest()
            self._name(temporary, digest, durable=True)
        return digest, size

    def _name(self, temporary: TemporaryFile, digest: Digest, *, durable: bool) -> None:
        """Make what was written a blob, unless that is there, and intact."""
        for _ in range(_ATTEMPTS):
            if self._is_kept(digest):
                if durable:
                    self._backend.sync(digest.path)
                return
            if temporary.commit(digest.path, durable=durable):
                return

    def read(self, digest: Digest) -> bytes:
        """All bytes of a blob, checked. NotFound, or DigestMismatch after it was set aside."""
        seen = self._backend.stat(digest.path)
        data = self._backend.read(digest.path)
        self._check(digest, data, seen)
        return data

    def read_range(self, digest: Digest, start: int, end: int) -> bytes:
        """Some bytes of a blob, all of which was checked. Errors as for `read`."""
        self.path(digest)
        return self._backend.read(digest.path, start, end)

    def size(self, digest: Digest) -> int:
        """The number of bytes of a blob; NotFound."""
        status = self._backend.stat(digest.path)
        if status is None:
            raise NotFound(f"{digest} is not in the store at {self._backend.root}")
        return status.st_size

    def keep(self, digest: Digest, size: int, since: float = 0.0) -> bool:  # noqa: ARG002
        """Count on a blob of that size from now on: no collection takes it. False when it is not there.

        Its bytes are not looked at. `since`: when this store is known to have stored it, in seconds
        since 1970.
        """
        status = self._backend.stat(digest.path)
        there = status is not None and status.st_size == size
        return there and refresh(self._backend, digest.path)

    def map(self, digest: Digest) -> memoryview:
        """The bytes of a blob, checked and memory-mapped; writing to them stays in this process.

        NotFound, or DigestMismatch after the damaged file was set aside.
        """
        status = self._backend.stat(digest.path)
        if status is None or status.st_size == 0:  # an empty file cannot be mapped
            return memoryview(bytearray(self.read(digest)))
        mapped, status = self._backend.map(digest.path)
        if _state_of(status) not in self._checked:
            self._check(digest, mapped, status)
        return memoryview(mapped)

    def path(self, digest: Digest) -> str:
        """The path of the blob's file, checked; treat it as read-only. Errors as for `read`."""
        status = self._backend.stat(digest.path)
        if status is None or _state_of(status) not in self._checked:
            self.map(digest)
        return self._backend.path(digest.path)

    def _is_kept(self, digest: Digest) -> bool:
        """Whether a blob is there and intact; if so, no collection under way takes it from now on."""
        return self._is_good(digest) and refresh(self._backend, digest.path)

    def _is_good(self, digest: Digest) -> bool:
        try:
            self.path(digest)
        except (NotFound, DigestMismatch):
            return False
        return True

    def _check(self, digest: Digest, data: Buffer, status: os.stat_result | None) -> None:
        if hash_buffer(digest.algorithm, data) != digest.hex:
            raise DigestMismatch(_damaged(self._backend, digest, status))
        if status is not None and time.time_ns() - status.st_ctime_ns > _SETTLED_NANOSECONDS:
            self._checked.add(_state_of(status))


class _SourceError(Exception):
    """Carries an error of the user's file past the backend, which takes any OSError for its own."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(reason)
        self.reason = reason


def _pieces(file: FileIO) -> Iterator[memoryview]:
    """The pieces of a user's file, by turns in two buffers: one may be hashed while one is filled."""
    found = os.fstat(file.fileno())
    small = stat.S_ISREG(found.st_mode) and found.st_size < _PIECE
    size = max(found.st_size + 1, _SMALLEST) if small else _PIECE
    buffers = [memoryview(bytearray(size)) for _ in range(2)]
    for buffer in cycle(buffers):
        try:
            filled = file.readinto(buffer)
        except OSError as error:
            error.filename = file.name
            raise _SourceError(error) from error
        if not filled:
            return
        yield buffer[:filled]


def _damaged(backend: LocalBackend, digest: Digest, seen: os.stat_result | None) -> str:
    return set_aside(backend, digest.path, f"{digest} is damaged", seen)


def set_aside(
    backend: LocalBackend, name: str, what: str, seen: os.stat_result | None = None
) -> str:
    """Quarantine a file and say so with a DamagedWarning; returns the sentence.

    `what` says which thing it is and what is wrong with it.
    """
    moved = backend.quarantine(name, seen)
    where = f"moved to {moved}" if moved else "it has been moved away already"
    sentence = f"{what} in the store at {backend.root}; {where}"
    warn(DamagedWarning(sentence))
    return sentence


def _state_of(status: os.stat_result) -> _State:
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
