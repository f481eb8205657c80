"""Arrays larger than memory: stored by content, chunk by chunk, and opened lazily (docs/arrays.md)."""

from __future__ import annotations

import json
import os
from contextlib import AbstractContextManager
from typing import Any

from kachery_store import Store
from kachery_store.errors import Unsupported
from kachery_store.uri import check_label
from kachery_store.zarr.arrays import address_of, uri_of
from kachery_store.zarr.chain import AUTO

from . import chunk_values
from .chunk_places import Place, opened, place_in, store_of
from .lease import lease
from .settings import current


def store_zarr(
    array: Any, *, chunks: Any = None, codecs: Any = AUTO, label: str | None = None
) -> str:
    """Store an array or group by content, in chunks; returns its URI, once all is on the disk.

    array: of NumPy, Dask, zarr (format 2 or 3), a group of zarr, or xarray's DataArray, Dataset or
    DataTree, which become groups. chunks: their shape, or one length for all axes; by default those
    that it has. codecs: of zarr, as [zarr.codecs.BloscCodec()]; None for none; by default zstd; they do
    not count for the URI. Chunks of Dask are stored by the workers that compute them. Raises
    Unsupported for what cannot be kept so, TypeError for what is none of these, and for chunks of
    Dask of another dtype than the array says, NotFound for what was opened and is lost since,
    StoreUnavailable.
    """
    if label is not None:
        check_label(label)
    store = current().store
    if type(array).__module__.startswith("xarray."):
        from .chunked_xarray import store_xarray

        if chunks is not None:
            raise Unsupported("chunks= is for one array: call array.chunk(...) of xarray before")
        with _running(store):
            return uri_of(store_xarray(place_in(store), array, codecs), label)
    known = chunk_values.known_of(array) if _may_be_known(array) else None
    if known is not None and chunks is None and known[0].store.root == store.root:
        with _running(store):
            return uri_of(chunk_values.name_again(known, store), label)
    with _running(store):
        address = chunk_values.store_chunked(store, array, chunks=chunks, codecs=codecs, named=True)
    return uri_of(address, label)


def _running(store: Store) -> AbstractContextManager[object]:
    """Be seen as a job that runs, so that no collection takes chunks before the manifest has them."""
    return lease(store, os.urandom(32).hex())


def _may_be_known(array: Any) -> bool:
    return type(array).__module__.startswith(("dask.array.", "zarr."))


def open_zarr(uri: str) -> Any:
    """The stored array or group as one of zarr, read-only; chunks are read, and checked, when needed.

    Raises NotFound, DigestMismatch; reading a chunk that is lost or damaged raises the same, naming it.
    """
    return chunk_values.open_zarr(_place(uri))


def zarr_store(uri: str) -> Any:
    """The store of Zarr, read-only, of a stored array or group: `xarray.open_zarr(zarr_store(uri))`."""
    from kachery_store.zarr.reading import ReadStore

    return ReadStore(opened, _place(uri))


def open_dask(uri: str, path: str = "") -> Any:
    """The stored array as one of Dask, with the same chunks; `path` is of an array in a group.

    Raises NotFound, DigestMismatch. Workers read, and check, the chunks that they need.
    """
    from . import dask_arrays

    return dask_arrays.over_store(_place(uri), path.strip("/"))


def persist(array: Any) -> Any:
    """Compute and store an array of Dask or zarr, or the lazy ones in what xarray has.

    Returns the same lazily, over the store: its address is known, so that it can be an argument, and it
    is not computed again. Workers store the chunks that they compute. Unsupported; TypeError for what is
    none of these; StoreUnavailable.
    """
    kind = type(array).__module__
    if kind.startswith("xarray."):
        from .chunked_xarray import persisted

        return persisted(array, persist)
    if kind == "numpy":
        raise Unsupported(f"a {type(array).__name__} is in memory already; hand it over as it is")
    uri = store_zarr(array)
    return open_dask(uri) if kind.startswith("dask.") else open_zarr(uri)


def zarr_references(uri: str, dest: str | os.PathLike[str], *, in_zone: bool = False) -> None:
    """Write a reference file, as Kerchunk has it, for readers without kachery.

    It names the files of this store, or with `in_zone` the URLs of the zone in force. They are what
    they are as long as nothing is collected; such readers check nothing. Raises as open_zarr,
    Unsupported.
    """
    from kachery_store.zarr.references import references

    found = references(opened(_place(uri)), in_zone=in_zone)
    with open(dest, "w", encoding="utf-8") as file:
        json.dump(found, file)


def _place(uri: str) -> Place:
    return place_in(current().store, address_of(uri))


def writing_session(session: str | None = None) -> Any:
    """A store of Zarr to be written, by many processes at once: `commit()` of it returns the address."""
    from kachery_store.zarr.writing import WriteStore

    return WriteStore(store_of, place_in(current().store), session)
