"""The files of an inbox: messages that somebody submits to a subfeed. No input or output.

A header, one line of JSON; then for each message a line: its signature in hex, a space, its JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ..digest import hash_buffer
from ..errors import BadMessage
from ..identity import Identity
from ..published_json import read_json
from .entries import MOST_MESSAGE, message_text
from .names import INBOX, Place
from .source import MOST_MESSAGES, Source, certificate_json, certificate_of

FORMAT = "kachery submission 1"
MOST_TOGETHER = 16_000_000  # bytes of messages in one file, if it has several
MOST_FILE = 24_000_000  # bytes

_MOST_HEADER = 2_000  # bytes
_LINE = re.compile(b"([0-9a-f]{128}) (.*)", re.DOTALL)
_NAME = re.compile("([0-9a-f]{64})/([0-9]{16})-([0-9a-f]{32})")


class Name(NamedTuple):
    """What the name of a submission's file says: whose it claims to be, since when, and which one."""

    writer: str
    sent: int
    submission: str

    def file(self, place: Place) -> str:
        """Where the file is under a root."""
        return place.file(f"{INBOX}/{self.writer}/{self.sent:016d}-{self.submission}")


class Submission(NamedTuple):
    """What somebody submitted at once, every signature checked.

    `writer`: the public key, 64 hex digits. `sent`: seconds since 1970, by the writer's clock.
    """

    writer: str
    sent: float
    messages: list[dict[str, Any]]


class Signed(NamedTuple):
    """One message of a submission: what it says, its JSON, the digest of that, and who signed it."""

    message: dict[str, Any]
    text: bytes
    digest: str
    source: Source


def parse_name(name: str, place: Place) -> Name | None:
    """What the name of a file in the inbox says; None for what is no submission's."""
    found = _NAME.fullmatch(name.removeprefix(place.file(f"{INBOX}/")))
    return Name(found[1], int(found[2]), found[3]) if found else None


def in_groups(texts: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The messages, as many together as one submission can have."""
    start = size = 0
    for at, text in enumerate(texts):
        if at - start == MOST_MESSAGES or (at > start and size + len(text) > MOST_TOGETHER):
            yield texts[start:at]
            start, size = at, 0
        size += len(text)
    if start < len(texts):
        yield texts[start:]


def make_submission(
    place: Place, identity: Identity, texts: Sequence[bytes], sent: int, submission: str
) -> tuple[Name, bytes]:
    """The file that submits messages, given as JSON, and its name. `sent`: microseconds."""
    writer, total = identity.public.hex(), len(texts)
    header: dict[str, Any] = {
        "format": FORMAT,
        "feed": place.feed,
        "subfeed": place.subfeed,
        "writer": writer,
        "submission": submission,
        "sent": sent,
        "total": total,
    }
    if identity.certificate is not None:
        header["certificate"] = certificate_json(identity.certificate)
    lines = [json.dumps(header, separators=(",", ":")).encode()]
    for number, text in enumerate(texts):
        source = Source(writer, submission, number, total, sent)
        signature = identity.sign(source.text(place, digest_of(text)))
        lines.append(signature.hex().encode() + b" " + text)
    return Name(writer, sent, submission), b"\n".join([*lines, b""])


def parse_submission(place: Place, name: Name, data: bytes) -> list[Signed]:
    """The messages in a file of the inbox. BadMessage, also when one signature does not fit."""
    try:
        return _parsed(place, name, data)
    except (ValueError, TypeError, RecursionError, BadMessage) as error:
        raise BadMessage(f"{name.file(place)} is no submission to {place.uri}: {error}") from None


def _parsed(place: Place, name: Name, data: bytes) -> list[Signed]:
    if len(data) > MOST_FILE:
        raise ValueError(f"it has more than {MOST_FILE} bytes")
    first, _, rest = data.partition(b"\n")
    blank = _blank(place, name, first)
    if rest.count(b"\n") != blank.total or not rest.endswith(b"\n"):
        raise ValueError(f"it does not have {blank.total} messages")
    lines = rest.split(b"\n")[:-1]
    signed = [_signed(place, line, blank, number) for number, line in enumerate(lines)]
    # Nothing of it is parsed before all of it is known to be the writer's.
    return [Signed(_message(text), text, digest, source) for text, digest, source in signed]


def _blank(place: Place, name: Name, header: bytes) -> Source:
    """Who submitted it, by the header, which is nobody's word until a signature fits."""
    if len(header) > _MOST_HEADER:
        raise ValueError("its first line is too long")
    found = read_json(header)
    if not isinstance(found, dict):
        found = {}
    if found.get("format") != FORMAT:
        raise ValueError(
            f"its format is {str(found.get('format'))[:80]!r}, and this kachery knows {FORMAT!r}"
        )
    if (found.get("feed"), found.get("subfeed")) != tuple(place):
        raise ValueError("it is for another feed or subfeed")
    if (found.get("writer"), found.get("sent"), found.get("submission")) != tuple(name):
        raise ValueError("its name is not that of what is in it")
    total = found.get("total")
    if type(total) is not int or not 1 <= total <= MOST_MESSAGES:
        raise ValueError(f"it should have 1 to {MOST_MESSAGES} messages")
    certificate = certificate_of(found.get("certificate"))
    return Source(name.writer, name.submission, 0, total, name.sent, "", certificate)


def _signed(place: Place, line: bytes, blank: Source, number: int) -> tuple[bytes, str, Source]:
    found = _LINE.fullmatch(line)
    if not found or len(found[2]) > MOST_MESSAGE:
        raise ValueError(f"message {number} has no signature, or is too large")
    text = found[2]
    source, digest = blank._replace(number=number, signature=found[1].decode()), digest_of(text)
    if not source.is_signed(place, digest):
        raise ValueError(f"message {number} is not signed by {blank.writer} for this subfeed")
    return text, digest, source


def _message(text: bytes) -> dict[str, Any]:
    message: dict[str, Any] = read_json(text)
    if message_text(message) != text:
        raise ValueError("a message is not written as kachery writes JSON")
    return message


def digest_of(text: bytes) -> str:
    """The digest of a message's JSON that is signed."""
    return hash_buffer("blake3", text)
