"""Digests: the names of bytes.

A digest is an algorithm and the hex of the hash. `blake3` is native; `sha1` and `sha256` name files
that other programs published under those names.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from blake3 import blake3

from .errors import BadURI

if TYPE_CHECKING:
    from typing_extensions import Buffer

HEX_LENGTH = {"blake3": 64, "sha1": 40, "sha256": 64}

_HEX = frozenset("0123456789abcdef")
_THREADED_FROM = 1 << 20  # below this, waking threads costs more than they save
_threads = min(os.cpu_count() or 1, 8)


def _hash_with_one_thread() -> None:
    # blake3's threads do not survive a fork; a child that asked for them would wait for ever.
    global _threads
    _threads = 1


os.register_at_fork(after_in_child=_hash_with_one_thread)


class Hasher(Protocol):
    """What hashlib and blake3 have in common."""

    def update(self, data: Any, /) -> object:
        """Take in more bytes."""

    def hexdigest(self) -> str:
        """The digest of all bytes so far."""


class Digest(NamedTuple):
    """A name of bytes: `algorithm` is one of blake3, sha1 and sha256; `hex` is in lower case."""

    algorithm: str
    hex: str

    @property
    def path(self) -> str:
        """Where the bytes live under the root of a store."""
        h = self.hex
        if self.algorithm == "sha1":  # as kachery has always laid them out
            return f"sha1/{h[:2]}/{h[2:4]}/{h[4:6]}/{h}"
        return f"{self.algorithm}/{h[:2]}/{h}"

    def __str__(self) -> str:
        return f"{self.algorithm}://{self.hex}"


def make_digest(algorithm: str, hex: str) -> Digest:
    """The digest of that name; BadURI when the algorithm or the form of the hex is wrong."""
    check_algorithm(algorithm)
    length = HEX_LENGTH[algorithm]
    if len(hex) != length or not _HEX.issuperset(hex):
        raise BadURI(f"{hex[:80]!r} is no {algorithm} hash: that is {length} digits of 0-9 and a-f")
    return Digest(algorithm, hex)


def check_algorithm(name: str) -> None:
    """Refuse a name that is no digest algorithm with BadURI."""
    if name not in HEX_LENGTH:
        raise BadURI(f"{name!r} is no digest algorithm here; use one of {', '.join(HEX_LENGTH)}")


def new_hasher(algorithm: str) -> Hasher:
    """A hasher to be fed piece by piece."""
    if algorithm == "blake3":
        return blake3(max_threads=_threads)
    import hashlib  # not needed for results, and OpenSSL takes a while to load

    return hashlib.new(algorithm)


def blake3_bytes(data: Buffer) -> bytes:
    """The 32-byte BLAKE3 digest of a contiguous buffer, with threads where that helps."""
    size = len(data) if type(data) is bytes else memoryview(data).nbytes
    if size < _THREADED_FROM:
        return blake3(data).digest()
    return blake3(data, max_threads=_threads).digest()


def blake3_in_this_thread(data: Buffer) -> bytes:
    """The same without threads, for those who hash several things at a time."""
    return blake3(data).digest()


def hash_buffer(algorithm: str, data: Buffer) -> str:
    """The hex digest of a contiguous buffer."""
    if algorithm == "blake3":
        return blake3_bytes(data).hex()
    hasher = new_hasher(algorithm)
    hasher.update(data)
    return hasher.hexdigest()
