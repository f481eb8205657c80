"""What a fingerprint is the digest of, with what a person needs to understand it.

It is kept in a store once for each fingerprint, `code/<fingerprint>`, so that two jobs can be compared
later (docs/formats/code.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from kachery_store import DigestMismatch

from ..sealed import seal, unseal
from ..values import decode, encode
from .syntax import without_defaults

MAGIC = "kachery code"
VERSION = 1

_KIND = "kachery fingerprint 1"
_FIRST = ["node", 0]


class Description(NamedTuple):
    """The nodes that a function reaches, and the reference that they were reached from.

    `sources`: digest of syntax -> source text. `summaries`: address of a constant -> a few words.
    """

    nodes: list[Any]
    start: Any
    sources: dict[str, str]
    summaries: dict[str, str]

    def digest(self) -> str:
        """The fingerprint, 64 hex digits."""
        whole = [_KIND, self.nodes] if self.start == _FIRST else [_KIND, self.nodes, self.start]
        return encode(whole).address.hex()

    def without_defaults(self, names: Collection[str]) -> Description:
        """The same, telling nothing of the defaults of some parameters of the first function."""
        first = self.nodes[0][1]
        told = {reference[1] for name, reference in first["defaults"].items() if name in names}
        summaries = {
            address: "secret" if address in told else text
            for address, text in self.summaries.items()
        }
        sources = dict(self.sources)
        if (source := sources.get(first.get("syntax", ""))) is not None:
            sources[first["syntax"]] = without_defaults(source, names)
        return self._replace(sources=sources, summaries=summaries)

    def labels(self) -> list[str]:
        """The nodes' names, those of the same name told apart: `lab:f`, `lab:f#2`."""
        return list(_labels([name for name, _ in self.nodes]))

    def versions(self) -> dict[str, str]:
        """The versions of the packages that the task depends on by name."""
        counted = len(self.start) == 3 and self.start[:2] == _FIRST
        return dict(self.start[2]) if counted else {}

    def to_bytes(self) -> bytes:
        """The file of a store."""
        return seal(MAGIC, VERSION, encode(list(self)).data)

    @classmethod
    def from_bytes(cls, data: bytes, fingerprint: str) -> Description:
        """Read a file; DigestMismatch when it does not describe that fingerprint."""
        what = f"the description of the code {fingerprint}"
        try:
            body = unseal(data, MAGIC, VERSION, what)
            found = cls._make(decode(body, _no_blob)[: len(cls._fields)])
            if found.digest() == fingerprint:
                return found
        except (ValueError, TypeError) as error:
            raise DigestMismatch(f"{what} is damaged ({error})") from error
        raise DigestMismatch(f"{what} is that of other code")


def _labels(names: list[str]) -> Iterator[str]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        yield name if counts[name] == 1 else f"{name}#{counts[name]}"


def _no_blob(digest: bytes, _size: int) -> memoryview:
    raise DigestMismatch(f"a description of code names the blob {digest.hex()}")
