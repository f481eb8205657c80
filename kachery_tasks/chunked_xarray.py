"""What xarray has, stored as groups of Zarr, and its lazy variables over the store."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from kachery_store.errors import Unsupported
from kachery_store.zarr.chain import codecs_json

from .chunk_places import Place, forget_opened, store_of


def store_xarray(place: Place, value: Any, codecs: Any) -> str:
    """Store a DataArray, Dataset or DataTree as a group; returns the address. Unsupported."""
    import xarray as xr

    from kachery_store.zarr.writing import WriteStore

    if isinstance(value, xr.DataArray):
        value = value.to_dataset(name=value.name or "__xarray_dataarray_variable__")
    if not isinstance(value, (xr.Dataset, xr.DataTree)):
        raise Unsupported(f"a {type(value).__name__} of xarray is stored as part of a Dataset")
    session = WriteStore(store_of, place)
    encoding = {} if isinstance(value, xr.DataTree) else _encoding(value, codecs)
    with warnings.catch_warnings():
        # Of texts of fixed length, which other libraries may not read: here they are NumPy's.
        warnings.filterwarnings("ignore", message="The data type")
        value.to_zarr(
            session,
            mode="w",
            zarr_format=3,
            consolidated=False,
            encoding=encoding,
            write_empty_chunks=True,  # zarr takes any NaN, and -0.0, for the fill value
        )
        address = session.commit()
    forget_opened()
    return address


def _encoding(dataset: Any, codecs: Any) -> dict[str, Any]:
    """The codecs of each variable, as xarray wants them."""
    if codecs == "auto":
        return {}
    codecs_json(codecs, "<f8")  # refuses what is no codec
    chosen = () if codecs is None else tuple(codecs)
    return {name: {"compressors": chosen} for name in dataset.variables}


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
