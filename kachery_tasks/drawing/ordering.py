"""In which order the items of each layer stand, so that few lines cross."""

from __future__ import annotations

from bisect import bisect_right, insort
from itertools import pairwise

Layers = list[list[int]]
Neighbours = list[list[int]]

_WORK = 60_000  # lines looked at, for all sweeps together
_FEWEST, _MOST = 4, 16  # sweeps


def ordered(layers: Layers, above: Neighbours, below: Neighbours) -> Layers:
    """The layers in the best order found by sweeps down and up, each item in the middle of its own."""
    lines = sum(map(len, below))
    sweeps = max(_FEWEST, min(_MOST, _WORK // max(lines, 1)))
    best = now = _first(layers, above, below)
    fewest = _crossings(best, below)
    for sweep in range(sweeps):
        if fewest == 0:
            break
        now = _swept(now, above) if sweep % 2 == 0 else _swept(now[::-1], below)[::-1]
        crossings = _crossings(now, below)
        if crossings < fewest:
            best, fewest = now, crossings
    return best


def _first(layers: Layers, above: Neighbours, below: Neighbours) -> Layers:
    """Related items side by side: in the order in which a walk upwards from the end meets them."""
    met: dict[int, None] = {}
    for layer in reversed(layers):
        for start in layer:
            if not below[start]:
                _walk(start, above, met)
    rank = {item: position for position, item in enumerate(met)}
    return [sorted(layer, key=rank.__getitem__) for layer in layers]


def _walk(start: int, above: Neighbours, met: dict[int, None]) -> None:
    waiting = [start]
    while waiting:
        item = waiting.pop()
        if item not in met:
            met[item] = None
            waiting.extend(reversed(above[item]))


def _swept(layers: Layers, before: Neighbours) -> Layers:
    """Each item at the mean of its neighbours in the layers before; those without one stay."""
    place: dict[int, float] = {}
    done = []
    for layer in layers:
        share = max(len(layer) - 1, 1)
        wanted = {
            item: (
                sum(place[other] for other in before[item]) / len(before[item])
                if before[item]
                else position / share
            )
            for position, item in enumerate(layer)
        }
        moved = sorted(layer, key=wanted.__getitem__)
        done.append(moved)
        place.update({item: position / share for position, item in enumerate(moved)})
    return done


def _crossings(layers: Layers, below: Neighbours) -> int:
    """How many lines cross, of those between neighbouring layers."""
    found = 0
    for upper, lower in pairwise(layers):
        rank = {item: position for position, item in enumerate(lower)}
        seen: list[int] = []
        for item in upper:
            ends = sorted(rank[target] for target in below[item] if target in rank)
            found += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return found
