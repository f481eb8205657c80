"""A lineage in the language of Graphviz: `dot -Tsvg`."""

from __future__ import annotations

from collections.abc import Iterator

from ..drawing.wording import SHORT, clean, cut, moment, span, task_title
from .model import CHILD, MUTABLE, JobNode, Lineage

_LONGEST = 40  # characters of a label
_STYLE = {CHILD: "dashed", MUTABLE: "dotted"}


def dot(lineage: Lineage) -> str:
    """The text of a graph: jobs are boxes, inputs ellipses, links lead from what was there before."""
    return "\n".join(["digraph lineage {", *_lines(lineage), "}"]) + "\n"


def _lines(lineage: Lineage) -> Iterator[str]:
    yield "  rankdir=LR;"
    yield '  node [fontname="Helvetica"]; edge [fontname="Helvetica", fontsize=10];'
    for name, node in lineage.jobs.items():
        bold = ", penwidth=2" if name in lineage.asked else ""
        yield f"  {_quoted(name)} [shape=box, style=rounded, label={_label(node)}{bold}];"
    for name, given in lineage.inputs.items():
        label = _quoted(cut(given.summary or name, _LONGEST))
        yield f"  {_quoted(name)} [shape=ellipse, label={label}, tooltip={_quoted(name)}];"
    for link in lineage.links:
        style = f", style={_STYLE[link.role]}" if link.role in _STYLE else ""
        label = _quoted(cut(link.label, _LONGEST))
        yield f"  {_quoted(link.source)} -> {_quoted(link.target)} [label={label}{style}];"


def _label(node: JobNode) -> str:
    record = node.record
    if record is None:
        return _quoted(f"{node.job_id[:SHORT]}\nrecord is gone")
    when = moment(record.started)[:19]
    title = cut(task_title(record.task), _LONGEST)
    return _quoted(f"{title}\n{node.job_id[:SHORT]}\n{when}, {span(record.seconds)}")


def _quoted(text: str) -> str:
    """A string of that language; only line breaks of our own are some."""
    lines = (clean(line).replace("\\", "\\\\").replace('"', '\\"') for line in text.split("\n"))
    return '"' + "\\n".join(lines) + '"'
