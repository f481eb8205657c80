"""Lists and tuples of results, of which a record tells only the jobs and the address of the whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from .values import Encoder
from .values.encoding import PREFIX

_MOST_ORDERS, _LONGEST = 1000, 100  # orders that are tried, and of how many
_COUNTED = re.compile("(list|tuple) of ([0-9]{1,6})")


class Assembled(NamedTuple):
    """A list or a tuple, and which of the values is where in it."""

    kind: type
    order: tuple[int, ...]


def assembled(encodings: Sequence[bytes], address: bytes, summary: str) -> Assembled | None:
    """The list or tuple of some encoded values that has an address; None when there is none.

    A record names each job once, in the order in which they come first; `summary` is what it says of
    the argument.
    """
    encoder = Encoder({_Part: lambda part, _: encodings[part.number][len(PREFIX) :]})
    parts = [_Part(number) for number in range(len(encodings))]
    counted = _COUNTED.fullmatch(summary)
    kinds = (list, tuple) if counted is None else (list if counted[1] == "list" else tuple,)
    length = len(encodings) if counted is None else int(counted[2])
    for order in islice(_orders(len(encodings), length), _MOST_ORDERS):
        for kind in kinds:
            if encoder.encode(kind(parts[i] for i in order)).address == address:
                return Assembled(kind, order)
    return None


class _Part:
    """Stands for a value of which only the encoding is at hand."""

    def __init__(self, number: int) -> None:
        self.number = number


def _orders(count: int, length: int) -> Iterator[tuple[int, ...]]:
    """The sequences of a length of all the numbers below `count`, which come first in their order."""
    if count == 1:
        yield (0,) * length
    elif count == length:
        yield tuple(range(length))
    if count in (1, length) or length > _LONGEST:
        return
    waiting: list[tuple[tuple[int, ...], int]] = [((), 0)]
    while waiting:
        order, used = waiting.pop()
        left = length - len(order)
        if left == 0:
            yield order
        elif left > count - used:  # there is room for one that has been there
            waiting += [((*order, i), used) for i in reversed(range(used))]
        if left and used < count:
            waiting.append(((*order, used), used + 1))
