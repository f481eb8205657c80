"""How commands tell something: in tables and lines for people, in JSON for programs."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import click

from kachery_store.saying import clean

_GAP = 2  # between columns
_LEAST = 12  # characters that stay of a column, if there is any room
_CUT = "..."

json_option = click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
json_lines_option = click.option(
    "--json", "as_json", is_flag=True, help="One JSON object on each line."
)


def tell_json(*told: Any) -> None:
    """Print each as JSON on a line of its own; what JSON has no word for as text."""
    for one in told:
        click.echo(json.dumps(one, default=str, skipkeys=True))


class Column(NamedTuple):
    """A column of a table. `shrinks`: of what is too long for the terminal the end is shown."""

    title: str
    width: int = 0
    right: bool = False
    shrinks: bool = False


def tell_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column has what one copies, the last may be cut off on a terminal."""
    rows = [[clean(text) for text in row] for row in rows]
    cells = [[column.title for column in columns], *rows]
    widths = [
        max(column.width, *(len(row[place]) for row in cells))
        for place, column in enumerate(columns)
    ]
    room = terminal_width()
    if room is not None:
        widths = _fitted(columns, widths, room)
    for number, row in enumerate(cells):
        texts = [_cell(*one) for one in zip(columns, widths, row, strict=True)]
        if number == 0:
            click.echo(dim((" " * _GAP).join(texts).rstrip()))
        else:
            click.echo((" " * _GAP).join([bold(texts[0]), *texts[1:]]).rstrip())


def _fitted(columns: Sequence[Column], widths: list[int], room: int) -> list[int]:
    """Widths for a terminal: the last column gives way, then those that shrink, then the last again."""
    over = sum(widths) + _GAP * (len(widths) - 1) - room
    last = len(columns) - 1
    shrinking = [(place, _LEAST) for place, column in enumerate(columns) if column.shrinks]
    for place, least in [(last, _LEAST), *shrinking, (last, 0)]:
        less = max(0, min(over, widths[place] - least))
        widths[place] -= less
        over -= less
    return widths


def _cell(column: Column, width: int, text: str) -> str:
    if len(text) > width:
        kept = max(0, width - len(_CUT))
        cut = text[len(text) - kept :] if column.shrinks else text[:kept]
        text = (f"{_CUT}{cut}" if column.shrinks else f"{cut}{_CUT}")[:width]
    return f"{text:>{width}}" if column.right else f"{text:{width}}"


def tell_facts(facts: Iterable[tuple[str, str]], width: int = 12) -> None:
    """Print lines that have a name."""
    for name, text in facts:
        click.echo(f"{dim(f'{name:{width}}')} {clean(text)}")


def bytes_bar(what: str, size: int | None) -> Any:
    """A progress bar of bytes, on terminals."""
    from tqdm.auto import tqdm

    quiet = bool(os.environ.get("CI")) or not sys.stderr.isatty()
    return tqdm(total=size, unit="B", unit_scale=True, desc=what, delay=1, disable=quiet)


def terminal_width() -> int | None:
    """How many characters a line of standard output has; None: it is no terminal."""
    on_terminal = sys.stdout is not None and sys.stdout.isatty()  # None: it was closed
    return shutil.get_terminal_size().columns if on_terminal else None


def bold(text: str) -> str:
    """For what one copies: ids and URIs."""
    return click.style(text, bold=True)


def dim(text: str) -> str:
    """For headings and names of lines."""
    return click.style(text, dim=True)


def good(text: str) -> str:
    """For what is as it should be."""
    return click.style(text, fg="green")


def odd(text: str) -> str:
    """For what one should know."""
    return click.style(text, fg="yellow")


def bad(text: str) -> str:
    """For what is wrong."""
    return click.style(text, fg="red")
