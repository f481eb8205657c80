"""A lineage: which jobs and inputs led to something, and what was made from it. Plain data."""

from __future__ import annotations

from typing import NamedTuple

from ..record import Record

# What a link says: the job takes what the source made as an argument; the job asked for the source
# while it ran, and used what it gave; the job read a mutable.
ARGUMENT, CHILD, MUTABLE = "argument", "child", "mutable"

# How a link is known: the record of the target tells; the target took what the source made, or has in
# it, and nobody says that it is from there. The record tells, but what the target took is not what the
# source is now known to have made: an earlier run of it made that; or nothing tells of such a run.
RECORD, CONTENT, EARLIER, REPLACED = "record", "content", "earlier", "replaced"


class JobNode(NamedTuple):
    """A job. `record`: None when it is gone, and others only name it. `signers`: public keys, in hex,
    of those who signed the record; empty for what was made here.
    """

    job_id: str
    record: Record | None
    signers: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        """The name of its task, or "" when its record is gone."""
        return "" if self.record is None else self.record.task


class Input(NamedTuple):
    """Something that no known job made. `name`: its address in hex, or a URI of a file, or
    "mutable:<name>:<address>"; `summary`: what records tell of it.
    """

    name: str
    summary: str


class Link(NamedTuple):
    """`source` (a job id, or the name of an input) was there before the job `target`.

    `role`: ARGUMENT, CHILD or MUTABLE. `label`: the name of the parameter, or "". `by`: how it is known,
    RECORD, CONTENT, EARLIER or REPLACED.
    """

    source: str
    target: str
    role: str
    label: str
    by: str = RECORD

    @property
    def of_another_result(self) -> bool:
        """Whether the target took something else than what the record of the source tells of."""
        return self.by in (EARLIER, REPLACED)


_NOTES = {EARLIER: "in an earlier run", REPLACED: "its result is another now"}


def note_of(link: Link) -> str:
    """What people have to know of a link, in a few words; "" if nothing."""
    return _NOTES.get(link.by, "")


class Lineage(NamedTuple):
    """What led to something (`up`), or what was made from it.

    `about`: what was asked for, in words. `asked`: the job ids and input names that it stands for.
    `jobs` and `inputs` by id and name; `links` each once. Without circles.
    """

    about: str
    up: bool
    asked: tuple[str, ...]
    jobs: dict[str, JobNode]
    inputs: dict[str, Input]
    links: tuple[Link, ...]
