"""What xarray has, stored as groups of Zarr, and its lazy variables over the store."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from kachery_store.errors import Unsupported
from kachery_store.zarr.chain import AUTO, compressors
from kachery_store.zarr.importing import chunks_of

from .chunk_places import Place, forget_opened, store_of


def store_xarray(place: Place, value: Any, codecs: Any) -> str:
    """Store a DataArray, Dataset or DataTree as a group; returns the address. Unsupported."""
    import xarray as xr

    from kachery_store.zarr.writing import WriteStore

    if isinstance(value, xr.DataArray):
        value = value.to_dataset(name=value.name or "__xarray_dataarray_variable__")
    if not isinstance(value, (xr.Dataset, xr.DataTree)):
        raise Unsupported(f"a {type(value).__name__} of xarray is stored as part of a Dataset")
    plain = _plain_tree if isinstance(value, xr.DataTree) else _plain
    value = plain(value, _encoding(codecs))
    session = WriteStore(store_of, place)
    try:
        address = _written(value, session)
    except BaseException:
        session.discard()
        raise
    forget_opened()
    return address


def _written(value: Any, session: Any) -> str:
    with warnings.catch_warnings():
        # Of texts of fixed length, which other libraries may not read: here they are NumPy's.
        warnings.filterwarnings("ignore", message="The data type")
        try:
            value.to_zarr(
                session,
                mode="w",
                zarr_format=3,
                consolidated=False,
                write_empty_chunks=True,  # zarr takes any NaN, and -0.0, for the fill value
            )
        except NotImplementedError as error:
            raise Unsupported(f"xarray cannot write it: {error}") from error
        return str(session.commit())


def _plain_tree(tree: Any, encoding: dict[str, Any]) -> Any:
    import xarray as xr

    nodes = {
        node.relative_to(tree): _plain(node.to_dataset(inherit=node is tree), encoding)
        for node in tree.subtree
    }
    return xr.DataTree.from_dict(nodes, name=tree.name)


def _plain(dataset: Any, encoding: dict[str, Any]) -> Any:
    """The same data, with what is to be said of each variable, and in regular chunks.

    What it was once read from may have been packed into fewer bits; what was computed since need not
    fit.
    """
    found = dataset.drop_encoding()
    for name, variable in dataset.variables.items():
        chunks = _chunks_of(variable)
        if variable.chunks is not None and not _is_regular(variable.chunks):
            lengths = dict(zip(variable.dims, chunks, strict=True))
            found = found.assign({name: found.variables[name].chunk(lengths)})
        found.variables[name].encoding = {**encoding, "chunks": chunks}
    return found


def _chunks_of(variable: Any) -> tuple[int, ...]:
    if variable.chunks is not None:
        return tuple(max(1, *axis) for axis in variable.chunks)
    return chunks_of(
        variable.shape, variable.encoding.get("chunks"), max(1, variable.dtype.itemsize)
    )


def _is_regular(chunks: Any) -> bool:
    return all(
        all(length == axis[0] for length in axis[:-1]) and axis[-1] <= axis[0] for axis in chunks
    )


def _encoding(codecs: Any) -> dict[str, Any]:
    """The codecs as xarray wants them, for each variable. Unsupported."""
    if isinstance(codecs, str) and codecs == AUTO:
        return {}
    return {"compressors": compressors(codecs)}


def persisted(value: Any, persist: Callable[[Any], Any]) -> Any:
    """The same with each lazy variable over the store. Unsupported."""
    import xarray as xr

    if isinstance(value, xr.DataArray):
        made = persisted(value._to_temp_dataset(), persist)  # noqa: SLF001 - as xarray's own persist
        return value._from_temp_dataset(made)  # noqa: SLF001
    if isinstance(value, xr.DataTree):
        return value.map_over_datasets(lambda one: persisted(one, persist))
    if isinstance(value, xr.Variable):
        return value.copy(data=persist(value.data)) if value.chunks is not None else value
    lazy = {
        name: variable.copy(data=persist(variable.data))
        for name, variable in value.variables.items()
        if variable.chunks is not None
    }
    coords = {name: one for name, one in lazy.items() if name in value.coords}
    return value.assign({n: one for n, one in lazy.items() if n not in coords}).assign_coords(
        coords
    )
