"""Blobs on their way between the local store and a zone.

What is small goes as it is. What is larger than the zone's `part_size` goes in parts, several at a
time, and then a manifest that lists them (docs/formats/manifest.md), so that a transfer that was
interrupted goes on where it was. Every part is verified on arrival, and so is the whole.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from .backend import Backend, Status
from .blobs import Blobs
from .digest import Digest, hash_buffer, new_hasher
from .errors import BadManifest, DigestMismatch, NotFound, StoreUnavailable, unavailable
from .local_backend import LocalBackend
from .manifest import PART_SIZE, Manifest, Part
from .progress import progress_bar
from .renewal import is_old, keep, put, put_unless_there
from .sweep import refresh

if TYPE_CHECKING:
    from typing_extensions import Buffer

STREAMS = 4  # parts of one blob that are on their way at a time

S = TypeVar("S")
T = TypeVar("T")


def manifest_name(digest: Digest) -> str:
    """Where a zone keeps the manifest of a blob that it has in parts."""
    return f"manifests/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}"


def has(zone: Backend, digest: Digest) -> bool:
    """Whether a zone has a blob, whole or in parts."""
    return zone.status(digest.path) is not None or (
        zone.part_size is not None and zone.status(manifest_name(digest)) is not None
    )


def size(zone: Backend, digest: Digest) -> int:
    """The bytes of a blob that a zone has. NotFound, DigestMismatch, StoreUnavailable."""
    found = zone.status(digest.path)
    return manifest_of_blob(zone, digest).size if found is None else found.size


def send_bytes(zone: Backend, digest: Digest, data: Buffer) -> None:
    """Send a small blob whose bytes are at hand. Raises StoreUnavailable."""
    put(zone, digest.path, data)


def send(zone: Backend, digest: Digest, local: Blobs, *, afresh: bool = False) -> None:
    """Send a blob of the local store, verified there.

    What the zone has already is not sent again, unless it is so old that a collection may take it
    (renewal.py). With `afresh` each part is asked for, though the zone has a manifest. Returns when
    the zone keeps it. Raises NotFound, DigestMismatch, StoreUnavailable.
    """
    path = local.path(digest)
    size = os.stat(path).st_size
    if zone.part_size is None:
        assert isinstance(zone, LocalBackend)  # noqa: S101 - nothing else keeps blobs whole
        _send_whole(zone, digest, path, size)
    elif size <= zone.part_size:
        send_bytes(zone, digest, local.read(digest))
    else:
        listed = zone.status(manifest_name(digest))
        if afresh or listed is None or is_old(zone, listed):
            _send_parts(zone, digest, path, size)


def _send_whole(zone: LocalBackend, digest: Digest, path: str, size: int) -> None:
    def renew() -> None:
        found = zone.status(digest.path)
        if found is None or not refresh(zone, digest.path):
            _copy(zone, digest, path, size)

    keep(zone, digest.path, renew)


def _copy(zone: LocalBackend, digest: Digest, path: str, size: int) -> None:
    hasher = new_hasher(digest.algorithm)
    with (
        open(path, "rb", buffering=0) as file,
        zone.temporary() as temporary,
        progress_bar(f"push {digest.hex[:10]}", size) as add,
    ):
        while piece := file.read(PART_SIZE):
            hasher.update(piece)
            temporary.write(piece)
            add(len(piece))
        if hasher.hexdigest() != digest.hex:
            raise DigestMismatch(f"{digest} changed while it was sent to {zone.url}")
        temporary.commit(digest.path, durable=True)


def _send_parts(zone: Backend, digest: Digest, path: str, size: int) -> None:
    whole = new_hasher(digest.algorithm)
    parts = []
    with (
        open(path, "rb", buffering=0) as file,
        progress_bar(f"push {digest.hex[:10]}", size) as add,
    ):

        def send_part(start: int) -> tuple[Part, bytes]:
            data = os.pread(file.fileno(), PART_SIZE, start)
            part = Digest(digest.algorithm, hash_buffer(digest.algorithm, data))
            put_unless_there(zone, part.path, data)
            return Part(start, start + len(data), part), data

        for part, data in _at_once(send_part, range(0, size, PART_SIZE)):
            whole.update(data)
            parts.append(part)
            add(len(data))
    if whole.hexdigest() != digest.hex:
        raise DigestMismatch(f"{digest} changed while it was sent to {zone.url}")
    listed = Manifest(size, digest, tuple(parts)).to_bytes()
    if digest.algorithm == "sha1":  # as published: a manifest is a file, too
        send_bytes(zone, Digest("sha1", hash_buffer("sha1", listed)), listed)
    put(zone, manifest_name(digest), listed)


def fetch(zone: Backend, digest: Digest, local: LocalBackend) -> None:
    """Bring a blob into the local store, verified.

    NotFound when the zone has it not; DigestMismatch after what is damaged there was set aside, if
    we may; StoreUnavailable when either side fails.
    """
    found = zone.status(digest.path) if zone.part_size is None else None
    if found is not None and found.size > PART_SIZE:
        return _fetch_ranges(zone, digest, found, local)
    try:
        data = _read_checked(zone, digest, f"{digest} is damaged")
    except NotFound:
        if zone.part_size is None:
            raise
        seen = zone.status(manifest_name(digest))
        return _fetch_parts(zone, manifest_of_blob(zone, digest), seen, local)
    local.create(digest.path, data, durable=False)
    return None


def _read_checked(zone: Backend, digest: Digest, what: str) -> bytes:
    """The bytes of a blob that a zone keeps as one.

    If they are damaged there, not only on the way, they are set aside: DigestMismatch says `what`.
    """
    data = zone.read(digest.path)
    if hash_buffer(digest.algorithm, data) == digest.hex:
        return data
    seen = zone.status(digest.path)  # before it is read, so what is set aside is what was read
    data = zone.read(digest.path)
    if hash_buffer(digest.algorithm, data) == digest.hex:
        return data
    raise _damaged(zone, digest.path, what, seen)


def load(zone: Backend, digest: Digest) -> bytes:
    """The bytes of a blob that a zone has, whole or in parts, checked. NotFound, DigestMismatch."""
    try:
        data = zone.read(digest.path)
    except NotFound:
        if zone.part_size is None:
            raise
        parts = manifest_of_blob(zone, digest).parts
        data = b"".join(zone.read(part.digest.path) for part in parts)
    if hash_buffer(digest.algorithm, data) != digest.hex:
        raise DigestMismatch(f"{digest} is damaged in the zone at {zone.url}")
    return data


def manifest_of_blob(zone: Backend, digest: Digest) -> Manifest:
    """The manifest of a blob that a zone has in parts. NotFound, DigestMismatch, StoreUnavailable."""
    try:
        return _read_manifest(zone, digest)
    except BadManifest:
        seen = zone.status(manifest_name(digest))
    try:
        return _read_manifest(zone, digest)
    except BadManifest as error:
        what = f"the manifest of {digest} is damaged ({error})"
        raise _damaged(zone, manifest_name(digest), what, seen) from error


def _read_manifest(zone: Backend, digest: Digest) -> Manifest:
    try:
        manifest = Manifest.from_bytes(zone.read(manifest_name(digest)))
    except NotFound:
        raise NotFound(f"{digest} is not in the store at {zone.url}") from None
    if manifest.digest != digest:
        raise BadManifest(f"it is that of {manifest.digest}")
    return manifest


def _fetch_parts(
    zone: Backend, manifest: Manifest, seen: Status | None, local: LocalBackend
) -> None:
    """Bring a large blob. `seen`: the status of the manifest before it was read."""
    with _partial(manifest.digest, manifest.size, local) as partial:
        if partial.is_done(manifest.digest):
            return
        if not _complete(zone, manifest, seen, partial):
            what = f"the manifest of {manifest.digest} is wrong"
            raise _damaged(zone, manifest_name(manifest.digest), what, seen)
        partial.commit(manifest.digest)


def _fetch_ranges(zone: Backend, digest: Digest, seen: Status, local: LocalBackend) -> None:
    """Bring a large blob that is kept whole."""
    size = seen.size
    with (
        _partial(digest, size, local) as partial,
        progress_bar(f"pull {digest.hex[:10]}", size) as add,
    ):
        if partial.is_done(digest):
            return
        hasher = new_hasher(digest.algorithm)
        for start in range(0, size, PART_SIZE):
            data = zone.read(digest.path, start, start + PART_SIZE)
            hasher.update(data)
            partial.write(start, data)
            add(len(data))
        if hasher.hexdigest() != digest.hex:
            raise _damaged(zone, digest.path, f"{digest} is damaged", seen)
        partial.commit(digest)


def _complete(zone: Backend, manifest: Manifest, seen: Status | None, partial: _Partial) -> bool:
    """Fetch the parts that a partial file lacks; whether the whole is what it should be.

    The whole is hashed in order, while later parts are on their way.
    """
    whole, all_missing = manifest.digest, partial.new
    hasher = new_hasher(whole.algorithm)

    def fetch_part(part: Part) -> bytes:
        data = b"" if all_missing else partial.read(part)
        if _fits(part, data):
            return data
        fetched = _part_of_zone(zone, whole, part, seen)
        partial.write(part.start, fetched)
        return fetched

    with progress_bar(f"pull {whole.hex[:10]}", manifest.size) as add:
        for data in _at_once(fetch_part, manifest.parts):
            hasher.update(data)
            add(len(data))
    return hasher.hexdigest() == whole.hex


def _part_of_zone(zone: Backend, whole: Digest, part: Part, seen: Status | None) -> bytes:
    """A part, checked. What is lost or damaged takes the manifest with it, so that it is sent again.

    `seen` is the status of the manifest.
    """
    what = f"a part of {whole} is damaged"
    try:
        data = _read_checked(zone, part.digest, what)
    except NotFound:
        _damaged(zone, manifest_name(whole), f"a part of {whole} is lost", seen)
        raise
    except DigestMismatch:
        _damaged(zone, manifest_name(whole), what, seen)
        raise
    if len(data) != part.end - part.start:  # the bytes are right, and what lists them is wrong
        raise _damaged(zone, manifest_name(whole), what, seen)
    return data


def _fits(part: Part, data: bytes) -> bool:
    return len(data) == part.end - part.start and (
        hash_buffer(part.digest.algorithm, data) == part.digest.hex
    )


class _Partial:
    """A file of the local store that is not complete yet. `new`: nothing of it was there."""

    def __init__(self, name: str, fd: int, size: int, local: LocalBackend) -> None:
        self.fd = fd
        self._name = name
        self._size = size
        self._local = local
        self.new = os.fstat(fd).st_size != size
        os.ftruncate(fd, size)

    def read(self, part: Part) -> bytes:
        """What is there of a part."""
        return os.pread(self.fd, part.end - part.start, part.start)

    def write(self, start: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self.fd, view, start)
            start, view = start + written, view[written:]

    def is_done(self, digest: Digest) -> bool:
        """Whether another process brought it while we waited; then this file is not needed."""
        done = self._local.stat(digest.path) is not None
        if done:
            self._local.remove(self._name)
        return done

    def commit(self, digest: Digest) -> None:
        """Give the file, now complete, its name in the store."""
        self._local.adopt(self._name, digest.path)


@contextmanager
def _partial(digest: Digest, size: int, local: LocalBackend) -> Iterator[_Partial]:
    """The partial file of a blob, for us alone; another process that wants it waits for us.

    It stays when we are killed, and when the zone fails: the next one goes on with it.
    """
    name = f"tmp/{digest.algorithm}.{digest.hex}.partial"
    try:
        local.ensure_layout()
        local.make_folder(local.path("tmp"))
        fd = _locked(local.path(name))
    except OSError as error:
        raise unavailable(local.root, error) from error
    try:
        yield _Partial(name, fd, size, local)
    except StoreUnavailable:
        raise
    except DigestMismatch:
        local.remove(name)
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            local.remove(name)
        raise unavailable(local.root, error) from error
    finally:
        os.close(fd)


def _locked(path: str) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(fd).st_ino:
                return fd
        os.close(fd)  # whoever had it has finished it: it is a blob by now, or gone


def _at_once(work: Callable[[S], T], items: Iterable[S]) -> Iterator[T]:
    """What a function makes of each item, in order, several at a time; stops at the first error."""
    with ThreadPoolExecutor(STREAMS, thread_name_prefix="kachery-transfer") as pool:
        ahead: deque[Future[T]] = deque()  # few: what they return is in memory
        try:
            for item in items:
                ahead.append(pool.submit(work, item))
                if len(ahead) > STREAMS:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _damaged(zone: Backend, name: str, what: str, seen: Status | None) -> DigestMismatch:
    """Set aside what is damaged in a zone, if we may; the error that says so.

    `seen` is its status, taken before it was read: what somebody has put there since stays.
    """
    try:
        moved = zone.quarantine(name, seen)
        where = f"moved to {moved}" if moved else "it has been moved away already"
    except StoreUnavailable as error:
        where = f"it could not be moved away: {error}"
    return DigestMismatch(f"{what} in the zone at {zone.url}; {where}")
