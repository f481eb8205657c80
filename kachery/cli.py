"""The command line: `kachery`, and the kachery-store, kachery-load and kachery-cat of kachery 2."""

from __future__ import annotations

import datetime
import json
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import click

from kachery_store.errors import KacheryError
from kachery_tasks._version import __version__
from kachery_tasks.explain import explain_record
from kachery_tasks.listing import all_records, find_record, other_results
from kachery_tasks.record import Record
from kachery_tasks.settings import current

_SETTINGS = {"help_option_names": ["-h", "--help"]}


@click.group(context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="kachery")
def cli() -> None:
    """Look at what kachery has stored.

    The store is the folder named by KACHERY_DIR, or ~/.kachery.
    """


@cli.command(context_settings=_SETTINGS)
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


@cli.command(context_settings=_SETTINGS)
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


@cli.command(context_settings=_SETTINGS)
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


@click.command(context_settings=_SETTINGS)
@click.argument("filename", type=click.Path(exists=True, dir_okay=False))
@click.option("--label", help="The name in the URI; by default the file's own.")
@click.option("--cache-locally", is_flag=True, help="Accepted as in kachery 2; always so here.")
def store_command(filename: str, label: str | None, cache_locally: bool) -> None:  # noqa: ARG001
    """Store a copy of FILENAME and print its URI."""
    label = label or os.path.basename(filename)
    click.echo(current().store.files.store_file(filename, label=label))


@click.command(context_settings=_SETTINGS)
@click.argument("uri")
@click.option("--dest", type=click.Path(), help="Copy the file there.")
def load_command(uri: str, dest: str | None) -> None:
    """Print the path of a stored file, verified."""
    click.echo(current().store.files.load_file(uri, dest=dest or None))


@click.command(context_settings=_SETTINGS)
@click.argument("uri")
def cat_command(uri: str) -> None:
    """Write a stored file to standard output, verified."""
    current().store.files.cat_file(uri)


def run() -> None:
    """The command `kachery`."""
    _run(cli)


def run_store() -> None:
    """The command `kachery-store`."""
    _run(store_command)


def run_load() -> None:
    """The command `kachery-load`."""
    _run(load_command)


def run_cat() -> None:
    """The command `kachery-cat`."""
    _run(cat_command)


def _run(command: Callable[[], Any]) -> None:
    """Run a command; errors are one sentence on standard error and exit code 1."""
    warnings.showwarning = lambda message, *_: click.echo(f"kachery: {message}", err=True)
    try:
        command()
    except BrokenPipeError:  # `kachery jobs | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (KacheryError, OSError) as error:
        click.echo(f"kachery: {error}", err=True)
        sys.exit(1)


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
