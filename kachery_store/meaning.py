"""What records hold, as the floor above tells it: this floor knows bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .errors import Unsupported

if TYPE_CHECKING:
    from .inventory import HeldBy

_tell: Callable[[str], HeldBy] | None = None


def told_by(tell: Callable[[str], HeldBy]) -> None:
    """Say who tells, for the folder of a store, what the records there hold."""
    global _tell
    _tell = tell


def held_by_at(root: str) -> HeldBy:
    """What tells what the records of the store in a folder hold; Unsupported when nobody can."""
    if _tell is None:
        raise Unsupported(
            f"this program cannot tell what the records in {root} hold: it uses kachery_store without"
            " kachery_tasks"
        )
    return _tell(root)
