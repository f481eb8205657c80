"""Columns of strings, which Python or Arrow may hold, in the one canonical form of `columns`."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from .columns import (
    Array,
    memory_of,
    offsets_of,
    presence_of,
    read_memory,
    read_offsets,
    read_presence,
)
from .pandas_dtypes import string_dtype


def encode_strings(values: Any) -> list[Any]:
    """The column of an array of strings: whether NA or NaN is missing, rows, what Arrow would hold."""
    in_arrow = isinstance(values, pd.arrays.ArrowStringArray)
    parts = _of_arrow(values.__arrow_array__()) if in_arrow else _of_python(values)
    return ["string", values.dtype.na_value is pd.NA, len(values), *parts]


def _of_arrow(chunked: Any) -> list[Any]:
    import pyarrow as pa

    from .arrow_columns import encode_column

    return encode_column(chunked.cast(pa.large_string()).combine_chunks())


def _of_python(values: Any) -> list[Any]:
    present = ~np.asarray(values.isna())
    texts = values.to_numpy(dtype=object, na_value="").tolist()
    octets, lengths = _joined(texts)
    content = np.frombuffer(octets, "u1")
    return [presence_of(present), memory_of(offsets_of(lengths)), memory_of(content)]


def _joined(texts: list[str]) -> tuple[bytes, Array]:
    """All texts in one, and how many bytes each has."""
    whole = "".join(texts)
    if whole.isascii():
        return whole.encode(), np.fromiter(map(len, texts), np.int64, len(texts))
    pieces = [text.encode("utf-8", "surrogatepass") for text in texts]
    return b"".join(pieces), np.fromiter(map(len, pieces), np.int64, len(pieces))


def decode_strings(missing_is_na: bool, count: int, *parts: Any) -> Any:
    """The array of strings of a column, held as this pandas likes best."""
    dtype = string_dtype(missing_is_na)
    if dtype.storage == "python":
        return pd.array(_texts(count, parts), dtype=dtype)
    array = _arrow_array(count, parts)
    if array is None:
        return pd.array(_texts(count, parts), dtype=string_dtype(missing_is_na, "python"))
    return dtype.__from_arrow__(array)


def _arrow_array(count: int, parts: Any) -> Any:
    """What Arrow holds; None for texts with lone surrogates, which it cannot hold."""
    import pyarrow as pa

    from .arrow_columns import decode_column

    array = decode_column(pa.large_string(), count, parts)
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return None
    return array


def _texts(count: int, parts: Any) -> list[str | None]:
    present = read_presence(parts[0], count)
    offsets = read_offsets(parts[1], count).tolist()
    octets = read_memory(parts[2], "u1", offsets[-1]).tobytes()
    texts = [octets[a:b].decode("utf-8", "surrogatepass") for a, b in pairwise(offsets)]
    if present is None:
        return list(texts)
    return [text if there else None for text, there in zip(texts, present.tolist(), strict=True)]
