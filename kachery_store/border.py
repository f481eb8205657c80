"""What happens to refs that pass between the local store and a zone.

This floor knows bytes: who signs them, and whose count, is told by the floor above.
"""

from __future__ import annotations

from typing import NamedTuple


class Refusal(NamedTuple):
    """Why something of a zone is not taken. `once`: what refusals of which one need be said have in
    common.
    """

    text: str
    once: str = ""


class Border:
    """Everything passes, as it is. `knows_records` says whether refs mean anything here."""

    knows_records = False

    def outgoing(self, folder: str, name: str, data: bytes) -> bytes:  # noqa: ARG002
        """What a ref of the local store is in a zone; always the same. Raises StoreUnavailable."""
        return data

    def is_same(self, one: bytes, other: bytes) -> bool:
        """Whether two refs are the same but for who signed them."""
        return one == other

    def objection(
        self,
        folder: str,  # noqa: ARG002
        name: str,  # noqa: ARG002
        data: bytes,  # noqa: ARG002
        *,
        damaged_too: bool = False,  # noqa: ARG002
    ) -> Refusal | None:
        """What speaks against a ref of a zone; with `damaged_too`, also that it is damaged."""
        return None
