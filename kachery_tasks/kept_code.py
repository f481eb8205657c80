"""Descriptions of code in a store, kept once for each fingerprint, so that jobs can be compared."""

from __future__ import annotations

from collections.abc import Iterable

from kachery_store import DigestMismatch, NotFound, Store

from .code import Description, Fingerprint

_kept: set[tuple[str, str]] = set()  # root, fingerprint: what this process has kept already


def keep_code(store: Store, fingerprints: Iterable[Fingerprint]) -> None:
    """Keep what fingerprints stand for, where that is not done. Raises StoreUnavailable."""
    for fingerprint in fingerprints:
        name = (store.root, fingerprint.digest)
        if name not in _kept:
            store.code.create(fingerprint.digest, fingerprint.description.to_bytes())
            _kept.add(name)


def kept_code(store: Store, digest: str) -> Description | None:
    """What a fingerprint stands for, if that was kept; what is damaged is set aside, said aloud."""
    try:
        return Description.from_bytes(store.code.read(digest), digest)
    except NotFound:
        return None
    except DigestMismatch:
        store.code.set_aside(digest)
        return None
