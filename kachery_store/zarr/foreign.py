"""What zarr wrote: metadata of format 3 as contents, and keys with their bytes as chunks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ..digest import Digest, blake3_bytes
from ..errors import BadManifest, NotFound
from ..survey import at_once
from . import grid
from .arrays import commit
from .chain import Chain
from .chunks import digest_of_content, write_chunk
from .content import ArrayContent, GroupContent, canonical
from .dtypes import as_stored, fill_of
from .importing import joined, zarr_form
from .manifest import entry

if TYPE_CHECKING:
    from ..store import Store

_METADATA = "zarr.json"


class Described(NamedTuple):
    """An array that metadata describes: what it is but for its content, and its codecs."""

    form: ArrayContent
    codecs: str

    @property
    def identity(self) -> bytes:
        """What tells it from another array, or from itself before it was resized."""
        return blake3_bytes(f"{self.form} {self.codecs}".encode())

    def place(self, key: str) -> grid.Index | None:
        """The index of the chunk with a key below the array."""
        return grid.index_in(key, self.form.along)


def described(metadata: bytes) -> Described | None:
    """The array that some `zarr.json` describes; None for that of a group. BadManifest."""
    from .library import zarr

    found = json.loads(metadata)
    if found.get("node_type") != "array":
        return None
    encoding = found["chunk_key_encoding"]
    if (
        encoding["name"] != "default"
        or encoding.get("configuration", {}).get("separator", "/") != "/"
    ):
        raise BadManifest("an array has chunk keys other than Zarr's default ones: leave them so")
    buffer = zarr.core.buffer.default_buffer_prototype().buffer.from_bytes(metadata)
    array = zarr.open_array(zarr.storage.MemoryStore({_METADATA: buffer}), mode="r", zarr_format=3)
    chunks = found["chunk_grid"]["configuration"]["chunk_shape"]  # shards, where there are some
    codecs = json.dumps(found["codecs"], sort_keys=True, separators=(",", ":"))
    return Described(zarr_form(array, chunks)._replace(chunks=tuple(chunks)), codecs)


def digest_of(array: Described, key: str, data: bytes) -> bytes | None:
    """The digest of the content of a chunk's bytes; None for a key of no chunk."""
    index = array.place(key)
    if index is None:
        return None
    whole = Chain(array.codecs, array.form).decode(data)
    return digest_of_content(array.form, index, as_stored(whole, array.form.dtype))


def committed(
    store: Store,
    notes: Mapping[str, Any],
    read: Callable[[Any], bytes],
    *,
    since: float,
    named: bool,
) -> str:
    """Commit what a session wrote; returns the address. BadManifest, NotFound.

    `notes`: by key, each with `data`, `blob`, `size` and `content`; `read` gives the bytes of one;
    `since`: when the first was written.
    """
    _keep(store, notes, since)
    metadata = {
        key.removesuffix(_METADATA).rstrip("/"): read(note)
        for key, note in notes.items()
        if key == _METADATA or key.endswith("/" + _METADATA)
    }
    if "" not in metadata:
        raise BadManifest("nothing was written: there is no zarr.json at the root")
    arrays = {path: described(data) for path, data in metadata.items()}
    nodes: dict[str, ArrayContent | str] = {}
    tables: dict[str, tuple[str, bytes]] = {}
    by_array = _by_array(notes, arrays)
    for path, array in arrays.items():
        if array is None:
            nodes[path] = canonical(json.loads(metadata[path]).get("attributes", {}))
            continue
        digests, entries = _chunks(store, array, by_array.get(path, {}), read)
        nodes[path] = array.form._replace(digests=digests)
        tables[path] = (array.codecs, entries)
    whole = nodes[""]
    content = whole if isinstance(whole, ArrayContent) else GroupContent(nodes)
    return commit(store, content, tables, named=named)


def _keep(store: Store, notes: Mapping[str, Any], since: float) -> None:
    """Have the blobs of all notes stay. NotFound."""
    keys = [key for key, note in notes.items() if note.data is None]

    def is_kept(key: str) -> bool:
        return store.blobs.keep(Digest("blake3", notes[key].blob.hex()), notes[key].size, since)

    for key, kept in zip(keys, at_once(is_kept, keys), strict=True):
        if not kept:
            raise NotFound(
                f"chunk {key} has gone from the store before it was committed, or was never quite"
                " written there: write it again"
            )


def _by_array(
    notes: Mapping[str, Any], arrays: Mapping[str, Described | None]
) -> dict[str, dict[grid.Index, Any]]:
    """The notes of chunks, by path and index. BadManifest for a key that is none."""
    found: dict[str, dict[grid.Index, Any]] = {}
    for key, note in notes.items():
        if key == _METADATA or key.endswith("/" + _METADATA):
            continue
        path, _, rest = f"/{key}".rpartition("/c")
        array = arrays.get(path.lstrip("/"))
        index = array.place(f"c{rest}") if array is not None else None
        if index is None:
            raise BadManifest(f"{key!r} belongs to no array that was written")
        found.setdefault(path.lstrip("/"), {})[index] = note
    return found


def _chunks(
    store: Store,
    array: Described,
    notes: Mapping[grid.Index, Any],
    read: Callable[[Any], bytes],
) -> tuple[bytes, bytes]:
    filled: dict[grid.Index, bytes] = {}  # of chunks that nobody wrote, by their shape
    written = []
    for index in grid.indices(array.form.shape, array.form.chunks):
        note = notes.get(index)
        if note is not None:
            written.append(_written(store, array, index, note, read))
            continue
        lengths = grid.lengths(index, array.form.shape, array.form.chunks)
        if lengths not in filled:
            filled[lengths] = _filled(store, array, lengths)
        written.append(filled[lengths])
    return joined(written)


def _written(
    store: Store, array: Described, index: grid.Index, note: Any, read: Callable[[Any], bytes]
) -> bytes:
    content: bytes | None = note.content
    if content is None or note.made_as != array.identity:
        content = _digest_again(array, index, read(note))
    assert content is not None  # noqa: S101 - it is the key of a chunk
    if note.data is None:
        return content + entry(note.blob, note.size)
    digest = blake3_bytes(note.data)
    store.blobs.put(Digest("blake3", digest.hex()), note.data, durable=False)
    return content + entry(digest, note.size)


def _digest_again(array: Described, index: grid.Index, data: bytes) -> bytes | None:
    try:
        return digest_of(array, grid.key_of(index), data)
    except Exception as error:
        raise BadManifest(
            f"chunk {grid.key_of(index)} cannot be decoded by the codecs of its array: {error}"
        ) from error


def _filled(store: Store, array: Described, lengths: grid.Index) -> bytes:
    import numpy as np

    form = array.form
    dtype = object if form.dtype == "string" else np.dtype(form.dtype)
    chunk = np.full(lengths, fill_of(form.fill, form.dtype), dtype)
    return write_chunk(store.blobs, form, array.codecs, chunk)
