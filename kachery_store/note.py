"""Signed notes and checkpoints, as C2SP signed-note and tlog-checkpoint have them; no input or output.

A note is text that ends with a newline, an empty line, and signature lines:

    — NAME BASE64(key number, 4 bytes; signature)

A checkpoint is a note whose text has the origin, the size, and the root of a tree in base64.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple

from .errors import BadNote

MOST_NOTE = 16_384  # bytes

_ED25519 = b"\1"
_DASH = "\N{EM DASH} "
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f]")
_NAME = re.compile(r"[^\s+]{1,400}")
_SIZE = re.compile("0|[1-9][0-9]{0,17}")
_ROOT_SIZE = 32
_MOST_SIGNATURES = 16

Sign = Callable[[bytes], bytes]
Verify = Callable[[bytes, bytes, bytes], bool]  # public key, signature, data


class Checkpoint(NamedTuple):
    """The head of a tree: which tree (`origin`), how many entries, and the root."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def key_number(name: str, public: bytes) -> bytes:
    """The four bytes by which a signature line names its key."""
    return sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]


def verifier_key(name: str, public: bytes) -> str:
    """The key in the form that other programs read: NAME+NUMBER+KEY."""
    key = base64.b64encode(_ED25519 + public).decode()
    return f"{name}+{key_number(name, public).hex()}+{key}"


def sign_note(text: str, name: str, public: bytes, sign: Sign) -> bytes:
    """A note with one signature. ValueError for what cannot be a text or a name."""
    if not _NAME.fullmatch(name) or not text.endswith("\n") or _CONTROL.search(text):
        raise ValueError(f"no note can have that text, or be signed as {name[:80]!r}")
    signature = base64.b64encode(key_number(name, public) + sign(text.encode())).decode()
    return f"{text}\n{_DASH}{name} {signature}\n".encode()


def open_note(data: bytes, name: str, public: bytes, verify: Verify) -> str:
    """The text of a note that this key signed under this name. BadNote says what is wrong with it.

    Signatures of other keys do not count for or against it.
    """
    text, lines = _parts(data)
    number, ours = key_number(name, public), None
    for line in lines:
        signer, signature = _signature(line)
        if signer == name and signature[:4] == number:
            if ours is not None:
                raise BadNote(f"the note is signed twice as {name}")
            ours = signature[4:]
    if ours is None:
        raise BadNote(f"the note is not signed as {name} by key {public.hex()}")
    if not verify(public, ours, text.encode()):
        raise BadNote(f"the signature of the note, as {name}, does not fit its text")
    return text


def parse_checkpoint(text: str) -> Checkpoint:
    """The checkpoint that a note's text is; lines after the third mean nothing here. BadNote."""
    origin, *lines = text.split("\n")
    if len(lines) < 3 or not origin or not _SIZE.fullmatch(lines[0]):
        raise BadNote("the note is no checkpoint: its lines are not an origin, a size and a root")
    root = _from_base64(lines[1])
    if len(root) != _ROOT_SIZE:
        raise BadNote("the root in the checkpoint does not have 32 bytes")
    return Checkpoint(origin, int(lines[0]), root)


def _parts(data: bytes) -> tuple[str, list[str]]:
    if len(data) > MOST_NOTE:
        raise BadNote(f"the note has more than {MOST_NOTE} bytes")
    try:
        whole = data.decode()
    except UnicodeDecodeError:
        raise BadNote("the note is no text in UTF-8") from None
    text, separator, signatures = whole.rpartition("\n\n")
    if not separator or not signatures.endswith("\n") or _CONTROL.search(whole):
        raise BadNote("the note does not consist of a text, an empty line and signatures")
    lines = signatures[:-1].split("\n")
    if len(lines) > _MOST_SIGNATURES:
        raise BadNote(f"the note has more than {_MOST_SIGNATURES} signatures")
    return text + "\n", lines


def _signature(line: str) -> tuple[str, bytes]:
    name, separator, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not separator or not _NAME.fullmatch(name):
        raise BadNote("a signature line of the note is malformed")
    signature = _from_base64(encoded)
    if len(signature) < 5:
        raise BadNote("a signature of the note is too short")
    return name, signature


def _from_base64(text: str) -> bytes:
    try:
        found = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadNote("the note has something else where base64 should be") from None
    if base64.b64encode(found).decode() != text:
        raise BadNote("the note has base64 in it that is not in its only form")
    return found
