"""`kachery info URI`: where something is, here and in the zone, and who needs it."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

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

from .help_pages import Command
from .telling import json_option, tell_facts, tell_json

_HOLDERS = 10  # lines


class Fact(NamedTuple):
    """Something about a thing: for people, and for programs, for which many of a name are a list."""

    name: str
    text: str
    field: str
    told: Any


Facts = Iterator[Fact]
_LISTS = ("blobs", "names", "held_by")


@click.command(cls=Command)
@click.argument("uri")
@click.option("--zone", help="Instead of the one in force.")
@json_option
def info(uri: str, zone: str | None, as_json: bool) -> None:
    """Tell where something is stored, how large it is, when it was used, and whether it is intact.

    URI: of a file or a job, or the beginning of a job id. Also whether the zone has it, and which jobs
    that are stored here hold it.

    Example: kachery info sha1://b971c6... --zone lab
    """
    if zone is None:
        return _tell(uri, as_json=as_json)
    with using(zone=zone):
        return _tell(uri, as_json=as_json)


def _tell(uri: str, *, as_json: bool) -> None:
    store = current().store
    uri = uri_of(store, uri)
    pinned = parse_pinned(uri)
    here, away = list(_facts_here(store, pinned)), list(_facts_of_zone(store.zone, pinned))
    if not here and not any(one.field == "in_zone" for one in away):
        told = "".join(f"; {one.text}" for one in away)
        raise NotFound(f"{uri} is not in the store at {store.root}{told}")
    local = here or [Fact("local", "no", "local", False)]  # noqa: FBT003 - a value
    facts = [Fact("uri", uri, "uri", uri), *local, *away, *_holders(store, pinned)]
    if as_json:
        tell_json(_as_json(facts))
    else:
        tell_facts(((one.name, one.text) for one in facts if one.text), width=10)


def _as_json(facts: list[Fact]) -> dict[str, Any]:
    told: dict[str, Any] = {"local": True}
    for one in facts:
        if one.field in _LISTS:
            told.setdefault(one.field, []).append(one.told)
        else:
            told[one.field] = one.told
    return told


def _facts_here(store: Store, pinned: Pinned) -> Facts:
    status = store.backend.stat(pinned.name)
    if status is not None:
        path, used = store.backend.path(pinned.name), max(status.st_atime, status.st_mtime)
        yield Fact("path", path, "path", path)
        yield Fact("size", _size(status.st_size), "size", status.st_size)
        yield Fact("stored", when(status.st_mtime), "stored", status.st_mtime)
        yield Fact("last used", when(used), "last_used", used)
        is_pinned = store.pins.has(pinned.uri)
        yield Fact("pinned", "yes" if is_pinned else "no", "pinned", is_pinned)
        if pinned.kind == JOB:
            yield from _facts_of_job(store, pinned.hex)
        else:
            damage = _damage(store, Digest(pinned.kind, pinned.hex))
            yield Fact("intact", _intact_text(damage), "intact", damage is None)
    if pinned.kind != JOB:
        linked = Links(store.backend, OwnFiles()).find(Digest(pinned.kind, pinned.hex))
        if linked is not None:
            yield Fact("linked", linked, "linked", linked)


def _facts_of_job(store: Store, job_id: str) -> Facts:
    held = holdings(store)(job_id, store.backend.read(Pinned(JOB, job_id).name))
    yield Fact("job", "", "job_id", job_id)
    yield Fact("task", held.task, "task", held.task)
    yield Fact("took", f"{held.seconds:.3g} s", "seconds", held.seconds)
    for digest, _ in held.blobs:
        damage = _damage(store, digest)
        told = {"uri": str(digest), "intact": damage is None}
        yield Fact("blob", f"{digest}, intact: {_intact_text(damage)}", "blobs", told)
    for digest in held.files:
        yield Fact("names", str(digest), "names", str(digest))


def _damage(store: Store, digest: Digest) -> str | None:
    """What is wrong with a blob here; None: nothing."""
    try:
        Blobs(store.backend).path(digest)  # the file here, not that of a zone
    except (NotFound, DigestMismatch) as error:
        return str(error)
    return None


def _intact_text(damage: str | None) -> str:
    return "yes" if damage is None else f"no: {damage}"


def _facts_of_zone(zone: Zone | None, pinned: Pinned) -> Facts:
    if zone is None:
        return
    try:
        zone.prepare(writing=False)
        found = _in_zone(zone, pinned)
        if found is None:
            yield Fact("zone", f"not in {zone.name}", "zone", zone.name)
            return
        yield Fact("in zone", found, "in_zone", zone.name)
        if Pins(zone.backend).has(pinned.uri):
            yield Fact("pinned", f"yes, in {zone.name}", "pinned_in_zone", True)  # noqa: FBT003 - a value
    except (StoreUnavailable, StoreTooNew, DigestMismatch) as error:
        yield Fact("zone", f"{zone.name}: {error}", "zone_error", str(error))


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
                told = {"job_id": job_id, "task": held.task}
                yield Fact("held by", f"job://{job_id} ({held.task})", "held_by", told)
    if count > _HOLDERS:
        more = count - _HOLDERS
        yield Fact("held by", f"{more} more jobs", "held_by_more", more)


def _size(size: int) -> str:
    return f"{size_text(size)} ({size} bytes)"


def when(moment: float) -> str:
    """A moment for people."""
    local = datetime.datetime.fromtimestamp(min(moment, time.time() + 1e9)).astimezone()
    return local.strftime("%Y-%m-%d %H:%M:%S")
