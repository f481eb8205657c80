"""The commands about running again: runs, reproduce, stale."""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any, NamedTuple

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

from .help_pages import Command
from .running import say_error
from .telling import Column, bad, good, json_lines_option, odd, tell_json, tell_table

_EXIT = {SAME: 0, DIFFERENT: 1, CANNOT: 2}
_STYLE = {SAME: good, DIFFERENT: bad, CANNOT: odd}

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


@click.command("runs", cls=Command)
@click.option("--feed", default="jobs", show_default=True, help="The name or URI of anybody's.")
@click.option("--zone", help="Read it in this zone.")
@_task_option
@click.option("--every", is_flag=True, help="Every run, not only the last one of each job.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=50, show_default=True, help="0 for all."
)
@json_lines_option
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
            tell_json({**run._asdict(), "verdicts": [one._asdict() for one in run.verdicts]})
        return
    tell_table(_COLUMNS, [_row(run) for run in shown])
    if len(shown) < len(found):
        click.echo(f"{len(shown)} of {len(found)} jobs; --limit 0 shows all", err=True)


_COLUMNS = (
    Column("JOB", 12),
    Column("TASK", shrinks=True),
    Column("WHEN", 19),
    Column("BY", 20),
    Column("RESULT"),
)


def _row(run: Run) -> tuple[str, ...]:
    moment = datetime.datetime.fromtimestamp(run.started).astimezone()
    verdict = f"  {run.verdicts[-1].verdict} when run again" if run.verdicts else ""
    status = "" if run.status == "finished" else f"  {run.status}"
    return (
        run.job_id[:12],
        run.task,
        f"{moment:%Y-%m-%d %H:%M:%S}",
        f"{run.user}@{run.host}",
        f"{run.result[:12]}{status}{verdict}",
    )


class _Verdict(NamedTuple):
    """What came of running one job again: the kind, and why or where."""

    record: Record
    kind: str
    why: list[str]
    environment: list[str]


@click.command("reproduce", cls=Command)
@click.argument("job", nargs=-1)
@click.option("--sample", "count", type=click.IntRange(min=1), help="So many jobs, at random.")
@_task_option
@click.option("--seed", type=int, help="Chooses the same jobs again.")
@_import_option
@json_lines_option
def reproduce_command(
    job: tuple[str, ...],
    count: int | None,
    task: str | None,
    seed: int | None,
    imports: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run stored jobs again, and say whether they give the same.

    JOB: ids, beginnings of ids, or job:// URIs. The module of the task is imported, from the current
    folder or where Python finds it, so its code runs. Exit code 0: some were run again, and all of these
    gave the same; 1: some gave another result; 2: none could be run again, or something else went wrong.

    Example: kachery reproduce 3f9a2c
    Example: kachery reproduce --sample 20 --task denoise
    """
    if bool(job) == (count is not None):
        raise click.UsageError("say which: JOB, or --sample N")
    try:
        records = _chosen(job, count, task, seed)
        tell = _tell_as_json if as_json else _tell
        verdicts = _verdicts(records, imports, tell)
    except KacheryError as error:
        say_error(error)
        sys.exit(_EXIT[CANNOT])
    told = {kind: verdicts.count(kind) for kind in _EXIT}
    if len(verdicts) != 1 and not as_json:
        click.echo(", ".join(f"{number} {kind}" for kind, number in told.items()))
    sys.exit(_EXIT[DIFFERENT if told[DIFFERENT] else SAME if told[SAME] else CANNOT])


def _chosen(
    job: tuple[str, ...], count: int | None, task: str | None, seed: int | None
) -> list[Record]:
    store = current().store
    if count is None:
        return [find_record(store, one) for one in job]
    with progress_of("looked at", None, unit="job") as bar:
        return sample(store, count, task, seed, bar.add)


def _verdicts(
    records: list[Record], imports: tuple[str, ...], tell: Callable[[_Verdict], None]
) -> list[str]:
    _import_from_here()
    again = Reproducing(current().store, imports)
    verdicts = []
    with progress_of("run again", len(records), unit="job") as bar:
        for record in records:
            verdict = _verdict(again, record)
            tell(verdict)
            verdicts.append(verdict.kind)
            bar.add()
    return verdicts


def _verdict(again: Reproducing, record: Record) -> _Verdict:
    """Run one job again and say what came of it; what its task prints is no part of that."""
    try:
        with redirect_stdout(sys.stderr):
            found = again.run(record)
    except KacheryError as error:
        return _Verdict(record, CANNOT, [_why_not(record, error)], [])
    except Exception as error:  # noqa: BLE001 - of the task
        return _Verdict(record, DIFFERENT, [raised_now(error)], [])
    return _Verdict(record, SAME if found.same else DIFFERENT, found.differences, found.environment)


def _why_not(record: Record, error: KacheryError) -> str:
    return str(error) if isinstance(error, NotReproducible) else f"{_named(record)}: {error}"


def _named(record: Record) -> str:
    return f"{record.task} (job {record.job_id[:12]})"


def _tell(verdict: _Verdict) -> None:
    kind = _STYLE[verdict.kind](verdict.kind)
    if verdict.kind == CANNOT:
        click.echo(f"{kind}: {verdict.why[0]}")
        return
    click.echo(f"{kind}: {_named(verdict.record)}")
    if verdict.kind == DIFFERENT:
        for line in [*verdict.why, *verdict.environment]:
            click.echo(f"  {line}")


def _tell_as_json(verdict: _Verdict) -> None:
    told = {"job_id": verdict.record.job_id, "task": verdict.record.task, "verdict": verdict.kind}
    tell_json({**told, "why": verdict.why, "environment": verdict.environment})


@click.command("stale", cls=Command)
@_task_option
@_import_option
@json_lines_option
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
        tell_json(*map(_as_json, found))
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
