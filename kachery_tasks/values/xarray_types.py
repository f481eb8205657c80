"""Encodings of xarray: labelled arrays, and the pandas indexes behind their coordinates.

How a variable was stored in a file (`encoding`) is no part of the value, nor is the file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from xarray.indexes import PandasIndex, PandasMultiIndex

from ..errors import CannotDecode, CannotEncode
from .registry import Codec, add_codec

# Variables: dimensions, data, attributes


def _encode_variable(variable: Any) -> list[Any]:
    return [list(variable.dims), _data_of(variable), variable.attrs]


def _data_of(variable: Any) -> Any:
    """The data as an array of NumPy, or as an extension array of pandas."""
    data, dtype = variable.data, variable.dtype
    if variable.chunks is not None:
        return data  # an array of Dask, which is refused, or known, as such
    if type(data) is np.ndarray:
        return data if isinstance(dtype, np.dtype) else pd.array(data, dtype=dtype)
    if isinstance(data, pd.api.extensions.ExtensionArray) and data.dtype == dtype:
        return data
    kind = f"{type(data).__module__}.{type(data).__qualname__}"
    raise CannotEncode(f"its data is a {kind}; load() it, or make it NumPy's with as_numpy()")


def _decode_variable(dims: list[Any], data: Any, attrs: dict[Any, Any]) -> Any:
    if len(dims) != data.ndim:
        raise CannotDecode("the data of a variable does not have its dimensions")
    if type(data) is np.ndarray or hasattr(data, "dask"):
        return xr.Variable(dims, data, attrs, fastpath=True)  # else it makes dates out of objects
    variable = xr.Variable(dims, data, attrs)
    if variable.dtype == data.dtype:
        return variable
    return xr.Variable(dims, pd.Index(data), attrs)  # which dates with a time zone need


# Indexes: the dimension, what pandas holds, the types that NumPy is shown, attributes by coordinate


def _encode_indexes(holder: Any) -> list[Any]:
    order = list(holder.coords)
    groups = [(index, dict(found)) for index, found in holder.xindexes.group_by_index()]
    groups.sort(key=lambda group: min(map(order.index, group[1])))
    return [_encode_index(index, variables) for index, variables in groups]


def _encode_index(index: Any, variables: dict[Any, Any]) -> list[Any]:
    if type(index) not in (PandasIndex, PandasMultiIndex):
        kind = type(index).__name__
        raise CannotEncode(f"its {kind} has no encoding; drop_indexes({list(variables)}) first")
    made = index.create_variables(variables)
    if made.keys() != variables.keys() or not all(_same(made[n], variables[n]) for n in made):
        raise CannotEncode(f"the index of {list(variables)} is not what these coordinates hold")
    attrs = {name: variables[name].attrs for name in made}
    return [index.dim, index.index, _shown_types(index), attrs]


def _same(a: Any, b: Any) -> bool:
    if type(a) is not type(b) or a.dims != b.dims or a.dtype != b.dtype:
        return False
    same: bool = a.to_index().identical(b.to_index())
    return same


def _shown_types(index: Any) -> Any:
    if not isinstance(index, PandasMultiIndex):
        return _shown_type(index.coord_dtype, index.index)
    levels = index.index.levels
    return {
        level.name: _shown_type(index.level_coords_dtype[level.name], level) for level in levels
    }


def _shown_type(dtype: Any, index: Any) -> Any:
    """A type of NumPy, which the index need not have; None for the type of the index itself."""
    if isinstance(dtype, np.dtype):
        return dtype
    if dtype != index.dtype:
        raise CannotEncode(f"a coordinate of type {dtype} has an index of type {index.dtype}")
    return None


def _index(dim: Any, index: Any, shown: Any) -> Any:
    if not isinstance(index, pd.MultiIndex):
        return PandasIndex(index, dim, coord_dtype=shown)
    types = {level.name: shown[level.name] or level.dtype for level in index.levels}
    return PandasMultiIndex(index, dim, level_coords_dtype=types)


def _coordinates(variables: dict[Any, Any], indexes: list[Any]) -> Any:
    """All variables with their indexes, as coordinates; those that an index makes are None so far."""
    filled, found = dict(variables), {}
    for dim, index, shown, attrs in indexes:
        whole = _index(dim, index, shown)
        for name, variable in whole.create_variables().items():
            variable.attrs = attrs[name]
            filled[name], found[name] = variable, whole
    if filled.keys() != variables.keys():
        raise CannotDecode("an index has coordinates that are not there")
    return xr.Coordinates(filled, indexes=found)


def _without_indexed(variables: Any, indexes: Any) -> dict[Any, Any]:
    return {
        name: None if name in indexes else variable.to_base_variable()
        for name, variable in variables.items()
    }


# An index variable alone


def _encode_index_variable(variable: Any) -> list[Any]:
    if _is_level(variable):
        raise CannotEncode("it is one level of a multi-index; to_base_variable() first")
    index = variable.to_index()
    shown = None if isinstance(index, pd.MultiIndex) else _shown_type(variable.dtype, index)
    return [variable.dims[0], index, shown, variable.attrs]


def _is_level(variable: Any) -> bool:
    """Whether it is one level of a multi-index, which alone cannot be made again."""
    level: bool = variable.to_index().name not in (None, variable.dims[0])
    return level


def _decode_index_variable(dim: Any, index: Any, shown: Any, attrs: dict[Any, Any]) -> Any:
    shown = dict.fromkeys(index.names) if isinstance(index, pd.MultiIndex) else shown
    variable = next(iter(_index(dim, index, shown).create_variables().values()))
    variable.attrs = attrs
    return variable


# Arrays, datasets, trees


def _encode_array(array: Any) -> list[Any]:
    coords = _without_indexed(array.coords.variables, array.xindexes)
    return [array.name, *_encode_own_variable(array), coords, _encode_indexes(array)]


def _encode_own_variable(array: Any) -> list[Any]:
    """The variable and None; None and its attributes when it is an indexed coordinate of itself."""
    if array.name in array.xindexes and _same(array.variable, array.coords.variables[array.name]):
        return [None, array.attrs]
    variable = array.variable
    if isinstance(variable, xr.IndexVariable) and _is_level(variable):
        variable = variable.to_base_variable()
    return [variable, None]


def _decode_array(
    name: Any, variable: Any, attrs: Any, coords: dict[Any, Any], indexes: list[Any]
) -> Any:
    found = _coordinates(coords, indexes)
    variables = dict(found.variables)
    if variable is None:
        variable = variables[name].copy(deep=False)
        variable.attrs = attrs
    if any(variable.sizes.get(dim) != length for dim, length in found.sizes.items()):
        raise CannotDecode("the coordinates of an array do not fit it")
    return xr.DataArray(variable, variables, name=name, indexes=dict(found.xindexes), fastpath=True)


def _encode_dataset(dataset: Any) -> list[Any]:
    variables = _without_indexed(dataset.variables, dataset.xindexes)
    columns = list(dataset.data_vars)
    return [variables, columns, _encode_indexes(dataset), dataset.attrs]


def _decode_dataset(
    variables: dict[Any, Any], columns: list[Any], indexes: list[Any], attrs: dict[Any, Any]
) -> Any:
    dataset = _coordinates(variables, indexes).to_dataset().reset_coords(columns)
    dataset.attrs = attrs
    return dataset


def _encode_tree(tree: Any) -> list[Any]:
    if tree.parent is not None:
        raise CannotEncode("it is a branch of a larger tree; copy() it first")
    return [tree.name, *_encode_node(tree)]


def _encode_node(node: Any) -> list[Any]:
    children = {name: _encode_node(child) for name, child in node.children.items()}
    return [node.to_dataset(inherit=False), children]


def _decode_tree(name: Any, dataset: Any, children: dict[str, Any]) -> Any:
    branches = {child: _decode_tree(None, *parts) for child, parts in children.items()}
    return xr.DataTree(dataset, children=branches, name=name)


add_codec(xr.Variable, Codec("xarray.Variable", _encode_variable, _decode_variable))
add_codec(
    xr.IndexVariable,
    Codec("xarray.IndexVariable", _encode_index_variable, _decode_index_variable),
)
add_codec(xr.DataArray, Codec("xarray.DataArray", _encode_array, _decode_array))
add_codec(xr.Dataset, Codec("xarray.Dataset", _encode_dataset, _decode_dataset))
add_codec(xr.DataTree, Codec("xarray.DataTree", _encode_tree, _decode_tree))
