"""Encodings of arrays that are kept in chunks: of zarr, of Dask, and what stands for them.

What such a value is made of is in a store; the floors above know which, and say it here
(`told_by`). Nothing of zarr or Dask is imported.
"""

from __future__ import annotations

from typing import Any, Protocol

from kachery_store.errors import KacheryError
from kachery_store.zarr.content import (
    ARRAY,
    GROUP,
    ArrayContent,
    GroupContent,
    array_content,
    group_content,
)

from ..errors import CannotEncode
from .registry import Buffer, Codec, add_codec, add_fallback


class Chunks(Protocol):
    """What knows the chunked arrays of the store in force."""

    def content_of(self, value: Any) -> ArrayContent | GroupContent:
        """What an array or group of zarr, or an array of Dask, is. CannotEncode when nobody knows."""

    def opened(self, content: ArrayContent | GroupContent) -> Any:
        """The array or group of zarr with that content. NotFound, DigestMismatch."""

    def as_dask(self, array: Any) -> Any:
        """The array of Dask over an array of zarr that `opened` gave."""


_chunks: Chunks | None = None


def told_by(chunks: Chunks) -> None:
    """Say who knows the chunked arrays."""
    global _chunks
    _chunks = chunks


def _known() -> Chunks:
    if _chunks is None:
        raise KacheryError("arrays in chunks need a store, and this program uses only the encoding")
    return _chunks


def _encode_array(value: Any) -> list[Any]:
    return _parts_of_array(_content(value, ArrayContent))


def _encode_group(value: Any) -> list[Any]:
    return _parts_of_group(_content(value, GroupContent))


def _encode_dask(value: Any) -> list[Any]:
    return [_content(value, ArrayContent)]


def _content(value: Any, kind: type) -> Any:
    content = _known().content_of(value)
    if type(content) is not kind:
        raise CannotEncode(f"it is no {kind.__name__}")
    return content


def _parts_of_array(content: ArrayContent) -> list[Any]:
    return [*content.parts(), Buffer(memoryview(content.digests))]


def _parts_of_group(content: GroupContent) -> list[Any]:
    nodes = ((path, content.nodes[path]) for path in sorted(content.nodes))
    return [{path: one if isinstance(one, str) else _parts_of_array(one) for path, one in nodes}]


def _decode_array(*parts: Any) -> Any:
    return _known().opened(array_content(*parts))


def _decode_group(nodes: Any) -> Any:
    return _known().opened(group_content(nodes))


def _decode_dask(array: Any) -> Any:
    return _known().as_dask(array)


_ARRAY = Codec(ARRAY, _encode_array, _decode_array)
_GROUP = Codec(GROUP, _encode_group, _decode_group)
_DASK = Codec("dask.array", _encode_dask, _decode_dask)

# By name, so that neither library is imported for the other's sake.
_BY_NAME = {
    ("zarr.core.array", "Array"): _ARRAY,
    ("zarr.core.group", "Group"): _GROUP,
    ("dask.array.core", "Array"): _DASK,
}


def _codec_for(kind: type) -> Codec | None:
    return _BY_NAME.get((kind.__module__, kind.__qualname__))


add_codec(ArrayContent, Codec(ARRAY, _parts_of_array, _decode_array))
add_codec(GroupContent, Codec(GROUP, _parts_of_group, _decode_group))
add_fallback(_codec_for, _ARRAY, _GROUP, _DASK, first=True)
