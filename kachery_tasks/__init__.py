"""Tasks: decorated functions, their identity, and running them once. Use it through `kachery`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kachery_store.meaning import told_by

if TYPE_CHECKING:
    from kachery_store.inventory import HeldBy


def _held_by_at(root: str) -> HeldBy:
    from kachery_store import Store

    from .holdings import holdings

    return holdings(Store(root))


told_by(_held_by_at)  # whatever part of this package a process imports
