"""Which blobs an encoding names, found without decoding any type of Python."""

from __future__ import annotations

from typing import Any

import msgpack

from kachery_store.digest import blake3_bytes
from kachery_store.zarr.content import ARRAY, GROUP

from ..errors import CannotDecode
from . import ext
from .decoding import unpacked
from .encoding import PREFIX

_REFERENCES = (ext.BYTES_BLOB, ext.BUFFER_BLOB)
_NESTED = (ext.TUPLE, ext.SET, ext.FROZENSET, ext.TYPED)
_LENGTH = 40  # of what stands for a blob: 32 bytes BLAKE3, 8 bytes size
# What such a reference begins with in msgpack; bytes without that need not be looked at closely.
_BEGINNINGS = tuple(bytes((0xC7, _LENGTH, code)) for code in _REFERENCES)


# How the encodings of chunked arrays and groups begin, behind the head of their list.
_CHUNKED = tuple(bytes((0xA0 + len(name),)) + name.encode() for name in (ARRAY, GROUP))


def blobs_in(encoding: bytes) -> list[tuple[bytes, int]]:
    """Digest and size of each blob that an encoding refers to, in the order of their first mention.

    Raises CannotDecode for bytes that are no encoding.
    """
    if not encoding.startswith(PREFIX):
        raise CannotDecode("these bytes are not an encoded value (or of a later format)")
    found: dict[tuple[bytes, int], None] = {}
    if any(beginning in encoding for beginning in _BEGINNINGS):
        _walk(memoryview(encoding)[len(PREFIX) :], found)
    return list(found)


def arrays_in(encoding: bytes) -> list[str]:
    """The addresses of the chunked arrays and groups in an encoding, each once."""
    found: dict[str, None] = {}
    if any(name in encoding for name in _CHUNKED):
        _walk_arrays(memoryview(encoding)[len(PREFIX) :], found)
    return list(found)


def _walk_arrays(data: bytes | memoryview, found: dict[str, None]) -> None:
    def extension(code: int, payload: bytes) -> None:
        if code == ext.TYPED and any(payload[1:].startswith(name) for name in _CHUNKED):
            packed: bytes = msgpack.packb(msgpack.ExtType(code, payload))
            found[blake3_bytes(PREFIX + packed).hex()] = None
        elif code in _NESTED and any(name in payload for name in _CHUNKED):
            _walk_arrays(payload, found)

    unpacked(data, extension, object_pairs_hook=_nothing, list_hook=_nothing)


def _walk(data: bytes | memoryview, found: dict[tuple[bytes, int], None]) -> None:
    def extension(code: int, payload: bytes) -> None:
        if code in _REFERENCES and len(payload) == _LENGTH:
            found[payload[:32], int.from_bytes(payload[32:], "big")] = None
        elif code in _NESTED and any(beginning in payload for beginning in _BEGINNINGS):
            _walk(payload, found)

    unpacked(data, extension, object_pairs_hook=_nothing, list_hook=_nothing)


def _nothing(_: Any) -> None:
    """Stands for a container: what is in it has been seen."""
