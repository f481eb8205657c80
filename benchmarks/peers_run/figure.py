"""The figure: each row of the table on a line, times beside kachery's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .libraries import Library
from .plan import SECONDS
from .report import Line

_MARKS = "osD^v<>PX*hp"


def draw(lines: Sequence[Line], entrants: Sequence[Library], path: Path) -> None:
    """Write an image; of what kind says the ending of its name. ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    timed = [line for line in lines if line.row.unit == SECONDS and line.figure("kachery")]
    figure, axes = pyplot.subplots(figsize=(9, 1.5 + 0.36 * len(timed)))
    for library, mark in zip(entrants, _MARKS, strict=False):
        points = [
            (found / (line.figure("kachery") or 1.0), place)
            for place, line in enumerate(timed)
            if (found := line.figure(library.name)) is not None
        ]
        own = {"color": "black", "zorder": 3} if library.name == "kachery" else {"alpha": 0.8}
        axes.plot(*zip(*points, strict=True), mark, label=library.name, **own) if points else None
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("time beside kachery's (to the left: faster than kachery)")
    axes.set_yticks(range(len(timed)), [line.row.title for line in timed])
    axes.invert_yaxis()
    axes.grid(visible=True, axis="both", alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
