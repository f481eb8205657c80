"""Places: where the bytes of a URI are. Each can give a path, all bytes, some bytes, and the size."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from .digest import Digest, new_hasher
from .errors import DigestMismatch, NotFound, OutOfReach
from .local_backend import LocalBackend
from .manifest import Manifest
from .own_files import OwnFiles

if TYPE_CHECKING:
    from typing_extensions import Buffer


_WHAT_NEXT = "store the file here first, or point KACHERY_DIR at the store that has it"


class BlobSource(Protocol):
    """What named files need of blobs: those of this machine, or with a zone behind them."""

    def path(self, digest: Digest) -> str:
        """The path of the blob's file here, checked."""

    def read(self, digest: Digest) -> bytes:
        """All bytes of a blob, checked."""

    def read_range(self, digest: Digest, start: int, end: int) -> bytes:
        """Some bytes of a blob, checked."""

    def size(self, digest: Digest) -> int:
        """The number of bytes of a blob; NotFound."""

    def put(self, digest: Digest, data: Buffer, *, durable: bool) -> None:
        """Store bytes whose digest is known."""

    def put_file(
        self, source: str, algorithm: str, progress: Callable[[int], object]
    ) -> tuple[Digest, int]:
        """Copy a file into the store in one reading; returns its digest and size."""


class Place(Protocol):
    """Where the bytes of a URI are."""

    def path(self) -> str:
        """The path of a file with all the bytes."""

    def read(self) -> bytes:
        """All bytes."""

    def read_range(self, start: int, end: int) -> bytes:
        """The bytes from `start` up to, not including, `end`."""

    def size(self) -> int:
        """The number of bytes."""


class StoredBlob:
    """A blob of the store, or of the zone behind it."""

    def __init__(self, blobs: BlobSource, digest: Digest) -> None:
        self._blobs = blobs
        self._digest = digest

    def path(self) -> str:
        """As of Place."""
        with _advice():
            return self._blobs.path(self._digest)

    def read(self) -> bytes:
        """As of Place."""
        with _advice():
            return self._blobs.read(self._digest)

    def read_range(self, start: int, end: int) -> bytes:
        """As of Place."""
        with _advice():
            return self._blobs.read_range(self._digest, start, end)

    def size(self) -> int:
        """As of Place."""
        with _advice():
            return self._blobs.size(self._digest)


class PlainFile:
    """A file that the user names by its path; there is nothing to check it against."""

    def __init__(self, path: str) -> None:
        self._path = path

    def path(self) -> str:
        """As of Place."""
        return self._path

    def read(self) -> bytes:
        """As of Place."""
        return self.read_range(0, self.size())

    def read_range(self, start: int, end: int) -> bytes:
        """As of Place."""
        with open(self._path, "rb") as file:
            file.seek(start)
            return file.read(end - start)

    def size(self) -> int:
        """As of Place."""
        return os.stat(self._path).st_size


class OwnFile(PlainFile):
    """A file of the user's own that was found to have the bytes of a digest."""

    def __init__(self, path: str, own_files: OwnFiles, digest: Digest) -> None:
        super().__init__(path)
        self._own_files = own_files
        self._digest = digest

    def read_range(self, start: int, end: int) -> bytes:
        """As of Place."""
        data = super().read_range(start, end)
        if not self._own_files.matches(self._path, self._digest):
            raise DigestMismatch(
                f"{self._path} changed while it was read; it is {self._digest} no more"
            )
        return data


class Parts:
    """A large file that is not here, and whose URI names its manifest.

    A range is read from the parts that hold it, each of which is checked. The whole comes from the zone,
    or else is put together here from its parts and checked again.
    """

    def __init__(
        self, backend: LocalBackend, blobs: BlobSource, manifest: Manifest, *, local_only: bool
    ) -> None:
        self._backend = backend
        self._blobs = blobs
        self._manifest = manifest
        self._local_only = local_only

    def path(self) -> str:
        """As of Place."""
        whole = self._manifest.digest
        with _advice():
            if not self._local_only:
                with suppress(NotFound):
                    return self._blobs.path(whole)
            self._assemble()
            return self._blobs.path(whole)

    def read(self) -> bytes:
        """As of Place."""
        self.path()
        return self._blobs.read(self._manifest.digest)

    def read_range(self, start: int, end: int) -> bytes:
        """As of Place."""
        try:
            return b"".join(self._pieces(start, end))
        except NotFound:  # a zone may keep the file whole
            with _advice():
                return self._blobs.read_range(self._manifest.digest, start, end)

    def size(self) -> int:
        """As of Place."""
        return self._manifest.size

    def _pieces(self, start: int, end: int) -> Iterator[bytes]:
        for part in self._manifest.parts_of(start, end):
            first, last = max(start, part.start), min(end, part.end)
            yield self._blobs.read_range(part.digest, first - part.start, last - part.start)

    def _assemble(self) -> None:
        whole = self._manifest.digest
        hasher = new_hasher(whole.algorithm)
        with self._backend.temporary() as temporary:
            for part in self._manifest.parts:
                piece = self._blobs.read(part.digest)
                hasher.update(piece)
                temporary.write(piece)
            if hasher.hexdigest() != whole.hex:
                raise DigestMismatch(
                    f"the parts that the manifest of {whole} names are not the parts of that file;"
                    " ask whoever made the URI for another one"
                )
            temporary.commit(whole.path, durable=False)


@contextmanager
def _advice() -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        if isinstance(error, OutOfReach):
            raise
        raise NotFound(f"{error}: {_WHAT_NEXT}") from None


def part_not_here(manifest: Manifest, backend: LocalBackend) -> Digest | None:
    """The digest of a part that the store does not hold itself, or None when it holds them all."""
    for part in manifest.parts:
        if backend.status(part.digest.path) is None:
            return part.digest
    return None


def nowhere(digest: Digest, root: str) -> NotFound:
    """The error for a file that is in no place that was looked at."""
    return NotFound(f"{digest} is not in the store at {root}: {_WHAT_NEXT}")
