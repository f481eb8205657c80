"""A lineage: which jobs and inputs led to something, and what was made from it. Plain data."""

from __future__ import annotations

from typing import NamedTuple

from ..record import Record

# What a link says: the job takes what the source made as an argument; the job asked for the source
# while it ran, and used what it gave; the job read a mutable.
ARGUMENT, CHILD, MUTABLE = "argument", "child", "mutable"


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

    `role`: ARGUMENT, CHILD or MUTABLE. `label`: the name of the parameter, or "".
    """

    source: str
    target: str
    role: str
    label: str


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
