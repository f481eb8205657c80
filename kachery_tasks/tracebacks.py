"""Tracebacks as users read them: with their lines, without ours in between."""

from __future__ import annotations

import sys
from types import TracebackType

from kachery_store.errors import KacheryError
from kachery_store.saying import is_debugging

from .notes import OURS, notes_of

# What stands between a user's call and the user's function.
_BETWEEN = {"kachery", "kachery_tasks", "kachery_store", "dask", "distributed"}
_BETWEEN |= sys.stdlib_module_names


def shorten(error: BaseException) -> None:
    """Take the frames that are not the user's out of the beginning of an exception's traceback.

    To be called before `raise` alone, which adds no frame of its own. What goes wrong inside of kachery
    keeps its frames, and everything does when KACHERY_DEBUG=1.
    """
    if is_debugging():
        return
    frames = error.__traceback__
    while frames is not None and _is_between(frames):
        frames = frames.tb_next
    if frames is not None or _is_told(error):
        error.__traceback__ = frames


def _is_between(frames: TracebackType) -> bool:
    module = frames.tb_frame.f_globals.get("__name__", "")
    return isinstance(module, str) and module.partition(".")[0] in _BETWEEN


def _is_told(error: BaseException) -> bool:
    """Whether an exception says enough without any frame of ours."""
    return isinstance(error, KacheryError | KeyboardInterrupt) or any(
        note.startswith(OURS) for note in notes_of(error)
    )
