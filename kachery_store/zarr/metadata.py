"""`zarr.json` of what is stored, and what such metadata of others says."""

from __future__ import annotations

import json
import warnings
from functools import lru_cache
from typing import Any

from ..errors import Unsupported
from .content import STRING, ArrayContent, GroupContent
from .dtypes import dtype_of, fill_of

Json = dict[str, Any]


def array_json(content: ArrayContent, codecs: str | None = None) -> Json:
    """The `zarr.json` of an array; without codecs as it is when nothing is compressed."""
    data_type, fill = _described(content.dtype, content.fill)
    found: Json = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(content.shape),
        "data_type": data_type,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(content.chunks)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": json.loads(codecs or raw_codecs(content.dtype)),
        "attributes": json.loads(content.attributes),
        "storage_transformers": [],
    }
    if content.names is not None:
        found["dimension_names"] = list(content.names)
    return found


def group_json(attributes: str) -> Json:
    """The `zarr.json` of a group."""
    return {"zarr_format": 3, "node_type": "group", "attributes": json.loads(attributes)}


def all_json(content: ArrayContent | GroupContent, codecs: dict[str, str] | None = None) -> Json:
    """Each `zarr.json` by its key; that of a group lists those below, as zarr reads them at once."""
    codecs = codecs or {}
    if isinstance(content, ArrayContent):
        return {"zarr.json": array_json(content, codecs.get(""))}
    found: dict[str, Json] = {}
    for path, node in content.nodes.items():
        one = group_json(node) if isinstance(node, str) else array_json(node, codecs.get(path))
        found[path] = one
    below = {path: one for path, one in found.items() if path}
    found[""] = {
        **found[""],
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": below},
    }
    return {f"{path}/zarr.json".lstrip("/"): one for path, one in found.items()}


def raw_codecs(dtype: str) -> str:
    """The codecs of an array whose chunks are stored as they are, as JSON."""
    if dtype == STRING:
        return '[{"name":"vlen-utf8"}]'
    return '[{"configuration":{"endian":"little"},"name":"bytes"}]'


@lru_cache(maxsize=1024)
def _described(dtype: str, fill: bytes) -> tuple[Any, Any]:
    """`data_type` and `fill_value` of a dtype, as the zarr that is installed writes them."""
    found = described_by_zarr(dtype, 1, fill_value=fill_of(fill, dtype), compressors=None)
    if dtype[1] in "US" and isinstance(found["data_type"], str):  # before 3.1, of any length
        from importlib.metadata import version

        raise Unsupported(
            f"zarr {version('zarr')} has no texts of fixed length: use zarr 3.1 or later"
        )
    return found["data_type"], found["fill_value"]


def described_by_zarr(dtype: str, axes: int, **options: Any) -> Json:
    """The `zarr.json` that the zarr that is installed writes for a small array. Unsupported."""
    from .library import zarr

    written: dict[str, Any] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of dtypes that other languages may not read
            zarr.create_array(
                store=zarr.storage.MemoryStore(written),
                shape=(1,) * axes,
                chunks=(1,) * axes,
                dtype=dtype_of(dtype),
                **options,
            )
    except (KeyError, TypeError, ValueError) as error:
        raise Unsupported(
            f"zarr {zarr.__version__} does not take dtype {dtype!r} with {options}: {error!r}. A later"
            " zarr may, or other codecs"
        ) from error
    found: Json = json.loads(written["zarr.json"].to_bytes())
    return found
