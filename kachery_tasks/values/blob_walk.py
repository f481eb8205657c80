"""Which blobs an encoding names, found without decoding any type of Python."""

from __future__ import annotations

from typing import Any

from ..errors import CannotDecode
from . import ext
from .decoding import unpacked
from .encoding import PREFIX

_REFERENCES = (ext.BYTES_BLOB, ext.BUFFER_BLOB)
_NESTED = (ext.TUPLE, ext.SET, ext.FROZENSET, ext.TYPED)
_LENGTH = 40  # of what stands for a blob: 32 bytes BLAKE3, 8 bytes size
# What such a reference begins with in msgpack; bytes without that need not be looked at closely.
_BEGINNINGS = tuple(bytes((0xC7, _LENGTH, code)) for code in _REFERENCES)


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


def _walk(data: bytes | memoryview, found: dict[tuple[bytes, int], None]) -> None:
    def extension(code: int, payload: bytes) -> None:
        if code in _REFERENCES and len(payload) == _LENGTH:
            found[payload[:32], int.from_bytes(payload[32:], "big")] = None
        elif code in _NESTED and any(beginning in payload for beginning in _BEGINNINGS):
            _walk(payload, found)

    unpacked(data, extension, object_pairs_hook=_nothing, list_hook=_nothing)


def _nothing(_: Any) -> None:
    """Stands for a container: what is in it has been seen."""
