"""What is in an entry of a feed: JSON. No input or output.

{"feed": ..., "format": "kachery feed 1", ...}     entry zero
{"message": ..., "time": ...}
{"blob": <blake3 hex>, "size": ..., "time": ...}    a message too large for an entry
{"final": true, "time": ...}                        nothing comes after this one

What came through an inbox ends with `"from": {...}` (source.py).
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from ..digest import Digest, hash_buffer, make_digest
from ..errors import BadMessage, BadURI, FeedDamaged, StoreTooNew
from ..published_json import read_json
from .names import Place

FORMAT = "kachery feed 1"
MOST_INLINE = 60_000  # bytes of a message's JSON; larger ones are blobs
MOST_MESSAGE = 20_000_000  # bytes; what is larger is a file, whose URI a message can hold

_BLOB = b'{"blob":'
_FINAL = b'{"final":true,'
_FROM = b',"from":{"writer":'
_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_PLAIN = (str, int, float, bool, type(None))


class Entry(NamedTuple):
    """A message, its time (seconds since 1970), where it is when it is a blob, and its source."""

    message: dict[str, Any] | None
    time: float
    blob: Digest | None = None
    source: Any = None


def first_entry(place: Place, created: float) -> bytes:
    """Entry zero, which says what this is."""
    return _encode(
        {"feed": place.feed, "format": FORMAT, "subfeed": place.subfeed, "created": created}
    ).encode()


def check_first(data: bytes, place: Place) -> None:
    """Refuse an entry zero of another subfeed, or of a later format. FeedDamaged, StoreTooNew."""
    found = _parsed(data, place, 0)
    if found.get("format") != FORMAT:
        raise StoreTooNew(
            f"{place.uri} has the format {str(found.get('format'))[:80]!r}, and this kachery knows"
            f" {FORMAT!r}: upgrade kachery"
        )
    if (found.get("feed"), found.get("subfeed")) != tuple(place):
        raise FeedDamaged(f"entry 0 of {place.uri} describes another feed or subfeed")


def message_text(message: Any) -> bytes:
    """The JSON of a message. BadMessage for what is none, or too large."""
    if type(message) is not dict:
        raise BadMessage(f"a message is a JSON object, a dict, not {type(message).__name__}")
    try:
        _check(message)
        text = _encode(message).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadMessage(f"that message is no JSON: {error}") from None
    if len(text) > MOST_MESSAGE:
        raise BadMessage(
            f"a message of {len(text)} bytes is too large: store it as a file (store_json, or"
            " kachery-store), and put its URI into the message"
        )
    return text


def message_entry(text: bytes, time: float, source: bytes = b"") -> bytes:
    """The entry of a message that is small. `source`: JSON that says who submitted it."""
    return b'{"message":%b,"time":%b%b}' % (text, repr(time).encode(), _from(source))


def blob_entry(text: bytes, time: float, source: bytes = b"") -> tuple[bytes, Digest]:
    """The entry of a message that is a blob, and the blob's digest."""
    digest = Digest("blake3", hash_buffer("blake3", text))
    entry = {"blob": digest.hex, "size": len(text), "time": time}
    return _encode(entry).encode()[:-1] + _from(source) + b"}", digest


def _from(source: bytes) -> bytes:
    return b',"from":' + source if source else b""


def final_entry(time: float) -> bytes:
    """The entry that ends a subfeed."""
    return _encode({"final": True, "time": time}).encode()


def is_final(data: bytes) -> bool:
    """Whether an entry ends its subfeed."""
    return data.startswith(_FINAL)


def may_have_source(data: bytes) -> bool:
    """Whether an entry may say who submitted it; False is certain."""
    return _FROM in data


def message_in(data: bytes) -> bytes:
    """The JSON of the message in the entry of a small one that has a source, byte for byte."""
    start, end = len(b'{"message":'), data.rindex(b',"time":')
    return data[start:end]


def blob_of(data: bytes, place: Place, index: int) -> Digest | None:
    """The blob that an entry refers to. FeedDamaged."""
    return parse_entry(data, place, index).blob if data.startswith(_BLOB) else None


def parse_entry(data: bytes, place: Place, index: int) -> Entry:
    """What an entry says; one that is no message and no blob has neither. FeedDamaged."""
    found = _parsed(data, place, index)
    try:
        time = float(found["time"])
        if "blob" in found:
            return Entry(None, time, make_digest("blake3", found["blob"]), found.get("from"))
        message = found.get("message")
    except (KeyError, TypeError, ValueError, BadURI):
        message = None
    if not isinstance(message, dict):
        raise FeedDamaged(
            f"entry {index} of {place.uri} is signed, but is no message that this kachery knows:"
            " upgrade kachery, or ask its owner"
        )
    return Entry(message, time, None, found.get("from"))


def parse_message(text: bytes, place: Place, index: int) -> dict[str, Any]:
    """The message in a blob. FeedDamaged."""
    return _parsed(text, place, index)


def _parsed(data: bytes, place: Place, index: int) -> dict[str, Any]:
    try:
        found = read_json(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise FeedDamaged(f"entry {index} of {place.uri} is signed, but is no JSON object")
    return found


def _check(value: Any) -> None:
    """Refuse what `json` would write as something else: keys that are no text."""
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"an object's key is text, not {key!r}")
            if type(item) not in _PLAIN:
                _check(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            if type(item) not in _PLAIN:
                _check(item)
