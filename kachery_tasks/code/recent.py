"""What was found out about functions and classes of late, known by identity."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_KEPT = 1024


class Recent(Generic[K, V]):
    """The last so many things, each with what is known about it.

    Not weak: what is known refers to the thing, which would live for ever. Not by equality, which a
    metaclass can define.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[int, tuple[K, V]] = OrderedDict()

    def get(self, thing: K) -> V | None:
        """What is known about a thing."""
        entry = self._known.get(id(thing))
        return None if entry is None else entry[1]

    def put(self, thing: K, known: V) -> None:
        """Keep what is known; the thing lives as long."""
        self._known[id(thing)] = thing, known
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
