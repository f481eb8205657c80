"""A copy of a subfeed on another backend: the same entries, tiles and checkpoint, all verified."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from ..backend import Backend
from ..errors import Busy, FeedForked, FeedRolledBack
from . import tiles
from .blobs import get_blob, put_blob
from .entries import blob_of
from .log import Log
from .tiles import WIDTH
from .writing import check_capabilities, put_checkpoint, put_files, writers_lock

_AT_ONCE = 64 * WIDTH  # entries in memory


def mirror(
    source: Log,
    backend: Backend,
    progress: Callable[[int], object] = lambda n: None,  # noqa: ARG005
) -> int:
    """Bring the copy on a backend up to date; returns the number of entries that it lacked.

    Raises FeedForked, FeedRolledBack when the copy is not a beginning of the source; `progress` is
    told the number of entries after each piece.
    """
    check_capabilities(backend)
    with writers_lock(backend, source.place):
        copy = Log(backend, source.place)
        copy.refresh()
        source.refresh()  # after the copy: else what others copy meanwhile looks like a rollback
        _compare(source, copy)
        if source.size == copy.edge.size:
            return 0
        added = source.size - copy.size
        _copy(source, copy, progress)
        if not put_checkpoint(backend, source.place, source.note, copy.checkpoint):
            raise Busy(f"somebody else is writing {source.place.uri} to {backend.url}: try again")
    return added


def _compare(source: Log, copy: Log) -> None:
    uri, here, there = source.place.uri, source.backend.url, copy.backend.url
    if copy.size > source.size:
        raise FeedRolledBack(
            f"{uri} has {copy.size} entries at {there} and {source.size} at {here}, from where it was"
            " to be copied; nothing was changed. Copy it the other way"
        )
    if copy.size and source.root_at(copy.size) != copy.head.root:
        raise FeedForked(
            f"{uri} is forked: its first {copy.size} entries at {there} and at {here} differ, though"
            " its key signed both; nothing was changed. Ask its owner: the key may be in other hands"
        )


def _copy(source: Log, copy: Log, progress: Callable[[int], object]) -> None:
    edge, place = copy.edge, source.place
    wanted = source.entries(edge.size, source.size)
    while edge.size < source.size:
        some = list(islice(wanted, _AT_ONCE - edge.size % WIDTH))
        for at, entry in enumerate(some):
            digest = blob_of(entry, place, edge.size + at)
            if digest is not None:
                put_blob(copy.backend, place, digest, get_blob(source.backend, place, digest))
        last = edge.size + len(some) == source.size
        files, edge = tiles.grow(edge, some, tiles.leaf_hashes(some), partial=last)
        put_files(copy.backend, place, files)
        progress(len(some))
