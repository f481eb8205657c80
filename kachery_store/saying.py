"""What people read: warnings that point at their line; texts of others, harmless on a terminal."""

from __future__ import annotations

import os
import sys
import warnings

DEBUG = "KACHERY_DEBUG"

_OWN = ("kachery", "kachery_store", "kachery_tasks")


def is_debugging() -> bool:
    """Whether tracebacks are wanted, with all their frames."""
    return os.environ.get(DEBUG, "") not in ("", "0")


def warn(warning: Warning) -> None:
    """Issue a warning for the first caller outside of kachery."""
    level = 2
    frame = sys._getframe(1)  # noqa: SLF001 - what `warnings` itself does
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _OWN:
        frame = frame.f_back
        level += 1
    warnings.warn(warning, stacklevel=level)


def clean(text: str) -> str:
    """Text without what cannot be shown or turns the writing round: whoever wrote it may be anybody."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def clean_lines(text: str) -> str:
    """The same, for text that may have several lines."""
    return "\n".join(clean(line.expandtabs()) for line in text.split("\n"))
