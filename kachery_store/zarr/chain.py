"""A chunk to bytes and back, through the codecs of Zarr.

The usual ones, nothing or zstd, are called here directly; any others through an array of one chunk.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..errors import Unsupported
from . import grid
from .bounded import MOST_TEXT, decompressed, with_bounds
from .content import STRING, ArrayContent, array_content
from .dtypes import content_bytes, dtype_of, from_content
from .metadata import array_json, described_by_zarr, raw_codecs

if TYPE_CHECKING:
    from .dtypes import Array

AUTO = "auto"  # what zarr itself takes by default

_TO_BYTES = ("bytes", "vlen-utf8")
_LOSSLESS = {*_TO_BYTES, "transpose", "zstd", "gzip", "blosc", "crc32c"}
_NO_DIGEST = bytes(32)
_WHOLE: Any = {"write_empty_chunks": True, "order": "C"}  # how zarr is to treat an array


def codecs_json(codecs: Any, dtype: str) -> str:
    """What a user asks for, as it stands in `zarr.json`: AUTO, None or () for none, or zarr's codecs.

    Unsupported for what is no codec of zarr 3.
    """
    first = json.loads(raw_codecs(dtype))
    if isinstance(codecs, str) and codecs == AUTO:
        return _text([*first, {"name": "zstd", "configuration": {"level": 0, "checksum": False}}])
    given = _listed(codecs)
    return _text(first) if not given else _text(_as_zarr_has_them(given, dtype))


def compressors(codecs: Any) -> tuple[Any, ...]:
    """What a user asks for, for arrays of any kind, which zarr itself is to write.

    Unsupported for what is no codec, or does more than to compress bytes, or may lose something: that is
    not seen where zarr writes.
    """
    from .library import zarr

    given = _listed(codecs)
    fits = is_lossless(codecs_json(given, "<f8"))
    if not fits or not all(isinstance(one, zarr.abc.codec.BytesBytesCodec) for one in given):
        raise Unsupported(
            f"the codecs {given} do not fit all variables of a Dataset, or may lose something: take"
            " those that compress bytes, as zarr.codecs.BloscCodec, or store its arrays one by one"
        )
    return tuple(given)


def _listed(codecs: Any) -> list[Any]:
    return [] if codecs is None else list(codecs) if isinstance(codecs, Iterable) else [codecs]


def _text(codecs: list[Any]) -> str:
    return json.dumps(codecs, sort_keys=True, separators=(",", ":"))


def _as_zarr_has_them(codecs: list[Any], dtype: str) -> list[Any]:
    """What zarr makes of some codecs for a dtype, such as the size of an item for blosc."""
    from .library import zarr

    abc = zarr.abc.codec
    kinds = (abc.ArrayArrayCodec, abc.ArrayBytesCodec, abc.BytesBytesCodec)
    for one in codecs:
        if not isinstance(one, kinds):
            raise Unsupported(
                f"{one!r} is no codec of Zarr 3; give a list such as [zarr.codecs.BloscCodec()],"
                " None for no compression, or leave codecs= out"
            )
    filters, serializers, compressors = (
        [one for one in codecs if isinstance(one, kind)] for kind in kinds
    )
    options = {"serializer": serializers[0]} if serializers else {}
    found: list[Any] = described_by_zarr(
        dtype, _axes(filters), filters=filters or None, compressors=compressors or None, **options
    )["codecs"]
    return found


def _axes(filters: list[Any]) -> int:
    """The number of axes that some filters expect."""
    return max((len(getattr(one, "order", ())) for one in filters), default=1) or 1


class Chain:
    """The codecs of one array: from a whole chunk, padded with the fill value, to bytes, and back."""

    def __init__(self, codecs: str, content: ArrayContent) -> None:
        self._content = content
        self._codecs = codecs
        self._compressor, self._is_quick = _compressor(codecs)

    @property
    def is_raw(self) -> bool:
        """Whether the bytes are the content of the chunk."""
        return self._is_quick and self._compressor is None

    @property
    def is_lossless(self) -> bool:
        """Whether all codecs are known to give back what they were given."""
        return is_lossless(self._codecs)

    def encode(self, chunk: Array) -> Any:
        """The bytes of a whole chunk."""
        if not self._is_quick:
            return _one_chunk_written(self._content, self._codecs, chunk)
        data = content_bytes(chunk, self._content.dtype)
        if data.nbytes > MOST_TEXT and self._content.dtype == STRING:
            raise Unsupported(
                f"a chunk of texts has {data.nbytes} bytes, and can have at most {MOST_TEXT}: make the"
                " chunks smaller"
            )
        return data if self._compressor is None else self._compressor.encode(data)

    def decode(self, data: Any) -> Array:
        """The whole chunk of some bytes; whatever the codecs raise for bytes that are none."""
        content = self._content
        if not self._is_quick:
            return _one_chunk_read(content, self._codecs, bytes(data))
        if self._compressor is not None:
            data = self._decompressed(data)
        return from_content(data, content.chunks, content.dtype)

    def _decompressed(self, data: Any) -> Any:
        """Into memory of the right size, so that no bytes can ask for more."""
        import numpy as np

        dtype = dtype_of(self._content.dtype)
        if dtype.kind in "TO":
            return decompressed("zstd", {}, data, MOST_TEXT)
        size = dtype.itemsize
        for length in self._content.chunks:
            size *= length
        whole = np.empty(size, np.uint8)
        self._compressor.decode(data, out=whole)
        return whole


@lru_cache(maxsize=256)
def is_lossless(codecs: str) -> bool:
    """Whether all codecs are known to give back what they were given."""
    return all(one["name"] in _LOSSLESS for one in json.loads(codecs))


@lru_cache(maxsize=256)
def _compressor(codecs: str) -> tuple[Any, bool]:
    """The compressor of a chain that is called directly, and whether this is such a chain."""
    first, *others = json.loads(codecs)
    order = (first.get("configuration") or {}).get("endian", "little")
    if first["name"] not in _TO_BYTES or order != "little" or len(others) > 1:
        return None, False
    if not others:
        return None, True
    if others[0]["name"] != "zstd":
        return None, False
    from numcodecs.zstd import Zstd

    try:
        return Zstd(**(others[0].get("configuration") or {})), True
    except TypeError:  # settings that are none, of which zarr tells
        return None, False


def _one_chunk(content: ArrayContent) -> ArrayContent:
    chunks = content.chunks
    digests = _NO_DIGEST * grid.number_of_chunks(chunks, chunks)
    return array_content(content.dtype, chunks, chunks, content.fill, None, "{}", digests)


def _opened(content: ArrayContent, codecs: str, files: dict[str, Any]) -> Any:
    """An array of one chunk in a dict of files."""
    from .library import zarr

    make = zarr.core.buffer.default_buffer_prototype().buffer.from_bytes
    described = json.dumps(array_json(_one_chunk(content), codecs)).encode()
    found = {name: make(data) for name, data in {**files, "zarr.json": described}.items()}
    array: Any = zarr.open_array(zarr.storage.MemoryStore(found), mode="r+", zarr_format=3)
    # Else a chunk that is all fill is left out. Not by zarr.config, which all threads share.
    return found, zarr.Array(zarr.core.array.AsyncArray(array.metadata, array.store_path, _WHOLE))


def _one_chunk_written(content: ArrayContent, codecs: str, chunk: Array) -> bytes:
    found, array = _opened(content, codecs, {})
    array[...] = chunk.astype(array.dtype)
    data: bytes = found[_key(content)].to_bytes()
    return data


def _one_chunk_read(content: ArrayContent, codecs: str, data: bytes) -> Array:
    import numpy as np

    from . import bounded_codec  # noqa: F401 - makes the codec known to zarr

    itemsize = None if content.dtype == STRING else dtype_of(content.dtype).itemsize
    bounded = _text(with_bounds(json.loads(codecs), content.chunks, itemsize))
    _, array = _opened(content, bounded, {_key(content): data})
    return np.asarray(array[...])


def _key(content: ArrayContent) -> str:
    return grid.key_of((0,) * len(content.chunks))
