"""`kachery info URI`: where something is, here and in the zone, and who needs it."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator

import click

from kachery_store import Digest, NotFound, Store
from kachery_store.amounts import size_text
from kachery_store.blobs import Blobs
from kachery_store.errors import DigestMismatch, StoreTooNew, StoreUnavailable
from kachery_store.links import Links
from kachery_store.own_files import OwnFiles
from kachery_store.pins import JOB, Pinned, Pins, parse_pinned
from kachery_store.transfer import manifest_of_blob
from kachery_store.zone import Zone
from kachery_tasks.holdings import holdings
from kachery_tasks.keeping import uri_of
from kachery_tasks.settings import current, using

from .running import SETTINGS

_HOLDERS = 10  # lines

Facts = Iterator[tuple[str, str]]


@click.command(context_settings=SETTINGS)
@click.argument("uri")
@click.option("--zone", help="Instead of the one in force.")
def info(uri: str, zone: str | None) -> None:
    """Tell where something is stored, how large it is, when it was used, and whether it is intact.

    URI: of a file or a job, or the beginning of a job id. Also whether the zone has it, and which jobs
    that are stored here hold it.
    """
    if zone is None:
        return _tell(uri)
    with using(zone=zone):
        return _tell(uri)


def _tell(uri: str) -> None:
    store = current().store
    uri = uri_of(store, uri)
    pinned = parse_pinned(uri)
    here, away = list(_facts_here(store, pinned)), list(_facts_of_zone(store.zone, pinned))
    if not here and not any(name == "in zone" for name, _ in away):
        told = "".join(f"; {text}" for _, text in away)
        raise NotFound(f"{uri} is not in the store at {store.root}{told}")
    facts = [("uri", uri), *(here or [("local", "no")]), *away, *_holders(store, pinned)]
    for name, text in facts:
        click.echo(f"{name:10} {text}")


def _facts_here(store: Store, pinned: Pinned) -> Facts:
    status = store.backend.stat(pinned.name)
    if status is not None:
        yield "path", store.backend.path(pinned.name)
        yield "size", _size(status.st_size)
        yield "stored", when(status.st_mtime)
        yield "last used", when(max(status.st_atime, status.st_mtime))
        yield "pinned", "yes" if store.pins.has(pinned.uri) else "no"
        if pinned.kind == JOB:
            yield from _facts_of_job(store, pinned.hex)
        else:
            yield "intact", _is_intact(store, Digest(pinned.kind, pinned.hex))
    if pinned.kind != JOB:
        linked = Links(store.backend, OwnFiles()).find(Digest(pinned.kind, pinned.hex))
        if linked is not None:
            yield "linked", linked


def _facts_of_job(store: Store, job_id: str) -> Facts:
    held = holdings(store)(job_id, store.backend.read(Pinned(JOB, job_id).name))
    yield "task", held.task
    yield "took", f"{held.seconds:.3g} s"
    for digest, _ in held.blobs:
        yield "blob", f"{digest}, intact: {_is_intact(store, digest)}"
    for digest in held.files:
        yield "names", str(digest)


def _is_intact(store: Store, digest: Digest) -> str:
    try:
        Blobs(store.backend).path(digest)  # the file here, not that of a zone
    except (NotFound, DigestMismatch) as error:
        return f"no: {error}"
    return "yes"


def _facts_of_zone(zone: Zone | None, pinned: Pinned) -> Facts:
    if zone is None:
        return
    try:
        zone.prepare(writing=False)
        found = _in_zone(zone, pinned)
        yield ("zone", f"not in {zone.name}") if found is None else ("in zone", found)
        if found is not None and Pins(zone.backend).has(pinned.uri):
            yield "pinned", f"yes, in {zone.name}"
    except (StoreUnavailable, StoreTooNew, DigestMismatch) as error:
        yield "zone", f"{zone.name}: {error}"


def _in_zone(zone: Zone, pinned: Pinned) -> str | None:
    """What a zone has of something, whole or in parts; None: nothing."""
    status = zone.backend.status(pinned.name)
    if status is not None:
        return f"{zone.name}, whole, {_size(status.size)}, written {when(status.modified)}"
    if pinned.kind == JOB or zone.backend.part_size is None:
        return None
    try:
        manifest = manifest_of_blob(zone.backend, Digest(pinned.kind, pinned.hex))
    except NotFound:
        return None
    there = sum(zone.backend.status(part.digest.path) is not None for part in manifest.parts)
    return f"{zone.name}, {there} of {len(manifest.parts)} parts, {_size(manifest.size)}"


def _holders(store: Store, pinned: Pinned) -> Facts:
    """The jobs of the local store that hold a blob, or name a file."""
    if pinned.kind == JOB:
        return
    wanted, held_by, count = Digest(pinned.kind, pinned.hex), holdings(store), 0
    for job_id in store.jobs.names():
        try:
            held = held_by(job_id, store.backend.read(Pinned(JOB, job_id).name))
        except (NotFound, DigestMismatch, StoreTooNew):
            continue
        if wanted in held.files or wanted in (digest for digest, _ in held.blobs):
            count += 1
            if count <= _HOLDERS:
                yield "held by", f"job://{job_id} ({held.task})"
    if count > _HOLDERS:
        yield "held by", f"{count - _HOLDERS} more jobs"


def _size(size: int) -> str:
    return f"{size_text(size)} ({size} bytes)"


def when(moment: float) -> str:
    """A moment for people."""
    local = datetime.datetime.fromtimestamp(min(moment, time.time() + 1e9)).astimezone()
    return local.strftime("%Y-%m-%d %H:%M:%S")
