"""A lineage as a figure, in which plain values have no box."""

from __future__ import annotations

import re

from kachery_store.errors import BadURI
from kachery_store.uri import parse_uri

from ..drawing.figure import ERROR, FINISHED, GONE, INPUT, JOB, MUTABLE, Box, Figure
from ..drawing.wording import SHORT, span, task_title
from .model import Input, JobNode, Lineage

_PLAIN = re.compile(r"[-+]?[\d.]|[-+]?(inf|nan)\b|b?['\"]|[\[({]|(True|False|None|set|frozenset)\b")
_HEX = re.compile("[0-9a-f]{64}")


def figure_of(lineage: Lineage) -> Figure:
    """The figure of a lineage: a box for each job, and for each input that is not plain."""
    asked = set(lineage.asked)
    inputs = [one for one in lineage.inputs.values() if one.name in asked or not is_plain(one)]
    boxes = [_box_of_job(node, node.job_id in asked) for node in lineage.jobs.values()]
    boxes += [_box_of_input(one, one.name in asked) for one in inputs]
    names = {box.name for box in boxes}
    links = dict.fromkeys(
        (link.source, link.target)
        for link in lineage.links
        if link.source in names and link.target in names
    )
    return Figure(tuple(boxes), tuple(links))


def is_plain(one: Input) -> bool:
    """Whether an input is a number, a short text or the like, which is shown with the job itself."""
    return _HEX.fullmatch(one.name) is not None and looks_plain(one.summary)


def looks_plain(summary: str) -> bool:
    """Whether a summary tells all of a value."""
    return _PLAIN.match(summary) is not None


def state_of(node: JobNode) -> str:
    """What became of a job: FINISHED, ERROR or GONE, whatever its record says."""
    if node.record is None:
        return GONE
    return FINISHED if node.record.status == FINISHED else ERROR


def _box_of_job(node: JobNode, asked: bool) -> Box:
    record, state = node.record, state_of(node)
    if record is None:
        title = f"job {node.job_id[:SHORT]}"
        return Box(node.job_id, JOB, "", title, "record gone", state, asked, 0.0, (node.job_id,))
    note = span(record.seconds) if state == FINISHED else f"error · {span(record.seconds)}"
    title = task_title(record.task)
    members = (node.job_id,)
    return Box(node.job_id, JOB, record.task, title, note, state, asked, record.seconds, members)


def _box_of_input(one: Input, asked: bool) -> Box:
    look = MUTABLE if one.name.startswith("mutable:") else INPUT
    title = input_title(one)
    note = "" if title == one.summary or "://" in one.summary else one.summary
    return Box(one.name, look, look, title, note, "", asked, 0.0, (one.name,))


def input_title(one: Input) -> str:
    """An input in few words: its label, its name or what is told of it."""
    if one.name.startswith("mutable:"):
        return one.name.split(":", 2)[1]
    if "://" in one.name:
        return _label(one.name) or _label(one.summary.strip("'\"")) or _end(one.name)
    return one.summary or f"value {one.name[:SHORT]}"


def _label(uri: str) -> str | None:
    try:
        return parse_uri(uri).label
    except BadURI:
        return None


def _end(uri: str) -> str:
    try:
        digest = parse_uri(uri).digest
    except BadURI:
        return uri.rstrip("/").rpartition("/")[2] or uri
    return f"{digest.algorithm} {digest.hex[:SHORT]}"
