"""Files that can tell whether they are intact: records, and descriptions of code.

Such a file is a msgpack array:

    [magic, version, body, digest, signatures]

`digest` is the BLAKE3 of the text `<magic> <version>`, a newline and the body; `signatures` is empty
until the file enters a zone.
"""

from __future__ import annotations

import msgpack

from kachery_store.digest import blake3_bytes
from kachery_store.errors import DigestMismatch, StoreTooNew


def seal(magic: str, version: int, body: bytes) -> bytes:
    """The file with that body."""
    packed: bytes = msgpack.packb([magic, version, body, _digest(magic, version, body), []])
    return packed


def unseal(data: bytes, magic: str, version: int, what: str) -> bytes:
    """The body of a file, which a message calls `what`.

    Raises DigestMismatch when it is damaged or something else, StoreTooNew for another version.
    """
    try:
        found, number, body, digest, signatures, *_ = msgpack.unpackb(data)
        if found != magic or type(signatures) is not list or type(body) is not bytes:
            raise DigestMismatch(f"{what} is damaged")
        if digest != _digest(magic, number, body):
            raise DigestMismatch(f"{what} is damaged")
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise DigestMismatch(f"{what} is damaged ({error})") from error
    if number != version:
        raise StoreTooNew(
            f"{what} has version {number}, and this kachery reads {version}: upgrade kachery"
        )
    return body


def _digest(magic: str, version: int, body: bytes) -> bytes:
    return blake3_bytes(b"%s %d\n%s" % (magic.encode(), version, body))
