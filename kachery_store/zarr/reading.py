"""A Zarr store, read-only, of one array or group: what `zarr` and `xarray` open.

Its keys are those of Zarr 3. Chunks come decoded and checked against the address, so the metadata that
it shows has no compression, whatever the chunks are stored with.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from ..errors import DigestMismatch, NotFound
from . import grid
from .arrays import Opened, StoredArray, uri_of
from .aside import aside
from .dtypes import content_bytes
from .keys import below, bounds
from .library import zarr
from .metadata import all_json

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

# Where an array is, for pickles: `reopen(place)` gives it again, in any process.
Reopen = Callable[[Any], Opened]


class ReadStore(zarr.abc.store.Store):
    """The array or group with an address. `reopen(place)` opens it, here and where it is unpickled."""

    supports_writes: bool = False
    supports_deletes: bool = False
    supports_partial_writes: Literal[False] = False
    supports_listing: bool = True

    def __init__(self, reopen: Reopen, place: Any) -> None:
        super().__init__(read_only=True)
        self._reopen = reopen
        self.place = place
        self.opened = reopen(place)
        self._metadata = {
            key: json.dumps(value).encode() for key, value in all_json(self.opened.content).items()
        }

    def __reduce__(self) -> Any:
        return type(self), (self._reopen, self.place)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReadStore) and other.opened.address == self.opened.address

    def __hash__(self) -> int:
        return hash(self.opened.address)

    def __str__(self) -> str:
        return uri_of(self.opened.address)

    def __repr__(self) -> str:
        return f"ReadStore('{self}')"

    def with_read_only(self, read_only: bool = False) -> ReadStore:
        """The same; ValueError when it is asked to be writeable."""
        if not read_only:
            raise ValueError(f"{self} cannot be changed; store a changed copy with store_zarr")
        return type(self)(self._reopen, self.place)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """What is under a key, checked; None when the array or group has no such key.

        NotFound for a chunk that an array does not have: None would be read as the fill value.
        """
        from zarr.core.buffer import default_buffer_prototype

        make = (prototype or default_buffer_prototype()).buffer
        if key in self._metadata:
            start, end = bounds(len(self._metadata[key]), byte_range)
            return make.from_bytes(self._metadata[key][start:end])
        found = self._chunk_of(key)
        if found is None:
            self._refuse_chunk(key)
            return None
        data = await aside(self._content_of, *found)
        start, end = bounds(data.nbytes, byte_range)
        import numpy as np

        return make.from_array_like(np.frombuffer(data, "B")[start:end])

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """What is under several keys, or parts of it."""
        return list(
            await asyncio.gather(*(self.get(key, prototype, wanted) for key, wanted in key_ranges))
        )

    async def exists(self, key: str) -> bool:
        """Whether the array or group has a key."""
        return key in self._metadata or self._chunk_of(key) is not None

    async def set(self, key: str, value: Buffer) -> None:  # noqa: ARG002
        """Refused with ValueError."""
        self._check_writable()

    async def delete(self, key: str) -> None:  # noqa: ARG002
        """Refused with ValueError."""
        self._check_writable()

    async def set_partial_values(self, key_start_values: Any) -> None:  # noqa: ARG002
        """Refused with ValueError."""
        self._check_writable()

    async def list(self) -> AsyncIterator[str]:
        """All keys."""
        for key in self._keys(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """The keys that begin with a text."""
        for key in self._keys(prefix):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """The first parts of the keys below a folder."""
        folder = below(prefix)
        seen = set()
        for key in self._keys(folder):
            name = key[len(folder) :].partition("/")[0]
            if name not in seen:
                seen.add(name)
                yield name

    def _keys(self, prefix: str) -> Iterator[str]:
        yield from (key for key in self._metadata if key.startswith(prefix))
        for path in self.opened.paths():
            array = self.opened.array(path)
            for index in grid.indices(array.content.shape, array.content.chunks):
                key = below(path) + grid.key_of(index)
                if key.startswith(prefix):
                    yield key

    def _chunk_of(self, key: str) -> tuple[StoredArray, grid.Index] | None:
        """Which chunk of which array is under a key, if that is one."""
        for path, rest in self._divided(key):
            array = self.opened.array(path)
            index = grid.index_in(rest, array.content.along)
            if index is not None:
                return array, index
        return None

    def _divided(self, key: str) -> Iterator[tuple[str, str]]:
        """The paths of arrays that a key may be below, and the rest of it, which begins with `c`."""
        parts = key.split("/")
        for place, part in enumerate(parts):
            path = "/".join(parts[:place])  # which may have a part `c`, too
            if part == "c" and path in self.opened.manifest.tables:
                yield path, "/".join(parts[place:])

    def _refuse_chunk(self, key: str) -> None:
        for path, rest in self._divided(key):
            if all(place.isdecimal() for place in rest.split("/")[1:]):
                raise NotFound(f"{key!r} is no chunk of the array {path!r} of {self}")

    def _content_of(self, array: StoredArray, index: grid.Index) -> memoryview:
        try:
            return _content_of(array, index)
        except (NotFound, DigestMismatch):
            again = self._stored_instead_of(array.opened)
            if again is None:
                raise
            return _content_of(again.array(array.path), index)

    def _stored_instead_of(self, opened: Opened) -> Opened | None:
        """What another process has stored in the place of what was opened, if it has."""
        try:
            again = self._reopen(self.place)
        except (NotFound, DigestMismatch):
            return None  # the error of the chunk says more
        if again.manifest.tables == opened.manifest.tables:
            return None
        self.opened = again
        return again


def open_lazily(reopen: Reopen, place: Any) -> Any:
    """The array or group of zarr at a place, read-only. What `reopen` raises."""
    return zarr.open(ReadStore(reopen, place), mode="r", zarr_format=3)


def _content_of(array: StoredArray, index: grid.Index) -> memoryview:
    whole = array.whole_chunk(index)
    return content_bytes(whole, array.content.dtype)


def usual_order() -> str:
    """The order of memory, "C" or "F", in which zarr hands out arrays, as it is configured."""
    return str(zarr.config.get("array.order", "C"))
