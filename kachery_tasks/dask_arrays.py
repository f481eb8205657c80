"""Arrays of Dask over the store, and into it: Dask's door for arrays.

An array over the store is known by its layer in the graph, which says where its chunks are; so it keeps
its address when it is pickled, and loses it when anything is done to it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import dask
import dask.array as da
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph, Layer

from kachery_store.digest import blake3_bytes
from kachery_store.errors import Unsupported
from kachery_store.zarr import grid
from kachery_store.zarr.chunks import write_chunk
from kachery_store.zarr.content import ArrayContent
from kachery_store.zarr.dtypes import dtype_of, exact
from kachery_store.zarr.importing import form_of, joined

from .chunk_journal import Made, journal_of
from .chunk_places import Notes, Place, opened, store_of
from .settings import client_in_force, current

Lengths = tuple[tuple[int, ...], ...]  # of the chunks along each axis


class StoredChunks(Layer):  # type: ignore[misc]
    """The layer of an array over the store: a task for each chunk, made when it is asked for."""

    def __init__(self, name: str, place: Place, path: str, along: grid.Index) -> None:
        super().__init__()
        self.name = name
        self.place = place
        self.path = path
        self.along = along

    def __reduce__(self) -> Any:
        return type(self), (self.name, self.place, self.path, self.along)

    def is_materialized(self) -> bool:
        """It is not: tasks are made when they are asked for."""
        return False

    def get_output_keys(self) -> AbstractSet[Any]:
        """All keys."""
        return set(self)

    def get_dependencies(self, key: Any, all_hlg_keys: Any) -> set[Any]:  # noqa: ARG002
        """Chunks need nothing."""
        return set()

    def __getitem__(self, key: Any) -> Any:
        name, *index = key
        if name != self.name or len(index) != len(self.along):
            raise KeyError(key)
        return _task(key, partial(load_chunk, self.place, self.path, *index))

    def __iter__(self) -> Iterator[Any]:
        total = 1
        for count in self.along:
            total *= count
        return ((self.name, *grid.index_of(number, self.along)) for number in range(total))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _task(key: Any, call: Callable[[], Any]) -> Any:
    try:
        from dask._task_spec import Task
    except ImportError:  # before 2024.12 a tuple is one
        return (call,)
    return Task(key, call)


def load_chunk(place: Place, path: str, *index: int) -> Any:
    """One chunk, checked, in whatever process."""
    array = opened(place).array(path)
    if 0 in array.content.shape:  # Dask has a chunk where there is nothing
        return _nothing(array.content)
    return array.chunk(index)


def _nothing(content: ArrayContent) -> Any:
    import numpy as np

    return np.empty(content.shape, dtype_of(content.dtype))


def over_store(place: Place, path: str = "") -> Any:
    """The array of Dask over an array of the store. NotFound, DigestMismatch."""
    import numpy as np

    content = opened(place).array(path).content
    name = f"kachery-{blake3_bytes(f'{place} {path}'.encode()).hex()[:16]}-{place.address[:16]}"
    chunks = _lengths_of(content)
    along = tuple(map(len, chunks))
    dtype = dtype_of(content.dtype)
    meta = np.empty((0,) * len(along), dtype)
    graph = HighLevelGraph({name: StoredChunks(name, place, path, along)}, {name: set()})
    return da.Array(graph, name, chunks, dtype=dtype, meta=meta)


def _lengths_of(content: ArrayContent) -> Lengths:
    """The lengths of the chunks along each axis, as Dask has them."""
    if 0 in content.shape:  # one chunk of nothing
        return tuple((length,) for length in content.shape)
    return tuple(
        tuple(min(chunk, length - start) for start in range(0, length, chunk))
        for chunk, length in zip(content.chunks, content.shape, strict=True)
    )


def stored_as(array: Any) -> tuple[Place, str] | None:
    """Place and path of an array that came out of a store, unchanged; None for others.

    NotFound, DigestMismatch.
    """
    layers = getattr(array.dask, "layers", {})
    layer = layers.get(array.name)
    if type(layer) is not StoredChunks or array.numblocks != layer.along:
        return None
    content = opened(layer.place).array(layer.path).content
    same = array.chunks == _lengths_of(content) and array.dtype == dtype_of(content.dtype)
    return (layer.place, layer.path) if same else None


@dataclass(frozen=True)
class Checked:
    """Says of each block whether it is what its array says: Dask would let it pass.

    `lengths`: of the chunks along each axis.
    """

    dtype: str
    lengths: Lengths

    def __call__(self, block: Any, block_id: Any = None) -> Any:
        """The block. TypeError for one of another dtype, Unsupported for one of another shape."""
        shape = tuple(axis[place] for axis, place in zip(self.lengths, block_id, strict=True))
        return _checked(block, self.dtype, block_id, shape)


def _checked(block: Any, dtype: str, block_id: grid.Index, shape: grid.Index) -> Any:
    found = exact(block, dtype)
    if found.shape != shape:
        raise Unsupported(
            f"block {tuple(block_id)} has shape {found.shape}, and its array says {shape}: have the"
            " array say so, by chunks= of what made it"
        )
    return found


@dataclass(frozen=True)
class Writer:
    """What a worker needs to store a chunk. `notes`: where it is noted that it is stored, if at all."""

    place: Place
    form: ArrayContent
    codecs: str
    notes: Notes | None

    def __call__(self, block: Any, block_id: Any = None) -> Any:
        """Store a block; returns an array of one item: what `write_chunk` returned."""
        import numpy as np

        store = store_of(self.place)
        shape = grid.lengths(block_id, self.form.shape, self.form.chunks)
        block = _checked(block, self.form.dtype, block_id, shape)
        written = write_chunk(store.blobs, self.form, self.codecs, block)
        if self.notes is not None:
            journal = journal_of(self.place, self.notes, self.form, self.codecs)
            journal.note(tuple(block_id), written)
        found = np.empty((1,) * len(self.form.shape), object)
        found[...] = written
        return found


def dask_form(array: Any, chunks: Any = None) -> ArrayContent:
    """What an array of Dask is, but for its content: its largest chunks, unless others are asked for.

    Unsupported for a dtype, and for chunks of unknown size.
    """
    if any(length != length for axis in array.chunks for length in axis):  # noqa: PLR0124 - NaN
        raise Unsupported(
            "an array of Dask has chunks of unknown size: call its compute_chunk_sizes() first"
        )
    if chunks is None:
        chunks = tuple(max(1, *axis) if axis else 1 for axis in array.chunks)
    return form_of(array.dtype, array.shape, chunks)


def write_dask(
    place: Place,
    array: Any,
    form: ArrayContent,
    codecs: str,
    notes: Notes | None = None,
    made: Made | None = None,
) -> tuple[bytes, bytes]:
    """Store all chunks, where they are computed; returns digests and entries.

    With notes, what an earlier run of that job has stored is not computed again; nor with `made` what
    is left of what one has made. Dask's name of the array is part of them: it is the same for the same
    computation, and never again where chance is in.
    """
    if 0 in form.shape:
        return b"", b""
    if notes is not None:
        notes = replace(notes, array=f"{notes.array} {array.name}")
    indices = list(grid.indices(form.shape, form.chunks))
    found = {} if made is None else made.left()
    if notes is not None:
        journal = journal_of(place, notes, form, codecs)
        noted = ((index, journal.find(index)) for index in indices if index not in found)
        found.update((index, written) for index, written in noted if written is not None)
    missing = [index for index in indices if index not in found]
    found.update(zip(missing, _computed(place, array, form, codecs, notes, missing), strict=True))
    return joined([found[index] for index in indices])


def _computed(
    place: Place,
    array: Any,
    form: ArrayContent,
    codecs: str,
    notes: Notes | None,
    missing: Sequence[grid.Index],
) -> list[bytes]:
    if not missing:
        return []
    regular = _regular(array, form)
    writer = Writer(place, form, codecs, notes)
    written = regular.map_blocks(
        writer,
        name=f"kachery-store-{os.urandom(8).hex()}",
        dtype=object,
        chunks=tuple((1,) * count for count in form.along),
        meta=_no_bytes(len(form.shape)),
    )
    keys = {key[1:]: key for key in flatten(written.__dask_keys__())}
    wanted = [keys[index] for index in missing]
    graph = da.optimization.optimize(written.dask, wanted)
    blocks = _get(array, graph, wanted)
    return [block.item() for block in blocks]


def _regular(array: Any, form: ArrayContent) -> Any:
    """The array in the chunks that it is stored in, of blocks that were looked at one by one."""
    if array.chunks == _lengths_of(form):
        return array
    checked = array.map_blocks(
        Checked(form.dtype, array.chunks),
        name=f"kachery-checked-{os.urandom(8).hex()}",
        dtype=array.dtype,
        meta=array._meta,  # noqa: SLF001 - else it is computed
    )
    return checked.rechunk(form.chunks)


def _no_bytes(axes: int) -> Any:
    import numpy as np

    return np.empty((0,) * axes, object)


def _get(array: Any, graph: Any, keys: list[Any]) -> list[Any]:
    """Compute some keys: on the cluster that this runs on, or that is at hand, else in threads."""
    if _is_worker():
        from distributed import worker_client

        with worker_client(separate_thread=True) as client:
            return list(client.get(graph, keys))
    client = client_in_force(current())
    if client is not None:
        return list(client.get(graph, keys))
    chosen = dask.base.get_scheduler()
    get = array.__dask_scheduler__ if chosen is None or _is_client(chosen) else chosen
    return list(get(graph, keys))


def _is_client(get: Any) -> bool:
    """Whether a scheduler is that of a cluster, which `client=None` says not to use."""
    return type(getattr(get, "__self__", None)).__module__.startswith("distributed")


def _is_worker() -> bool:
    if "distributed" not in sys.modules:
        return False
    from distributed import get_worker

    with suppress(ValueError):
        get_worker()
        return True
    return False
