"""A figure: boxes and the links between them, before they have places. Plain data."""

from __future__ import annotations

from typing import NamedTuple

# What a box stands for: jobs, something that no job made, a mutable, or what there was no room for.
JOB, INPUT, MUTABLE, MORE = "job", "input", "mutable", "more"

# States of jobs. GONE: the record is not there any more, others only name the job.
FINISHED, ERROR, RUNNING, PENDING, GONE = "finished", "error", "running", "pending", "gone"


class Box(NamedTuple):
    """One box. `title` and `note` are what it says; boxes of one `kind` are equal enough to be one.

    `state` is that of all `members`, or "". `asked`: it is what the figure is about. `seconds`: how
    long its jobs took. `members`: what it stands for, one or more names.
    """

    name: str
    look: str
    kind: str
    title: str
    note: str
    state: str
    asked: bool
    seconds: float
    members: tuple[str, ...]


class Figure(NamedTuple):
    """Boxes, and (source, target) for each link, once. Without circles."""

    boxes: tuple[Box, ...]
    links: tuple[tuple[str, str], ...]
