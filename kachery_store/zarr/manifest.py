"""Which blob has which chunk of a chunked array: the file `arrays/<2>/<address>`.

It is written when all chunks are stored. What it says of content is checked against the address, and
what it says of blobs against the content when a chunk is read; so whoever wrote it need not be trusted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack

from ..digest import blake3_bytes
from ..errors import BadManifest, DigestMismatch, StoreTooNew
from ..unpacking import unpack

FOLDER = "arrays"
ENTRY = 40  # bytes of a table for each chunk: BLAKE3 of the blob, size of the blob, big-endian

_MAGIC, _VERSION = "kachery array", 1
_INLINE_BELOW = 65_536
_START = bytes((0x94, 0xA0 + len(_MAGIC))) + _MAGIC.encode()  # an array of four that begins with it


class Table(NamedTuple):
    """Where the chunks of one array are: codecs as in zarr.json; entries, or the blob that has them."""

    codecs: str
    entries: bytes
    blob: tuple[bytes, int] | None = None


class Manifest(NamedTuple):
    """The manifest of one array or group.

    `encoding`: of the content, whose digest is the address. `tables`: by the path of the array.
    `named`: whether a user holds its URI, so that it stays when no result has it.
    """

    encoding: bytes
    tables: dict[str, Table]
    named: bool

    @property
    def address(self) -> str:
        """The address of what it is the manifest of, in hex."""
        return blake3_bytes(self.encoding).hex()

    def to_bytes(self) -> bytes:
        """The file."""
        tables = {
            path: [one.codecs, None, *one.blob] if one.blob else [one.codecs, one.entries]
            for path, one in sorted(self.tables.items())
        }
        body = msgpack.packb([self.encoding, tables, self.named])
        packed: bytes = msgpack.packb([_MAGIC, _VERSION, body, _digest(body)])
        return packed

    @staticmethod
    def from_bytes(data: bytes, address: str) -> Manifest:
        """The manifest in a file; DigestMismatch when it is damaged or of something else."""
        what = f"arrays/{address}"
        try:
            magic, version, body, digest = unpack(data)
            if magic != _MAGIC or digest != _digest(body):
                raise DigestMismatch(f"{what} is damaged")
            if version != _VERSION:
                raise StoreTooNew(f"{what} has version {version}: upgrade kachery")
            encoding, tables, named = unpack(body)
            if type(encoding) is not bytes or type(tables) is not dict:
                raise DigestMismatch(f"{what} is damaged")
            found = {path: _table(*parts) for path, parts in tables.items()}
        except (ValueError, TypeError) as error:
            raise DigestMismatch(f"{what} is damaged ({error})") from error
        manifest = Manifest(encoding, found, bool(named))
        if manifest.address != address:
            raise DigestMismatch(f"{what} is the manifest of {manifest.address}")
        return manifest


def is_manifest(data: bytes) -> bool:
    """Whether a file is one of these, and not a record."""
    return data.startswith(_START)


def table(codecs: str, entries: bytes) -> tuple[Table, bytes | None]:
    """The table of an array, and its entries again if they are to be a blob."""
    if len(entries) < _INLINE_BELOW:
        return Table(codecs, entries), None
    return Table(codecs, b"", (blake3_bytes(entries), len(entries))), entries


def entry(digest: bytes, size: int) -> bytes:
    """What stands in a table for one chunk."""
    return digest + size.to_bytes(8, "big")


def entry_of(entries: bytes, number: int) -> tuple[bytes, int]:
    """Digest and size of the blob that has the chunk with that number. BadManifest."""
    found = entries[number * ENTRY : (number + 1) * ENTRY]
    if len(found) != ENTRY:
        raise BadManifest(f"the table of an array ends before chunk {number}")
    return found[:32], int.from_bytes(found[32:], "big")


def _table(codecs: Any, entries: Any, digest: bytes = b"", size: int = 0) -> Table:
    if entries is None:
        is_right = type(digest) is bytes and len(digest) == 32 and type(size) is int and size >= 0
    else:
        is_right = type(entries) is bytes
    if not is_right or type(codecs) is not str:
        raise ValueError("a table is none")
    return Table(codecs, entries or b"", None if entries is not None else (digest, size))


def _digest(body: bytes) -> bytes:
    return blake3_bytes(b"%s %d\n%s" % (_MAGIC.encode(), _VERSION, body))
