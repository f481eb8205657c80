"""The local store as a cache in front of a zone: read through it, write through it.

What is acknowledged is in both, or in the local store and the outbox. What is found in the zone is
verified and kept locally.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from . import transfer
from .blobs import Blobs
from .border import Refusal
from .digest import Digest
from .errors import DigestMismatch, NotFound, OutOfReach, StoreUnavailable, ZoneWarning
from .local_backend import LocalBackend
from .outbox import Item
from .refs import Refs
from .renewal import RENEW_AFTER, put_unless_there
from .saying import warn
from .uplink import MOST_REF, Uplink, ref_name

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")


class ZonedBlobs(Blobs):
    """The blobs of the local store, and of the zone behind it."""

    def __init__(self, backend: LocalBackend, uplink: Uplink) -> None:
        super().__init__(backend)
        self._local = Blobs(backend)
        self._uplink = uplink
        self._zone = uplink.zone.backend

    def put(self, digest: Digest, data: Buffer, *, durable: bool) -> None:
        """As of Blobs; when it returns, the zone has the bytes as well, or they wait for it."""
        self._local.put(digest, data, durable=durable)
        self._uplink.send(_item(digest), lambda: self._send(digest, data), durable=durable)

    def _send(self, digest: Digest, data: Buffer) -> None:
        limit = self._zone.part_size
        if limit is None or memoryview(data).nbytes <= limit:
            transfer.send_bytes(self._zone, digest, data)
        else:
            transfer.send(self._zone, digest, self._local)

    def put_file(
        self, source: str, algorithm: str, progress: Callable[[int], object]
    ) -> tuple[Digest, int]:
        """As of Blobs; when it returns, the zone has the file as well, or it waits for it."""
        digest, size = self._local.put_file(source, algorithm, progress)
        sending = lambda: transfer.send(self._zone, digest, self._local)  # noqa: E731
        self._uplink.send(_item(digest), sending, durable=True)
        return digest, size

    def keep(self, digest: Digest, size: int, since: float = 0.0) -> bool:
        """As of Blobs; the zone has it as well, or it waits for it. What only that has stays there.

        The zone is not asked about what was stored so short a time ago that it keeps it.
        """
        here = self._local.keep(digest, size)
        if here and time.time() - since < RENEW_AFTER:
            return True
        if not here:
            try:
                if self.size(digest) != size:
                    return False
                if self._uplink.is_young(digest):
                    return True
                self.fetch(digest)  # so that it can be sent again
            except (NotFound, DigestMismatch):
                return False
        sending = lambda: self._uplink.send_unless_there(digest)  # noqa: E731
        self._uplink.send(_item(digest), sending, durable=False)
        return here or self._local.keep(digest, size)

    def read(self, digest: Digest) -> bytes:
        """As of Blobs."""
        return self._here(digest, self._local.read)

    def map(self, digest: Digest) -> memoryview:
        """As of Blobs."""
        return self._here(digest, self._local.map)

    def path(self, digest: Digest) -> str:
        """As of Blobs."""
        return self._here(digest, self._local.path)

    def read_range(self, digest: Digest, start: int, end: int) -> bytes:
        """As of Blobs; the blob is fetched whole, because only as a whole it can be checked."""
        return self._here(digest, lambda d: self._local.read_range(d, start, end))

    def size(self, digest: Digest) -> int:
        """As of Blobs; nothing is fetched for it but a manifest."""
        try:
            return self._local.size(digest)
        except NotFound:
            return self._uplink.fetch(str(digest), lambda: transfer.size(self._zone, digest))

    def fetch(self, digest: Digest) -> None:
        """Bring a blob here, if it is not here and intact. NotFound, DigestMismatch."""
        self.path(digest)

    def _here(self, digest: Digest, get: Callable[[Digest], T]) -> T:
        """What the local store has of a blob, which is fetched if it is not there and intact."""
        try:
            return get(digest)
        except (NotFound, DigestMismatch) as missing:
            try:
                self._uplink.fetch(
                    str(digest), lambda: transfer.fetch(self._zone, digest, self._backend)
                )
            except NotFound as error:
                raise (missing if isinstance(missing, DigestMismatch) else error) from None
            return get(digest)


class ZonedRefs(Refs):
    """The refs of a folder of the local store, and of the zone behind it."""

    def __init__(self, backend: LocalBackend, folder: str, uplink: Uplink) -> None:
        super().__init__(backend, folder)
        self._local = Refs(backend, folder)
        self._spurned: set[str] = set()  # what the zone has under these names is of no use
        self._uplink = uplink
        self._zone = uplink.zone.backend

    def read(self, name: str) -> bytes:
        """As of Refs; what the zone has is kept here as well."""
        try:
            return self._local.read(name)
        except NotFound:
            pass
        data = self._uplink.fetch(f"{self._folder}/{name}", lambda: self._of_zone(name))
        self._local.create(name, data)
        return data

    def _of_zone(self, name: str) -> bytes:
        """What the zone has, if nothing is said against it. NotFound otherwise."""
        path = ref_name(self._folder, name)
        if name in self._spurned:
            raise NotFound(f"{path} of zone {self._uplink.zone.name} is of no use")
        try:
            data = self._zone.read(path, 0, MOST_REF + 1)
            if len(data) > MOST_REF:
                refusal: Refusal | None = Refusal(f"it has more than {MOST_REF} bytes")
            else:
                refusal = self._uplink.border.objection(self._folder, name, data)
        except DigestMismatch as error:
            refusal = Refusal(str(error))
        if refusal is not None:
            raise NotFound(self._told(path, refusal))
        return data

    def _told(self, path: str, refusal: Refusal) -> str:
        """Say why something of the zone is not used, if that has not been said."""
        what = f"{path} of zone {self._uplink.zone.name} is not used: {refusal.text}"
        if refusal.once not in self._uplink.told:
            warn(ZoneWarning(what))
        if refusal.once:
            self._uplink.told.add(refusal.once)
        return what

    def has(self, name: str) -> bool:
        """As of Refs."""
        if self._local.has(name):
            return True
        try:
            path = ref_name(self._folder, name)
            return self._uplink.fetch(path, lambda: self._zone.status(path)) is not None
        except NotFound:
            return False

    def create(self, name: str, data: bytes) -> bool:
        """As of Refs: who is first in the zone is the first, and what it wrote is kept here."""
        path = ref_name(self._folder, name)
        item = Item(self._folder, name)
        first = self._uplink.send(
            item,
            lambda: self._zone.create(path, self._uplink.outgoing(item, data), durable=True),
            durable=False,
            behind=self._uplink.is_behind(item, data),
        )
        if first is False:
            try:
                found = self._of_zone(name)
                if self._folder == "arrays":  # others count on it, and may be about to say so
                    self._uplink.send(
                        item, lambda: put_unless_there(self._zone, path, found), durable=False
                    )
                self._local.create(name, found)
            except (NotFound, StoreUnavailable):  # it has gone again, or is nothing for us
                return self._local.create(name, data)
            return False
        try:
            return self._local.create(name, data)
        except StoreUnavailable:
            with suppress(StoreUnavailable):  # what is not acknowledged does not wait either
                if first is None and not self._local.has(name):
                    self._uplink.outbox.remove(item)
            raise

    def replace(self, name: str, data: bytes) -> None:
        """As of Refs, here and in the zone."""
        self._local.replace(name, data)
        path, item = ref_name(self._folder, name), Item(self._folder, name)
        self._uplink.send(
            item,
            lambda: self._zone.replace(path, self._uplink.outgoing(item, data)),
            durable=False,
            behind=self._uplink.is_behind(item, data),
        )

    def set_aside(self, name: str, why: str = "is damaged") -> None:
        """Move what is here to quarantine, and say so; and what the zone has, if that is the same.

        What cannot be moved away there is not taken from there any more by this process.
        """
        here = None
        with suppress(NotFound):
            here = self._local.read(name)
            self._local.set_aside(name, why)
        zone = self._uplink.zone
        with suppress(StoreUnavailable):  # the next push finds that it is not here
            self._uplink.outbox.remove(Item(self._folder, name))
        if zone.is_away:
            return
        path = ref_name(self._folder, name)
        try:
            self._uplink.prepare(writing=False)
            seen = self._zone.status(path)
            if here is None or self._uplink.border.is_same(
                self._zone.read(path, 0, MOST_REF), here
            ):
                self._spurned.add(name)
                if not zone.read_only and self._zone.quarantine(path, seen) is not None:
                    self._spurned.discard(name)
        except (NotFound, DigestMismatch):
            return
        except StoreUnavailable as error:
            warn(ZoneWarning(f"{path} of zone {zone.name} {why}, and stays there: {error}"))

    def remove(self, name: str) -> bool:
        """Forget a name here and in the zone. Raises StoreUnavailable when the zone does not let us.

        What a zone has that is only read stays there, which is said.
        """
        self._uplink.outbox.remove(Item(self._folder, name))
        removed = self._local.remove(name)
        if self._uplink.zone.read_only:
            self._tell_that_it_stays(name)
            return removed
        self._uplink.prepare(writing=False)
        return self._zone.remove(ref_name(self._folder, name)) or removed

    def _tell_that_it_stays(self, name: str) -> None:
        zone, path = self._uplink.zone, ref_name(self._folder, name)
        try:
            there = self._uplink.fetch(path, lambda: self._zone.status(path))
        except OutOfReach:
            has = "may have"
        else:
            if there is None:
                return
            has = "has"
        warn(
            ZoneWarning(
                f"{path} is forgotten here, but zone {zone.name}, which is only read (read_only ="
                f" true), {has} it, so it is known as before. Use kachery.using(zone=None), or have"
                " it forgotten by somebody who may write there"
            )
        )

    def spurn(self, name: str) -> None:
        """As of Refs."""
        self.drop(name)
        self._spurned.add(name)

    def names(self, start: str = "") -> Iterator[str]:
        """The names that are here; what only the zone has is not listed."""
        return self._local.names(start)


def _item(digest: Digest) -> Item:
    return Item(digest.algorithm, digest.hex)
