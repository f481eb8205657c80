"""Appending to a log, and integrating what is staged into its tiles.

One writer at a time: a batch is staged by creating the file that is named by its first entry, which only
one writer can do. A writer that slept while others went on finds that the checkpoint has passed it by.
On a file system a lock is held meanwhile, so that writers wait instead of trying again.
"""

from __future__ import annotations

import fcntl
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from ..backend import Backend
from ..errors import Busy, DamagedWarning, FeedFinalized, NotFound, Unsupported, unavailable
from ..local_backend import LocalBackend
from ..saying import warn
from ..signing import Signer
from . import tiles
from .batch import MOST_BYTES, MOST_ENTRIES, make_batch
from .durably import create
from .entries import first_entry
from .log import Log
from .names import Place, staged_start

INTEGRATE_BATCHES = 64  # as many may be staged; whoever opens the log reads them one by one
INTEGRATE_ENTRIES = 16_384

_LONGEST_BACKOFF = 0.1  # seconds
_WAIT_SECONDS = 30.0
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.004  # seconds; a batch takes less than one of them


def append(log: Log, signer: Signer, entries: Sequence[bytes], *, final: bool = False) -> int:
    """Append entries; when this returns they are staged durably. Returns the number of the first.

    Raises FeedFinalized, Busy, StoreUnavailable, Unsupported. What was raised in between may or may
    not have been appended, as a whole for each 4,096 entries.
    """
    check_capabilities(log.backend)
    first = None
    for batch in _batches(entries):
        with writers_lock(log.backend, log.place):
            count = _append(log, signer, partial(list, batch), final)
            at = log.size - count
            _integrate_much(log)
        first = at if first is None else first
    return log.size if first is None else first


def append_remaining(log: Log, signer: Signer, remaining: Callable[[], Sequence[bytes]]) -> int:
    """Append what `remaining` gives for the log as it is then, until that is nothing.

    Returns how many entries. What is staged follows exactly the log that `remaining` has seen, so of
    two who append the same each sees what the other has done. Raises as `append`.
    """
    check_capabilities(log.backend)
    total = 0
    while True:
        with writers_lock(log.backend, log.place):
            added = _append(log, signer, lambda: next(_batches(remaining()), ()), final=False)
            _integrate_much(log)
        if not added:
            return total
        total += added


def _integrate_much(log: Log) -> None:
    if log.batches >= INTEGRATE_BATCHES or len(log.tail) >= INTEGRATE_ENTRIES:
        _integrate(log)


def _append(log: Log, signer: Signer, made: Callable[[], Sequence[bytes]], final: bool) -> int:
    """Append one batch; returns the number of its entries."""
    give_up, tried = time.monotonic() + _WAIT_SECONDS, 0
    while time.monotonic() < give_up:
        if tried or not log.is_opened:  # else whether the head is the last is told by staging
            time.sleep(random.uniform(0, min(0.01 * tried, _LONGEST_BACKOFF)))
            log.refresh()
        tried += 1
        if log.is_final():
            if final:
                return 0
            raise FeedFinalized(f"{log.place.uri} has ended: nothing can be appended to it")
        entries = made()
        if not entries:
            return 0
        opening = [] if log.size else [first_entry(log.place, time.time())]
        if _stage(log, signer, [*opening, *entries]):
            return len(entries)
    raise Busy(
        f"others append to {log.place.uri} all the time, and in {_WAIT_SECONDS:.0f} s this was never"
        " first: try again, or give each writer a subfeed of its own"
    )


def _stage(log: Log, signer: Signer, entries: Sequence[bytes]) -> bool:
    """Stage a batch at the head; False when another writer was faster."""
    start = log.size
    data, batch = make_batch(log.place, signer, log.frontier, entries)
    if not create(log.backend, [(log.place.staged(start), data)])[0]:
        return False
    if log.is_passed(start):
        log.backend.remove(log.place.staged(start))
        return False
    log.accept(batch)
    log.remember(durable=False)
    return True


