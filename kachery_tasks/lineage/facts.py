"""What a page tells of one job or input, as HTML. All of it comes from records, which anybody may have
written: nothing goes into the page but through `text`.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from kachery_store.amounts import size_text

from ..drawing.wording import SHORT, clean, moment, span, task_title
from ..record import FINISHED, Record
from .boxes import input_title, looks_plain
from .model import ARGUMENT, CHILD, MUTABLE, Input, JobNode, Lineage, Link

_MOST_MENTIONED = 50  # jobs in one fact

Row = tuple[str, str]  # what is told, and what it is, in HTML


class Around(NamedTuple):
    """What is around each job and input. `places`: where the page tells of them; links by their ends."""

    lineage: Lineage
    places: Mapping[str, str]
    above: Mapping[str, list[Link]]
    below: Mapping[str, list[Link]]


def around(lineage: Lineage, places: Mapping[str, str]) -> Around:
    """The lineage, with its links by source and by target."""
    above: dict[str, list[Link]] = {}
    below: dict[str, list[Link]] = {}
    for link in lineage.links:
        above.setdefault(link.target, []).append(link)
        below.setdefault(link.source, []).append(link)
    return Around(lineage, places, above, below)


def text(value: object) -> str:
    """Text as it stands in HTML, between tags and in attributes."""
    return html.escape(clean(str(value)))


def facts_of_job(one: Around, node: JobNode) -> str:
    """All that is known of a job."""
    record = node.record
    rows: list[Row] = [("Job", code(node.job_id))]
    if record is None:
        rows.append(("Record", "gone: only other records name this job"))
        rows += _linked(one, node.job_id)
    else:
        rows += _told(one, node, record)
    return _list(rows)


def facts_of_input(one: Around, given: Input) -> str:
    """All that is known of an input."""
    rows: list[Row] = [("Name", code(given.name))]
    if given.summary:
        rows.append(("Value", _value(given.summary)))
    return _list([*rows, *_used_by(one, given.name)])


def code(value: str) -> str:
    """Something to copy."""
    return f"<code class=copy>{text(value)}</code>"


def _list(rows: Iterable[Row]) -> str:
    return "<dl>" + "".join(f"<dt>{name}<dd>{told}" for name, told in rows) + "</dl>"


def _value(summary: str) -> str:
    return f"<samp>{text(summary)}</samp>"


def _told(one: Around, node: JobNode, record: Record) -> Iterator[Row]:
    yield "Task", f"{text(record.task)} ({text(record.kind)})"
    bad = "" if record.status == FINISHED else " class=bad"
    yield "Status", f"<b{bad}>{text(record.status)}</b>"
    yield from _arguments(one, record)
    yield "Result", f"{text(record.result.type)}, {size_text(record.result.size)}"
    yield "", code(record.result.address.hex())
    yield from _linked(one, node.job_id, record)
    yield from _run(record)
    yield "Code", f"version {text(record.version)}" if record.version else code(record.fingerprint)
    if record.environment:
        yield "Environment", code(record.environment.hex())
    for signer in node.signers:
        yield "Signed by", code(signer)


def _run(record: Record) -> Iterator[Row]:
    yield "Started", text(moment(record.started))
    attempts = f", at attempt {record.attempt}" if record.attempt > 1 else ""
    yield "Took", f"{span(record.seconds)}{attempts}"
    if record.cpu_seconds:
        yield "CPU", span(record.cpu_seconds)
    if record.peak_memory:
        yield "Memory", f"{size_text(record.peak_memory)} at most, of the process"
    yield "Who", text(f"{record.user} on {record.host}, process {record.pid}")
    if record.worker:
        yield "Worker", text(record.worker)
    yield "With", text(f"Python {record.python}, kachery {record.kachery}")


def _arguments(one: Around, record: Record) -> Iterator[Row]:
    links: dict[str, list[str]] = {}
    for link in one.above.get(record.job_id, ()):
        if link.role == ARGUMENT:
            links.setdefault(link.label, []).append(link.source)
    for name, address, summary in record.arguments:
        told = _value(summary) if address else "secret"
        sources = [source for source in links.pop(name, ()) if source in one.places]
        origin = f" from {_mentioned(one, sources)}" if sources else ""
        where = code(address.hex()) if address and not origin and not looks_plain(summary) else ""
        yield f"<var>{text(name)}</var>", f"{told}{origin}{where}"
    rest = [source for sources in links.values() for source in sources if source in one.places]
    if rest:
        yield "Also took", _mentioned(one, rest)


def _linked(one: Around, job_id: str, record: Record | None = None) -> Iterator[Row]:
    """What the job asked for and read while it ran, and who asked for it."""
    told = {
        "Asked for": _sources(one, job_id, CHILD) if record is None else record.children,
        "Read": _sources(one, job_id, MUTABLE),
        "Read the query": [] if record is None else _queries(record),
        "Asked by": [record.parent] if record is not None and record.parent else [],
    }
    yield from ((title, _mentioned(one, names)) for title, names in told.items() if names)
    yield from _used_by(one, job_id)


def _sources(one: Around, job_id: str, role: str) -> list[str]:
    return [link.source for link in one.above.get(job_id, ()) if link.role == role]


def _queries(record: Record) -> list[str]:
    return [name for kind, name, _ in record.reads if kind == "query"]


def _used_by(one: Around, name: str) -> Iterator[Row]:
    targets = list(dict.fromkeys(link.target for link in one.below.get(name, ())))
    if targets:
        yield "Used by", _mentioned(one, targets)


def _mentioned(one: Around, names: Iterable[str]) -> str:
    all_names = list(dict.fromkeys(names))
    more = len(all_names) - _MOST_MENTIONED
    told = [_mention(one, name) for name in all_names[:_MOST_MENTIONED]]
    return ", ".join(told) + (f" and {more} more" if more > 0 else "")


def _mention(one: Around, name: str) -> str:
    node, given = one.lineage.jobs.get(name), one.lineage.inputs.get(name)
    if given is not None:
        shown = input_title(given)
    else:
        task = "" if node is None else task_title(node.task)
        shown = f"{task or 'job'} {name[:SHORT]}"
    place = one.places.get(name)
    return text(shown) if place is None else f'<a href="#{place}">{text(shown)}</a>'
