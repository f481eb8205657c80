"""The local store as a cache in front of a zone: read through it, write through it.

What is acknowledged is in both, or in the local store and the outbox. What is found in the zone is
verified and kept locally.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeVar

from . import transfer
from .blobs import Blobs
from .digest import Digest, hash_buffer, make_digest
from .errors import DigestMismatch, NotFound, OutOfReach, StoreUnavailable, ZoneWarning
from .local_backend import LocalBackend
from .outbox import Item, Outbox
from .refs import Refs
from .saying import warn
from .zone import Zone

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")

_MOST_REF = 32_000_000  # bytes; small results are in records, large ones are blobs


class Objection(Protocol):
    """What is said against taking something from a zone: a reason, or None."""

    def __call__(
        self, folder: str, name: str, data: bytes, *, damaged_too: bool = False
    ) -> str | None:
        """What speaks against a ref; with `damaged_too`, also that it is damaged."""


def no_objection(
    folder: str,  # noqa: ARG001
    name: str,  # noqa: ARG001
    data: bytes,  # noqa: ARG001
    *,
    damaged_too: bool = False,  # noqa: ARG001
) -> str | None:
    """Everything is taken."""
    return None


class Uplink:
    """The way to a zone, and what waits for it.

    `objection` is asked about every ref that comes from the zone.
    """

    def __init__(
        self, zone: Zone, local: LocalBackend, objection: Objection = no_objection
    ) -> None:
        self.zone = zone
        self.outbox = Outbox(local, zone.name)
        self.objection = objection
        self._local = local
        self._sending = threading.Lock()
        self._process = os.getpid()
        self._has_answered = False

    def send(self, item: Item, sending: Callable[[], T], *, durable: bool) -> T | None:
        """Send something, or note that it is to be sent; None in the latter case.

        Raises StoreUnavailable when the local store fails.
        """
        if self.zone.read_only:
            return None
        if not (self.zone.is_away or self.zone.is_closed):
            try:
                self.zone.prepare(writing=True)
                sent = sending()
            except StoreUnavailable as error:
                self._blame(error, writing=True)
            else:
                self._answered()
                return sent
        self.outbox.add(item, durable=durable)
        return None

    def fetch(self, what: str, fetching: Callable[[], T]) -> T:
        """Ask the zone for something. NotFound; OutOfReach, which was said, when it cannot be asked."""
        if self.zone.is_away:
            raise OutOfReach(f"{what} is not here, and zone {self.zone.name} cannot be reached now")
        try:
            self.zone.prepare(writing=False)
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

        `progress` is told the number of things that were sent.
        """
        failed = []
        with self._one_at_a_time():
            self.zone.prepare(writing=True)
            for item in self.outbox.items():
                try:
                    self.send_now(item)
                except (NotFound, DigestMismatch) as error:  # it has been deleted, or damaged
                    failed.append((item, str(error)))
                self.outbox.remove(item)
                progress(1)
        self.zone.is_back()
        return failed

    def send_now(self, item: Item) -> None:
        """Send one thing that the local store has. NotFound, DigestMismatch, StoreUnavailable."""
        backend = self.zone.backend
        if item.kind in ("sha1", "sha256", "blake3"):
            transfer.send(backend, make_digest(item.kind, item.name), Blobs(self._local))
        else:
            self._send_ref(item, ref_name(item.kind, item.name))

    def _send_ref(self, item: Item, name: str) -> None:
        """Send a ref. If the zone has another one by now, that is the first, here too."""
        data = self._local.read(name)
        if self.zone.backend.create(name, data, durable=True) or item.kind != "jobs":
            return
        first = self.zone.backend.read(name, 0, _MOST_REF)
        if first == data or self.objection(item.kind, item.name, first, damaged_too=True):
            return
        second = f"{item.name}-{hash_buffer('blake3', data)[:16]}"
        self._local.create(ref_name("differing", second), data, durable=False)
        self._local.replace(name, first)

    def _blame(self, error: StoreUnavailable, *, writing: bool = False) -> None:
        """The zone is away, or does not let us write, if it was not the local store that failed."""
        if error.place == self._local.root:
            raise error
        if writing and error.is_refusal:
            self.zone.refused(error)
        else:
            self.zone.went_away(error)

    def _answered(self) -> None:
        """Send what waits, when the zone is back, or answers this process for the first time."""
        first, self._has_answered = not self._has_answered, True
        if not (self.zone.is_back() or first) or self.zone.read_only or self.zone.is_closed:
            return
        if not self.outbox.is_empty() and not self._one_at_a_time().locked():
            threading.Thread(target=self._push_quietly, name="kachery-push", daemon=True).start()

    def _one_at_a_time(self) -> threading.Lock:
        """The lock of those who send what waits; a child does not wait for a thread of its parent."""
        if self._process != os.getpid():
            self._sending, self._process = threading.Lock(), os.getpid()
        return self._sending

    def _push_quietly(self) -> None:
        try:
            self.push()
        except StoreUnavailable as error:
            self._blame(error, writing=True)


def ref_name(folder: str, name: str) -> str:
    """Where a ref is, in a store and in a zone."""
    return f"{folder}/{name[:2]}/{name}"


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
            data = self._zone.read(path, 0, _MOST_REF + 1)
            objection = self._uplink.objection(self._folder, name, data)
        except DigestMismatch as error:
            objection = str(error)
        else:
            if len(data) > _MOST_REF:
                objection = f"it has more than {_MOST_REF} bytes"
        if objection is not None:
            what = f"{path} of zone {self._uplink.zone.name} is not used: {objection}"
            warn(ZoneWarning(what))
            raise NotFound(what)
        return data

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
        first = self._uplink.send(
            Item(self._folder, name),
            lambda: self._zone.create(path, data, durable=True),
            durable=False,
        )
        if first is False:
            try:
                self._local.create(name, self._of_zone(name))
            except (NotFound, StoreUnavailable):  # it has gone again, or is nothing for us
                return self._local.create(name, data)
            return False
        try:
            return self._local.create(name, data)
        except StoreUnavailable:
            with suppress(StoreUnavailable):  # what is not acknowledged does not wait either
                if first is None and not self._local.has(name):
                    self._uplink.outbox.remove(Item(self._folder, name))
            raise

    def replace(self, name: str, data: bytes) -> None:
        """As of Refs, here and in the zone."""
        self._local.replace(name, data)
        path = ref_name(self._folder, name)
        self._uplink.send(
            Item(self._folder, name), lambda: self._zone.replace(path, data), durable=False
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
        if zone.is_away:
            return
        path = ref_name(self._folder, name)
        try:
            if here is None or self._zone.read(path, 0, _MOST_REF) == here:
                self._spurned.add(name)
                if not zone.read_only and self._zone.quarantine(path) is not None:
                    self._spurned.discard(name)
        except (NotFound, DigestMismatch):
            return
        except StoreUnavailable as error:
            warn(ZoneWarning(f"{path} of zone {zone.name} {why}, and stays there: {error}"))

    def remove(self, name: str) -> bool:
        """Forget a name here and in the zone. Raises StoreUnavailable when the zone does not let us."""
        removed = self._local.remove(name)
        if self._uplink.zone.read_only:
            return removed
        return self._zone.remove(ref_name(self._folder, name)) or removed

    def names(self, start: str = "") -> Iterator[str]:
        """The names that are here; what only the zone has is not listed."""
        return self._local.names(start)


def _item(digest: Digest) -> Item:
    return Item(digest.algorithm, digest.hex)
