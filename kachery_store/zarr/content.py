"""What a chunked array, or a group of them, is: the content that its address stands for.

How it is stored, codecs, blobs, is no part of it. The encoding here is that of docs/formats/value.md,
written down a second time because a store of its own must be able to name what it stores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgpack

from ..digest import blake3_bytes
from ..errors import BadManifest
from . import grid

ARRAY, GROUP = "zarr.array", "zarr.group"  # the names of the codecs in the format: for ever
STRING = "string"  # the dtype of texts of any length

_PREFIX = b"\xc1kv1"
_TYPED, _BUFFER_BLOB = 7, 6
_BLOB_FROM = 65_536
_DIGEST = 32


class ArrayContent(NamedTuple):
    """An array: what a program that reads it can see.

    `dtype`: as NumPy writes it, little-endian, or STRING. `fill`: one item's bytes, as in a chunk.
    `names`: of the dimensions, if they have some. `attributes`: canonical JSON. `digests`: the BLAKE3 of
    each chunk's content, one after the other, in C order of the grid.
    """

    dtype: str
    shape: grid.Index
    chunks: grid.Index
    fill: bytes
    names: tuple[str | None, ...] | None
    attributes: str
    digests: bytes

    @property
    def along(self) -> grid.Index:
        """How many chunks there are along each axis."""
        return grid.counts(self.shape, self.chunks)

    def digest(self, number: int) -> bytes:
        """The digest of the content of the chunk with that number."""
        return self.digests[number * _DIGEST : (number + 1) * _DIGEST]

    def parts(self) -> list[Any]:
        """The parts of the encoding but the last, which is the digests."""
        names = None if self.names is None else list(self.names)
        return [
            self.dtype,
            list(self.shape),
            list(self.chunks),
            self.fill,
            names,
            self.attributes,
        ]


class GroupContent(NamedTuple):
    """A group: its nodes by path (`""` is the group itself): arrays, and the attributes of groups."""

    nodes: dict[str, ArrayContent | str]


Content = ArrayContent | GroupContent


class Encoded(NamedTuple):
    """The encoding of a content, and the blobs that it refers to, by digest."""

    data: bytes
    blobs: dict[bytes, bytes]

    @property
    def address(self) -> str:
        """The address, in hex."""
        return blake3_bytes(self.data).hex()


def array_content(
    dtype: str,
    shape: grid.Index,
    chunks: grid.Index,
    fill: bytes,
    names: Any,
    attributes: Any,
    digests: bytes,
) -> ArrayContent:
    """The content of those parts; BadManifest when they contradict each other."""
    shape, chunks = tuple(shape), tuple(chunks)
    sound = (
        len(shape) == len(chunks) and all(map(_is_length, shape)) and all(map(_is_chunk, chunks))
    )
    if not sound or len(digests) != _DIGEST * grid.number_of_chunks(shape, chunks):
        raise BadManifest(f"an array of shape {shape} in chunks of {chunks} has other digests")
    if names is not None and len(names) != len(shape):
        raise BadManifest(f"an array of shape {shape} has {len(names)} names of dimensions")
    named = None if names is None or set(names) == {None} else tuple(names)
    return ArrayContent(dtype, shape, chunks, bytes(fill), named, attributes, bytes(digests))


def _is_length(length: Any) -> bool:
    return type(length) is int and length >= 0


def _is_chunk(length: Any) -> bool:
    return type(length) is int and length > 0


def canonical(attributes: Mapping[str, Any]) -> str:
    """Attributes as text: JSON, sorted, without spaces. TypeError for what JSON does not have."""
    return json.dumps(dict(attributes), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def encode(content: Content) -> Encoded:
    """The canonical encoding of a content."""
    blobs: dict[bytes, bytes] = {}
    return Encoded(_PREFIX + _packed(content, blobs), blobs)


def _packed(content: Content, blobs: dict[bytes, bytes]) -> bytes:
    if isinstance(content, ArrayContent):
        return _typed(8, _pack(ARRAY) + _parts(content, blobs))
    pieces = [_packer().pack_map_header(len(content.nodes))]
    for path in sorted(content.nodes):
        node = content.nodes[path]
        pieces.append(_pack(path))
        if isinstance(node, str):
            pieces.append(_pack(node))
        else:
            pieces += (_packer().pack_array_header(7), _parts(node, blobs))
    return _typed(2, _pack(GROUP) + b"".join(pieces))


def _parts(content: ArrayContent, blobs: dict[bytes, bytes]) -> bytes:
    return b"".join(map(_pack, content.parts())) + _buffer(content.digests, blobs)


def _typed(length: int, payload: bytes) -> bytes:
    return _pack(msgpack.ExtType(_TYPED, _packer().pack_array_header(length) + payload))


def _buffer(data: bytes, blobs: dict[bytes, bytes]) -> bytes:
    if len(data) < _BLOB_FROM:
        return _pack(data)
    digest = blake3_bytes(data)
    blobs[digest] = data
    return _pack(msgpack.ExtType(_BUFFER_BLOB, digest + len(data).to_bytes(8, "big")))


def _pack(value: Any) -> bytes:
    packed: bytes = _packer().pack(value)
    return packed


def _packer() -> Any:
    return msgpack.Packer(strict_types=True, unicode_errors="surrogatepass")


def decode(data: bytes, load: Any) -> Content:
    """The content of an encoding; `load` gives the bytes of a blob by digest and size.

    Raises BadManifest for bytes that are none, and what `load` raises.
    """
    if not data.startswith(_PREFIX):
        raise BadManifest("these bytes are no encoding of a chunked array")

    def extension(code: int, payload: bytes) -> Any:
        if code == _BUFFER_BLOB:
            return bytes(load(payload[:_DIGEST], int.from_bytes(payload[_DIGEST:], "big")))
        if code == _TYPED:
            return content_of(unpack(payload))
        raise BadManifest(f"extension {code} does not belong into a chunked array")

    def unpack(packed: bytes) -> Any:
        return msgpack.unpackb(packed, ext_hook=extension, unicode_errors="surrogatepass")

    try:
        content = unpack(data[len(_PREFIX) :])
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise BadManifest(f"these bytes are no encoding of a chunked array: {error}") from error
    if not isinstance(content, (ArrayContent, GroupContent)):
        raise BadManifest("these bytes encode something else than a chunked array")
    return content


def content_of(items: Any) -> Content:
    """The content of a list of the codec's name and the parts. BadManifest."""
    name, *parts = items
    if name == ARRAY and len(parts) == 7:
        return array_content(*parts)
    if name == GROUP and len(parts) == 1 and isinstance(parts[0], dict):
        return group_content(parts[0])
    raise BadManifest(f"{name!r} is no chunked array")


def group_content(nodes: Any) -> GroupContent:
    """A group of those nodes. BadManifest."""
    if type(nodes) is not dict or not isinstance(nodes.get(""), str):
        raise BadManifest("a group has no node of its own")
    found: dict[str, ArrayContent | str] = {}
    for path, node in nodes.items():
        if not isinstance(node, str) and (type(node) is not list or len(node) != 7):
            raise BadManifest("a group has a node that is neither an array nor a group")
        found[path] = node if isinstance(node, str) else array_content(*node)
    return GroupContent(found)


def blobs_in(data: bytes) -> list[tuple[bytes, int]]:
    """Digest and size of the blobs that the encoding of a content refers to."""
    found: list[tuple[bytes, int]] = []

    def extension(code: int, payload: bytes) -> None:
        if code == _BUFFER_BLOB:
            found.append((payload[:_DIGEST], int.from_bytes(payload[_DIGEST:], "big")))
        elif code == _TYPED:
            msgpack.unpackb(payload, ext_hook=extension)

    msgpack.unpackb(data[len(_PREFIX) :], ext_hook=extension)
    return found
