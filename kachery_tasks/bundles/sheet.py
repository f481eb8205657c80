"""The sheet of a bundle: what was asked for, and everything that is in it. No input or output."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from kachery_store.digest import Digest
from kachery_store.errors import BadURI
from kachery_store.uri import parse_uri

FORMAT = "kachery bundle 1"
MOST_SHEET = 1 << 28  # bytes


class Asked(NamedTuple):
    """What a bundle is about: `uri` of a job or file; `value`, the address of a job's result, or ""."""

    uri: str
    value: str


class Listed(NamedTuple):
    """A member: its size in bytes, and the digest of those."""

    size: int
    digest: Digest


class Sheet(NamedTuple):
    """What a bundle says of itself.

    `about`: in words. `members`: by name. `left_out`: URIs of what the lineage names and the bundle
    does not have, though it could have had it; `gone`: those of what was not to be had.
    """

    about: str
    asked: tuple[Asked, ...]
    members: dict[str, Listed]
    left_out: tuple[str, ...]
    gone: tuple[str, ...]

    def to_bytes(self) -> bytes:
        """The JSON; equal sheets are equal bytes."""
        content = {
            "format": FORMAT,
            "about": self.about,
            "asked": [one._asdict() for one in self.asked],
            "left_out": sorted(self.left_out),
            "gone": sorted(self.gone),
            "members": [[name, one.size, str(one.digest)] for name, one in _sorted(self.members)],
        }
        return json.dumps(content, ensure_ascii=False, indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes) -> Sheet:
        """Read one. ValueError says what is wrong with it."""
        try:
            content = json.loads(data, object_pairs_hook=_once, parse_constant=_no_number)
            if content.get("format") != FORMAT:
                raise ValueError(f"its format is not {FORMAT!r}: a later kachery may read it")
            members = {name: Listed(size, _digest(uri)) for name, size, uri in content["members"]}
            found = cls(
                content["about"],
                tuple(Asked(**one) for one in content["asked"]),
                members,
                tuple(content["left_out"]),
                tuple(content["gone"]),
            )
        except (KeyError, TypeError, AttributeError, RecursionError, UnicodeDecodeError) as error:
            raise ValueError(f"its sheet is damaged ({type(error).__name__}: {error})") from error
        if len(members) != len(content["members"]) or not found._is_right():
            raise ValueError("its sheet is damaged: it does not say what it should")
        return found

    def _is_right(self) -> bool:
        texts: Iterable[Any] = (self.about, *self.left_out, *self.gone, *self.members)
        asked = (text for one in self.asked for text in one)
        sizes = all(type(one.size) is int and one.size >= 0 for one in self.members.values())
        return sizes and all(type(text) is str for text in (*texts, *asked))


def _sorted(members: dict[str, Listed]) -> list[tuple[str, Listed]]:
    return sorted(members.items())


def _digest(uri: Any) -> Digest:
    try:
        digest = parse_uri(uri).digest
    except BadURI as error:
        raise ValueError(f"its sheet is damaged ({error})") from error
    if str(digest) != uri:
        raise ValueError(f"its sheet is damaged: {uri!r} is no digest")
    return digest


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("its sheet is damaged: it says something twice")
    return dict(pairs)


def _no_number(text: str) -> Any:
    raise ValueError(f"its sheet is damaged: {text} is no number")
