"""The way from the local store to a zone, and what waits for it (see outbox.py).

What waits is sent when the zone answers again: blobs first, and a record only when the zone has what
it names.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from typing import TypeVar

from . import transfer
from .backend import Status
from .blobs import Blobs
from .border import Border
from .digest import Digest, hash_buffer, make_digest
from .errors import (
    DigestMismatch,
    KacheryError,
    NotFound,
    OutOfReach,
    StoreTooNew,
    StoreUnavailable,
    Unsupported,
)
from .inventory import Held, HeldBy
from .local_backend import LocalBackend
from .meaning import held_by_at
from .outbox import Item, Outbox
from .renewal import RENEW_AFTER, is_old, put_unless_there
from .zone import Zone

T = TypeVar("T")

MOST_REF = 32_000_000  # bytes; small results are in records, large ones are blobs

_BLOBS = ("sha1", "sha256", "blake3")
_log = logging.getLogger("kachery.store")


class Uplink:
    """The way to a zone, and what waits for it.

    `border` is asked about every ref that comes from the zone, or goes there.
    """

    def __init__(self, zone: Zone, local: LocalBackend, border: Border) -> None:
        self.zone = zone
        self.outbox = Outbox(local, zone.name)
        self.border = border
        self._local = local
        self._blobs = Blobs(local)
        self._held_by: HeldBy | None = None
        self._kept: dict[Item, float] = {}  # what the zone was asked to keep, and when
        self._logged: set[str] = set()
        self.told: set[str] = set()  # which refusals have been said
        self._sending = threading.Lock()
        self._process = os.getpid()
        self._has_answered = False

    def prepare(self, *, writing: bool) -> None:
        """As of Zone; a folder that this store has seen as a zone is not made anew."""
        zone = self.zone
        if zone.is_prepared:
            return
        zone.prepare(writing=writing, seen=self.outbox.has_seen(zone.backend.url))
        if zone.is_prepared:
            with suppress(StoreUnavailable):  # what is stored next meets the same, and says so
                self.outbox.note_seen(zone.backend.url)

    def send(
        self, item: Item, sending: Callable[[], T], *, durable: bool, behind: bool = False
    ) -> T | None:
        """Send something, or note that it is to be sent; None in the latter case.

        `behind`: something waits that must go first. Raises StoreUnavailable when the local store
        fails.
        """
        if self.zone.read_only:
            return None
        if not (self.zone.is_away or self.zone.is_closed or behind):
            try:
                self.prepare(writing=True)
                sent = sending()
            except StoreUnavailable as error:
                self._blame(error, writing=True)
            else:
                self._answered()
                self.zone.accepted()
                return sent
        self.outbox.add(item, durable=durable)
        return None

    def fetch(self, what: str, fetching: Callable[[], T]) -> T:
        """Ask the zone for something. NotFound; OutOfReach, which was said, when it cannot be asked."""
        if self.zone.is_away:
            raise OutOfReach(f"{what} is not here, and zone {self.zone.name} cannot be reached now")
        try:
            self.prepare(writing=False)
            found = fetching()
        except StoreUnavailable as error:
            self._blame(error)
            raise OutOfReach(
                f"{what} is not here, and zone {self.zone.name} cannot be reached: {error}"
            ) from error
        except NotFound:
            self._answered()
            raise
        self._answered()
        return found

    def push(self, progress: Callable[[int], object] = lambda n: None) -> list[tuple[Item, str]]:  # noqa: ARG005
        """Send what waits; what could not be sent and why. Raises StoreUnavailable of the zone.

        What is lost or damaged here does not wait any longer; all else that could not be sent does.
        `progress` is told the number of things that were sent.
        """
        failed = []
        with self._one_at_a_time():
            self.prepare(writing=True)
            for item in self.outbox.items():
                if not self.outbox.has(item):  # forgotten meanwhile
                    continue
                why = self._sent_or_why_not(item)
                if why is None:
                    progress(1)
                else:
                    failed.append((item, why))
        self.zone.is_back()
        self.zone.accepted()
        return failed

    def _sent_or_why_not(self, item: Item) -> str | None:
        try:
            held = self._look_here(item)
        except (NotFound, DigestMismatch) as error:
            self.outbox.remove(item)
            return f"{error}; it does not wait for zone {self.zone.name} any longer"
        except (StoreTooNew, Unsupported) as error:  # what it names is not known
            return f"{error}; {item.kind}/{item.name} waits"
        try:
            self._send_held(item, held)
            self.send_now(item)
        except (NotFound, DigestMismatch) as error:
            return f"{error}; {item.kind}/{item.name} waits"
        self.outbox.remove(item)
        return None

    def _look_here(self, item: Item) -> Held | None:
        """What a record holds. NotFound, DigestMismatch for what is not here, or not intact."""
        if item.kind in _BLOBS:
            self._blobs.path(make_digest(item.kind, item.name))
            return None
        data = self._local.read(ref_name(item.kind, item.name))
        if item.kind != "jobs" or not self.border.knows_records:  # refs mean nothing to this store
            return None
        return self._held(item.name, data)

    def _held(self, job_id: str, data: bytes) -> Held:
        if self._held_by is None:
            self._held_by = held_by_at(self._local.root)
        return self._held_by(job_id, data)

    def is_behind(self, item: Item, data: bytes) -> bool:
        """Whether a blob waits that a record names: who finds the record must find the blob."""
        if item.kind == "arrays":  # which of its chunks wait is not looked for: it waits with them
            return not self.outbox.is_empty()
        if item.kind != "jobs" or not self.border.knows_records or self.outbox.is_empty():
            return False
        try:
            held = self._held(item.name, data)
        except DigestMismatch:  # it is no record, so it names nothing
            return False
        except Unsupported:  # in this process nobody knows
            return True
        items = [Item(one.algorithm, one.hex) for one, _ in held.blobs]
        items += [Item("arrays", address) for address in held.arrays]
        return any(map(self.outbox.has, items))

    def _send_held(self, item: Item, held: Held | None) -> None:
        """Have all blobs of a record in the zone. NotFound, DigestMismatch when that cannot be."""
        if held is None:
            return
        if (
            not held.complete
        ):  # which blobs there are is told by an encoding that is not intact here
            transfer.fetch(self.zone.backend, Digest("blake3", held.address), self._local)
            held = self._held(item.name, self._local.read(ref_name(item.kind, item.name)))
        for digest in dict.fromkeys(digest for digest, _ in held.blobs):
            self.send_unless_there(digest)

    def is_young(self, digest: Digest) -> bool:
        """Whether the zone has a blob, and keeps it without being asked. OutOfReach."""
        zone = self.zone.backend
        found = self.fetch(str(digest), lambda: self._status(digest))
        return found is not None and not is_old(zone, found)

    def _status(self, digest: Digest) -> Status | None:
        zone = self.zone.backend
        found = zone.status(digest.path)
        if found is None and zone.part_size is not None:
            found = zone.status(transfer.manifest_name(digest))
        return found

    def send_unless_there(self, digest: Digest) -> None:
        """Have a blob that is here in the zone, and kept. NotFound, DigestMismatch, StoreUnavailable."""
        zone, found = self.zone.backend, self._status(digest)
        if found is not None and not is_old(zone, found):
            return
        try:
            transfer.send(zone, digest, self._blobs)
        except (NotFound, DigestMismatch):  # it cannot be renewed from here
            if found is None:
                raise

    def has(self, item: Item) -> bool:
        """Whether the zone has something. StoreUnavailable."""
        if item.kind in _BLOBS:
            return transfer.has(self.zone.backend, make_digest(item.kind, item.name))
        return self.zone.backend.status(ref_name(item.kind, item.name)) is not None

    def keep(self, item: Item, data: bytes) -> None:
        """Have a ref in the zone that is here already, and may have been collected there.

        The zone is asked now and then, not each time. Raises StoreUnavailable of the local store.
        """
        asked = self._kept.get(item)
        if asked is not None and time.monotonic() - asked < RENEW_AFTER:
            return
        path = ref_name(item.kind, item.name)
        sending = lambda: put_unless_there(self.zone.backend, path, self.outgoing(item, data))  # noqa: E731
        self.send(item, sending, durable=False)
        self._kept[item] = time.monotonic()

    def send_now(self, item: Item) -> None:
        """Send one thing that the local store has. NotFound, DigestMismatch, StoreUnavailable."""
        backend = self.zone.backend
        if item.kind in _BLOBS:
            transfer.send(backend, make_digest(item.kind, item.name), self._blobs)
        else:
            self._send_ref(item, ref_name(item.kind, item.name))

    def _send_ref(self, item: Item, name: str) -> None:
        """Send a ref. If the zone has another one by now, that is the first, here too."""
        data = self._local.read(name)
        sent = self.outgoing(item, data)
        if self.zone.backend.create(name, sent, durable=True) or item.kind != "jobs":
            return
        first = self.zone.backend.read(name, 0, MOST_REF)
        if self.border.is_same(first, sent):
            return
        if self.border.objection(item.kind, item.name, first, damaged_too=True):
            return
        second = f"{item.name}-{hash_buffer('blake3', data)[:16]}"
        self._local.create(ref_name("differing", second), data, durable=False)
        self._local.replace(name, first)

    def outgoing(self, item: Item, data: bytes) -> bytes:
        """What a ref of the local store is in the zone. Raises StoreUnavailable."""
        return self.border.outgoing(item.kind, item.name, data)

    def _blame(self, error: StoreUnavailable, *, writing: bool = False) -> None:
        """The zone is away, or does not let us write, if it was not the local store that failed."""
        if error.place == self._local.root:
            raise error
        if writing and error.is_refusal:
            self.zone.refused(error)
        else:
            self.zone.went_away(error)

    def _answered(self) -> None:
        """Send what waits, when the zone is back, or answers this process for the first time.

        Also when writing there was refused a while ago.
        """
        first, self._has_answered = not self._has_answered, True
        if not (self.zone.is_back() or first) or self.zone.read_only or self.zone.is_closed:
            return
        if not self.outbox.is_empty() and not self._one_at_a_time().locked():
            push = partial(copy_context().run, self._push_quietly)
            threading.Thread(target=push, name="kachery-push", daemon=True).start()

    def _one_at_a_time(self) -> threading.Lock:
        """The lock of those who send what waits; a child does not wait for a thread of its parent."""
        if self._process != os.getpid():
            self._sending, self._process = threading.Lock(), os.getpid()
        return self._sending

    def _push_quietly(self) -> None:
        """Send what waits; what goes wrong is logged, and waits."""
        try:
            for item, why in self._push_or_blame():
                self._tell("waits" if self.outbox.has(item) else f"{item}", why)
        except Exception as error:  # noqa: BLE001 - a thread has nobody to raise to
            self._tell(type(error).__name__, str(error), error)

    def _push_or_blame(self) -> list[tuple[Item, str]]:
        try:
            failed = self.push()
        except StoreUnavailable as error:
            self._tell(type(error).__name__, str(error), error)
            self._blame(error, writing=True)
            return []
        if not failed:
            self._logged.clear()
        return failed

    def _tell(self, kind: str, what: str, error: Exception | None = None) -> None:
        """Log a failure: each kind once as a warning, until all went well again."""
        level = logging.DEBUG if kind in self._logged else logging.WARNING
        self._logged.add(kind)
        unforeseen = error if error is not None and not isinstance(error, KacheryError) else None
        _log.log(
            level,
            "sending what waits for zone %s: %s (what is here stays in the outbox)",
            self.zone.name,
            what,
            exc_info=unforeseen,
        )


def ref_name(folder: str, name: str) -> str:
    """Where a ref is, in a store and in a zone."""
    return f"{folder}/{name[:2]}/{name}"
