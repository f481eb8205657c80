"""A Zarr store to be written, by many processes at once, and committed by one of them.

What is set is kept as it comes, compressed by zarr: a chunk as a blob, and a note under
`sessions/<session>/` that says which key it is. A chunk is decoded when it is set, where that happens,
because the address is made of the content. `commit` makes one manifest of the notes.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from ..digest import Digest, blake3_bytes
from ..errors import NotFound
from ..refs import Refs
from ..sessions import FOLDER, Note, check_open, first_written, forget
from .aside import aside
from .foreign import Described, committed, described, digest_of
from .keys import below, bounds
from .library import zarr

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

    from ..store import Store

METADATA = "zarr.json"
_INLINE_UP_TO = 1024


class WriteStore(zarr.abc.store.Store):
    """A session of writing. `reopen(place)` gives the store, here and where it is unpickled."""

    supports_writes: bool = True
    supports_deletes: bool = True
    supports_partial_writes: Literal[False] = False
    supports_listing: bool = True

    def __init__(
        self,
        reopen: Callable[[Any], Store],
        place: Any,
        session: str | None = None,
        *,
        read_only: bool = False,
    ) -> None:
        super().__init__(read_only=read_only)
        self._reopen = reopen
        self._place = place
        self.session = session or os.urandom(32).hex()
        self._store = reopen(place)
        self._notes = Refs(self._store.backend, f"{FOLDER}/{self.session}")
        self._arrays: dict[str, tuple[bytes, Described | None]] = {}

    def __reduce__(self) -> Any:
        return _unpickled, (type(self), self._reopen, self._place, self.session, self.read_only)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WriteStore) and (other.session, other.read_only) == (
            self.session,
            self.read_only,
        )

    def __hash__(self) -> int:
        return hash(self.session)

    def __str__(self) -> str:
        return f"kachery-writing://{self.session}"

    def __repr__(self) -> str:
        return f"WriteStore('{self}')"

    def with_read_only(self, read_only: bool = False) -> WriteStore:
        """The same session, writeable or not."""
        return type(self)(self._reopen, self._place, self.session, read_only=read_only)

    def commit(self, *, named: bool = True) -> str:
        """Store the array or group that was written; returns its address.

        BadManifest when there is none, or a key in it that belongs to no array; NotFound when the
        session was collected, or what was written in it is lost. Chunks that nobody set hold the fill
        value.
        """
        self._check_writable()
        notes = {note.key: note for note in self._all()}
        check_open(self._store.backend, self.session)
        since = first_written(self._store.backend, self.session)
        address = committed(self._store, notes, self._read, since=since, named=named)
        self.discard()
        return address

    def discard(self) -> None:
        """Forget all that was written."""
        forget(self._store.backend, self.session)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """What was set under a key."""
        from zarr.core.buffer import default_buffer_prototype

        if not self._is_open:
            await self._open()
        note = self._note(key)
        if note is None:
            return None
        data = await aside(self._read, note)
        start, end = bounds(len(data), byte_range)
        return (prototype or default_buffer_prototype()).buffer.from_bytes(data[start:end])

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """What was set under several keys, or parts of it."""
        return [await self.get(key, prototype, wanted) for key, wanted in key_ranges]

    async def exists(self, key: str) -> bool:
        """Whether something was set under a key."""
        return self._note(key) is not None

    async def set(self, key: str, value: Buffer) -> None:
        """Keep bytes under a key."""
        self._check_writable()
        if not self._is_open:
            await self._open()
        _check_buffer(value)
        await aside(self._set, key, value.to_bytes())

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Keep bytes under a key that is free."""
        self._check_writable()
        await aside(partial(self._set, key, value.to_bytes(), again=False))

    async def delete(self, key: str) -> None:
        """Forget a key."""
        self._check_writable()
        self._notes.remove(_name(key))

    async def set_partial_values(self, key_start_values: Any) -> None:
        """Not supported: a blob is written whole."""
        raise NotImplementedError("a chunk is written as a whole")

    async def list(self) -> AsyncIterator[str]:
        """All keys."""
        for note in self._all():
            yield note.key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """The keys that begin with a text."""
        for note in self._all():
            if note.key.startswith(prefix):
                yield note.key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """The first parts of the keys below a folder."""
        folder = below(prefix)
        keys = (note.key for note in self._all() if note.key.startswith(folder))
        for name in dict.fromkeys(key[len(folder) :].partition("/")[0] for key in keys):
            yield name

    async def getsize(self, key: str) -> int:
        """The number of bytes under a key; FileNotFoundError."""
        note = self._note(key)
        if note is None:
            raise FileNotFoundError(key)
        return note.size

    def _set(self, key: str, data: bytes, *, again: bool = True) -> None:
        if key.endswith(METADATA) or len(data) <= _INLINE_UP_TO:
            note = Note(key, data, b"", len(data), *self._content_digest(key, data))
        else:
            digest = blake3_bytes(data)
            note = Note(key, None, digest, len(data), *self._content_digest(key, data))
        if not self._notes.create(_name(key), note.to_bytes()):
            if not again:
                return
            self._notes.replace(_name(key), note.to_bytes())
        if note.data is None:  # after its note, which keeps it from being collected
            self._store.blobs.put(Digest("blake3", note.blob.hex()), data, durable=False)
        check_open(self._store.backend, self.session)

    def _content_digest(self, key: str, data: bytes) -> tuple[bytes | None, bytes | None]:
        """Of a chunk of an array that is known: the digest of its content, and that array."""
        path, sign, rest = f"/{key}".rpartition("/c")
        if not sign or (rest and not rest.startswith("/")):
            return None, None
        try:
            array = self._described(path.lstrip("/"))
            if array is None:
                return None, None
            return digest_of(array, f"c{rest}", data), array.identity
        except Exception:  # noqa: BLE001 - codecs raise anything; what is wrong is said at the commit
            return None, None

    def _described(self, path: str) -> Described | None:
        """The array at a path, if its metadata was set."""
        note = self._note(below(path) + METADATA)
        if note is None or note.data is None:
            return None
        known = self._arrays.get(path)
        if known is None or known[0] != note.data:
            known = self._arrays[path] = (note.data, described(note.data))
        return known[1]

    def _note(self, key: str) -> Note | None:
        try:
            return Note.from_bytes(self._notes.read(_name(key)))
        except NotFound:
            return None

    def _all(self) -> Iterator[Note]:
        for name in self._notes.names():
            yield Note.from_bytes(self._notes.read(name))

    def _read(self, note: Note) -> bytes:
        if note.data is not None:
            return note.data
        return self._store.blobs.read(Digest("blake3", note.blob.hex()))


def _check_buffer(value: Any) -> None:
    from zarr.core.buffer import Buffer

    if not isinstance(value, Buffer):
        raise TypeError(f"a value is a Buffer of zarr, not a {type(value).__name__}")


def _name(key: str) -> str:
    return blake3_bytes(key.encode()).hex()


def _unpickled(cls: Any, reopen: Any, place: Any, session: str, read_only: bool) -> Any:
    return cls(reopen, place, session, read_only=read_only)
