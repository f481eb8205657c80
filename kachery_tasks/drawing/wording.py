"""Names, times and numbers in few words, as pictures and pages show them."""

from __future__ import annotations

import datetime
import unicodedata

from kachery_store.saying import clean as clean  # noqa: PLC0414 - which others have from here

SHORT = 8  # digits of an id that are shown


def cut(text: str, width: int) -> str:
    """Clean text that is at most so many letters wide, those of East Asia counting twice."""
    shown: list[str] = []
    room = width
    for one in clean(text[: width + 1]):
        room -= 2 if unicodedata.east_asian_width(one) in "WF" else 1
        if room < 0:
            return "".join(shown[:-1]).rstrip() + "\N{HORIZONTAL ELLIPSIS}"
        shown.append(one)
    return "".join(shown)


def task_title(task: str) -> str:
    """The name of a task without its module."""
    return task.rpartition(":")[2] or task


def span(seconds: float) -> str:
    """How long something took."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} µs"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 7200:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h" if seconds < 360_000 else f"{seconds / 86_400:.3g} days"


def moment(seconds: float) -> str:
    """When something was, in the time of this machine, which is named."""
    try:
        then = datetime.datetime.fromtimestamp(seconds).astimezone()
    except (ValueError, OverflowError, OSError):
        return "at no time"  # a damaged record
    return f"{then:%Y-%m-%d %H:%M:%S %z}"
