"""The command `kachery explain`: what differs between two jobs."""

from __future__ import annotations

from typing import Any

import click

from kachery_tasks.explain import Explanation, explain_record
from kachery_tasks.listing import find_record
from kachery_tasks.settings import current

from .help_pages import Command
from .telling import json_option, tell_json


@click.command(cls=Command)
@click.argument("job")
@click.argument("other", required=False)
@json_option
def explain(job: str, other: str | None, as_json: bool) -> None:
    """Tell what differs between two stored jobs, and what the code's fingerprint covers.

    Without OTHER, JOB is compared with the nearest job of its task. In Python, f.explain(...) tells
    why a call is a hit or a miss.

    Example: kachery explain 3f9a2c 77ab12
    """
    store = current().store
    record = find_record(store, job)
    compared = None if other is None else find_record(store, other)
    found = explain_record(store, record, compared)
    if as_json:
        tell_json(_as_json(found))
    else:
        click.echo(str(found))


def _as_json(found: Explanation) -> dict[str, Any]:
    nearest, coverage = found.nearest, found.coverage
    return {
        "job_id": found.job_id,
        "task": found.task,
        "hit": found.hit,
        "other": None if nearest is None else nearest.job_id,
        "differences": [one._asdict() for one in found.differences],
        "coverage": None if coverage is None else coverage._asdict(),
    }
