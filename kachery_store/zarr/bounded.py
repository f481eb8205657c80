"""Compressed bytes back to what they were, if that is not more than it should be.

What a manifest says of codecs, and what a chunk says of its size, may have been written by anybody.
"""

from __future__ import annotations

import bz2
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from math import prod
from typing import Any

from ..errors import Unsupported

MOST_TEXT = 1 << 30  # bytes of a chunk of texts, whose size nothing tells
BOUNDED = "kachery.bounded"  # the codec in the place of one of these, while zarr decodes

_SLACK = 1 << 20
_LZMA_MEMORY = 1 << 28
_GZIP, _ZLIB = 31, 15  # what zlib calls them
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SHARDS = "sharding_indexed"
_HARMLESS = {  # what comes out is not much more than what goes in
    *("bytes", "vlen-utf8", "transpose", "crc32c", _SHARDS),
    *("numcodecs.shuffle", "numcodecs.delta", "numcodecs.fixedscaleoffset", "numcodecs.quantize"),
    *("numcodecs.bitround", "numcodecs.astype", "numcodecs.packbits", "numcodecs.crc32"),
    *("numcodecs.crc32c", "numcodecs.adler32", "numcodecs.fletcher32", "numcodecs.jenkins_lookup3"),
}


def decompressed(name: str, settings: dict[str, Any], data: Any, most: int) -> Any:
    """What was compressed by one of the codecs of `_BOUNDED`. ValueError for more than `most` bytes."""
    return _BOUNDED[name](data, most, settings)


@lru_cache(maxsize=256)
def check_codecs(codecs: str) -> None:
    """Refuse codecs that zarr would have to look for among all packages installed. Unsupported."""
    for name in _names(codecs):
        if name not in _HARMLESS and name not in _BOUNDED and not _is_registered(name):
            raise Unsupported(
                f"it is stored with the codec {name[:80]!r}, which is not one that kachery knows, and"
                " no import makes it known because data names it. If you know who stored the array,"
                " import the package of that codec first (zarr.registry.register_codec); else compute"
                " or store it again"
            )


def with_bounds(codecs: list[Any], shape: tuple[int, ...], itemsize: int | None) -> list[Any]:
    """The same codecs, of which none makes much more than a chunk of that shape; None: of texts."""
    is_plain = len(codecs) == 2 and codecs[0]["name"] == "bytes" and itemsize is not None
    most = _most(shape, itemsize, exact=is_plain)
    return [_with_bound(one, itemsize, most) for one in codecs]


def _with_bound(codec: Any, itemsize: int | None, most: int) -> Any:
    settings = codec.get("configuration") or {}
    if codec["name"] == _SHARDS:
        inner = with_bounds(settings["codecs"], tuple(settings["chunk_shape"]), itemsize)
        index = [_with_bound(one, itemsize, most) for one in settings.get("index_codecs") or []]
        settings = {**settings, "codecs": inner, **({"index_codecs": index} if index else {})}
        return {**codec, "configuration": settings}
    if codec["name"] not in _BOUNDED:
        return codec
    return {
        "name": BOUNDED,
        "configuration": {"name": codec["name"], "configuration": settings, "most": most},
    }


def _most(shape: tuple[int, ...], itemsize: int | None, *, exact: bool) -> int:
    if itemsize is None:
        return MOST_TEXT
    if exact:
        return prod(shape) * itemsize
    # Filters may widen items, shards have an index, and what was compressed before may have grown.
    return prod(shape) * (itemsize + 32) * 9 // 8 + _SLACK


def _names(text: str) -> list[str]:
    """All names in a list of codecs, as JSON. Unsupported for what is no such list."""
    try:
        found = list(_all_names(json.loads(text)))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        found = []
    if not found:
        raise Unsupported("what it is stored with is no list of codecs")
    return found


def _all_names(codecs: Any) -> Iterator[str]:
    for codec in codecs:
        settings = codec.get("configuration") or {}
        yield str(codec["name"])
        if codec["name"] == _SHARDS:
            yield from _all_names(settings["codecs"])
            yield from _all_names(settings.get("index_codecs") or [])


def _is_registered(name: str) -> bool:
    """Whether the program has made a codec known to zarr, itself or by an import."""
    from .library import zarr

    known = getattr(zarr.registry, "__codec_registries", {})  # asking for one imports its package
    return name in known and bool(known[name])


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise ValueError(f"it says that it becomes {size} bytes, and it can have at most {most}")


def _ended(decompressor: Any, data: Any, most: int) -> bytes:
    found: bytes = decompressor.decompress(bytes(data), most + 1)
    _check_size(len(found), most)
    if not decompressor.eof or decompressor.unused_data:
        raise ValueError("it is cut short, or something follows it")
    return found


def _gzip(data: Any, most: int, _settings: dict[str, Any]) -> bytes:
    return _ended(zlib.decompressobj(_GZIP), data, most)


def _zlib(data: Any, most: int, _settings: dict[str, Any]) -> bytes:
    return _ended(zlib.decompressobj(_ZLIB), data, most)


def _bz2(data: Any, most: int, _settings: dict[str, Any]) -> bytes:
    return _ended(bz2.BZ2Decompressor(), data, most)


def _lzma(data: Any, most: int, settings: dict[str, Any]) -> bytes:
    way = settings.get("format", lzma.FORMAT_XZ)
    filters = settings.get("filters")
    if way == lzma.FORMAT_RAW:
        return _ended(lzma.LZMADecompressor(way, filters=filters), data, most)
    return _ended(lzma.LZMADecompressor(way, memlimit=_LZMA_MEMORY), data, most)


def _blosc(data: Any, most: int, _settings: dict[str, Any]) -> Any:
    from numcodecs.blosc import Blosc

    _check_size(int.from_bytes(data[4:8], "little"), most)
    return Blosc().decode(data)


def _lz4(data: Any, most: int, _settings: dict[str, Any]) -> Any:
    from numcodecs.lz4 import LZ4

    _check_size(int.from_bytes(data[:4], "little"), most)
    return LZ4().decode(data)


def _zstd(data: Any, most: int, _settings: dict[str, Any]) -> Any:
    from numcodecs.zstd import Zstd

    _check_size(_size_of_zstd(bytes(data[:18])), most)
    return Zstd().decode(data)


def _size_of_zstd(head: bytes) -> int:
    """How much the frame says to have (RFC 8878, 3.1.1.1). ValueError when it does not say."""
    if len(head) < 6 or head[:4] != _ZSTD_MAGIC:
        raise ValueError("it is no frame of zstd")
    flags = head[4]
    is_single = bool(flags & 0x20)
    width = (1 if is_single else 0, 2, 4, 8)[flags >> 6]
    start = 5 + (not is_single) + (0, 1, 2, 4)[flags & 3]
    field = head[start : start + width]
    if not width or len(field) < width:
        raise ValueError("it does not say how large it becomes")
    return int.from_bytes(field, "little") + (256 if width == 2 else 0)


_BOUNDED: dict[str, Callable[[Any, int, dict[str, Any]], Any]] = {
    "blosc": _blosc,
    "gzip": _gzip,
    "zstd": _zstd,
    "numcodecs.blosc": _blosc,
    "numcodecs.bz2": _bz2,
    "numcodecs.gzip": _gzip,
    "numcodecs.lz4": _lz4,
    "numcodecs.lzma": _lzma,
    "numcodecs.zlib": _zlib,
    "numcodecs.zstd": _zstd,
}
