"""The command `kachery lineage`: how something was made, and what was made from it."""

from __future__ import annotations

import json
import sys

import click

from kachery_tasks.lineage.tracing import CRATE, FORMATS, JSON, TEXT, Lineage, lineage

from .help_pages import Command
from .telling import tell_json, terminal_width

_PLAIN = str.maketrans("├└│─↑↓\N{MULTIPLICATION SIGN}µ…", "|`|-^vxu.")


@click.command("lineage", cls=Command)
@click.argument("x")
@click.option("--up", "down", flag_value="", default=True, help="How it was made (the default).")
@click.option("--down", "down", flag_value="down", help="What was made from it.")
@click.option(
    "--format", type=click.Choice(FORMATS), help="By default by the end of FILE, or text."
)
@click.option("-o", "--output", metavar="FILE", help="To be written; for ro-crate a folder.")
@click.option("--all", "every", is_flag=True, help="Each job on a line of its own, however many.")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object; with -o what was done.")
def lineage_command(
    x: str, down: str, format: str | None, output: str | None, every: bool, as_json: bool
) -> None:
    """Tell how something was made, back to the raw inputs; or with --down what was made from it.

    X: a job id or the beginning of one, a job:// or sha1:// URI, the address of a value or an array, or
    the path of a file.

    Example: kachery lineage 3f9a2c
    Example: kachery lineage figure3.png --format html -o figure3.html
    """
    if format == CRATE and output is None:
        raise click.UsageError("an RO-Crate is a folder: name it with -o")
    if as_json and output is None and format not in (None, JSON):
        raise click.UsageError(f"--json is --format {JSON}, not {format}: choose one of them")
    found = lineage(x, down=down == "down")
    if output is not None:
        _save(found, output, format)
        if as_json:
            tell_json({"about": found.about, "path": output})
        else:
            click.echo(f"wrote {output}", err=True)
    elif as_json:
        tell_json(json.loads(found.to_json()))
    elif format in (None, TEXT):
        columns = terminal_width() or 120
        click.echo(_printable(found.to_text(width=columns, every=every)))
    else:
        click.echo(found.told(str(format)), nl=False)


def _save(found: Lineage, output: str, format: str | None) -> None:
    try:
        found.save(output, format)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _printable(text: str) -> str:
    """Text that standard output can take."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return text.translate(_PLAIN).encode("ascii", "replace").decode()
    return text
