"""Many boxes that are alike become one.

They are when they are of one kind and have the same kinds around them; chains and trees of one kind
become one box too. When that is not enough, all boxes of a kind in one layer do.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from graphlib import TopologicalSorter

from .figure import ERROR, JOB, Box, Figure
from .wording import span

Links = Sequence[tuple[str, str]]
Kinds = Mapping[str, Hashable]
_Sides = dict[str, dict[str, None]]


def folded(figure: Figure, at_most: int, at_worst: int) -> Figure:
    """The figure, its boxes in the order of the links, and folded if it has more than `at_most` boxes.

    It is folded more where that leaves more than `at_worst`. CycleError when the links go in a circle.
    """
    boxes = {box.name: box for box in figure.boxes}
    names = _sources_first(list(boxes), figure.links)
    groups = {name: name for name in names}
    if len(names) > at_most:
        kinds = {name: (box.kind, box.state, box.asked) for name, box in boxes.items()}
        groups = _groups(names, figure.links, kinds, at_worst)
    members: dict[str, list[Box]] = {}
    for name in names:
        members.setdefault(groups[name], []).append(boxes[name])
    first = {group: inside[0].name for group, inside in members.items()}
    links = dict.fromkeys((groups[source], groups[target]) for source, target in figure.links)
    return Figure(
        tuple(map(_one_box, members.values())),
        tuple((first[source], first[target]) for source, target in links if source != target),
    )


def _one_box(boxes: Sequence[Box]) -> Box:
    first, count = boxes[0], len(boxes)
    if count == 1:
        return first
    members = tuple(name for box in boxes for name in box.members)
    if first.look != JOB:
        return first._replace(title=f"{count} inputs", note="", members=members)
    seconds = sum(box.seconds for box in boxes)
    note = f"{span(seconds)} in all" if seconds else first.note
    if first.state == ERROR and seconds:
        note = f"{ERROR} · {note}"
    return first._replace(
        title=f"{count} \N{MULTIPLICATION SIGN} {first.title}" if first.kind else f"{count} jobs",
        note=note,
        seconds=seconds,
        members=members,
    )


def _groups(names: list[str], links: Links, kinds: Kinds, at_worst: int) -> dict[str, str]:
    """For each name the first of those that share its box."""
    run_of = _runs(names, links, kinds)
    runs = list(dict.fromkeys(run_of.values()))
    between = [(run_of[source], run_of[target]) for source, target in links]
    between = [link for link in dict.fromkeys(between) if link[0] != link[1]]
    depth = _depths(runs, between)
    above, below = _sides(runs, between)

    def fine(run: str) -> Hashable:
        around = [frozenset(kinds[other] for other in side[run]) for side in (above, below)]
        return kinds[run], depth[run], *around

    def coarse(run: str) -> Hashable:
        return kinds[run], depth[run]

    groups = _grouped(runs, fine)
    if len(set(groups.values())) > at_worst:
        groups = _grouped(runs, coarse)
    return {name: groups[run_of[name]] for name in names}


def _grouped(runs: Iterable[str], rule: Callable[[str], Hashable]) -> dict[str, str]:
    """Only what is in one layer shares a box, so that no circle comes of it."""
    first: dict[Hashable, str] = {}
    return {run: first.setdefault(rule(run), run) for run in runs}


def _runs(names: list[str], links: Links, kinds: Kinds) -> dict[str, str]:
    """Chains and trees of one kind: who is needed by one of its kind alone goes with that.

    No circle comes of it: a run is left from its end only.
    """
    _, below = _sides(names, links)
    run_of: dict[str, str] = {}
    for name in reversed(names):
        targets = list(below[name])
        alone = len(targets) == 1 and kinds[targets[0]] == kinds[name]
        run_of[name] = run_of[targets[0]] if alone else name
    return run_of


def _sides(names: Iterable[str], links: Links) -> tuple[_Sides, _Sides]:
    above: _Sides = {name: {} for name in names}
    below: _Sides = {name: {} for name in above}
    for source, target in links:
        below[source][target] = None
        above[target][source] = None
    return above, below


def _sources_first(names: Sequence[str], links: Links) -> list[str]:
    above, _ = _sides(names, links)
    return list(TopologicalSorter(above).static_order())


def _depths(names: Sequence[str], links: Links) -> dict[str, int]:
    above, _ = _sides(names, links)
    depth: dict[str, int] = {}
    for name in _sources_first(names, links):
        depth[name] = max((depth[source] + 1 for source in above[name]), default=0)
    return depth
