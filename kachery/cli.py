"""The command line `kachery`. Those of kachery 2 are in file_commands."""

from __future__ import annotations

import datetime
import json
from typing import Any

import click

from kachery_tasks._version import __version__
from kachery_tasks.explain import explain_record
from kachery_tasks.listing import all_records, find_record, other_results
from kachery_tasks.record import Record
from kachery_tasks.settings import current

from .running import SETTINGS, run_command
from .store_commands import add_store_commands
from .zone_commands import pull_command, push_command, zone_commands


@click.group(context_settings=SETTINGS)
@click.version_option(__version__, prog_name="kachery")
def cli() -> None:
    """Look at what kachery has stored.

    The store is the folder named by KACHERY_DIR, or ~/.kachery.
    """


add_store_commands(cli)
for _command in (zone_commands, push_command, pull_command):
    cli.add_command(_command)


@cli.command(context_settings=SETTINGS)
@click.option("--task", help="Only jobs of this task: its name, or the part after the colon.")
@click.option(
    "--limit",
    type=click.IntRange(min=0),
    default=50,
    show_default=True,
    help="How many, newest first; 0 for all.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on each line.")
def jobs(task: str | None, limit: int, as_json: bool) -> None:
    """List the stored jobs, newest first.

    Example: kachery jobs --task denoise --limit 10
    """
    records = sorted(all_records(current().store, task), key=lambda r: r.started, reverse=True)
    shown = records[: limit or None]
    if as_json:
        for record in shown:
            click.echo(json.dumps(_as_json(record)))
        return
    _print_table(shown)
    if len(shown) < len(records):
        click.echo(f"{len(shown)} of {len(records)} jobs; --limit 0 shows all", err=True)


@cli.command(context_settings=SETTINGS)
@click.argument("job")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def show(job: str, as_json: bool) -> None:
    """Show one job: a job id, the beginning of one, or a job:// URI.

    Example: kachery show 3f9a2c
    """
    store = current().store
    record = find_record(store, job)
    others = other_results(store, record)
    if as_json:
        addresses = [other.result.address.hex() for other in others]
        click.echo(json.dumps({**_as_json(record), "other_results": addresses}))
        return
    for name, text in [*_lines(record), *_lines_of_others(others)]:
        click.echo(f"{name:12} {text}")


@cli.command(context_settings=SETTINGS)
@click.argument("job")
@click.argument("other", required=False)
def explain(job: str, other: str | None) -> None:
    """Tell what differs between two stored jobs, and what the code's fingerprint covers.

    Without OTHER, JOB is compared with the nearest job of its task. In Python, f.explain(...) tells
    why a call is a hit or a miss.

    Example: kachery explain 3f9a2c 77ab12
    """
    store = current().store
    record = find_record(store, job)
    compared = None if other is None else find_record(store, other)
    click.echo(str(explain_record(store, record, compared)))


def run() -> None:
    """The command `kachery`."""
    run_command(cli)


def _print_table(records: list[Record]) -> None:
    width = max((len(record.task) for record in records), default=4)
    click.echo(f"{'JOB':12}  {'TASK':{width}}  {'WHEN':19}  {'TOOK':>8}  {'SIZE':>8}")
    for record in records:
        click.echo(
            f"{record.job_id[:12]}  {record.task:{width}}  {_when(record)}"
            f"  {_duration(record.seconds):>8}  {_size(record.result.size):>8}"
        )


def _lines(record: Record) -> list[tuple[str, str]]:
    arguments = [
        (
            "argument" if position == 0 else "",
            f"{name} = {text}  ({address.hex()[:12]})" if address else f"{name} is secret",
        )
        for position, (name, address, text) in enumerate(record.arguments)
    ]
    return [
        ("job", record.uri),
        ("task", f"{record.task} ({record.kind})"),
        ("status", record.status),
        *arguments,
        ("result", f"{record.result.type}, {_size(record.result.size)}"),
        ("address", record.result.address.hex()),
        ("code", f"version {record.version}" if record.version else record.fingerprint),
        ("started", _when(record)),
        ("took", _duration(record.seconds)),
        ("where", f"{record.user} on {record.host}, process {record.pid}"),
        ("with", f"Python {record.python}, kachery {record.kachery}"),
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


def _as_json(record: Record) -> dict[str, Any]:
    result = record.result
    return {
        **{name: value for name, value in record._asdict().items() if name != "result"},
        "arguments": [
            {"name": name, "address": address.hex() or None, "description": text}
            for name, address, text in record.arguments
        ],
        "result": {
            "address": result.address.hex(),
            "size": result.size,
            "type": result.type,
            "inline": result.inline is not None,
            "opaque": len(result.pickles),
        },
    }


def _when(record: Record) -> str:
    moment = datetime.datetime.fromtimestamp(record.started).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _duration(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _size(size: int) -> str:
    number = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"
