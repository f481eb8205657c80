"""Descriptions of code in a store, kept once for each fingerprint, so that jobs can be compared."""

from __future__ import annotations

from collections.abc import Iterable

from kachery_store import DigestMismatch, NotFound, Store, StoreTooNew, StoreUnavailable
from kachery_store.outbox import Item

from .code import Description, Fingerprint


def keep_code(store: Store, fingerprints: Iterable[Fingerprint]) -> None:
    """Keep what fingerprints stand for, where that is not done. Raises StoreUnavailable.

    What is here is sent to the zone again if that has lost it since.
    """
    for fingerprint in fingerprints:
        if not store.code.has(fingerprint.digest):
            store.code.create(fingerprint.digest, fingerprint.description.to_bytes())
        elif store.uplink is not None:
            item = Item("code", fingerprint.digest)
            store.uplink.keep(item, fingerprint.description.to_bytes())


def kept_code(store: Store, digest: str) -> Description | None:
    """What a fingerprint stands for, if that was kept and can be read.

    What is damaged is set aside, and that is said.
    """
    try:
        return Description.from_bytes(store.code.read(digest), digest)
    except (NotFound, StoreTooNew, StoreUnavailable):
        return None
    except DigestMismatch:
        store.code.set_aside(digest)
        return None
