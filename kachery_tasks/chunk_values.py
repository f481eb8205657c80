"""Chunked arrays as values: what came out of a store is known; what a task returns is stored.

An array of Dask or zarr of unknown content is refused as an argument, because to know it would be to
compute it. As a result it is stored, chunk by chunk, when the result is encoded (`storing`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Any

from kachery_store import NotFound, Store
from kachery_store.digest import blake3_bytes
from kachery_store.errors import KacheryError, OutOfReach, StoreUnavailable, Unsupported
from kachery_store.refs import Refs
from kachery_store.survey import at_once
from kachery_store.zarr.arrays import Opened, StoredArray, commit
from kachery_store.zarr.chain import AUTO, codecs_json
from kachery_store.zarr.content import ArrayContent, Content, GroupContent, canonical, encode
from kachery_store.zarr.lost import WAY_OUT, check_whole

from .chunk_journal import Made, has_lost_result, note_lost_result
from .chunk_places import Notes, Place, forget_opened, opened, place_in
from .errors import CannotEncode
from .settings import current
from .values import chunk_types


class Storing:
    """A result that is being encoded. `job_id`: where what is stored of it is noted, if anywhere.

    `arrays`: how many of its arrays were stored by now;
    `used`: whether anything was stored in chunks, `seconds`: how long computing and storing it took;
    `error`: what computing a chunk raised.
    """

    def __init__(self, store: Store, job_id: str | None) -> None:
        self.store = store
        self.job_id = job_id
        self.arrays = 0
        self.used = False
        self.seconds = 0.0
        self.error: Exception | None = None


_FAILED = blake3_bytes(b"failed").hex()  # the note that tells the runs after a failure from it

_reading: ContextVar[tuple[Store, str] | None] = ContextVar("kachery_reading", default=None)
_storing: ContextVar[Storing | None] = ContextVar("kachery_storing_chunks", default=None)


@contextmanager
def storing(store: Store, job_id: str | None) -> Iterator[Storing]:
    """Have arrays in chunks that are encoded in this block stored."""
    now = Storing(store, job_id)
    reset = _storing.set(now)
    try:
        yield now
    finally:
        _storing.reset(reset)


@contextmanager
def reading(store: Store, job_id: str = "") -> Iterator[None]:
    """Have arrays in chunks that are decoded in this block be those of a store, of a job's result."""
    reset = _reading.set((store, job_id))
    try:
        yield
    finally:
        _reading.reset(reset)


def forget_partial(store: Store, job_id: str) -> None:
    """Forget which chunks a job has stored, now that its result is."""
    notes = Refs(store.backend, f"partial/{job_id}")
    with suppress(StoreUnavailable):  # they do no harm, and a collection takes them
        for name in list(notes.names()):
            notes.remove(name)


def _notes_of(now: Storing) -> Notes | None:
    now.arrays += 1
    if now.job_id is None:
        return None
    failed = _failed_before(now.store, now.job_id)
    return Notes(now.job_id, str(now.arrays), failed, has_lost_result(now.store, now.job_id))


def _failed_before(store: Store, job_id: str) -> str:
    try:
        return Refs(store.backend, f"partial/{job_id}").read(_FAILED).hex()
    except NotFound:
        return ""


def _forget_failed(now: Storing) -> None:
    """Have no run go on with what a run that failed has stored, or what its threads still store."""
    if now.job_id is not None:
        forget_partial(now.store, now.job_id)
        with suppress(StoreUnavailable):
            Refs(now.store.backend, f"partial/{now.job_id}").create(_FAILED, os.urandom(8))


class _Chunks:
    """As chunk_types.Chunks says."""

    def content_of(self, value: Any) -> Content:
        now = _storing.get()
        known = known_of(value)
        if known is None:
            if now is None:
                raise CannotEncode(_unknown(value))
            now.used = True
            return _stored(value, now)
        if now is not None:  # it may be part of a group, or in another store
            now.used = True
            _keep(known, now.store)
        return known[1]

    def opened(self, content: Content) -> Any:
        store, job_id = _reading.get() or (current().store, "")
        place = place_in(store, encode(content).address)
        try:
            check_whole(opened(place))  # what is lost is computed again now, while that can be done
        except OutOfReach:
            raise
        except NotFound:
            if job_id:
                note_lost_result(store, job_id)
            raise
        return open_zarr(place)

    def as_dask(self, array: Any) -> Any:
        from . import dask_arrays

        return dask_arrays.over_store(array.store.place)


def open_zarr(place: Place) -> Any:
    """The array or group of zarr at a place, lazily. NotFound, DigestMismatch."""
    from kachery_store.zarr.reading import open_lazily

    return open_lazily(opened, place)


def known_of(value: Any) -> tuple[Opened, Content, str] | None:
    """What is known of an array or group that came out of a store: that, its content, its path."""
    if type(value).__module__.startswith("dask."):
        from . import dask_arrays

        found = dask_arrays.stored_as(value)
        if found is None:
            return None
        place, path = found
        there = opened(place)
        return there, there.array(path).content, path
    source = getattr(value.store, "opened", None)
    if not isinstance(source, Opened):
        return None
    path = value.path.strip("/")
    content = _part(source.content, path)
    return (source, content, path) if _is_as_stored(value, content) else None


def _is_as_stored(value: Any, content: Content) -> bool:
    """Whether an array or group of zarr still is what was opened: attributes can be changed."""
    if isinstance(content, ArrayContent):
        return _is_same_array(value, content)
    nodes = {"": value, **dict(value.members(max_depth=None))}
    return nodes.keys() == content.nodes.keys() and all(
        _is_same_array(nodes[path], node)
        if isinstance(node, ArrayContent)
        else _attributes(nodes[path]) == node
        for path, node in content.nodes.items()
    )


