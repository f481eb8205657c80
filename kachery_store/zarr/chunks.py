"""Writing and reading one chunk: the content is hashed on the way in, and checked on the way out."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from ..blobs import _SETTLED_NANOSECONDS as SETTLED_NANOSECONDS
from ..blobs import Blobs
from ..digest import Digest, blake3_in_this_thread
from ..errors import DigestMismatch, NotFound, OutOfReach, Unsupported
from ..local_backend import LocalBackend
from . import grid
from .chain import Chain
from .content import ArrayContent
from .dtypes import as_stored, content_bytes, fill_of, shown
from .lost import WAY_OUT
from .manifest import entry

if TYPE_CHECKING:
    from .dtypes import Array

WRITTEN = 72  # bytes: digest of the content, then the entry of the table

# Which files were seen to decode to which content, and how, so that it is hashed once in a process.
_checked: set[tuple[Any, ...]] = set()


def write_chunk(blobs: Blobs, form: ArrayContent, codecs: str, chunk: Any) -> bytes:
    """Store a chunk; returns the digest of its content and the entry of the table, 72 bytes.

    `form`: of the array, whose digests do not matter. `chunk`: cut to the bounds of the array.
    Unsupported for codecs that do not give back what they were given.
    """
    whole, digest = prepared(form, chunk)
    chain = Chain(codecs, form)
    data = chain.encode(whole)
    if not chain.is_lossless and _digest_of(form, chunk.shape, chain.decode(data)) != digest:
        raise Unsupported(
            f"lossy codec: the codecs {codecs} do not give back the content of a chunk, which its"
            " address stands for. Round the array itself before, and leave such codecs out"
        )
    same = chain.is_raw and whole.shape == chunk.shape
    stored = digest if same else blake3_in_this_thread(data)
    blobs.put(Digest("blake3", stored.hex()), data, durable=False)
    return digest + entry(stored, memoryview(data).nbytes)


def prepared(form: ArrayContent, chunk: Any) -> tuple[Array, bytes]:
    """A chunk padded with the fill value to its whole size, and the digest of its content."""
    import numpy as np

    cut = as_stored(chunk, form.dtype)
    digest = blake3_in_this_thread(content_bytes(cut, form.dtype))
    if cut.shape == form.chunks:
        return cut, digest
    whole = np.full(form.chunks, fill_of(form.fill, form.dtype), cut.dtype)
    whole[tuple(map(slice, cut.shape))] = cut
    return whole, digest


def digest_of_content(form: ArrayContent, index: grid.Index, whole: Array) -> bytes:
    """The digest of the content of a chunk that was decoded whole."""
    return _digest_of(form, grid.lengths(index, form.shape, form.chunks), whole)


def _digest_of(form: ArrayContent, lengths: grid.Index, whole: Array) -> bytes:
    cut = as_stored(whole[tuple(map(slice, lengths))], form.dtype)
    return blake3_in_this_thread(content_bytes(cut, form.dtype))


class Reader:
    """Reads the chunks of one array from a store."""

    def __init__(
        self, backend: LocalBackend, blobs: Blobs, content: ArrayContent, codecs: str, name: str
    ) -> None:
        self.content = content
        self._backend = backend
        self._blobs = blobs
        self._chain = Chain(codecs, content)
        self._way = (codecs, content.dtype, content.chunks, content.fill)  # that bytes are decoded
        self._name = name  # of the array, for messages

    def whole(self, number: int, stored: bytes, size: int) -> Array:
        """The chunk with that number, padded, checked. NotFound, OutOfReach, DigestMismatch name it."""
        index = grid.index_of(number, self.content.along)
        what = f"chunk {grid.key_of(index)} of {self._name}"
        blob = Digest("blake3", stored.hex())
        try:
            return self._decoded(number, index, blob, size, what)
        except OutOfReach as error:
            raise OutOfReach(f"{what} is not here: {error}") from error
        except NotFound as error:
            raise NotFound(f"{what} is lost: {error}. {WAY_OUT}") from error
        except DigestMismatch as error:
            raise DigestMismatch(f"{what} is damaged: {error}. {WAY_OUT}") from error

    def _decoded(self, number: int, index: grid.Index, blob: Digest, size: int, what: str) -> Array:
        """Decode first, and look at the blob itself only if what comes out is not the content."""
        expected = self.content.digest(number)
        found = self._quickly(blob, size)
        if found is not None:
            data, status = found
            try:
                whole = self._chain.decode(data)
            except Exception:  # noqa: BLE001 - codecs raise anything for bytes that are damaged
                whole = None
            if whole is not None and self._is_seen(index, whole, status, expected):
                return whole
        whole = self._slowly(blob, size, what)
        if digest_of_content(self.content, index, whole) != expected:
            raise DigestMismatch(
                f"{blob} does not hold the content that the address of {what} names"
            )
        return whole

    def _quickly(self, blob: Digest, size: int) -> tuple[Any, os.stat_result] | None:
        """The bytes of a blob that is here, not checked; None when it is not, or has another size."""
        try:
            mapped, status = self._backend.map(blob.path)
        except (NotFound, OSError, ValueError):  # not here, or empty
            return None
        return (memoryview(mapped), status) if status.st_size == size else None

    def _slowly(self, blob: Digest, size: int, what: str) -> Array:
        data = self._blobs.map(blob)
        if data.nbytes != size:
            raise DigestMismatch(f"{blob} has {data.nbytes} bytes, not {size}")
        try:
            return self._chain.decode(data)
        except Exception as error:
            raise DigestMismatch(f"{blob} cannot be decoded as {what}: {error}") from error

    def _is_seen(
        self, index: grid.Index, whole: Array, status: os.stat_result, expected: bytes
    ) -> bool:
        """Whether what a file decodes to is the content, which is hashed once for each file."""
        file = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
        lengths = grid.lengths(index, self.content.shape, self.content.chunks)
        state = (*file, expected, self._way, lengths)
        if state in _checked:
            return True
        if digest_of_content(self.content, index, whole) != expected:
            return False
        if time.time_ns() - status.st_ctime_ns > SETTLED_NANOSECONDS:
            _checked.add(state)
        return True

    def shown(self, number: int, stored: bytes, size: int) -> Array:
        """A chunk cut to the bounds of the array, as a program gets it."""
        index = grid.index_of(number, self.content.along)
        whole = self.whole(number, stored, size)
        lengths = grid.lengths(index, self.content.shape, self.content.chunks)
        return shown(whole[tuple(map(slice, lengths))], self.content.dtype)
