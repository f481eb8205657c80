"""The commands about jobs: jobs, jobs forget, show."""

from __future__ import annotations

import datetime
import shlex
import sys
from typing import Any

import click

from kachery_store import NotFound, Store
from kachery_store.amounts import parse_span
from kachery_store.errors import BadAmount
from kachery_store.progress import progress_of
from kachery_store.saying import clean_lines
from kachery_tasks.cache import load
from kachery_tasks.drawing.wording import span
from kachery_tasks.environment import environment_at
from kachery_tasks.failures import Failure
from kachery_tasks.forgetting import Forgotten, choose
from kachery_tasks.forgetting import forget as forget_chosen
from kachery_tasks.listing import all_failures, all_records, find_job, other_results
from kachery_tasks.record import QUERY_READ, Record
from kachery_tasks.settings import current, store_at
from kachery_tasks.trust import signers
from kachery_tasks.trusted_keys import trusted_keys

from .action_commands import show_action
from .help_pages import Command, Group
from .telling import (
    Column,
    json_lines_option,
    json_option,
    tell_facts,
    tell_json,
    tell_table,
)

_MOST_LINES = 20  # of the jobs that one has asked for, and the like
_LONGEST_MESSAGE = 60  # characters of an error in a list


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
        tell_json(*map(_as_json, shown))
        return
    _print_table(shown, failed=failed)
    if len(shown) < len(found):
        click.echo(f"{len(shown)} of {len(found)} jobs; --limit 0 shows all", err=True)


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


@click.command(cls=Command)
@click.argument("job")
@json_option
def show(job: str, as_json: bool) -> None:
    """Show one job, also one that failed: a job id, the beginning of one, or a job:// URI.

    Example: kachery show 3f9a2c
    """
    store = current().store
    try:
        record, failure = find_job(store, job)
    except NotFound:
        if show_action(store, job, as_json=as_json):
            return
        raise
    others = [] if record is None else other_results(store, record)
    if as_json:
        told = _all_as_json(record, failure, others)
        if record is not None:
            told["environment"] = environment_at(store, record.environment)
            told["signers"] = signers(record)
        tell_json(told)
        return
    lines = [] if record is None else [*_lines(store, record), *_lines_of_others(others)]
    if record is not None and failure is not None:
        lines.append(("failed", f"{_when(failure)}, after this result: {_error_of(failure)}"))
    tell_facts(lines or _lines_of_failure(failure))
    if failure is not None:
        click.echo(f"\n{clean_lines(failure.traceback)}".rstrip())


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
        [(one.job_id[:12], one.task, _when(one), span(one.seconds), _end(one)) for one in found],
    )


def _end(one: Record | Failure) -> str:
    """What stands at the end of a line."""
    if isinstance(one, Failure):
        return _error_of(one)
    kept = f"  {one.result.type}" if one.is_error else ""
    return f"{_size(one.result.size):>8}{kept}"


def _error_of(failure: Failure) -> str:
    message = " ".join(failure.message.split())
    cut = message if len(message) <= _LONGEST_MESSAGE else message[: _LONGEST_MESSAGE - 3] + "..."
    return f"{failure.error}: {cut}" if cut else failure.error


def _lines(store: Store, record: Record) -> list[tuple[str, str]]:
    return [
        ("job", record.uri),
        ("task", f"{record.task} ({record.kind})"),
        ("status", record.status),
        *_arguments(record),
        ("result", _kept(store, record) or f"{record.result.type}, {_size(record.result.size)}"),
        ("address", record.result.address.hex()),
        ("code", f"version {record.version}" if record.version else record.fingerprint),
        ("started", _when(record)),
        ("took", _took(record)),
        *_listed("signed by", _signed_by(record)),
        ("where", f"{record.user} on {record.host}, process {record.pid}"),
        *([("worker", record.worker)] if record.worker else []),
        ("with", f"Python {record.python}, kachery {record.kachery}"),
        *_lines_of_environment(environment_at(store, record.environment) or {}),
        *([("asked by", f"job://{record.parent}")] if record.parent else []),
        *_listed("input", [f"{name} = job://{job_id}" for name, job_id in record.inputs]),
        *_listed("asked for", [f"job://{job_id}" for job_id in record.children]),
        *_listed("read", [_read_text(*one) for one in record.reads]),
    ]


def _signed_by(record: Record) -> list[str]:
    """Of what came from a zone, whose key vouches for it, by the name that the user gave it."""
    keys = signers(record)
    names = {one.key: one.name for one in trusted_keys()} if keys else {}
    return [f"{key} {names.get(key, '')}".rstrip() for key in keys]


