"""Warnings that point at the user's line, not at one of kachery's."""

from __future__ import annotations

import sys
import warnings

_OWN = ("kachery", "kachery_store", "kachery_tasks")


def warn(warning: Warning) -> None:
    """Issue a warning for the first caller outside of kachery."""
    level = 2
    frame = sys._getframe(1)  # noqa: SLF001 - what `warnings` itself does
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _OWN:
        frame = frame.f_back
        level += 1
    warnings.warn(warning, stacklevel=level)
