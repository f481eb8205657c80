"""The chunked arrays of one store: opened by address, committed when all chunks are stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .. import flusher
from ..digest import Digest
from ..errors import BadManifest, BadURI, DigestMismatch, NotFound, OutOfReach
from ..sweep import refresh
from ..uri import parse_uri
from . import grid
from .chunks import Reader
from .content import ArrayContent, Content, GroupContent, blobs_in, decode, encode
from .lost import note_lost
from .manifest import ENTRY, Manifest, Table, entry_of, table

if TYPE_CHECKING:
    from ..store import Store
    from .dtypes import Array

SCHEME = "blake3://"

# The bytes of a blob, by digest and size.
Load = Callable[[bytes, int], Any]


class Opened:
    """An array or a group that is in a store. Nothing of its chunks is read before it is asked for."""

    def __init__(self, store: Store, manifest: Manifest, content: Content) -> None:
        self.store = store
        self.manifest = manifest
        self.content = content
        self.address = manifest.address
        self.is_whole = False  # whether this process has seen that all chunks are there
        self._arrays: dict[str, StoredArray] = {}

    def array(self, path: str = "") -> StoredArray:
        """The array at a path; NotFound when there is none."""
        if path not in self._arrays:
            self._arrays[path] = StoredArray(self, path, self._content_at(path))
        return self._arrays[path]

    def paths(self) -> list[str]:
        """The paths of all arrays."""
        if isinstance(self.content, ArrayContent):
            return [""]
        return [path for path, node in self.content.nodes.items() if isinstance(node, ArrayContent)]

    def _content_at(self, path: str) -> ArrayContent:
        content = self.content
        node = content.nodes.get(path) if isinstance(content, GroupContent) else content
        if not isinstance(node, ArrayContent) or (path and content is node):
            raise NotFound(
                f"there is no array {path!r} in {uri_of(self.address)}, which has {self.paths()[:20]}"
            )
        return node


class StoredArray:
    """One array of what was opened."""

    def __init__(self, opened: Opened, path: str, content: ArrayContent) -> None:
        self.opened = opened
        self.path = path
        self.content = content
        self.codecs = opened.manifest.tables[path].codecs
        store = opened.store
        self._name = _name_of(opened.address, path)
        self._reader = Reader(store.backend, store.blobs, content, self.codecs, self._name)
        self._entries: bytes | None = None

    @property
    def entries(self) -> bytes:
        """Which blob has which chunk. Errors as for `load_entries`."""
        return self._entries if self._entries is not None else self.load_entries()

    def load_entries(self) -> bytes:
        """Have the table at hand, from the zone if it is not here. NotFound, DigestMismatch."""
        if self._entries is None:
            found = self.opened.manifest.tables[self.path]
            entries = found.entries
            if found.blob is not None:
                digest, size = found.blob
                entries = bytes(_load(self.opened.store)(digest, size))
            if len(entries) != ENTRY * grid.number_of_chunks(
                self.content.shape, self.content.chunks
            ):
                raise DigestMismatch(
                    f"the table of {uri_of(self.opened.address)} has another length"
                )
            self._entries = entries
        return self._entries

    def chunk(self, index: grid.Index) -> Array:
        """A chunk, cut to the bounds of the array, checked. Errors name the chunk."""
        with self._noting(index):
            number = grid.number_of(index, self.content.along)
            return self._reader.shown(number, *entry_of(self.entries, number))

    def whole_chunk(self, index: grid.Index) -> Array:
        """A chunk padded to its whole size, texts as objects."""
        with self._noting(index):
            number = grid.number_of(index, self.content.along)
            return self._reader.whole(number, *entry_of(self.entries, number))

    def blob(self, index: grid.Index) -> tuple[Digest, int]:
        """The blob that has a chunk, and its size."""
        digest, size = entry_of(self.entries, grid.number_of(index, self.content.along))
        return Digest("blake3", digest.hex()), size

    def named(self, index: grid.Index) -> str:
        """How messages name a chunk."""
        return f"chunk {grid.key_of(index)} of {self._name}"

    @contextmanager
    def _noting(self, index: grid.Index) -> Iterator[None]:
        """Note a chunk that is met lost or damaged."""
        try:
            yield
        except OutOfReach:
            raise
        except (NotFound, DigestMismatch):
            note_lost(self.opened.store, self.opened.address, self.blob(index)[0])
            raise


def uri_of(address: str, label: str | None = None) -> str:
    """The URI of an array or group."""
    return f"{SCHEME}{address}" + (f"?label={label}" if label else "")


def address_of(uri: str) -> str:
    """The address in a URI. BadURI."""
    digest, *_ = parse_uri(uri)
    if digest.algorithm != "blake3":
        raise BadURI(f"{uri} names no chunked array: that is {SCHEME}... as store_zarr returns it")
    return digest.hex


def open_stored(store: Store, address: str) -> Opened:
    """What has that address. NotFound, DigestMismatch after what is damaged was set aside."""
    try:
        data = store.arrays.read(address)
    except NotFound as error:
        raise NotFound(
            f"{uri_of(address)} is not stored as a chunked array: {error}. Store it with"
            " kachery.store_zarr, or put the zone in force that has it"
        ) from error
    try:
        manifest = Manifest.from_bytes(data, address)
        content = decode(manifest.encoding, _load(store))
        _check_tables(manifest, content)
    except (DigestMismatch, BadManifest) as error:
        store.arrays.set_aside(address)
        raise DigestMismatch(f"{uri_of(address)} is damaged: {error}") from error
    return Opened(store, manifest, content)


def _check_tables(manifest: Manifest, content: Content) -> None:
    nodes: Mapping[str, Any] = {"": content} if isinstance(content, ArrayContent) else content.nodes
    arrays = {path for path, node in nodes.items() if isinstance(node, ArrayContent)}
    if arrays != manifest.tables.keys():
        raise DigestMismatch("its manifest has tables for other arrays")


def _load(store: Store) -> Any:
    def load(digest: bytes, size: int) -> memoryview:
        memory = store.blobs.map(Digest("blake3", digest.hex()))
        if memory.nbytes != size:
            raise DigestMismatch(f"blob {digest.hex()} has {memory.nbytes} bytes, not {size}")
        return memory

    return load


def commit(
    store: Store,
    content: Content,
    tables: Mapping[str, tuple[str, bytes]],
    *,
    named: bool,
) -> str:
    """Write the manifest of what is stored; returns the address.

    `tables`: by path, codecs and entries. With `named` a user holds the URI: all is on the disk when
    this returns. Whoever was first stays, with its codecs, if what it names is there.
    """
    encoded = encode(content)
    made: dict[str, Table] = {}
    # So that what takes a URI of a file, such as a pin, finds something under this one, too.
    store.blobs.put(Digest("blake3", encoded.address), encoded.data, durable=False)
    for digest, data in encoded.blobs.items():
        store.blobs.put(Digest("blake3", digest.hex()), data, durable=False)
    for path, (codecs, entries) in tables.items():
        made[path], blob = table(codecs, entries)
        if blob is not None and made[path].blob is not None:
            digest, _ = made[path].blob or (b"", 0)
            store.blobs.put(Digest("blake3", digest.hex()), blob, durable=False)
    manifest = Manifest(encoded.data, made, named)
    if named:
        _sync(store, encoded.data, made)
    if not store.arrays.create(encoded.address, manifest.to_bytes()):
        _settle(store, encoded.address, manifest)
    if named:
        store.backend.sync(f"arrays/{encoded.address[:2]}/{encoded.address}")
    return encoded.address


def _sync(store: Store, encoding: bytes, tables: Mapping[str, Table]) -> None:
    """Return when everything is on the disk, whichever process wrote it."""
    if flusher.sync_file_system(store.root):
        return

    def entries_of(digest: bytes, size: int) -> bytes:
        return bytes(_load(store)(digest, size))

    for blob, _ in blobs_of(Manifest(encoding, dict(tables), named=True), entries_of)[0]:
        store.backend.sync(blob.path)


def _settle(store: Store, address: str, mine: Manifest) -> None:
    """Leave the manifest that was first, unless it is damaged, lacks blobs, or is not named as mine.

    What it has other than mine is read: nobody need have written that who can be trusted.
    """
    try:
        first = open_stored(store, address)
        own = Opened(store, mine, first.content)
        whole = all(_is_whole(first.array(path), own.array(path)) for path in first.paths())
    except (NotFound, DigestMismatch):
        first, whole = None, False
    if first is None or not whole:
        store.arrays.replace(address, mine.to_bytes())
    elif mine.named and not first.manifest.named:
        store.arrays.replace(address, first.manifest._replace(named=True).to_bytes())
    elif not refresh(store.backend, f"arrays/{address[:2]}/{address}"):  # collected meanwhile
        store.arrays.replace(address, mine.to_bytes())


def _is_whole(array: StoredArray, own: StoredArray) -> bool:
    """Whether the blobs of all chunks are there: looked for; read, if they are not those of `own`."""
    all_chunks = grid.indices(array.content.shape, array.content.chunks)
    try:
        return all(_is_good(array, own, index) for index in all_chunks)
    except (NotFound, DigestMismatch):
        return False


def _is_good(array: StoredArray, own: StoredArray, index: grid.Index) -> bool:
    blobs = array.opened.store.blobs
    blob, size = array.blob(index)
    if (array.codecs, blob, size) != (own.codecs, *own.blob(index)):
        blobs.map(blob)
        array.whole_chunk(index)
    return blobs.size(blob) == size


def chunks_by_blob(manifest: Manifest, load: Load) -> Iterator[tuple[str, str]]:
    """For each chunk, the blob that has it, in hex, and how messages name the chunk.

    BadManifest, DigestMismatch, and what `load` raises.
    """
    content = decode(manifest.encoding, load)
    for path, one in manifest.tables.items():
        node = content.nodes[path] if isinstance(content, GroupContent) else content
        entries = one.entries if one.blob is None else load(*one.blob)
        if isinstance(node, ArrayContent):
            name = _name_of(manifest.address, path)
            for number, index in enumerate(grid.indices(node.shape, node.chunks)):
                digest, _ = entry_of(entries, number)
                yield digest.hex(), f"chunk {grid.key_of(index)} of {name}"


def _name_of(address: str, path: str) -> str:
    return uri_of(address) + (f" ({path})" if path else "")


def blobs_of(manifest: Manifest, table_of: Any) -> tuple[list[tuple[Digest, int]], bool]:
    """Every blob that an array or group consists of, each once, and whether these are known to be all.

    `table_of` gives the bytes of a blob by digest and size, or None when it is lost.
    """
    complete = True
    found = dict.fromkeys(blobs_in(manifest.encoding))
    for one in manifest.tables.values():
        entries = one.entries
        if one.blob is not None:
            found[one.blob] = None
            entries = table_of(*one.blob) or b""
            complete = complete and bool(entries)
        for start in range(0, len(entries), ENTRY):
            found[entry_of(entries, start // ENTRY)] = None
    found[bytes.fromhex(manifest.address), len(manifest.encoding)] = None
    return [(Digest("blake3", digest.hex()), size) for digest, size in found], complete
