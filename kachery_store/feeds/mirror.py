"""A copy of a subfeed on another backend: the same entries, tiles and checkpoint, all verified."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from ..backend import Backend
from ..digest import Digest
from ..errors import (
    Busy,
    DamagedWarning,
    DigestMismatch,
    FeedDamaged,
    FeedForked,
    FeedRolledBack,
    NotFound,
)
from ..note import Checkpoint
from ..saying import warn
from . import tiles
from .batch import open_checkpoint, parse_batch
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
    *,
    again: bool = False,
) -> int:
    """Bring the copy on a backend up to date; returns the number of entries that it lacked.

    With `again` everything is written that is not there as it should be, so a damaged copy is repaired.
    Raises FeedForked, FeedRolledBack when the copy is not a beginning of the source, FeedDamaged when
    it cannot be read; `progress` is told the number of entries after each piece.
    """
    check_capabilities(backend)
    place = source.place
    with writers_lock(backend, place):
        copy = Log(backend, place)
        head = _look(copy) if again else _read(copy)
        source.refresh()  # after the copy: else what others copy meanwhile looks like a rollback
        _compare(source, copy, head)
        if source.size == copy.edge.size:
            return 0
        _copy(source, copy, _repair_blob if again else _copy_blob, progress)
        if not put_checkpoint(backend, place, source.note, copy.checkpoint):
            raise Busy(f"somebody else is writing {place.uri} to {backend.url}: try again")
        if again:
            _clear_end(source, backend)
    return source.size - head.size


def _read(copy: Log) -> Checkpoint:
    """The head of a copy, all of which is read."""
    copy.refresh()
    return copy.head


def _look(copy: Log) -> Checkpoint:
    """The head of a copy by its checkpoint alone, so that all else will be written again."""
    place = copy.place
    try:
        copy.checkpoint = copy.backend.read(place.checkpoint)
        return open_checkpoint(place, copy.checkpoint, place.checkpoint)
    except (NotFound, FeedDamaged):
        return copy.head


def _clear_end(source: Log, backend: Backend) -> None:
    """Set aside what is staged behind the end and is no batch: nobody could read on."""
    name = source.place.staged(source.size)
    try:
        parse_batch(source.place, backend.read(name), source.frontier)
    except NotFound:
        return
    except DigestMismatch as error:
        warn(DamagedWarning(f"{error}. It is set aside ({backend.quarantine(name)})"))


def _compare(source: Log, copy: Log, head: Checkpoint) -> None:
    uri, here, there = source.place.uri, source.backend.url, copy.backend.url
    if head.size > source.size:
        raise FeedRolledBack(
            f"{uri} has {head.size} entries at {there} and {source.size} at {here}, from where it was"
            " to be copied; nothing was changed. Copy it the other way"
        )
    if head.size and source.root_at(head.size) != head.root:
        raise FeedForked(
            f"{uri} is forked: its first {head.size} entries at {there} and at {here} differ, though"
            " its key signed both; nothing was changed. Ask its owner: the key may be in other hands"
        )


def _copy(
    source: Log,
    copy: Log,
    copy_blob: Callable[[Log, Backend, Digest], bytes],
    progress: Callable[[int], object],
) -> None:
    edge, place = copy.edge, source.place
    wanted = source.entries(edge.size, source.size)
    while edge.size < source.size:
        some = list(islice(wanted, _AT_ONCE))
        for at, entry in enumerate(some):
            digest = blob_of(entry, place, edge.size + at)
            if digest is not None:
                copy_blob(source, copy.backend, digest)
        files, edge = tiles.grow(edge, some, tiles.leaf_hashes(some), partial=False)
        put_files(copy.backend, place, files)
        progress(len(some))
    known = dict(tiles.edge_files(copy.edge))
    files = [(name, data) for name, data in tiles.edge_files(edge) if name not in known]
    put_files(copy.backend, place, files)


def _copy_blob(source: Log, backend: Backend, digest: Digest) -> bytes:
    data = get_blob(source.backend, source.place, digest)
    put_blob(backend, source.place, digest, data)
    return data


def _repair_blob(source: Log, backend: Backend, digest: Digest) -> bytes:
    """Copy a blob, and look whether what is there now is that."""
    data = _copy_blob(source, backend, digest)
    try:
        get_blob(backend, source.place, digest)
    except DigestMismatch as error:
        warn(DamagedWarning(f"{error}. It is set aside ({backend.quarantine(digest.path)})"))
        put_blob(backend, source.place, digest, data)
    return data
