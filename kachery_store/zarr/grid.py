"""Which chunk of a regular grid is where. Chunks are numbered in C order."""

from __future__ import annotations

import math
from collections.abc import Iterator

Index = tuple[int, ...]


def counts(shape: Index, chunks: Index) -> Index:
    """How many chunks there are along each axis."""
    return tuple(
        -(-length // chunk) if length else 0 for length, chunk in zip(shape, chunks, strict=True)
    )


def number_of_chunks(shape: Index, chunks: Index) -> int:
    """How many chunks there are; an array without axes has one."""
    return math.prod(counts(shape, chunks))


def indices(shape: Index, chunks: Index) -> Iterator[Index]:
    """The indices of all chunks, in C order."""
    along = counts(shape, chunks)
    for number in range(math.prod(along)):
        yield index_of(number, along)


def index_of(number: int, along: Index) -> Index:
    """The index of the chunk with that number."""
    index: list[int] = []
    for count in reversed(along):
        number, place = divmod(number, count)
        index.append(place)
    return tuple(reversed(index))


def number_of(index: Index, along: Index) -> int:
    """The number of the chunk with that index."""
    number = 0
    for place, count in zip(index, along, strict=True):
        number = number * count + place
    return number


def region(index: Index, shape: Index, chunks: Index) -> tuple[slice, ...]:
    """What of the array a chunk is, cut to the bounds of the array."""
    return tuple(
        slice(place * chunk, min((place + 1) * chunk, length))
        for place, length, chunk in zip(index, shape, chunks, strict=True)
    )


def lengths(index: Index, shape: Index, chunks: Index) -> Index:
    """The shape of a chunk, cut to the bounds of the array."""
    return tuple(one.stop - one.start for one in region(index, shape, chunks))


def key_of(index: Index) -> str:
    """The key of a chunk below its array, as Zarr 3 has it by default."""
    return "/".join(("c", *map(str, index)))


def index_in(key: str, along: Index) -> Index | None:
    """The index that a key names; None when there is no such chunk."""
    first, *places = key.split("/")
    if first != "c" or len(places) != len(along):
        return None
    if not all(place.isdecimal() and place == str(int(place)) for place in places):
        return None
    index = tuple(map(int, places))
    return index if all(a < b for a, b in zip(index, along, strict=True)) else None
