"""In whose name this process signs and trusts: its own user's, or, on a worker, that of the client."""

from __future__ import annotations

import time
from contextlib import suppress
from contextvars import ContextVar
from typing import NamedTuple

import msgpack

from kachery_store.digest import hash_buffer
from kachery_store.errors import BadKey, StoreUnavailable, ZoneWarning
from kachery_store.identity import Delegated, Identity, delegated, identity, is_given, own_identity
from kachery_store.saying import warn

from .trusted_keys import Trusted, date_text, trusted_keys


class Credentials(NamedTuple):
    """What a worker needs to sign in the user's place, and to know whom the user trusts.

    `own`: the user's public key, or None; `delegated`: None where nothing is to be signed.
    """

    own: bytes | None
    delegated: Delegated | None
    trusted: tuple[Trusted, ...]

    def mark(self) -> str:
        """What tells apart users who do not believe the same people; empty for who believes nobody."""
        if self.own is None and not self.trusted:
            return ""
        believed = sorted(map(list, self.trusted), key=repr)
        return hash_buffer("blake3", msgpack.packb([self.own, believed]))[:8]


# Those that a worker was told: it signs and trusts as the user does who has sent them, and not as its
# own user. Set with the settings in force (settings.applied).
acting: ContextVar[Credentials | None] = ContextVar("kachery_credentials", default=None)


def credentials(*, signing: bool) -> Credentials:
    """Those of this user, for workers; `signing`: which write to the zone. BadKey, StoreUnavailable."""
    told = acting.get()
    if told is not None:
        return told
    own = own_identity() if signing else identity()
    return Credentials(
        None if own is None else own.public, delegated() if signing else None, trusted_keys()
    )


def signing_identity() -> Identity:
    """Who signs here. BadKey when nobody can."""
    told = acting.get()
    if told is None or told.delegated is None or is_given():
        return own_identity()
    until = told.delegated.certificate.until
    if time.time() > until:
        raise BadKey(
            f"this worker could sign in the place of key {told.delegated.public.hex()} until"
            f" {date_text(until)}. What it makes stays in its store, for `kachery push`"
        )
    return told.delegated.identity()


def own_keys() -> list[bytes]:
    """The user's own public keys, on a worker those of whoever has sent the job."""
    told = acting.get()
    own = _usable_identity() if told is None or is_given() else None
    keys = [None if own is None else own.public, None if told is None else told.own]
    return [key for key in keys if key is not None]


def _usable_identity() -> Identity | None:
    """The user's identity; None, which is said, when it cannot be used: others may be trusted yet."""
    try:
        return identity()
    except BadKey as error:
        if str(error) not in _told:
            _told.add(str(error))
            warn(ZoneWarning(f"what you have signed yourself does not count now: {error}"))
        return None


_told: set[str] = set()  # what has been said


def believed() -> tuple[Trusted, ...]:
    """Whom else the user trusts. BadKey when that cannot be told."""
    told = acting.get()
    if told is None or (told.own is not None and told.own == _key_here()):
        return trusted_keys()  # on a worker with the same home, those of now
    return told.trusted


def _key_here() -> bytes | None:
    with suppress(BadKey, StoreUnavailable):
        own = identity()
        return None if own is None else own.public
    return None
