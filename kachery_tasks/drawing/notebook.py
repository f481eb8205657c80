"""How a job shows itself in a notebook: what it is and how it stands, over a small picture.

Looking at a job starts nothing, and looks only a few jobs up, of which it only asks for the record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kachery_store.amounts import size_text

from ..record import Record
from ..trust import signers
from ..trusted_keys import trusted_keys
from .card import card, html_text, short, strong
from .figure import ERROR, FINISHED, JOB, PENDING, Box, Figure
from .folding import folded
from .lines import Called, call_words, error_text, job_text
from .small import drawn, nearest
from .wording import moment, span, task_title

_MOST_BOXES = 12
_MOST_JOBS = 20_000  # walked through
_MANY = 60  # jobs, beyond which they are counted before anything is drawn
_FEW = 16  # jobs that are looked up
_LEVELS = 2
_DIGITS = 16  # of an id
_WIDTH = 160  # of the arguments
_NOT_YET = "known when its inputs are"


class Shown(Called, Protocol):
    """What is looked at of a job; see Job."""

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
        return f"<code>{html_text(job_text(job))}</code>"


def _shown(job: Shown) -> str:
    look = _are_few(job)
    state = _state(job, look=look)
    record = job.record if state in (FINISHED, ERROR) else None
    known = (job.id if look else None) or (None if record is None else record.job_id)
    facts = [
        ("status", _status(job, state, record)),
        ("id", short(known, _DIGITS) if known else _NOT_YET),
        *_told(record),
    ]
    below = _error(job, record)
    if job.inputs:
        below += f'<div style="margin-top:6px">{_picture(job, look=look)}</div>'
    return card(task_title(job.task), job.task, f"({call_words(job, _WIDTH)})", facts, below)


def _status(job: Shown, state: str, record: Record | None) -> str:
    if record is not None:
        is_error = record.is_error  # which was kept: the job itself has finished
        return f"{strong(ERROR if is_error else state, alarming=is_error)}, stored"
    told = strong(state or "not started", alarming=state in (ERROR, "unknown"))
    if job.future is None:
        return told if state != PENDING else f"{told}, not started"
    return f"{told}, not stored" if state == FINISHED else told


def _told(record: Record | None) -> list[tuple[str, str]]:
    """What the record tells: of what came from a zone, also by whose key it counts."""
    if record is None:
        return []
    result = f"{html_text(record.result.type)}, {size_text(record.result.size)}"
    return [
        *([] if record.is_error else [("result", result)]),
        ("started", html_text(moment(record.started)[:19])),
        ("took", span(record.seconds)),
        ("by", html_text(f"{record.user} on {record.host}")),
        *(("signed by", told) for told in _signers(record)),
    ]


def _signers(record: Record) -> list[str]:
    keys = signers(record)
    names = {one.key: one.name for one in trusted_keys()} if keys else {}
    return [html_text(name) if (name := names.get(key)) else short(key, _DIGITS) for key in keys]


def _error(job: Shown, record: Record | None) -> str:
    told = error_text(job)
    if not told and record is not None and record.is_error:
        told = record.result.type  # what it said would have to be loaded
    return f"<div>{html_text(told)}</div>" if told else ""


def _picture(job: Shown, *, look: bool) -> str:
    figure = folded(_figure(_near(job, _LEVELS, _MOST_JOBS), look=look), _MOST_BOXES, _MOST_BOXES)
    return drawn(nearest(figure, _MOST_BOXES, up=True))


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
