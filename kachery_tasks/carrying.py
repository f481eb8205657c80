"""Push and pull: bringing files and jobs, with all that they need, to the zone in force and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from kachery_store import Digest, Store
from kachery_store.errors import ConfigError, NotFound, OutOfReach, ZoneWarning
from kachery_store.outbox import Item
from kachery_store.saying import warn
from kachery_store.uplink import Uplink
from kachery_store.uri import parse_uri
from kachery_store.zarr.arrays import open_stored

from .holdings import holdings
from .job import Job
from .keeping import uri_of
from .record import Record
from .settings import current

_AT_ONCE = 16  # small things on their way at a time

_JOB = "job://"
_JOB_ID = re.compile("[0-9a-f]{64}")


class Carried(NamedTuple):
    """What was carried.

    `things`: how many blobs, records and descriptions. `lost`: what could not be had, and why.
    """

    things: int
    lost: list[str]


def push(*things: str | Job | Record, progress: Callable[[int], object] | None = None) -> Carried:
    """Bring files and jobs to the zone in force, with their results and descriptions of their code.

    things: URIs, Jobs, Records; without any, what waits because the zone could not be reached. What
    the zone has is not sent again. Returns when the zone has everything, but for files that a result
    only mentions and that are nowhere, which is said. Raises ConfigError without a zone, BadURI,
    NotFound, DigestMismatch, StoreUnavailable.
    """
    store, uplink = _with_zone()
    told = progress or _silent
    if not things:
        waiting = len(uplink.outbox.items())
        failed = uplink.push(told)
        lost = [f"{item.kind}/{item.name}: {why}" for item, why in failed]
        return Carried(waiting - len(failed), lost)
    uplink.prepare(writing=True)
    needed = _all_needed(store, things)
    first = [item for item in needed if item.kind not in ("arrays", "jobs")]
    arrays = [item for item in needed if item.kind == "arrays"]
    records = [item for item in needed if item.kind == "jobs"]  # last, for they name the rest
    sent: list[Item] = []
    for items in (first, arrays, records):
        _all_at_once(lambda item: _send(uplink, item, needed[item], sent), items, told)
    return Carried(len(sent), [])


def pull(*things: str | Job | Record, progress: Callable[[int], object] | None = None) -> Carried:
    """Bring files and jobs of the zone in force here, with their results, verified.

    Errors as for `push`; NotFound names what is in neither place.
    """
    store, uplink = _with_zone()
    uplink.prepare(writing=False)
    needed = _all_needed(store, things)
    brought: list[Item] = []
    _all_at_once(
        lambda item: _bring(store, item, needed[item], brought), needed, progress or _silent
    )
    return Carried(len(brought), [])


def _with_zone() -> tuple[Store, Uplink]:
    store = current().store
    if store.uplink is None:
        raise ConfigError(
            "no zone is in force: name one with KACHERY_ZONE or kachery.using(zone=...), after"
            " `kachery zone add NAME URL`"
        )
    return store, store.uplink


def _uri_of(store: Store, thing: str | Job | Record) -> str:
    """As uri_of; a whole job id need not be known here."""
    is_id = isinstance(thing, str) and _JOB_ID.fullmatch(thing) is not None
    return f"{_JOB}{thing}" if is_id else uri_of(store, thing)


def _all_needed(store: Store, things: Iterable[str | Job | Record]) -> dict[Item, str]:
    """What things consist of, each with who only mentions it, or nothing."""
    needed: dict[Item, str] = {}
    for thing in things:
        for item, mentioned_by in needed_by(store, _uri_of(store, thing)):
            if not mentioned_by or item not in needed:
                needed[item] = mentioned_by
    return needed


def needed_by(store: Store, uri: str) -> Iterator[tuple[Item, str]]:
    """What a file or a job consists of, each with who only mentions it, or nothing.

    A URI in a result may be of a file, or just text.
    """
    if not uri.startswith(_JOB):
        digest, *_ = parse_uri(uri)
        yield from _chunked(store, digest)
        yield Item(digest.algorithm, digest.hex), ""
        return
    job_id = uri.removeprefix(_JOB)
    data = store.jobs.read(job_id)
    held = holdings(store)(job_id, data)
    if not held.complete:  # what the result consists of is told by its encoding, which is not here
        if not held.arrays:
            store.blobs.path(Digest("blake3", held.address))
            held = holdings(store)(job_id, data)
        for address in held.arrays:
            _bring_tables(store, address)
        held = holdings(store)(job_id, data)
    yield from ((Item(digest.algorithm, digest.hex), "") for digest, _ in held.blobs)
    yield from ((Item(digest.algorithm, digest.hex), uri) for digest in held.files)
    yield from ((Item("arrays", address), "") for address in held.arrays)
    yield from ((Item("code", code), "") for code in held.codes if store.code.has(code))
    yield Item("jobs", job_id), ""


def _chunked(store: Store, digest: Digest) -> Iterator[tuple[Item, str]]:
    """What belongs to a digest that is the address of a chunked array."""
    try:
        data = store.arrays.read(digest.hex)
    except NotFound:
        return
    held = holdings(store)(digest.hex, data)
    if not held.complete:
        _bring_tables(store, digest.hex)
        held = holdings(store)(digest.hex, data)
    yield from ((Item(blob.algorithm, blob.hex), "") for blob, _ in held.blobs)
    yield Item("arrays", digest.hex), ""


def _bring_tables(store: Store, address: str) -> None:
    """Have here what tells which chunks an array or group has."""
    opened = open_stored(store, address)
    for path in opened.paths():
        opened.array(path).load_entries()


def _send(uplink: Uplink, item: Item, mentioned_by: str, sent: list[Item]) -> None:
    try:
        uplink.send_now(item)
    except NotFound:
        if uplink.has(item):  # it is not needed here for that
            pass
        elif mentioned_by:
            return _tell_nowhere(item, mentioned_by)
        else:
            raise
    sent.append(item)
    return None


def _tell_nowhere(item: Item, mentioned_by: str) -> None:
    warn(
        ZoneWarning(
            f"{mentioned_by} mentions {item.kind}://{item.name}, which is neither here nor in the"
            " zone: it is left out"
        )
    )


def _bring(store: Store, item: Item, mentioned_by: str, brought: list[Item]) -> None:
    try:
        if item.kind in ("jobs", "code", "arrays"):
            refs = {"jobs": store.jobs, "code": store.code, "arrays": store.arrays}[item.kind]
            refs.read(item.name)
        else:
            store.blobs.path(Digest(item.kind, item.name))
    except OutOfReach:
        raise
    except NotFound:
        if not mentioned_by:
            raise
        return _tell_nowhere(item, mentioned_by)
    brought.append(item)
    return None


def _all_at_once(
    carry: Callable[[Item], None], items: Iterable[Item], progress: Callable[[int], object]
) -> None:
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="kachery-carry") as pool:
        try:
            for _ in pool.map(carry, items):
                progress(1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _silent(count: int) -> None:
    """Tell nobody."""
