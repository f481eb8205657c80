"""How far to the right each item of a layer stands: near its neighbours, and never over another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .ordering import Layers, Neighbours

_ROUNDS = 6
_PASSING = 8.0  # how much straighter lines between two bends want to be than those of boxes
_LEAVING = 0.01  # and those to a bend from which other lines go on


_Pulls = list[list[tuple[int, float]]]


class Items(NamedTuple):
    """What is above and below each item, how much room each takes, and how many are boxes.

    The others are bends, which are counted after the boxes.
    """

    above: Neighbours
    below: Neighbours
    widths: Sequence[float]
    boxes: int

    def pulls(self, side: Neighbours) -> _Pulls:
        """How strongly each item wants to stand under or over each of its neighbours on one side."""
        return [
            [(other, self._pull(item, other)) for other in side[item]] for item in range(len(side))
        ]

    def _pull(self, one: int, other: int) -> float:
        bends = [item for item in (one, other) if item >= self.boxes]
        if len(bends) == 2:
            return _PASSING
        return _LEAVING if bends and len(self.below[bends[0]]) > 1 else 1.0


def straightened(layers: Layers, items: Items) -> list[float]:
    """The middle of each item. Their order in the layers, and the room that each takes, is kept."""
    xs = _side_by_side(layers, items.widths)
    up, down = items.pulls(items.above), items.pulls(items.below)
    both = [one + other for one, other in zip(up, down, strict=True)]
    for _ in range(_ROUNDS):
        for layer in layers:
            _settle(layer, items.widths, up, xs)
        for layer in reversed(layers):
            _settle(layer, items.widths, down, xs)
    for layer in [*layers, *reversed(layers)]:
        _settle(layer, items.widths, both, xs)
    return xs


def _side_by_side(layers: Layers, widths: Sequence[float]) -> list[float]:
    xs = [0.0] * len(widths)
    for layer in layers:
        edge = -sum(widths[item] for item in layer) / 2
        for item in layer:
            xs[item] = edge + widths[item] / 2
            edge += widths[item]
    return xs


def _settle(layer: list[int], widths: Sequence[float], pulls: _Pulls, xs: list[float]) -> None:
    """Move the items of a layer to where their neighbours pull them."""
    wanted, weights = [], []
    for item in layer:
        total = weight = 0.0
        for other, strength in pulls[item]:
            total += xs[other] * strength
            weight += strength
        wanted.append(total / weight if weight else xs[item])
        weights.append(weight or _LEAVING)
    room = [widths[item] for item in layer]
    for item, x in zip(layer, spread(wanted, weights, room), strict=True):
        xs[item] = x


def spread(wanted: Sequence[float], weights: Sequence[float], room: Sequence[float]) -> list[float]:
    """The nearest places to the wanted ones (least squares) at which neighbours do not overlap.

    What overlaps becomes one block at its weighted mean, from left to right ("pool adjacent violators").
    """
    blocks: list[tuple[float, float, int]] = []  # mean without offsets, weight, how many
    offset, offsets = 0.0, []
    for position, (x, weight) in enumerate(zip(wanted, weights, strict=True)):
        offset += (room[position - 1] + room[position]) / 2 if position else 0.0
        offsets.append(offset)
        mean, count = x - offset, 1
        while blocks and blocks[-1][0] > mean:
            before, heavy, many = blocks.pop()
            mean = (mean * weight + before * heavy) / (weight + heavy)
            weight += heavy  # noqa: PLW2901 - the weight of the block
            count += many
        blocks.append((mean, weight, count))
    means = [mean for mean, _, count in blocks for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]