def _is_same_array(array: Any, content: ArrayContent) -> bool:
    from kachery_store.zarr.dtypes import text_of
    from kachery_store.zarr.reading import usual_order

    try:
        dtype = text_of(array.dtype)
    except Unsupported:
        return False
    return (
        (dtype, tuple(array.shape), tuple(array.chunks), _attributes(array))
        == (content.dtype, content.shape, content.chunks, content.attributes)
    ) and array.order == usual_order()


def _attributes(node: Any) -> str | None:
    try:
        return canonical(dict(node.attrs))
    except (TypeError, ValueError):  # JSON does not have them
        return None


def _part(content: Content, path: str) -> Content:
    if isinstance(content, ArrayContent) or not path:
        return content
    node = content.nodes[path]
    if isinstance(node, ArrayContent):
        return node
    below = {
        name[len(path) + 1 :]: one
        for name, one in content.nodes.items()
        if name.startswith(path + "/")
    }
    return GroupContent({"": node, **below})


def _keep(known: tuple[Opened, Content, str], store: Store) -> None:
    """Have the manifest of something that is stored already, or of a part of it. NotFound."""
    _commit_again(known, store, named=False)


def name_again(known: tuple[Opened, Content, str], store: Store) -> str:
    """Have something that is stored already stay, because a user has its URI; returns the address.

    NotFound names what is lost.
    """
    return _commit_again(known, store, named=True)


def _commit_again(known: tuple[Opened, Content, str], store: Store, *, named: bool) -> str:
    there, content, path = known
    tables = {}
    for one in there.paths():
        if path in ("", one) or one.startswith(path + "/"):
            array = there.array(one)
            if there.store.root == store.root:
                _count_on(array, store)
            else:
                _copy(array, store)
            tables[one[len(path) :].strip("/")] = (array.codecs, array.entries)
    return commit(store, content, tables, named=named)


def _count_on(array: StoredArray, store: Store) -> None:
    """Have every chunk be there, and no collection that is under way take one. NotFound."""
    from kachery_store.zarr import grid

    indices = grid.indices(array.content.shape, array.content.chunks)
    found = {array.blob(index): index for index in indices}
    kept = at_once(lambda blob: store.blobs.keep(*blob), list(found))
    for index, is_kept in zip(found.values(), kept, strict=True):
        if not is_kept:
            raise NotFound(f"{array.named(index)} is lost: {WAY_OUT}")


def _copy(array: StoredArray, store: Store) -> None:
    from kachery_store.zarr import grid

    for index in grid.indices(array.content.shape, array.content.chunks):
        blob, _ = array.blob(index)
        store.blobs.put(blob, array.opened.store.blobs.map(blob), durable=False)


def _stored(value: Any, now: Storing) -> Content:
    """The content of a result, once its chunks are stored. CannotEncode."""
    start = time.perf_counter()
    try:
        address = store_chunked(now.store, value, notes=_notes_of(now))
        now.seconds += time.perf_counter() - start
    except StoreUnavailable as error:
        raise CannotEncode(f"it cannot be stored in chunks: {error}") from error
    except (Unsupported, TypeError) as error:
        _forget_failed(now)
        raise CannotEncode(f"it cannot be stored in chunks: {error}") from error
    except KacheryError:
        raise
    except Exception as error:
        now.error = error  # of the task's own code: as if the function had raised it
        if not type(error).__module__.startswith("distributed."):  # a worker was killed
            _forget_failed(now)
        raise CannotEncode(f"computing a chunk of it raised {error!r}") from error
    return opened(place_in(now.store, address)).content


def store_chunked(
    store: Store,
    value: Any,
    *,
    chunks: Any = None,
    codecs: Any = AUTO,
    named: bool = False,
    notes: Notes | None = None,
) -> str:
    """Store an array of NumPy or Dask, or what zarr can open; returns its address."""
    address = _store_chunked(store, value, chunks, codecs, named, notes)
    forget_opened()  # other blobs may stand for what was opened before
    return address


def _store_chunked(
    store: Store, value: Any, chunks: Any, codecs: Any, named: bool, notes: Notes | None
) -> str:
    if type(value).__module__.startswith("dask.array."):
        from . import dask_arrays

        place = place_in(store)
        form = dask_arrays.dask_form(value, chunks)
        chain = codecs_json(codecs, form.dtype)
        made = None if notes is None else Made(place, notes, f"{form} {chain} {value.name}")
        digests, entries = dask_arrays.write_dask(place, value, form, chain, notes, made)
        content = form._replace(digests=digests)
        address = commit(store, content, {"": (chain, entries)}, named=named)
        if made is not None:
            made.note(address)
        return address
    from kachery_store.zarr.importing import form_of, import_zarr, store_array, write_array

    if type(value).__module__ == "numpy":
        form = form_of(value.dtype, value.shape, chunks)
        return store_array(store, form, codecs, partial(write_array, store, value), named=named)
    return import_zarr(store, value, chunks=chunks, codecs=codecs, named=named)


def _unknown(value: Any) -> str:
    kind = f"{type(value).__module__.partition('.')[0]} array"
    return (
        f"the content of this {kind} is not known, and to know it is to compute it. Hand over"
        " kachery.persist(array), which computes and stores it once and has its address, or what a"
        " task returned; or, if it fits into memory, compute() or load() it first"
    )


chunk_types.told_by(_Chunks())
