"""Who wrote a message that came through an inbox: what its entry says of that, and its signature.

No input or output.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from ..identity import Certificate
from ..signing import verify
from .names import Place

MOST_MESSAGES = 4096  # of one submission

_KEY = re.compile("[0-9a-f]{64}")
_SIGNATURE = re.compile("[0-9a-f]{128}")
_SUBMISSION = re.compile("[0-9a-f]{32}")
_LATEST = 10**16 - 1  # microseconds; 16 digits
_CLOCKS = 3600  # seconds by which clocks may differ


class Source(NamedTuple):
    """Where one message comes from: number `number` of the `total` that were submitted together.

    `writer`: the public key, 64 hex digits. `submission`: 32 hex digits, chosen by the writer. `sent`:
    microseconds since 1970, by the writer's clock.
    """

    writer: str
    submission: str
    number: int
    total: int
    sent: int
    signature: str = ""
    certificate: Certificate | None = None

    def text(self, place: Place, digest: str) -> bytes:
        """What is signed. `digest`: the blake3 of the message's JSON, as hex."""
        return (
            f"kachery submission 1\n{place.origin}\n{self.submission}\n{self.number}\n{self.total}\n"
            f"{self.sent}\n{digest}\n"
        ).encode()

    def is_signed(self, place: Place, digest: str) -> bool:
        """Whether the writer, or a key that signs in its place, submitted that message to this place."""
        signer, writer = bytes.fromhex(self.writer), bytes.fromhex(self.writer)
        if self.certificate is not None:
            signer = self.certificate.public
            in_time = self.sent <= (self.certificate.until + _CLOCKS) * 1_000_000
            if not in_time or not self.certificate.is_by(writer):
                return False
        return verify(signer, bytes.fromhex(self.signature), self.text(place, digest))

    def json(self, submitted: str | None = None) -> bytes:
        """What an entry says; `submitted`: the digest that was signed, if the message is another one."""
        told: dict[str, Any] = {
            "writer": self.writer,
            "submission": self.submission,
            "number": self.number,
            "total": self.total,
            "sent": self.sent,
            "signature": self.signature,
        }
        if self.certificate is not None:
            told["certificate"] = certificate_json(self.certificate)
        if submitted is not None:
            told["submitted"] = submitted
        return json.dumps(told, separators=(",", ":")).encode()


def source_of(told: Any) -> tuple[Source, str | None]:
    """What an entry says, and the digest that was signed if it is not the message's. ValueError."""
    told = _object(told)
    submitted = told.get("submitted")
    if submitted is not None:
        _hex(submitted, _KEY)
    total = _number(told.get("total"), 1, MOST_MESSAGES)
    return Source(
        writer=_hex(told.get("writer"), _KEY),
        submission=_hex(told.get("submission"), _SUBMISSION),
        number=_number(told.get("number"), 0, total - 1),
        total=total,
        sent=_number(told.get("sent"), 0, _LATEST),
        signature=_hex(told.get("signature"), _SIGNATURE),
        certificate=certificate_of(told.get("certificate")),
    ), submitted


def certificate_json(certificate: Certificate) -> dict[str, Any]:
    """A certificate, as JSON has it."""
    return {
        "public": certificate.public.hex(),
        "until": certificate.until,
        "signature": certificate.signature.hex(),
    }


def certificate_of(told: Any) -> Certificate | None:
    """The certificate in what JSON says; None for none. ValueError."""
    if told is None:
        return None
    told = _object(told)
    return Certificate(
        bytes.fromhex(_hex(told.get("public"), _KEY)),
        _number(told.get("until"), 0, _LATEST),
        bytes.fromhex(_hex(told.get("signature"), _SIGNATURE)),
    )


def _object(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise ValueError(f"{str(value)[:80]!r} should be an object")


def _hex(value: Any, form: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise ValueError(f"{str(value)[:80]!r} should be hex digits, {form.pattern}")
    return value


def _number(value: Any, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{str(value)[:80]!r} should be a number from {least} to {most}")
    return value
