"""A lineage as one HTML file that needs nothing else: a picture to walk through, and a list.

No word of a record becomes markup, and the page may load and run nothing but what is in it (its content
security policy names the digests of its own style and script).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from importlib.resources import files
from itertools import groupby

from ..drawing.figure import FINISHED, JOB, Box, Figure
from ..drawing.folding import folded
from ..drawing.layout import Layout, Size, Spacing, laid_out
from ..drawing.wording import SHORT, cut, moment, span, task_title
from ..record import Record
from .boxes import figure_of, input_title, is_plain, looks_plain, state_of
from .facts import Around, around, facts_of_input, facts_of_job, text
from .model import Input, JobNode, Lineage

_MOST_BOXES = 30  # beyond, equal jobs become one box
_TOO_MANY = 150  # beyond, jobs of one task do that are equal but for what is around them
_SPACING = Spacing(beside=24, line=20, between=46)
_JOB_SIZE, _INPUT_SIZE = Size(190, 50), Size(170, 44)
_LETTERS = {_JOB_SIZE: 20, _INPUT_SIZE: 18}  # that a box has room for
_COLOURS = 8
_SCRIPTS = ("places.js", "view.js", "page.js")
_ID = 12  # digits of a job id in the heading


def page(lineage: Lineage) -> str:
    """The page. Its picture is folded where there are many jobs; the page unfolds it on request."""
    figure = folded(figure_of(lineage), _MOST_BOXES, _TOO_MANY)
    sizes = [_size(box) for box in figure.boxes]
    at = {box.name: position for position, box in enumerate(figure.boxes)}
    links = [(at[source], at[target]) for source, target in figure.links]
    layout = laid_out(sizes, links, _SPACING)
    names = [name for box in figure.boxes for name in box.members]
    places = {name: f"n{position}" for position, name in enumerate(names)}
    style, script = _resource("page.css"), "".join(map(_resource, _SCRIPTS))
    parts = {
        "policy": f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)};"
        " base-uri 'none'; form-action 'none'",
        "style": style,
        "script": script,
        "title": text(f"{'Lineage of' if lineage.up else 'Made from'} {lineage.about}"),
        "heading": text(_heading(lineage)),
        "kind": "How it was made" if lineage.up else "What was made from it",
        "counts": text(_counts(lineage)),
        "picture": _picture(figure, layout, sizes),
        "data": json.dumps(_data(lineage, figure, layout, sizes, places), separators=(",", ":")),
        "list": "".join(_listed(around(lineage, places), figure)),
    }
    pieces = _resource("page.html").split("$$")  # text, name, text, name, ...
    return "".join(parts[piece] if at % 2 else piece for at, piece in enumerate(pieces))


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def _digest(content: str) -> str:
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _size(box: Box) -> Size:
    return _JOB_SIZE if box.look == JOB else _INPUT_SIZE


def _heading(lineage: Lineage) -> str:
    """What was asked for; of a job also the task."""
    tasks = {lineage.jobs[name].task for name in lineage.asked if name in lineage.jobs}
    if not lineage.about.startswith("job://") or len(lineage.asked) != 1 or not any(tasks):
        return lineage.about
    return f"{task_title(*tasks)}, job {lineage.asked[0][:_ID]}"


def _counts(lineage: Lineage) -> str:
    records = [node.record for node in lineage.jobs.values() if node.record is not None]
    tasks = {record.task for record in records}
    inputs = sum(not is_plain(one) for one in lineage.inputs.values())
    told = [_many(len(lineage.jobs), "job"), _many(len(tasks), "task"), _many(inputs, "input")]
    if records:
        told.append(f"{span(sum(record.seconds for record in records))} of computing")
        told.append(f"last {moment(max(record.started for record in records))[:16]}")
    return " · ".join(told)


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


# The picture


def _picture(figure: Figure, layout: Layout, sizes: list[Size]) -> str:
    colours = _colours(figure)
    lines = "".join(f'<path d="{curve}" />' for curve in _curves(layout, sizes))
    clips = "".join(
        f'<clipPath id="clip{size.width:g}"><rect width="{size.width - 6:g}" height=60 /></clipPath>'
        for size in _LETTERS
    )
    boxes = "".join(
        _drawn(box, position, layout, sizes[position], colours)
        for position, box in enumerate(figure.boxes)
    )
    return (
        f'<svg id=canvas viewBox="-20 -20 {layout.width + 40:g} {layout.height + 40:g}"'
        f' role=group aria-label="Picture of the lineage"><defs>{clips}</defs><g id=world>'
        f"<g id=lines>{lines}</g><g id=boxes>{boxes}</g><g id=tiles></g></g></svg>"
    )


def _colours(figure: Figure) -> dict[str, int]:
    """A colour for each task, of which there are few; they only help the eye."""
    tasks = dict.fromkeys(box.kind for box in figure.boxes if box.look == JOB)
    return {task: position % _COLOURS for position, task in enumerate(tasks)}


def _curves(layout: Layout, sizes: list[Size]) -> Iterator[str]:
    """The lines, straight down to the edges of their layers, then curved (as in places.js)."""
    half: dict[int, float] = {}
    for place, size in zip(layout.places, sizes, strict=False):
        half[place.layer] = max(half.get(place.layer, 0), size.height / 2)
    for source, target in layout.segments:
        start, end = layout.places[source], layout.places[target]
        out = start.y + (sizes[source].height / 2 if source < len(sizes) else 0)
        into = end.y - (sizes[target].height / 2 if target < len(sizes) else 0)
        top, bottom = start.y + half[start.layer], end.y - half[end.layer]
        middle = (top + bottom) / 2
        yield (
            f"M{start.x:g} {out:g}V{top:g}"
            f"C{start.x:g} {middle:g} {end.x:g} {middle:g} {end.x:g} {bottom:g}V{into:g}"
        )


def _drawn(box: Box, position: int, layout: Layout, size: Size, colours: dict[str, int]) -> str:
    place, letters = layout.places[position], _LETTERS[size]
    classes = [box.look, *(["asked"] if box.asked else []), *([box.state] if _is_odd(box) else [])]
    if len(box.members) > 1:
        classes.append("many")
    if box.look == JOB:
        classes.append(f"c{colours[box.kind]}")
    full = f"{box.title}, {box.note}" if box.note else box.title
    lines = (size.height / 2 - 4, size.height / 2 + 13) if box.note else (size.height / 2 + 4.5,)
    margin = 14 if box.look == JOB else 18
    texts = "".join(
        f'<text class={name} x={margin} y="{y:g}">{text(cut(told, letters + extra))}</text>'
        for name, told, y, extra in zip(
            ("title", "note"), (box.title, box.note), lines, (0, 4), strict=False
        )
    )
    return (
        f'<a class="box {" ".join(classes)}" href="#{"g" if len(box.members) > 1 else "b"}{position}"'
        f' transform="translate({place.x - size.width / 2:g} {place.y - size.height / 2:g})"'
        f' aria-label="{text(full)}"><title>{text(full)}</title>'
        f'<rect class=back width="{size.width:g}" height="{size.height:g}" rx=8 x=4 y=4 />'
        f'<rect class=body width="{size.width:g}" height="{size.height:g}" rx=8 />'
        f'<rect class=mark width=4 height="{size.height - 16:g}" x=0 y=8 />'
        f'<g clip-path="url(#clip{size.width:g})">{texts}</g></a>'
    )


def _is_odd(box: Box) -> bool:
    return box.state not in ("", FINISHED)


def _data(
    lineage: Lineage, figure: Figure, layout: Layout, sizes: list[Size], places: dict[str, str]
) -> dict[str, object]:
    """What the script needs to know: numbers alone, so that nothing in it ends the element it stands in.

    `places` are the names of the members, in their order.
    """
    number = {name: position for position, name in enumerate(places)}
    links = dict.fromkeys(
        (number[link.source], number[link.target])
        for link in lineage.links
        if link.source in number and link.target in number
    )
    return {
        "up": lineage.up,
        "places": [list(place) for place in layout.places],
        "sizes": [list(size) for size in sizes],
        "members": [len(box.members) for box in figure.boxes],
        "asked": [position for position, box in enumerate(figure.boxes) if box.asked],
        "segments": layout.segments,
        "links": list(links),
    }


# The list


def _listed(one: Around, figure: Figure) -> Iterator[str]:
    """Each box with its members; those that are alone one after the other."""
    for alone, boxes in groupby(enumerate(figure.boxes), lambda pair: len(pair[1].members) == 1):
        for position, box in boxes:
            if not alone:
                yield f'<h3 id="g{position}">{text(box.title)} <small>{text(box.note)}</small></h3>'
            labels = _labels(one, box) if not alone else {}
            yield f"<div class=group{' id=b' + str(position) if alone else ''}>"
            for name in box.members:
                yield _entry(one, name, labels.get(name, ""))
            yield "</div>"


def _entry(one: Around, name: str, label: str) -> str:
    if name in one.lineage.jobs:
        node = one.lineage.jobs[name]
        words, facts = _words_of_job(node), facts_of_job(one, node)
        state = state_of(node)
    else:
        given = one.lineage.inputs[name]
        words, facts, state = _words_of_input(given), facts_of_input(one, given), "input"
    label = f' data-label="{text(label)}"' if label else ""
    cells = "".join(f"<span>{text(word)}</span>" for word in words)
    return (
        f"<details class={text(state)}{label}><summary>{cells}</summary>"
        f"<div id={one.places[name]}>{facts}</div></details>"
    )


def _words_of_job(node: JobNode) -> list[str]:
    record, name = node.record, node.job_id[:SHORT]
    if record is None:
        return ["(record gone)", name, "", "", ""]
    state = "" if record.status == FINISHED else f" ({record.status})"
    when, took = moment(record.started)[:16], span(record.seconds)
    return [task_title(record.task) + state, name, when, took, f"{record.user}@{record.host}"]


def _words_of_input(given: Input) -> list[str]:
    title = input_title(given)
    return [title, "input", "" if title == given.summary else given.summary, "", ""]


def _labels(one: Around, box: Box) -> dict[str, str]:
    """For each of many jobs the plain arguments and the files in which it differs from the others."""
    told = {name: _told(one, name) for name in box.members}
    kinds: dict[str, set[str]] = {}
    for summaries in told.values():
        for key, summary in summaries.items():
            kinds.setdefault(key, set()).add(summary)
    return {
        name: ", ".join(f"{key}={told}" for key, told in summaries.items() if len(kinds[key]) > 1)
        for name, summaries in told.items()
    }


def _told(one: Around, name: str) -> dict[str, str]:
    """The arguments of a job that can be told in few words."""
    record = _record(one.lineage, name)
    inputs = {
        link.label: input_title(one.lineage.inputs[link.source])
        for link in one.above.get(name, ())
        if link.source in one.places and link.source in one.lineage.inputs
    }
    plain = {
        key: summary
        for key, address, summary in (() if record is None else record.arguments)
        if address and looks_plain(summary)
    }
    return {**plain, **inputs}


def _record(lineage: Lineage, name: str) -> Record | None:
    return lineage.jobs[name].record if name in lineage.jobs else None
