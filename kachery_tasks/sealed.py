"""Files that can tell whether they are intact, and who vouches for them: records, steps of actions,
descriptions of code (docs/formats/signature.md).

Such a file is a msgpack array:

    [magic, version, body, digest, signatures]

`digest` is the BLAKE3 of the text `<magic> <version>`, a newline and the body. `signatures` is empty
until the file enters a zone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack

from kachery_store.digest import blake3_bytes
from kachery_store.errors import DigestMismatch, StoreTooNew
from kachery_store.identity import Certificate, Identity
from kachery_store.signing import verify

MOST_SIGNATURES = 8

_SCHEME = "ed25519"
_KEY, _SIGNATURE = 32, 64  # bytes
_LAST_CERTIFIED = 2**53  # seconds; so that every number is one in every language
_UNSIGNED = (
    0x90  # the last byte of a file with no signatures; the last of others is that of _SCHEME
)


class Signature(NamedTuple):
    """Who vouches for a file: `key`, 32 bytes. `until`: for what was made before, or None: for all."""

    key: bytes
    until: int | None


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


def is_signed(data: bytes) -> bool:
    """Whether an intact file may have signatures: quick, and never False for one that has."""
    return data[-1] != _UNSIGNED


def signed(data: bytes, identity: Identity) -> bytes:
    """An intact file with a signature of this identity; one that has signatures is left as it is."""
    magic, version, body, digest, signatures = msgpack.unpackb(data)
    if signatures:
        return data
    certificate = None if identity.certificate is None else list(identity.certificate)
    entry = [identity.public, identity.sign(_message(digest)), certificate, _SCHEME]
    packed: bytes = msgpack.packb([magic, version, body, digest, [entry]])
    return packed


def same_seal(one: bytes, other: bytes) -> bool:
    """Whether two files are the same but for their signatures; False for what is no such file."""
    try:
        first, second = msgpack.unpackb(one), msgpack.unpackb(other)
        return bool(first[:4] == second[:4])
    except (ValueError, TypeError, msgpack.UnpackException):
        return False


def signatures_of(data: bytes) -> list[Signature]:
    """The signatures of an intact file, all of them checked.

    Raises ValueError when one does not fit, or the file is not written in the only form for it: what is
    not covered by signatures says nothing then.
    """
    content = msgpack.unpackb(data)
    if len(content) != 5 or msgpack.packb(content) != data:
        raise ValueError("it is not written as this kachery writes it")
    return _checked(content[3], content[4])


def signers_of(data: bytes) -> list[Signature]:
    """The signatures of an intact file of the local store, which were checked when it came there."""
    return [
        Signature(key, None if certificate is None else certificate[1])
        for key, _, certificate, _ in msgpack.unpackb(data)[4]
    ]


def _checked(digest: bytes, entries: list[Any]) -> list[Signature]:
    if len(entries) > MOST_SIGNATURES:
        raise ValueError(f"it has more than {MOST_SIGNATURES} signatures")
    found = [_signature(digest, entry) for entry in entries]
    if len({one.key for one in found}) < len(found):
        raise ValueError("it has two signatures of one key")
    return found


def _signature(digest: bytes, entry: Any) -> Signature:
    if type(entry) is not list or len(entry) != 4 or entry[3] != _SCHEME:
        raise ValueError("it has a signature of a kind that this kachery does not know")
    key, signature, listed, _ = entry
    certificate = _certificate(listed)
    if not (_is_bytes(key, _KEY) and _is_bytes(signature, _SIGNATURE)):
        raise ValueError("it has a signature that is none")
    if certificate is not None and not certificate.is_by(key):
        raise ValueError(f"it names key {key.hex()} without its leave")
    if not verify(certificate.public if certificate else key, signature, _message(digest)):
        raise ValueError(f"the signature by key {key.hex()} does not fit")
    return Signature(key, certificate.until if certificate else None)


def _certificate(listed: Any) -> Certificate | None:
    if listed is None:
        return None
    if (
        type(listed) is list
        and len(listed) == 3
        and _is_bytes(listed[0], _KEY)
        and type(listed[1]) is int
        and 0 <= listed[1] <= _LAST_CERTIFIED
        and _is_bytes(listed[2], _SIGNATURE)
    ):
        return Certificate(*listed)
    raise ValueError("it has a certificate that is none")


def _is_bytes(value: Any, size: int) -> bool:
    return type(value) is bytes and len(value) == size


def _message(digest: bytes) -> bytes:
    """What a signature covers: the digest, and so the magic, the version and the body."""
    return f"kachery signature 1\n{digest.hex()}\n".encode()


def _digest(magic: str, version: int, body: bytes) -> bytes:
    return blake3_bytes(b"%s %d\n%s" % (magic.encode(), version, body))