def _took(record: Record) -> str:
    parts = [span(record.seconds)]
    if record.attempt:  # an older record tells nothing of this
        parts.append(f"{span(record.cpu_seconds)} of CPU time")
        parts.append(f"peak memory {_size(record.peak_memory)}")
    if record.attempt > 1:
        parts.append(f"attempts: {record.attempt}")
    return ", ".join(parts)


def _lines_of_environment(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What is told of where a job ran; what is not as kachery writes it is left out."""
    lines = []
    if isinstance(platform := facts.get("platform"), str):
        lines.append(("on", platform))
    if isinstance(packages := facts.get("packages"), dict) and packages:
        told = [f"{name} {version or '?'}" for name, version in packages.items()]
        lines.append(("packages", ", ".join(told)))
    if isinstance(git := facts.get("git"), dict) and isinstance(git.get("commit"), str):
        lines.append(("git", git["commit"] + (" (dirty)" if git.get("dirty") else "")))
    if isinstance(command := facts.get("command"), list) and command:
        lines.append(("command", shlex.join(map(str, command))))
    return lines


def _read_text(kind: str, name: str, address: bytes) -> str:
    if kind == QUERY_READ:
        return f"an answer, job://{name}"
    return f"the mutable {name}" + ("" if address else ", which was not set")


def _listed(title: str, texts: list[str]) -> list[tuple[str, str]]:
    """Lines of which the first has the title; of many only the first ones."""
    shown = texts[:_MOST_LINES]
    if len(texts) > len(shown):
        shown.append(f"and {len(texts) - len(shown)} more; --json tells all")
    return [(title if position == 0 else "", text) for position, text in enumerate(shown)]


def _arguments(one: Record | Failure) -> list[tuple[str, str]]:
    return [
        (
            "argument" if position == 0 else "",
            f"{name} = {text}  ({address.hex()[:12]})" if address else f"{name} is secret",
        )
        for position, (name, address, text) in enumerate(one.arguments)
    ]


def _kept(store: Store, record: Record) -> str | None:
    """The exception that was kept as the result, if one was."""
    if not record.is_error:
        return None
    try:
        load(store, record)
    except Exception as error:  # noqa: BLE001 - the one that was kept, or why it cannot be told
        return f"it raises {type(error).__name__}: {error}"
    return f"it raises {record.result.type}"


def _lines_of_failure(failure: Failure | None) -> list[tuple[str, str]]:
    if failure is None:
        return []
    return [
        ("job", failure.uri),
        ("task", f"{failure.task} ({failure.kind})"),
        ("status", "failed; it runs again when it is next asked for"),
        *_arguments(failure),
        ("error", _error_of(failure)),
        ("code", failure.fingerprint),
        ("started", _when(failure)),
        ("took", f"{span(failure.seconds)}, attempts: {failure.attempts}"),
        ("where", f"{failure.user} on {failure.host}, process {failure.pid}"),
        ("with", f"Python {failure.python}"),
    ]


def _lines_of_others(others: list[Record]) -> list[tuple[str, str]]:
    """What is known of runs that gave another result."""
    return [
        (
            "not the same" if position == 0 else "",
            f"{_when(other)}, {other.user} on {other.host}: {other.result.address.hex()}",
        )
        for position, other in enumerate(others)
    ]


def _all_as_json(
    record: Record | None, failure: Failure | None, others: list[Record]
) -> dict[str, Any]:
    failed = {} if failure is None else {"failure": _as_json(failure)}
    if record is None:
        return {} if failure is None else _as_json(failure)
    addresses = [other.result.address.hex() for other in others]
    return {**_as_json(record), "other_results": addresses, **failed}


def _as_json(one: Record | Failure) -> dict[str, Any]:
    told = {
        **one._asdict(),
        "arguments": [
            {"name": name, "address": address.hex() or None, "description": text}
            for name, address, text in one.arguments
        ],
    }
    if isinstance(one, Failure):
        return {**told, "status": "failed"}
    result = one.result
    told["inputs"] = [{"name": name, "job": job_id} for name, job_id in one.inputs]
    told["reads"] = [
        {"kind": kind, "name": name, "address": address.hex() or None}
        for kind, name, address in one.reads
    ]
    told["environment"] = one.environment.hex() or None
    told["values"] = {name: encoding.hex() for name, encoding in one.values}
    told["result"] = {
        "address": result.address.hex(),
        "size": result.size,
        "type": result.type,
        "inline": result.inline is not None,
        "opaque": len(result.pickles),
    }
    return told


def _when(one: Record | Failure) -> str:
    moment = datetime.datetime.fromtimestamp(one.started).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _size(size: int) -> str:
    number = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"
