"""Notes that are added to exceptions: what was running, and where to read more."""

from __future__ import annotations

import logging

OURS = "kachery: "  # what each begins with

_MOST = 20  # on one exception: of tasks in tasks, and of one that is raised again and again

_log = logging.getLogger("kachery.tasks")


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an exception, once; a class that refuses notes goes without."""
    notes = notes_of(error)
    if f"{OURS}{note}" in notes or sum(one.startswith(OURS) for one in notes) >= _MOST:
        return
    try:
        error.add_note(f"{OURS}{note}")
    except Exception as why:  # noqa: BLE001 - the user's own type; the error itself matters more
        _log.debug("%s takes no notes: %s", type(error).__name__, why)


def notes_of(error: BaseException) -> list[str]:
    """The notes of an exception, whoever added them."""
    try:
        notes = getattr(error, "__notes__", None)
    except Exception:  # noqa: BLE001 - the user's own type
        return []
    return [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []
