"""What a job made and took, as names of content. Pure: no I/O.

A thing is an address in hex (of a value, or of a part of one), or the URI of bytes (`sha1://HASH`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ..errors import CannotDecode
from ..holdings import files_named_in
from ..parts import is_telling, parts_of
from ..record import Record
from ..values.blob_walk import blobs_in
from ..values.encoding import PREFIX

# How a job came to a thing: it is its result; its result, but many jobs have such a one (True, 3, "");
# a part of its result; bytes that its result names or consists of.
WHOLE, SLIGHT, PART, BYTES = 0, 1, 2, 3

_DIGEST = 32  # bytes


class Made(NamedTuple):
    """A thing, and how a job came to it."""

    thing: str
    how: int


class Taken(NamedTuple):
    """An argument. `exact`: its address, or "" of a secret one; `inside`: things that it has in it, and
    `complete`: no telling value is missing among those.
    """

    name: str
    exact: str
    inside: tuple[str, ...]
    summary: str
    complete: bool


def made_by(record: Record, encoding: bytes | None) -> list[Made]:
    """What a job made; `encoding`: of its result, None when that is not at hand."""
    address = record.result.address.hex()
    if encoding is None:
        return [Made(address, WHOLE)]
    found = {address: WHOLE if is_telling(encoding[len(PREFIX) :]) else SLIGHT}
    for part in parts_of(encoding).addresses:
        found.setdefault(part.hex(), PART)
    for digest in files_named_in([encoding]):
        found.setdefault(str(digest), BYTES)
    for blob in _blobs_in(encoding):
        found.setdefault(f"blake3://{blob.hex()}", BYTES)
    return [Made(thing, how) for thing, how in found.items()]


def taken_by(record: Record) -> list[Taken]:
    """What a job took, argument by argument."""
    kept, parts = dict(record.values), {name: told for name, *told in record.parts}
    return [
        _taken(name, address.hex(), summary, kept.get(name), parts.get(name, (b"", False)))
        for name, address, summary in record.arguments
    ]


def _taken(
    name: str, address: str, summary: str, encoding: bytes | None, told: Sequence[Any]
) -> Taken:
    """An argument: the files that it names, and its parts, as far as the record tells."""
    texts = [summary.encode(errors="replace"), encoding or b""]
    files = (str(digest) for digest in files_named_in(texts))
    if encoding is None:
        together, complete, *_ = told
        parts = [together[at : at + _DIGEST] for at in range(0, len(together), _DIGEST)]
    else:
        parts, complete = parts_of(encoding)
    return Taken(name, address, (*files, *(part.hex() for part in parts)), summary, complete)


def _blobs_in(encoding: bytes) -> Iterable[bytes]:
    try:
        return [digest for digest, _ in blobs_in(encoding)]
    except CannotDecode:
        return []
