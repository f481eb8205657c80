"""From outcomes to tables in Markdown."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .driver import Outcome
from .libraries import Library
from .plan import BYTES, COUNT, Row, Workload

_OWN = "kachery"


class Line(NamedTuple):
    """One row of the table: what each library reached, by its name."""

    row: Row
    outcomes: dict[str, Outcome]

    def figure(self, library: str) -> float | None:
        """What a library reached, whether it is correct or not."""
        outcome = self.outcomes.get(library)
        return None if outcome is None else outcome.figures.get(self.row.key)

    def first(self, peers: Sequence[Library]) -> tuple[str, float] | None:
        """The first correct peer, and its figure."""
        found = [
            (figure, library.name)
            for library in peers
            if library.is_peer and library.name != _OWN
            if (figure := self.figure(library.name)) is not None
            if not self.outcomes[library.name].marks
        ]
        if not found:
            return None
        figure, name = min(found)
        return name, figure


def lines_of(measured: Sequence[tuple[Workload, dict[str, Outcome]]]) -> list[Line]:
    """The rows of all workloads."""
    return [Line(row, outcomes) for workload, outcomes in measured for row in workload.rows]


def text_of(figure: float, unit: str) -> str:
    """A figure with its unit."""
    if unit == COUNT:
        return f"{figure:,.0f}"
    if unit == BYTES:
        return f"{figure / 1e6:,.3g} MB"
    for name, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if figure * factor >= 1:
            break
    return f"{figure * factor:.3g} {name}"


def report(
    lines: Sequence[Line], entrants: Sequence[Library], versions: dict[str, str], *, how: str = ""
) -> str:
    """The whole report; `how` says in which way the run was not the usual one."""
    notes: list[str] = []
    parts = [
        _short(lines, entrants),
        _full(lines, entrants, notes),
        "\n".join(f"[{i}] {note}" + "  " for i, note in enumerate(notes, 1)),
        _leaves_out(entrants),
        _conditions(versions, how),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _short(lines: Sequence[Line], entrants: Sequence[Library]) -> str:
    rows = ["| | kachery | first correct peer | kachery / first | joblib / kachery |"]
    rows.append("|---|---:|---:|---:|---:|")
    for line in lines:
        own, first, joblib = line.figure(_OWN), line.first(entrants), line.figure("joblib")
        cells = ["" if own is None else text_of(own, line.row.unit)]
        cells.append("" if first is None else f"{first[0]}, {text_of(first[1], line.row.unit)}")
        cells.append(_ratio(own, None if first is None else first[1]))
        cells.append(_ratio(joblib, own))
        rows.append(f"| {line.row.title} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _ratio(above: float | None, below: float | None) -> str:
    if above is None or not below:
        return ""
    ratio = above / below
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.0f}"


def _full(lines: Sequence[Line], entrants: Sequence[Library], notes: list[str]) -> str:
    names = [library.name for library in entrants]
    rows = [f"| | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    for line in lines:
        cells = [_cell(line, name, notes) for name in names]
        rows.append(f"| {line.row.title} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _cell(line: Line, name: str, notes: list[str]) -> str:
    outcome, figure = line.outcomes.get(name), line.figure(name)
    if outcome is None:
        return ""
    if figure is not None:
        text = text_of(figure, line.row.unit)
        return f"{text}, *{', '.join(outcome.marks)}*" if outcome.marks else text
    kind, _, why = outcome.failures.get(line.row.key, "").partition(": ")
    if not why:
        return kind
    note = f"{name}: {why}".replace("|", "\\|")
    if note not in notes:
        notes.append(note)
    return f"{kind} [{notes.index(note) + 1}]"


def _leaves_out(entrants: Sequence[Library]) -> str:
    told = [library for library in entrants if library.leaves_out]
    if not told:
        return ""
    rows = ["| | what it leaves out |", "|---|---|"]
    rows += [f"| {library.name} | {library.leaves_out} |" for library in told]
    return "\n".join(rows)


def _conditions(versions: dict[str, str], how: str) -> str:
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{how}Python {platform.python_version()}, {os.cpu_count()} CPUs,"
        f" {platform.system()} {platform.machine()}; {listed}."
    )


def put_into(path: Path, text: str, name: str = "peers") -> None:
    """Write a report to a file: between the markers of its name if it has them, else as all of it."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    before, begin, rest = old.partition(f"<!-- {name}: begin -->")
    _, end, after = rest.partition(f"<!-- {name}: end -->")
    whole = f"{before}{begin}\n{text}{end}{after}" if begin and end else text
    path.write_text(whole, encoding="utf-8")
