"""Chunks that are lost: what is looked for before somebody counts on an array as a whole.

Whoever meets a chunk that is lost or damaged notes it in `lost/<address>`, so that the next who is
asked for the array looks, in whatever process. Without a note it is looked for once in a process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from ..digest import Digest
from ..errors import DigestMismatch, NotFound, OutOfReach, StoreUnavailable
from ..refs import Refs
from . import grid
from .manifest import ENTRY, entry_of

if TYPE_CHECKING:
    from ..store import Store
    from .arrays import Opened, StoredArray

FOLDER = "lost"
WAY_OUT = (
    "`kachery repair` fetches it if a zone has it; a task that is called again computes it; else store"
    " the array again"
)

_DIGEST = 32


def note_lost(store: Store, address: str, blob: Digest) -> None:
    """Note that a chunk of an array was met lost or damaged."""
    noted = _noted(store, address)
    digest = bytes.fromhex(blob.hex)
    if digest not in noted:
        with suppress(StoreUnavailable):  # who may not write here repairs nothing either
            Refs(store.backend, FOLDER).replace(address, b"".join((*noted, digest)))


def check_whole(opened: Opened) -> None:
    """See that all chunks of an array or group are there. NotFound names the first that is lost.

    What only a zone has counts as there, unless somebody has met it lost; then it is asked.
    """
    noted = _noted(opened.store, opened.address)
    if opened.is_whole and not noted:
        return
    for path in opened.paths():
        array = opened.array(path)
        for index in lost_chunks(array):
            raise NotFound(f"{array.named(index)} is lost: {WAY_OUT}")
    opened.is_whole = True
    if noted:
        with suppress(StoreUnavailable):
            Refs(opened.store.backend, FOLDER).remove(opened.address)


def is_noted(opened: Opened) -> bool:
    """Whether somebody has met a chunk that is lost or damaged."""
    return bool(_noted(opened.store, opened.address))


def lost_chunks(array: StoredArray) -> Iterator[grid.Index]:
    """The chunks of an array that cannot be had: looked for; those that are noted are read."""
    noted = _noted(array.opened.store, array.opened.address)
    entries, along = array.entries, array.content.along
    known: dict[bytes, bool] = {}
    for number in range(len(entries) // ENTRY):
        entry = entries[number * ENTRY : (number + 1) * ENTRY]
        is_noted = entry[:_DIGEST] in noted
        chunk = entry + array.content.digest(number) if is_noted else entry
        if chunk not in known:
            known[chunk] = (
                _can_be_read(array, grid.index_of(number, along))
                if is_noted
                else _is_there(array.opened.store, *entry_of(entry, 0))
            )
        if not known[chunk]:
            yield grid.index_of(number, along)


def _is_there(store: Store, digest: bytes, size: int) -> bool:
    if store.uplink is not None:
        return True
    status = store.backend.stat(Digest("blake3", digest.hex()).path)
    return status is not None and status.st_size == size


def _can_be_read(array: StoredArray, index: grid.Index) -> bool:
    try:
        array.whole_chunk(index)
    except OutOfReach:  # it may be there
        return True
    except (NotFound, DigestMismatch):
        return False
    return True


def _noted(store: Store, address: str) -> list[bytes]:
    try:
        data = Refs(store.backend, FOLDER).read(address)
    except NotFound:
        return []
    return [data[start : start + _DIGEST] for start in range(0, len(data), _DIGEST)]
