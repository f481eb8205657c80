"""Storing what `zarr` can open, of format 2 or 3: arrays and groups, chunk by chunk."""

from __future__ import annotations

import base64
import math
import operator
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from ..errors import Unsupported
from . import grid
from .arrays import commit
from .chain import AUTO, codecs_json
from .chunks import write_chunk
from .content import ArrayContent, Content, GroupContent, canonical
from .dtypes import fill_bytes, text_of

if TYPE_CHECKING:
    from ..store import Store

_DIMENSIONS = "_ARRAY_DIMENSIONS"  # where xarray puts their names in format 2
_AT_ONCE = 4
_CHUNK_BYTES = 16 << 20  # of the chunks that are chosen where nobody chose

# Stores all chunks of an array: form, codecs -> digests, entries
Write = Callable[[ArrayContent, str], tuple[bytes, bytes]]


def form_of(
    dtype: Any,
    shape: Sequence[int],
    chunks: Any,
    *,
    fill: Any = None,
    names: Any = None,
    attributes: Any = None,
) -> ArrayContent:
    """An array of which no chunk is known yet. Unsupported for a dtype, TypeError for attributes."""
    text = text_of(dtype)
    lengths = tuple(map(int, shape))
    return ArrayContent(
        text,
        lengths,
        chunks_of(lengths, chunks, max(1, dtype.itemsize)),
        fill_bytes(fill, text),
        None if names is None or set(names) <= {None} else tuple(names),
        canonical(attributes or {}),
        b"",
    )


def chunks_of(shape: grid.Index, chunks: Any, itemsize: int) -> grid.Index:
    """The shape of the chunks: as asked for, or by halving the longest axis until they are small.

    Asked for is one length for all axes, or one per axis; None or -1 is all of an axis. ValueError.
    """
    if chunks is None:
        found = [max(1, length) for length in shape]
        while math.prod(found) * itemsize > _CHUNK_BYTES and max(found) > 1:
            longest = found.index(max(found))
            found[longest] = -(-found[longest] // 2)
        return tuple(found)
    try:
        asked = (
            chunks if isinstance(chunks, (tuple, list)) else (operator.index(chunks),) * len(shape)
        )
        lengths = [-1 if one is None else operator.index(one) for one in asked]
    except TypeError:
        lengths = []
    if len(lengths) != len(shape) or any(one == 0 or one < -1 for one in lengths):
        raise ValueError(
            f"chunks={chunks!r} for an array of shape {shape}: give one length for all axes, or one per"
            " axis, as whole numbers; -1 is all of an axis"
        )
    return tuple(
        max(1, length if one == -1 else min(one, length))
        for one, length in zip(lengths, shape, strict=True)
    )


def write_array(store: Store, array: Any, form: ArrayContent, codecs: str) -> tuple[bytes, bytes]:
    """Store the chunks of what can be sliced; returns digests and entries."""

    def write(index: grid.Index) -> bytes:
        chunk = array[grid.region(index, form.shape, form.chunks)]
        return write_chunk(store.blobs, form, codecs, chunk)

    found = list(_several_at_once(write, grid.indices(form.shape, form.chunks)))
    return joined(found)


def joined(written: Sequence[bytes]) -> tuple[bytes, bytes]:
    """What `write_chunk` returned for each chunk, as digests and entries."""
    return b"".join(one[:32] for one in written), b"".join(one[32:] for one in written)


def _several_at_once(
    write: Callable[[grid.Index], bytes], all: Iterator[grid.Index]
) -> Iterator[bytes]:
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="kachery-chunks") as pool:
        try:
            yield from pool.map(write, all)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def zarr_form(array: Any, chunks: Any = None) -> ArrayContent:
    """What an array of zarr is, but for its content. Unsupported."""
    attributes = dict(array.attrs)
    names = getattr(array.metadata, "dimension_names", None)
    if array.metadata.zarr_format == 2:
        names = attributes.pop(_DIMENSIONS, None)
        _mark_missing(attributes, array, names)
    own = getattr(array, "shards", None) or array.chunks
    return form_of(
        array.dtype,
        array.shape,
        own if chunks is None else chunks,
        fill=array.fill_value,
        names=names,
        attributes=attributes,
    )


def _mark_missing(attributes: dict[str, Any], array: Any, names: Any) -> None:
    """In format 2, xarray takes the fill value for what is missing; in format 3 an attribute says so."""
    if names is None or array.fill_value is None or "_FillValue" in attributes:
        return
    kind, fill = array.dtype.kind, array.fill_value
    if kind == "f":
        attributes["_FillValue"] = base64.b64encode(struct.pack("<d", float(fill))).decode()
    elif kind in "iub":
        attributes["_FillValue"] = fill.item() if hasattr(fill, "item") else fill


def import_zarr(
    store: Store, source: Any, *, chunks: Any = None, codecs: Any = AUTO, named: bool = True
) -> str:
    """Store an array or a group of zarr; returns the address.

    Unsupported for what it cannot be, TypeError for what is neither.
    """
    from .library import zarr

    if isinstance(source, zarr.Array):
        write = partial(write_array, store, source)
        return store_array(store, zarr_form(source, chunks), codecs, write, named=named)
    if not isinstance(source, zarr.Group):
        raise TypeError(
            f"arrays of NumPy, Dask and zarr, groups of zarr and what xarray has are stored in chunks,"
            f" not {type(source).__module__}.{type(source).__qualname__}: make it an array first"
        )
    if chunks is not None:
        raise Unsupported("chunks= is for one array; a group keeps the chunks of its arrays")
    nodes: dict[str, ArrayContent | str] = {"": canonical(dict(source.attrs))}
    tables = {}
    for path, node in sorted(source.members(max_depth=None)):
        if isinstance(node, zarr.Array):
            form = zarr_form(node)
            chain = codecs_json(codecs, form.dtype)
            digests, entries = write_array(store, node, form, chain)
            nodes[path] = form._replace(digests=digests)
            tables[path] = (chain, entries)
        else:
            nodes[path] = canonical(dict(node.attrs))
    return commit(store, GroupContent(nodes), tables, named=named)


def store_array(store: Store, form: ArrayContent, codecs: Any, write: Write, *, named: bool) -> str:
    """Store one array, whose chunks `write` stores; returns the address."""
    chain = codecs_json(codecs, form.dtype)
    digests, entries = write(form, chain)
    content: Content = form._replace(digests=digests)
    return commit(store, content, {"": (chain, entries)}, named=named)
