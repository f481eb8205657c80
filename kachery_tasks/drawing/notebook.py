"""How a job shows itself in a notebook: what it is and how it stands, over a small picture.

Looking at a job starts nothing, and looks only a few jobs up, of which it only asks for the record.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from kachery_store.amounts import size_text

from ..record import Record
from .figure import ERROR, FINISHED, JOB, Box, Figure
from .folding import folded
from .small import drawn, nearest
from .wording import clean, cut, moment, span, task_title

_MOST_BOXES = 12
_MOST_JOBS = 20_000  # walked through
_MANY = 60  # jobs, beyond which they are counted before anything is drawn
_FEW = 16  # jobs that are looked up
_LEVELS = 2
_ID = 16  # digits that are shown
_LONGEST_MESSAGE = 120
_NOT_YET = "known when its inputs are"


class Shown(Protocol):
    """What is looked at of a job; see Job."""

    key: str
    future: Future[Any] | None

    @property
    def task(self) -> str:
        """The name of the task."""

    @property
    def inputs(self) -> Sequence[Shown]:
        """The jobs among the arguments."""

    @property
    def id(self) -> str | None:
        """The job id, if it can be known."""

    @property
    def status(self) -> str:
        """One of the status words."""

    @property
    def record(self) -> Record | None:
        """The record, if it is stored."""


def job_html(job: Shown) -> str:
    """A job as HTML. Whatever goes wrong while it is looked at, this is not the place to say so."""
    try:
        return _shown(job)
    except Exception:  # noqa: BLE001 - of the store or of a zone; whoever asks for the result meets it
        return f"<code>{_text(f'<Job {job.task} {job.key[:_ID]}>')}</code>"


def _shown(job: Shown) -> str:
    near = _near(job, _LEVELS, _MOST_JOBS)
    look = _are_few(job)
    state = _state(job, look=look)
    record = job.record if state in (FINISHED, ERROR) else None
    known = (job.id if look else None) or (None if record is None else record.job_id)
    name = f'<code title="{_text(known)}">{_text(known[:_ID])}</code>' if known else _NOT_YET
    cells = [
        ("status", f"<b{_red(state)}>{_text(state or 'not started')}</b>"),
        ("id", name),
        *_told(record),
        *_error(job, state),
    ]
    facts = " &nbsp;·&nbsp; ".join(
        f'<span style="opacity:.7">{title}</span> {told}' for title, told in cells
    )
    figure = nearest(
        folded(_figure(near, look=look), _MOST_BOXES, _MOST_BOXES), _MOST_BOXES, up=True
    )
    title = f'<b title="{_text(job.task)}">{_text(task_title(job.task))}</b>'
    return (
        f'<div style="line-height:1.6">{title}<br/>{facts}'
        f'<div style="margin-top:6px">{drawn(figure)}</div></div>'
    )


def _red(state: str) -> str:
    return ' style="color:#d1493f"' if state in (ERROR, "unknown") else ""


def _told(record: Record | None) -> list[tuple[str, str]]:
    if record is None:
        return []
    size = f"{_text(record.result.type)}, {size_text(record.result.size)}"
    return [
        ("started", _text(moment(record.started)[:19])),
        ("took", span(record.seconds)),
        ("result", size),
    ]


def _error(job: Shown, state: str) -> list[tuple[str, str]]:
    future = job.future
    if state != ERROR or future is None or not future.done() or future.cancelled():
        return []
    error = future.exception()
    message = " ".join(str(error).split())
    return [("error", _text(cut(f"{type(error).__name__}: {message}", _LONGEST_MESSAGE)))]


def _text(text: str) -> str:
    return html.escape(clean(text))


def _are_few(job: Shown) -> bool:
    """Whether few jobs lead to this one: of many none is looked up, since each may be a journey."""
    return sum(map(len, _near(job, _FEW, _FEW + 1))) <= _FEW


def _near(job: Shown, levels: int, at_most: int) -> list[list[Shown]]:
    """The job, its inputs, theirs and so on; each once, and not too many."""
    met = {id(job)}
    near: list[list[Shown]] = [[job]]
    for _ in range(levels):
        level: list[Shown] = []
        for one in near[-1]:
            for other in one.inputs:
                if id(other) not in met and len(met) < at_most:
                    met.add(id(other))
                    level.append(other)
        near.append(level)
    return near


def _state(job: Shown, *, look: bool) -> str:
    """The status, or "" when it would have to be looked up, and `look` does not allow that."""
    return job.status if look or (job.future is not None and not job.future.cancelled()) else ""


def _figure(near: list[list[Shown]], *, look: bool) -> Figure:
    many = sum(map(len, near)) > _MANY
    members: dict[tuple[object, ...], list[Shown]] = {}
    group_of: dict[int, tuple[object, ...]] = {}
    for level, jobs in enumerate(near):
        for job in jobs:
            group = (level, job.task, _state(job, look=look), None if many else id(job))
            members.setdefault(group, []).append(job)
            group_of[id(job)] = group
    names = {group: str(number) for number, group in enumerate(members)}
    links = dict.fromkeys(
        (names[group_of[id(source)]], names[group_of[id(job)]])
        for jobs in near
        for job in jobs
        for source in job.inputs
        if id(source) in group_of
    )
    if many:  # groups in one level may need each other
        level_of = {names[group]: group[0] for group in members}
        links = {link: None for link in links if level_of[link[0]] != level_of[link[1]]}
    boxes = [
        _box(names[group], jobs, str(group[2]), asked=group[0] == 0)
        for group, jobs in members.items()
    ]
    return Figure(tuple(boxes), tuple(links))


def _box(name: str, jobs: list[Shown], state: str, *, asked: bool) -> Box:
    task = jobs[0].task
    title = task_title(task)
    if len(jobs) > 1:
        title = f"{len(jobs):,} \N{MULTIPLICATION SIGN} {title}"
    return Box(name, JOB, task, title, state, state, asked, 0.0, (name,))