def _batches(entries: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    start = size = 0
    for at, entry in enumerate(entries):
        if at - start == MOST_ENTRIES or size + len(entry) > MOST_BYTES:
            yield entries[start:at]
            start, size = at, 0
        size += len(entry) + 2
    if start < len(entries):
        yield entries[start:]


def integrate(log: Log) -> bool:
    """Bring all that is staged into tiles and checkpoint; whether there was something.

    It takes no key, and whoever does it writes the same bytes.
    """
    check_capabilities(log.backend)
    with writers_lock(log.backend, log.place):
        log.refresh()
        return _integrate(log)


def _integrate(log: Log) -> bool:
    if not log.tail:
        return False
    files, edge = tiles.grow(log.edge, log.tail, log.tail_hashes)
    put_files(log.backend, log.place, files)
    if not put_checkpoint(log.backend, log.place, log.note, log.checkpoint):
        log.refresh()
        return True  # somebody else did
    log.integrated(log.note, edge)
    _clear(log)
    return True


def _clear(log: Log) -> None:
    """Remove the batches that the checkpoint covers, and those that a crash left behind."""
    for name in log.backend.names(log.place.file("staged")):
        start = staged_start(name)
        if start is not None and start < log.edge.size:
            log.backend.remove(name)


def put_files(backend: Backend, place: Place, files: Sequence[tuple[str, bytes]]) -> None:
    """Write files whose bytes are determined by their names and the log; others there are damaged."""
    named = [(place.file(name), data) for name, data in files]
    for (name, data), created in zip(named, create(backend, named), strict=True):
        if not created:
            _compare(backend, name, data)


def _compare(backend: Backend, name: str, data: bytes) -> None:
    try:
        if backend.read(name) == data:
            return
    except NotFound:
        pass
    where = backend.quarantine(name)
    warn(DamagedWarning(f"{name} at {backend.url} was damaged; it is written again ({where})"))
    backend.create(name, data, durable=True)


def put_checkpoint(backend: Backend, place: Place, note: bytes, known: bytes | None) -> bool:
    """Write the checkpoint, if the one there is the one that is known; else False.

    On a file system the caller holds the lock.
    """
    seen = backend.status(place.checkpoint)
    try:
        there = backend.read(place.checkpoint)
    except NotFound:
        there = None
    if there != known:
        return False
    if isinstance(backend, LocalBackend):
        backend.replace(place.checkpoint, note)
        return True
    return backend.swap(
        place.checkpoint, note, None if seen is None or known is None else seen.version
    )


def check_capabilities(backend: Backend) -> None:
    """Refuse with Unsupported a backend where two writers could both succeed."""
    able = backend.capabilities
    if not (isinstance(backend, LocalBackend) or (able.create and able.swap)):
        raise Unsupported(
            f"feeds cannot be written at {backend.url}: it does not create and exchange files"
            " conditionally, or is only read. Keep the feed on this machine, or in a zone at s3://"
        )


def writers_lock(backend: Backend, place: Place) -> AbstractContextManager[None]:
    """The lock of a subfeed's writers, where there are locks."""
    return _flock(backend, place) if isinstance(backend, LocalBackend) else nullcontext()


@contextmanager
def _flock(backend: LocalBackend, place: Place) -> Iterator[None]:
    name = place.file("writer.lock")
    fd = _open_lock(backend, name)
    try:
        _wait_for(fd, backend, place)
        yield
    finally:
        os.close(fd)


def _open_lock(backend: LocalBackend, name: str) -> int:
    path, flags = backend.path(name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        try:
            return os.open(path, flags, 0o664)
        except FileNotFoundError:
            backend.ensure_layout()
            backend.refuse_links(name)
            backend.make_folder(os.path.dirname(path))
            return os.open(path, flags, 0o664)
    except OSError as error:
        raise unavailable(backend.root, error) from error


def _wait_for(fd: int, backend: LocalBackend, place: Place) -> None:
    give_up, pause = time.monotonic() + _WAIT_SECONDS, _SHORTEST_PAUSE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                raise Busy(
                    f"another process has been writing to {place.uri} for {_WAIT_SECONDS:.0f} s: see"
                    f" who holds {backend.path(place.file('writer.lock'))}, or try again"
                ) from None
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        except OSError as error:
            raise unavailable(backend.root, error) from error
        else:
            return
