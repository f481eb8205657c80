"""Encodings of SciPy's sparse matrices and arrays: what is stored, as it is stored."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from .registry import Codec, add_codec

_Array = np.ndarray[Any, Any]


def _index(positions: Any) -> _Array:
    """An array of indexes as SciPy has them, in the order of memory."""
    array: _Array = np.ascontiguousarray(positions)
    if array.ndim != 1 or array.dtype not in (np.int32, np.int64):
        raise ValueError(f"its indexes are no row of int32 or int64, but {array.dtype}")
    return array


def _check_within(positions: _Array, length: int) -> None:
    if len(positions) and not 0 <= positions.min() <= positions.max() < length:
        raise ValueError("an index is outside of the shape")


def _check_reach(largest: int, *indexes: _Array) -> None:
    """SciPy's own code counts in the type of the indexes, and would overflow without a word."""
    if any(largest > np.iinfo(index.dtype).max for index in indexes):
        raise ValueError("its shape is too large for the type of its indexes")


# CSR, CSC and BSR: the rows (or columns) one after the other


def _encode_compressed(matrix: Any) -> list[Any]:
    starts = _index(matrix.indptr)
    stored = int(starts[-1])  # what is beyond is spare room
    data, indices = np.ascontiguousarray(matrix.data[:stored]), _index(matrix.indices[:stored])
    _check_compressed(matrix, data, indices, starts)
    return [list(matrix.shape), data, indices, starts]


def _check_compressed(matrix: Any, data: _Array, indices: _Array, starts: _Array) -> None:
    _check_reach(max(matrix.shape), indices, starts)
    block = matrix.blocksize if matrix.format == "bsr" else (1, 1)
    shape = (1, *matrix.shape)[-2:]  # there are one-dimensional ones
    if shape[0] % block[0] or shape[1] % block[1]:
        raise ValueError("its shape is not made of whole blocks")
    rows, columns = shape[0] // block[0], shape[1] // block[1]
    major, minor = (columns, rows) if matrix.format == "csc" else (rows, columns)
    if len(starts) != major + 1 or starts[0] != 0 or (np.diff(starts) < 0).any():
        raise ValueError("its indptr does not rise from zero, once for each row")
    if not len(data) == len(indices) == starts[-1]:
        raise ValueError("its indptr does not end where the data ends")
    _check_within(indices, minor)


def _decode_compressed(kind: Any, shape: list[int], data: _Array, *indexes: _Array) -> Any:
    data, (indices, starts) = np.asarray(data), map(_index, indexes)
    matrix = kind((data, indices, starts), shape=tuple(shape))
    # The constructor chooses the type of the indexes anew.
    matrix.data, matrix.indices, matrix.indptr = data, indices, starts
    _check_compressed(matrix, data, indices, starts)
    return matrix


# COO and DIA


def _encode_coordinates(matrix: Any) -> list[Any]:
    coordinates = [_index(positions) for positions in matrix.coords]
    _check_coordinates(matrix.shape, matrix.data, coordinates)
    return [list(matrix.shape), np.ascontiguousarray(matrix.data), coordinates]


def _check_coordinates(shape: Sequence[int], data: _Array, coordinates: Sequence[_Array]) -> None:
    _check_reach(max(shape), *coordinates)
    for positions, length in zip(coordinates, shape, strict=True):
        _check_within(positions, length)
        if len(positions) != len(data):
            raise ValueError("there is not one index for each value")


def _decode_coordinates(kind: Any, shape: list[int], data: _Array, indexes: list[_Array]) -> Any:
    data, coordinates = np.asarray(data), tuple(map(_index, indexes))
    _check_coordinates(shape, data, coordinates)
    matrix = kind((data, coordinates), shape=tuple(shape))
    matrix.data, matrix.coords = data, coordinates
    return matrix


