"""What stays and what goes, for the store in force: pins, collection, verification, repair.

This is where the floor of the store, which knows bytes, is told what records hold.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable

from kachery_store import Digest, Store
from kachery_store.amounts import parse_size, parse_span
from kachery_store.config import read_config
from kachery_store.errors import KacheryError, OutOfReach
from kachery_store.gc import Collected, collect_garbage
from kachery_store.pins import Pin
from kachery_store.removal import GRACE, Policy
from kachery_store.repair import Elsewhere, Repaired
from kachery_store.repair import repair as repair_store
from kachery_store.transfer import fetch as fetch_blob
from kachery_store.transfer import has as has_blob
from kachery_store.verify import Verification

from .holdings import check_entry, chunk_names, holdings
from .job import Job
from .listing import find_record
from .record import Record
from .settings import current

Span = str | float | datetime.timedelta


def pin(x: str | Job | Record, reason: str = "") -> str:
    """Keep something from garbage collection, whatever its limits; returns its URI.

    x: the URI of a stored file, a job:// URI or the beginning of a job id, a Job, a Record. A pinned job
    keeps its result, the files that the result names, and the jobs that made its arguments, where
    they are stored. Raises BadURI, NotFound, StoreUnavailable.
    """
    store = current().store
    uri = uri_of(store, x)
    store.pins.add(uri, reason)
    return uri


def unpin(x: str | Job | Record) -> bool:
    """Take a pin back; False when it was not pinned. What it kept may be collected from now on."""
    store = current().store
    return store.pins.remove(uri_of(store, x))


def pins() -> list[Pin]:
    """All pins of the store in force, oldest first."""
    return current().store.pins.all()


def gc(
    *,
    max_size: str | float | None = None,
    max_items: int | None = None,
    older_than: Span | None = None,
    files: bool = False,
    orphans: bool = False,
    dry_run: bool = False,
    grace: Span = GRACE,
    progress: Callable[[int], object] = lambda _: None,
) -> Collected:
    """Make the store in force smaller; returns what went, or with `dry_run` what would.

    max_size: bytes, or text like "100GB". max_items: how many jobs may stay. older_than: jobs not used
    for so long go: seconds, "90d", or a timedelta. What is cheap to compute again per byte and long
    unused goes first; pins and what they reach, and jobs that run, stay. Named files go for
    `max_size` when all jobs have gone, otherwise only with `files`; `orphans`: also blobs by BLAKE3
    that no job holds.
    What nothing holds and is younger than `grace` stays. Without any limit, that of the store's
    configuration counts. Raises BadAmount, Busy, ConfigError, StoreUnavailable.
    """
    store = current().store
    if max_size is None and max_items is None and older_than is None:
        max_size = read_config(store.root).max_size
    if max_items is not None and max_items < 0:
        raise ValueError(f"max_items is a number of jobs, not {max_items}")
    policy = Policy(
        max_size=None if max_size is None else parse_size(max_size),
        max_items=max_items,
        older_than=None if older_than is None else _seconds(older_than),
        files=files,
        orphans=orphans,
        grace=_seconds(grace),
    )
    return collect_garbage(
        store.backend, holdings(store), policy, dry_run=dry_run, progress=progress
    )


def repair(*, fetch: Callable[[Digest], None] | None = None, discard: bool = False) -> Repaired:
    """Forget what is damaged in the store in force, or fetch it again; returns what was lost.

    `fetch` brings a blob into the store from elsewhere, or raises a KacheryError; by default from the
    zone in force, if there is one. `discard`: also the damaged bytes of files that cannot be had again.
    """
    store = current().store
    elsewhere = _in_zone(store)
    if fetch is not None:
        elsewhere = elsewhere._replace(fetch=fetch)
    return repair_store(store.backend, holdings(store), elsewhere=elsewhere, discard=discard)


def _in_zone(store: Store) -> Elsewhere:
    uplink = store.uplink
    if uplink is None:
        return Elsewhere()
    zone = uplink.zone.backend

    def has(digest: Digest) -> bool:
        try:
            return uplink.fetch(str(digest), lambda: has_blob(zone, digest))
        except OutOfReach:  # it may have it
            return True

    return Elsewhere(
        lambda digest: uplink.fetch(str(digest), lambda: fetch_blob(zone, digest, store.backend)),
        has,
        store.arrays.read,
    )


def verification(*, afresh: bool = False) -> Verification:
    """A check of everything in the store in force, which goes on where an interrupted one was."""
    store = current().store
    held_by = holdings(store) if store.uplink is None else None  # else chunks may be in the zone
    return Verification(store.backend, check_entry, held_by, afresh=afresh)


def chunks_in(names: Iterable[str]) -> dict[str, str]:
    """Of the names of blobs those that are chunks of arrays that are stored here, and of which."""
    store = current().store
    return chunk_names(store.backend, names)


def uri_of(store: Store, x: str | Job | Record) -> str:
    """The URI of what a user names. NotFound, KacheryError when a job's id is not known yet."""
    if isinstance(x, Record):
        return x.uri
    if isinstance(x, Job):
        if x.uri is None:
            raise KacheryError(f"{x} has no id before its inputs are done: ask for its result")
        return x.uri
    if isinstance(x, str) and (x.startswith("kachery:") or "://" in x):
        return x
    if isinstance(x, str):
        return find_record(store, x).uri
    raise TypeError(f"a URI, a Job or a Record is needed, not {type(x).__name__}")


def _seconds(span: Span) -> float:
    return span.total_seconds() if isinstance(span, datetime.timedelta) else parse_span(span)
