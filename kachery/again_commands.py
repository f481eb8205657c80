"""The commands about running again: runs, reproduce, stale."""

from __future__ import annotations

import datetime
import json
import os
import sys
from typing import Any

import click

from kachery_store.errors import KacheryError
from kachery_store.progress import progress_of
from kachery_tasks.errors import NotReproducible
from kachery_tasks.job_table import Run, runs
from kachery_tasks.listing import find_record
from kachery_tasks.record import Record
from kachery_tasks.reproduce import CANNOT, DIFFERENT, SAME, raised_now
from kachery_tasks.reproducing import Reproducing, sample
from kachery_tasks.settings import current
from kachery_tasks.stale import StaleJob, report, stale

from .running import SETTINGS

_EXIT = {SAME: 0, DIFFERENT: 1, CANNOT: 2}

_task_option = click.option(
    "--task", help="Only of this task: its name, or the part after the colon."
)
_import_option = click.option(
    "--import",
    "imports",
    multiple=True,
    metavar="MODULE",
    help="Import this first: it defines tasks that have names of their own. May be repeated.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on each line.")


@click.command("runs", context_settings=SETTINGS)
@click.option("--feed", default="jobs", show_default=True, help="The name or URI of anybody's.")
@click.option("--zone", help="Read it in this zone.")
@_task_option
@click.option("--every", is_flag=True, help="Every run, not only the last one of each job.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=50, show_default=True, help="0 for all."
)
@_json_option
def runs_command(
    feed: str, zone: str | None, task: str | None, every: bool, limit: int, as_json: bool
) -> None:
    """The table of jobs as a feed tells it, newest first; no records are needed for that.

    Example: kachery runs --feed feed://3b6a27... --zone lab
    """
    found = runs(feed, zone=zone, task=task, every=every)
    shown = found[: limit or None]
    if as_json:
        for run in shown:
            told = {**run._asdict(), "verdicts": [one._asdict() for one in run.verdicts]}
            click.echo(json.dumps(told))
        return
    width = max((len(run.task) for run in shown), default=4)
    click.echo(f"{'JOB':12}  {'TASK':{width}}  {'WHEN':19}  {'BY':20}  RESULT")
    for run in shown:
        click.echo(_row(run, width))
    if len(shown) < len(found):
        click.echo(f"{len(shown)} of {len(found)} jobs; --limit 0 shows all", err=True)


def _row(run: Run, width: int) -> str:
    moment = datetime.datetime.fromtimestamp(run.started).astimezone()
    by = f"{run.user}@{run.host}"
    verdict = f"  {run.verdicts[-1].verdict} when run again" if run.verdicts else ""
    status = "" if run.status == "finished" else f"  {run.status}"
    return (
        f"{run.job_id[:12]}  {run.task:{width}}  {moment:%Y-%m-%d %H:%M:%S}  {by:20}"
        f"  {run.result[:12]}{status}{verdict}"
    )


@click.command("reproduce", context_settings=SETTINGS)
@click.argument("job", nargs=-1)
@click.option("--sample", "count", type=click.IntRange(min=1), help="So many jobs, at random.")
@_task_option
@click.option("--seed", type=int, help="Chooses the same jobs again.")
@_import_option
def reproduce_command(
    job: tuple[str, ...],
    count: int | None,
    task: str | None,
    seed: int | None,
    imports: tuple[str, ...],
) -> None:
    """Run stored jobs again, and say whether they give the same.

    JOB: ids, beginnings of ids, or job:// URIs. The module of the task is imported, from the current
    folder or where Python finds it, so its code runs. Exit code 0: some were run again, and all of these
    gave the same; 1: some gave another result; 2: none could be run again, or something else went wrong.

    Example: kachery reproduce --sample 20 --task denoise
    """
    if bool(job) == (count is not None):
        raise click.UsageError("say which: JOB, or --sample N")
    try:
        verdicts = _verdicts(job, count, task, seed, imports)
    except KacheryError as error:
        click.echo(f"kachery: {error}", err=True)
        sys.exit(2)
    told = {kind: verdicts.count(kind) for kind in _EXIT}
    if len(verdicts) != 1:
        click.echo(", ".join(f"{number} {kind}" for kind, number in told.items()))
    sys.exit(_EXIT[DIFFERENT if told[DIFFERENT] else SAME if told[SAME] else CANNOT])


def _verdicts(
    job: tuple[str, ...],
    count: int | None,
    task: str | None,
    seed: int | None,
    imports: tuple[str, ...],
) -> list[str]:
    store = current().store
    if count is None:
        records = [find_record(store, one) for one in job]
    else:
        with progress_of("looked at", None, unit="job") as bar:
            records = sample(store, count, task, seed, bar.add)
    _import_from_here()
    again = Reproducing(store, imports)
    verdicts = []
    with progress_of("run again", len(records), unit="job") as bar:
        for record in records:
            verdicts.append(_verdict(again, record))
            bar.add()
    return verdicts


def _verdict(again: Reproducing, record: Record) -> str:
    """Run one job again and say what came of it."""
    what = f"{record.task} (job {record.job_id[:12]})"
    try:
        found = again.run(record)
    except NotReproducible as error:
        click.echo(f"{CANNOT}: {error}")
        return CANNOT
    except KacheryError as error:
        click.echo(f"{CANNOT}: {what}: {error}")
        return CANNOT
    except Exception as error:  # noqa: BLE001 - of the task
        click.echo(f"{DIFFERENT}: {what}\n  {raised_now(error)}")
        return DIFFERENT
    click.echo(f"{SAME}: {what}" if found.same else _different(what, found.differences))
    return SAME if found.same else DIFFERENT


def _different(what: str, differences: list[str]) -> str:
    return "\n".join([f"{DIFFERENT}: {what}", *(f"  {place}" for place in differences)])


@click.command("stale", context_settings=SETTINGS)
@_task_option
@_import_option
@_json_option
def stale_command(task: str | None, imports: tuple[str, ...], as_json: bool) -> None:
    """What would be computed again if the stored calls were made now, and why.

    The modules of the tasks are imported, from the current folder or where Python finds them, so their
    code runs; no task does.

    Example: kachery stale --task denoise
    """
    _import_from_here()
    with progress_of("looked at", None, unit="job") as bar:
        found = stale(task, imports=imports, seen=bar.add)
    if as_json:
        for one in found:
            click.echo(json.dumps(_as_json(one)))
        return
    for line in report(found):
        click.echo(line)
    certain = sum(not one.is_unknown for one in found)
    click.echo(
        "nothing is stale" if not found else f"{certain} stale, {len(found) - certain} unknown"
    )


def _as_json(one: StaleJob) -> dict[str, Any]:
    return {**one._asdict(), "reasons": [reason._asdict() for reason in one.reasons]}


def _import_from_here() -> None:
    """Let modules of the current folder be found, as `python -m` does."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
