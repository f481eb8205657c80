"""A small picture of a figure, as SVG that stands by itself in a notebook, light or dark."""

from __future__ import annotations

import html

from .figure import ERROR, FINISHED, GONE, JOB, MORE, MUTABLE, PENDING, RUNNING, Box, Figure
from .layout import Layout, Size, Spacing, laid_out
from .wording import clean, cut

_BOX = Size(132, 38)  # as it is seen; sources stand on the left
_SPACING = Spacing(beside=12, line=12, between=34)
_LETTERS, _LETTERS_OF_NOTE = 16, 20
_BLUE, _RED = "#2f80c8", "#d1493f"  # to be seen on white and on black
_DASHES = {GONE: "5 4", PENDING: "2 3", MORE: "2 3", MUTABLE: "2 3"}


def nearest(figure: Figure, at_most: int, *, up: bool) -> Figure:
    """The boxes nearest to what was asked for; one more box stands for the others."""
    if len(figure.boxes) <= at_most:
        return figure
    beside: dict[str, list[str]] = {box.name: [] for box in figure.boxes}
    for source, target in figure.links:
        beside[target if up else source].append(source if up else target)
    kept = dict.fromkeys(box.name for box in figure.boxes if box.asked)
    for name in [*kept]:
        kept.pop(name)
        _spread_to(name, beside, kept, at_most - 1)
    for box in figure.boxes:  # where nothing was asked for, or little hangs together
        if len(kept) < at_most - 1:
            kept.setdefault(box.name)
    return _without_others(figure, kept, up=up)


def _spread_to(start: str, beside: dict[str, list[str]], kept: dict[str, None], room: int) -> None:
    waiting = [start]
    for name in waiting:
        if len(kept) >= room:
            return
        if name not in kept:
            kept[name] = None
            waiting.extend(beside[name])


def _without_others(figure: Figure, kept: dict[str, None], *, up: bool) -> Figure:
    boxes = [box for box in figure.boxes if box.name in kept]
    count = sum(len(box.members) for box in figure.boxes) - sum(len(box.members) for box in boxes)
    more = Box("", MORE, MORE, f"{count:,} more", "", "", asked=False, seconds=0.0, members=())
    links = dict.fromkeys(
        (source if source in kept else more.name, target if target in kept else more.name)
        for source, target in figure.links
        if (target if up else source) in kept
    )
    return Figure((*boxes, more), tuple(links))


def drawn(figure: Figure) -> str:
    """The picture; everything that it needs is in it."""
    across = [Size(_BOX.height, _BOX.width)] * len(figure.boxes)
    at = {box.name: position for position, box in enumerate(figure.boxes)}
    layout = laid_out(across, [(at[a], at[b]) for a, b in figure.links], _SPACING)
    lines = "".join(_line(layout, len(across), *segment) for segment in layout.segments)
    boxes = "".join(
        _box(box, layout.places[position].y, layout.places[position].x)
        for position, box in enumerate(figure.boxes)
    )
    width, height = layout.height + 8, layout.width + 4
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="lineage" width="{width:g}"'
        f' height="{height:g}" viewBox="-4 -2 {width:g} {height:g}" style="max-width:100%;'
        f'height:auto;font-family:system-ui,sans-serif" fill="none" stroke="currentColor">'
        f'<g stroke-opacity=".45">{lines}</g>{boxes}</svg>'
    )


def _line(layout: Layout, boxes: int, source: int, target: int) -> str:
    """Curved between the layers, and straight through those that it passes."""
    start, end = layout.places[source], layout.places[target]
    begin = start.y + _BOX.width / 2 * (1 if source < boxes else -1)
    left, right = start.y + _BOX.width / 2, end.y - _BOX.width / 2
    middle = (left + right) / 2
    return (
        f'<path d="M{begin:g} {start.x:g}H{left:g}C{middle:g} {start.x:g} {middle:g} {end.x:g}'
        f' {right:g} {end.x:g}"/>'
    )


def _box(box: Box, x: float, y: float) -> str:
    left, top = x - _BOX.width / 2, y - _BOX.height / 2
    colour = {ERROR: _RED, RUNNING: _BLUE}.get(box.state, _BLUE if box.asked else "currentColor")
    dashes = _DASHES.get(box.state) or _DASHES.get(box.look)
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    strong = box.asked or box.state in (ERROR, RUNNING)
    rect = (
        f'<rect x="{left:g}" y="{top:g}" width="{_BOX.width}" height="{_BOX.height}"'
        f' rx="{7 if box.look == JOB else 19}" stroke="{colour}"{dashed}'
        f' stroke-width="{2 if strong else 1}" stroke-opacity="{1 if strong else 0.55}"/>'
    )
    note = box.note or (box.state if box.state != FINISHED else "")
    rows = [(box.title, 12, 16 if note else 23, _LETTERS), (note, 10, 30, _LETTERS_OF_NOTE)]
    texts = "".join(
        f'<text x="{left + 11:g}" y="{top + down:g}" font-size="{size}" stroke="none"'
        f' fill="currentColor">{html.escape(cut(text, letters))}</text>'
        for text, size, down, letters in rows
        if text
    )
    full = html.escape(clean(f"{box.title}  {note}".rstrip()))
    return f"<g><title>{full}</title>{rect}{texts}</g>"
