"""Manifests: the lists of the parts of large files (docs/formats/manifest.md). Nothing is stored here.

A manifest makes it possible to send a large file in parallel, to resume, and to read a range of it
verified without reading the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from .digest import HEX_LENGTH, Digest, make_digest, new_hasher
from .errors import BadManifest, BadURI
from .published_json import read_json

PART_SIZE = 20_000_000  # bytes; belongs to the format

_PIECE = 4_000_000
_MAX_MANIFEST = 50_000_000  # bytes; enough for files of 9 TB
_MAX_SIZE = 1 << 63


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes of a large file from `start` up to, not including, `end`, and their digest."""

    start: int
    end: int
    digest: Digest


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a large file consists of: its size, its digest, and its parts in order."""

    size: int
    digest: Digest
    parts: tuple[Part, ...]

    def to_bytes(self) -> bytes:
        """The published form: JSON without spaces, in the published order."""
        algorithm = self.digest.algorithm
        chunks = [{"start": p.start, "end": p.end, algorithm: p.digest.hex} for p in self.parts]
        whole = {"size": self.size, algorithm: self.digest.hex, "chunks": chunks}
        return json.dumps(whole, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Read a manifest that anybody may have written.

        Raises BadManifest unless the parts follow each other without gap or overlap from the first
        byte to the last, are named by one algorithm and are no larger than PART_SIZE.
        """
        whole = _object(_json(data))
        algorithm = _algorithm(whole)
        _check_names(whole, ("size", algorithm, "chunks"))
        chunks = whole["chunks"]
        if not isinstance(chunks, list):
            raise BadManifest("the chunks of a manifest are a list")
        size = _number(whole["size"], "size")
        parts = tuple(_part(_object(chunk), algorithm) for chunk in chunks)
        _check_order(parts, size)
        return cls(size, _digest(algorithm, whole[algorithm]), parts)

    def parts_of(self, start: int, end: int) -> tuple[Part, ...]:
        """The parts that hold the bytes from `start` up to, not including, `end`."""
        return tuple(p for p in self.parts if p.start < end and start < p.end)


def has_manifest(size: int) -> bool:
    """Whether files of this size are published with a manifest."""
    return size > PART_SIZE


def manifest_of(
    file: BinaryIO | Any, algorithm: str, progress: Callable[[int], object] | None = None
) -> Manifest:
    """The manifest of what an open file holds from here on, read once; BadURI for the algorithm.

    `progress` is told the number of bytes after each piece.
    """
    whole = new_hasher(algorithm)
    parts: list[Part] = []
    start = end = 0
    hasher = new_hasher(algorithm)
    while piece := file.read(min(_PIECE, start + PART_SIZE - end)):
        whole.update(piece)
        hasher.update(piece)
        end += len(piece)
        if end - start == PART_SIZE:
            parts.append(Part(start, end, Digest(algorithm, hasher.hexdigest())))
            start, hasher = end, new_hasher(algorithm)
        if progress is not None:
            progress(len(piece))
    if end > start:
        parts.append(Part(start, end, Digest(algorithm, hasher.hexdigest())))
    return Manifest(end, Digest(algorithm, whole.hexdigest()), tuple(parts))


def _json(data: bytes) -> Any:
    if len(data) > _MAX_MANIFEST:
        raise BadManifest(f"a manifest has at most {_MAX_MANIFEST} bytes, not {len(data)}")
    try:
        return read_json(data)
    except (ValueError, RecursionError) as error:
        raise BadManifest(f"that is no manifest, because it is no JSON: {error}") from None


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadManifest(f"a manifest has an object where {type(value).__name__} was found")
    return value


def _algorithm(whole: dict[str, Any]) -> str:
    named = [name for name in HEX_LENGTH if name in whole]
    if len(named) != 1:
        raise BadManifest(f"a manifest names one digest, by one of {', '.join(HEX_LENGTH)}")
    return named[0]


def _check_names(value: dict[str, Any], names: tuple[str, ...]) -> None:
    if set(value) != set(names):
        raise BadManifest(f"an object of that manifest has other fields than {', '.join(names)}")


def _number(value: Any, what: str) -> int:
    if type(value) is not int or not 0 <= value < _MAX_SIZE:
        raise BadManifest(f"the {what} in a manifest is a number of bytes, not {str(value)[:80]}")
    return value


def _digest(algorithm: str, hex: Any) -> Digest:
    if not isinstance(hex, str):
        raise BadManifest("a digest in a manifest is text")
    try:
        return make_digest(algorithm, hex)
    except BadURI as error:
        raise BadManifest(f"in a manifest, {error}") from None


def _part(chunk: dict[str, Any], algorithm: str) -> Part:
    _check_names(chunk, ("start", "end", algorithm))
    start, end = _number(chunk["start"], "start"), _number(chunk["end"], "end")
    return Part(start, end, _digest(algorithm, chunk[algorithm]))


def _check_order(parts: tuple[Part, ...], size: int) -> None:
    position = 0
    for part in parts:
        if part.start != position or not 0 < part.end - part.start <= PART_SIZE:
            raise BadManifest(
                f"bytes {part.start} to {part.end} cannot be the part at {position}: parts follow"
                f" each other and have 1 to {PART_SIZE} bytes"
            )
        position = part.end
    if position != size:
        raise BadManifest(f"the parts have {position} bytes, and the manifest says {size}")
