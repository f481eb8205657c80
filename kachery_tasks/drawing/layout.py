"""Places for the boxes of a figure: sources above targets, in layers, with few crossings.

The way of Sugiyama, Tagawa and Toda: layers by the longest path, bends where a line passes a layer,
an order in each layer that crosses little, then places that keep lines straight. Pure; equal figures
get equal places.
"""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import TopologicalSorter
from typing import NamedTuple

from .ordering import Layers, Neighbours, ordered
from .straight import Items, straightened

_MOST_BENDS = 12_000  # beyond, the longest lines go straight through the layers


class Size(NamedTuple):
    """Across the layers, and along them."""

    width: float
    height: float


class Spacing(NamedTuple):
    """Free space beside a box, beside a line that passes a layer, and between layers."""

    beside: float
    line: float
    between: float


class Place(NamedTuple):
    """The middle of a box or bend, and its layer, counted from the top."""

    x: float
    y: float
    layer: int


class Layout(NamedTuple):
    """Places of the boxes (by their position) and of the bends, which are counted on.

    `segments`: lines from one place to another; those from one box share their bends.
    """

    places: tuple[Place, ...]
    segments: tuple[tuple[int, int], ...]
    width: float
    height: float


def laid_out(sizes: Sequence[Size], links: Sequence[tuple[int, int]], spacing: Spacing) -> Layout:
    """Places for boxes that are linked by their positions. CycleError when that goes in a circle."""
    below, above = _neighbours(len(sizes), links)
    layer_of = _layers(above, below)
    segments = _bent(layer_of, links)
    below, above = _neighbours(len(layer_of), segments)
    layers: Layers = [[] for _ in range(max(layer_of, default=-1) + 1)]
    for item, layer in enumerate(layer_of):
        layers[layer].append(item)
    layers = ordered(layers, above, below)
    widths = [
        sizes[item].width + spacing.beside if item < len(sizes) else spacing.line
        for item in range(len(layer_of))
    ]
    xs = straightened(layers, Items(above, below, widths, len(sizes)))
    ys, height = _heights(layers, sizes, spacing.between)
    left = min((x - width / 2 for x, width in zip(xs, widths, strict=True)), default=0)
    right = max((x + width / 2 for x, width in zip(xs, widths, strict=True)), default=0)
    places = tuple(
        Place(round(x - left, 1), round(ys[layer], 1), layer)
        for x, layer in zip(xs, layer_of, strict=True)
    )
    return Layout(places, tuple(segments), round(right - left, 1), round(height, 1))


def _neighbours(count: int, links: Sequence[tuple[int, int]]) -> tuple[Neighbours, Neighbours]:
    below: Neighbours = [[] for _ in range(count)]
    above: Neighbours = [[] for _ in range(count)]
    for source, target in links:
        below[source].append(target)
        above[target].append(source)
    return below, above


def _layers(above: Neighbours, below: Neighbours) -> list[int]:
    """As high as possible; then what has more below than above it goes down, to shorten lines."""
    order = list(TopologicalSorter(dict(enumerate(above))).static_order())
    layer = [0] * len(above)
    for item in order:
        layer[item] = max((layer[source] + 1 for source in above[item]), default=0)
    for item in reversed(order):
        if len(below[item]) > len(above[item]):
            layer[item] = min(layer[target] for target in below[item]) - 1
    return layer


def _bent(layer_of: list[int], links: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The segments of all links. The layers of bends are added to `layer_of`."""
    longest = _longest_bent(layer_of, links)
    segments: dict[tuple[int, int], None] = {}
    bends: dict[tuple[int, int], int] = {}
    for source, target in sorted(links, key=lambda link: layer_of[link[1]]):
        first, last = layer_of[source] + 1, layer_of[target]
        item = source
        for layer in range(first, last if last - first < longest else first):
            if (source, layer) not in bends:
                bends[source, layer] = len(layer_of)
                layer_of.append(layer)
            segments[item, bends[source, layer]] = None
            item = bends[source, layer]
        segments[item, target] = None
    return list(segments)


def _longest_bent(layer_of: list[int], links: Sequence[tuple[int, int]]) -> int:
    """How many layers a line may pass and still be bent, for not too many bends."""
    spans: dict[int, int] = {}
    for source, target in links:
        span = layer_of[target] - layer_of[source] - 1
        spans[source] = max(spans.get(source, 0), span)
    bends = 0
    for span in sorted(spans.values()):
        bends += span
        if bends > _MOST_BENDS:
            return max(span, 1)
    return len(layer_of) + 1


def _heights(layers: Layers, sizes: Sequence[Size], between: float) -> tuple[list[float], float]:
    """The middle of each layer, and the height of all."""
    middles, top = [], 0.0
    for layer in layers:
        height = max((sizes[item].height for item in layer if item < len(sizes)), default=0.0)
        middles.append(top + height / 2)
        top += height + between
    return middles, max(top - between, 0.0)