def _encode_diagonals(matrix: Any) -> list[Any]:
    data, offsets = np.ascontiguousarray(matrix.data), _index(matrix.offsets)
    _check_diagonals(matrix.shape, data, offsets)
    return [list(matrix.shape), data, offsets]


def _check_diagonals(shape: Sequence[int], data: _Array, offsets: _Array) -> None:
    farthest = max(map(abs, offsets.tolist()), default=0)
    _check_reach(max(shape) + data.shape[1] + farthest, offsets)


def _decode_diagonals(kind: Any, shape: list[int], data: _Array, offsets: _Array) -> Any:
    data, offsets = np.asarray(data), _index(offsets)
    _check_diagonals(shape, data, offsets)
    matrix = kind((data, offsets), shape=tuple(shape))
    matrix.data, matrix.offsets = data, offsets
    return matrix


# LIL and DOK, which are made of Python's lists and dicts


def _encode_rows(matrix: Any) -> list[Any]:
    columns = [column for row in matrix.rows for column in row]
    values = [value for row in matrix.data for value in row]
    positions = np.array(columns, np.int64)
    _check_within(positions, matrix.shape[1])
    lengths = np.array([len(row) for row in matrix.rows], np.int64)
    if lengths.tolist() != [len(row) for row in matrix.data]:
        raise ValueError("its rows do not hold one value for each index")
    return [list(matrix.shape), _values(values, matrix.dtype), positions, lengths]


def _values(values: list[Any], dtype: Any) -> _Array:
    array = np.empty(len(values), dtype)
    array[:] = values
    return array


def _decode_rows(kind: Any, shape: list[int], data: _Array, *indexes: _Array) -> Any:
    columns, lengths = map(_index, indexes)
    _check_within(columns, shape[1])
    if len(lengths) != shape[0] or (lengths < 0).any():
        raise ValueError("there is not a length for each row")
    if not len(data) == len(columns) == lengths.sum():
        raise ValueError("the rows do not hold what is stored")
    matrix = kind(tuple(shape), dtype=data.dtype)
    positions, values = columns.tolist(), data.tolist()
    end = 0
    for row, length in enumerate(lengths.tolist()):
        begin, end = end, end + length
        matrix.rows[row], matrix.data[row] = positions[begin:end], values[begin:end]
    return matrix


def _encode_keys(matrix: Any) -> list[Any]:
    keys = np.array(list(matrix.keys()), np.int64).reshape(-1, matrix.ndim)
    coordinates = [np.ascontiguousarray(keys[:, axis]) for axis in range(matrix.ndim)]
    values = _values(list(matrix.values()), matrix.dtype)
    _check_coordinates(matrix.shape, values, coordinates)
    return [list(matrix.shape), values, coordinates]


def _decode_keys(kind: Any, shape: list[int], data: _Array, indexes: list[_Array]) -> Any:
    coordinates = list(map(_index, indexes))
    _check_coordinates(shape, data, coordinates)
    matrix = kind(tuple(shape), dtype=data.dtype)
    columns = [positions.tolist() for positions in coordinates]
    keys = columns[0] if len(columns) == 1 else zip(*columns, strict=True)
    for key, value in zip(keys, data, strict=True):
        matrix.setdefault(key, value)
    return matrix


_FORMATS: dict[str, tuple[Callable[[Any], list[Any]], Callable[..., Any]]] = {
    **dict.fromkeys(("csr", "csc", "bsr"), (_encode_compressed, _decode_compressed)),
    "coo": (_encode_coordinates, _decode_coordinates),
    "dia": (_encode_diagonals, _decode_diagonals),
    "lil": (_encode_rows, _decode_rows),
    "dok": (_encode_keys, _decode_keys),
}


for _format, (_encode, _decode) in _FORMATS.items():
    for _name in (f"{_format}_matrix", f"{_format}_array"):
        _kind = getattr(sparse, _name)
        _codec = Codec(f"scipy.sparse.{_name}", _encode, functools.partial(_decode, _kind))
        add_codec(_kind, _codec)
