"""The commands about all jobs: jobs, jobs forget."""

from __future__ import annotations

import sys

import click

from kachery_store import Store
from kachery_store.amounts import parse_span
from kachery_store.errors import BadAmount
from kachery_store.progress import progress_of
from kachery_store.saying import clean
from kachery_tasks.drawing.wording import span
from kachery_tasks.failures import Failure
from kachery_tasks.forgetting import Forgotten, choose
from kachery_tasks.forgetting import forget as forget_chosen
from kachery_tasks.listing import all_failures, all_records
from kachery_tasks.record import Record
from kachery_tasks.settings import current, store_at

from .help_pages import Group
from .job_wording import as_json as told_as_json
from .job_wording import error_of, size_of, when
from .telling import (
    Column,
    json_lines_option,
    json_option,
    tell_json,
    tell_table,
)


def _span(ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
    try:
        return None if text is None else parse_span(text)
    except BadAmount as error:
        raise click.BadParameter(str(error), ctx, param) from None


@click.group(cls=Group, invoke_without_command=True)
@click.option("--task", help="Only jobs of this task: its name, or the part after the colon.")
@click.option("--failed", is_flag=True, help="Those that failed, and have not succeeded since.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=50,
    show_default=True,
    help="How many, newest first; 0 for all.",
)
@json_lines_option
@click.pass_context
def jobs(context: click.Context, task: str | None, failed: bool, limit: int, as_json: bool) -> None:
    """List the stored jobs, newest first; or forget some, with the command `forget`.

    Example: kachery jobs --task denoise --limit 10
    Example: kachery jobs --failed
    """
    if context.invoked_subcommand is not None:
        if task is not None or failed or as_json:
            raise click.UsageError(f"options of {context.invoked_subcommand} stand after its name")
        return
    store = current().store
    found: list[Record | Failure] = [*(all_failures if failed else all_records)(store, task)]
    found.sort(key=lambda one: one.started, reverse=True)
    shown = found[: limit or None]
    if as_json:
        tell_json(*map(told_as_json, shown))
        return
    _print_table(shown, failed=failed)
    if not found:
        click.echo(_nothing(store, task, failed=failed), err=True)
    if len(shown) < len(found):
        click.echo(f"{len(shown)} of {len(found)} jobs; --limit 0 shows all", err=True)


def _nothing(store: Store, task: str | None, *, failed: bool) -> str:
    """What to say instead of jobs."""
    of_task = "" if task is None else f" of a task {clean(task)}"
    if failed:
        return f"no job{of_task} has failed, as far as {store.root} knows"
    count = sum(1 for _ in all_failures(store, task))
    others = f"; {count} failed: `kachery jobs --failed`" if count else ""
    return f"no job{of_task} is stored at {store.root}{others}"


@jobs.command()
@click.argument("job", nargs=-1)
@click.option("--task", help="Of this task: its name, or the part after the colon.")
@click.option("--older-than", callback=_span, metavar="SPAN", help="Run so long ago: 30d, 12h.")
@click.option("--failed", is_flag=True, help="Only failures, and errors kept as results.")
@click.option("--dry-run", is_flag=True, help="Only say how many.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def forget(
    job: tuple[str, ...],
    task: str | None,
    older_than: float | None,
    failed: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Forget jobs of the local store: they are computed again when they are next asked for.

    JOB: ids, beginnings of ids, or job:// URIs. What is given is all to be met. Pinned jobs stay, and so
    does what a zone has. `kachery gc` frees the space of large results.

    Example: kachery jobs forget --task denoise --older-than 30d --dry-run
    """
    if not (job or task is not None or older_than is not None or failed):
        raise click.UsageError("say which: JOB, --task, --older-than, --failed")
    store = store_at(current().root)
    with progress_of("looked at", None, unit="job") as bar:
        chosen = choose(store, job, task=task, older_than=older_than, failed=failed, seen=bar.add)
    count = len(chosen.records) + len(chosen.failures)
    if count and not dry_run and not yes:
        _confirm(chosen)
    if not dry_run:
        with progress_of("forget", count, unit="job") as bar:
            forget_chosen(store, chosen, bar.add)
    if as_json:
        tell_json({"dry_run": dry_run, **chosen._asdict()})
        return
    click.echo(f"{'would forget' if dry_run else 'forgot'} {_told(chosen)}")
    if chosen.pinned:
        click.echo(f"{len(chosen.pinned)} pinned jobs stay; `kachery unpin` first")


def _confirm(chosen: Forgotten) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError(f"{_told(chosen)} would be forgotten: add --yes to do that")
    click.confirm(f"Forget {_told(chosen)}?", abort=True)


def _told(chosen: Forgotten) -> str:
    return f"{len(chosen.records)} results and {len(chosen.failures)} failures"


def _print_table(found: list[Record | Failure], *, failed: bool) -> None:
    columns = [
        Column("JOB", 12),
        Column("TASK", shrinks=True),
        Column("WHEN", 19),
        Column("TOOK", 8, right=True),
        Column("ERROR" if failed else f"{'SIZE':>8}"),
    ]
    tell_table(
        columns,
        [(one.job_id[:12], one.task, when(one), span(one.seconds), _end(one)) for one in found],
    )


def _end(one: Record | Failure) -> str:
    """What stands at the end of a line."""
    if isinstance(one, Failure):
        return error_of(one)
    kept = f"  {one.result.type}" if one.is_error else ""
    return f"{size_of(one.result.size):>8}{kept}"
