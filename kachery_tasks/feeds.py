"""Feeds, on the store and the zones in force. A feed is written on this machine, or in one zone."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from kachery_store.backend import Backend
from kachery_store.errors import BadFeed, NotFound, StoreUnavailable
from kachery_store.feeds import (
    Feed,
    Keyring,
    Owned,
    Subfeed,
    load_snapshot,
    mirror,
    parse_feed_uri,
    verify_files,
    wait_for_messages,
)
from kachery_store.feeds.log import Log
from kachery_store.feeds.memory import Memory
from kachery_store.feeds.names import FOLDER
from kachery_store.feeds.snapshot import snapshot_of
from kachery_store.identity import identity
from kachery_store.zone import Zone
from kachery_store.zone_settings import zone_named

from .files import load_json, local_store, root_in_force, store_in_force, store_json
from .job_feed import JOBS, integrate_runs
from .settings import store_at
from .trusted_keys import trusted_keys

_URI = "feed://"
_SNAPSHOT_LABEL = "feed.json"


def create_feed(name: str | None = None, *, zone: str | None = None) -> Feed:
    """Make a feed, whose key stays in your own folder; it is written on this machine, or in a zone.

    `name` is local: others know the feed by its URI. BadFeed when you have a feed of that name.
    """
    if zone is not None:
        _zone_backend(zone, writing=True)  # it is there, before there is a key
    return _feed(Keyring().create(name, zone))


def load_feed(name_or_uri: str, create: bool = False, *, zone: str | None = None) -> Feed:
    """A feed by its name or URI, or a snapshot by its URI; with `create` a name may be new.

    A feed of somebody else is read from `zone`, else from the zone in force, else from its copy on this
    machine. NotFound for a name that is not known, BadFeed. The feed named `jobs` tells of all runs so
    far.
    """
    if name_or_uri.startswith(_URI):
        feed, subfeed = parse_feed_uri(name_or_uri)
        if subfeed is not None:
            raise BadFeed(
                f"{name_or_uri} is a subfeed: leave out /{subfeed} for its feed, or use load_subfeed"
            )
        return _loaded(feed, zone)
    if "://" in name_or_uri:
        return _snapshot(name_or_uri)
    if name_or_uri == JOBS:
        update_job_feed()
    known = Keyring().named(name_or_uri)
    if known is None and create:
        return create_feed(name_or_uri, zone=zone)
    if known is None and name_or_uri == JOBS:
        raise NotFound("no job has run on this machine so far: there is no feed of jobs yet")
    if known is None:
        raise NotFound(
            f"you have no feed named {name_or_uri!r}: `kachery feed list` shows those you have, and"
            " `kachery feed create`, or create=True, makes one"
        )
    return _loaded(known, zone, updated=name_or_uri == JOBS)


def update_job_feed() -> int:
    """Bring into the feed `jobs` what has run since; returns how many messages that were.

    Whoever loads that feed has it done. It is made when something has run. A feed of somebody else to
    which you gave that name is left alone.
    """
    return integrate_runs(local_store(), Keyring(), _feed)


def get_feed_id(name: str, create: bool = False) -> str | None:
    """The public key of the feed of that name, or None; with `create` it is made."""
    known = Keyring().named(name)
    return create_feed(name).feed_id if known is None and create else known


def set_feed_name(name: str, uri: str) -> None:
    """Give a feed a local name. BadFeed when the name is taken."""
    if not Keyring().set_name(name, parse_feed_uri(uri)[0]):
        raise BadFeed(
            f"there is a feed named {name!r} already; names are local: choose another one"
        )


def delete_feed(name_or_uri: str) -> None:
    """Delete a feed's key, its names, and its files on this machine. Copies in zones stay.

    Without its key nobody can ever append to it again.
    """
    feed = load_feed(name_or_uri).feed_id
    backend = local_store().backend
    for name in list(backend.names(f"{FOLDER}/{feed}")):
        backend.remove(name)
    Keyring().delete(feed)


def load_subfeed(uri: str, *, zone: str | None = None) -> Subfeed:
    """The subfeed that a URI names, feed://<64 hex digits>/<name>."""
    feed, subfeed = parse_feed_uri(uri)
    if subfeed is None:
        raise BadFeed(f"{uri} is a feed: add /<name> of a subfeed, or use load_feed")
    return _loaded(feed, zone).load_subfeed(subfeed)


def watch_for_new_messages(
    subfeeds: Mapping[Any, Mapping[str, Any]], *, wait_msec: float | None = 10
) -> dict[Any, list[dict[str, Any]]]:
    """The messages of several subfeeds from positions on; waits for the first, for ever with None.

    Each is {"feedId": ..., "subfeedName": ..., "position": ...}; those without new messages are not in
    what is returned.
    """
    opened = {}
    for key, wanted in subfeeds.items():
        opened[key] = _loaded(wanted["feedId"]).load_subfeed(wanted["subfeedName"])
        opened[key].set_position(wanted["position"])
    return wait_for_messages(opened, wait_msec)


def publish_feed(name_or_uri: str, zone: str, *, again: bool = False) -> dict[str, int]:
    """Copy a feed, or one subfeed, to a zone; returns how many entries each subfeed gained there.

    With `again` also what should be there already, which repairs a damaged copy.
    """
    feed, names = _subfeeds(name_or_uri, None)
    return _mirrored(feed, names, _zone_backend(zone, writing=True), again)


def subscribe_feed(uri: str, zone: str | None = None, *, again: bool = False) -> dict[str, int]:
    """Copy a feed, or one subfeed, from a zone to this machine, verified; or bring the copy up to date.

    Without `zone` from the one in force. Returns how many entries each subfeed gained. With `again`
    also what should be here already is copied, which repairs a damaged copy.
    """
    if zone is None:
        in_force = store_in_force().zone
        if in_force is None:
            raise NotFound(f"no zone is in force: say from which zone {uri} is to be copied")
        zone = in_force.name
    feed, names = _subfeeds(uri, zone)
    return _mirrored(feed, names, local_store().backend, again)


def verify_feed(name_or_uri: str, *, zone: str | None = None) -> dict[str, int]:
    """Read all of a feed, or of one subfeed, and check every file; the messages of each subfeed.

    FeedDamaged, FeedRolledBack and FeedForked say what is wrong, and where.
    """
    feed, names = _subfeeds(name_or_uri, zone)
    if not names:
        raise NotFound(f"{feed.uri} has no subfeeds there: nothing to verify")
    found = {}
    for name in names:
        subfeed = feed.load_subfeed(name)
        verify_files(subfeed.log)
        found[name] = sum(1 for _ in subfeed.message_stream(0))
    return found


def _subfeeds(name_or_uri: str, zone: str | None) -> tuple[Feed, Sequence[str]]:
    if name_or_uri.startswith(_URI):
        feed_id, subfeed = parse_feed_uri(name_or_uri)
        feed = _loaded(feed_id, zone)
        return feed, feed.subfeed_names() if subfeed is None else [subfeed]
    feed = load_feed(name_or_uri, zone=zone)
    return feed, feed.subfeed_names()


def _mirrored(feed: Feed, names: Sequence[str], backend: Backend, again: bool) -> dict[str, int]:
    if not names:
        raise NotFound(f"{feed.uri} has no subfeeds there: nothing to copy")
    return {name: mirror(feed.load_subfeed(name).log, backend, again=again) for name in names}


def _loaded(feed: str, zone: str | None = None, *, updated: bool = False) -> Feed:
    own = Keyring().owned(feed)
    if zone is not None:
        signer = own.signer if own is not None and own.zone == zone else None
        return _made(feed, [_zone_backend(zone, writing=False)], signer, zone)
    if own is None:
        return _made(feed, _places_to_read(), None)
    if not updated and feed == Keyring().named(JOBS):
        update_job_feed()
    return _feed(own)


def _feed(own: Owned) -> Feed:
    backend = local_store().backend if own.zone is None else _zone_backend(own.zone, writing=True)
    return _made(own.feed, [backend], own.signer, own.zone)


def _made(feed: str, backends: Sequence[Backend], signer: Any, zone: str | None = None) -> Feed:
    snapshot, trusted = partial(_store_snapshot, feed), partial(_trusted_writers, zone)
    return Feed(feed, backends, signer, Memory(), snapshot, trusted=trusted)


def _trusted_writers(zone: str | None) -> Collection[str]:
    """Whose submissions are accepted: the keys trusted for all that comes from there, and one's own."""
    now, own = time.time(), identity()
    found = {
        one.key
        for one in trusted_keys()
        if one.task is None and one.zone in (None, zone) and (one.until is None or now < one.until)
    }
    return found if own is None else found | {own.public.hex()}


def _places_to_read() -> Sequence[Backend]:
    store = store_in_force()
    if store.zone is None or store.zone.is_away:
        return [store.backend]
    try:
        store.zone.prepare(writing=False)
    except StoreUnavailable as error:
        store.zone.went_away(error)  # which is said
        return [store.backend]
    return [store.zone.backend, store.backend]


def _zone_backend(name: str, *, writing: bool) -> Backend:
    root = root_in_force()
    settings = zone_named(name, root)
    if settings is None:
        raise BadFeed(f"zone {name!r} is this machine alone: leave `zone` out")
    zone = store_at(root, settings).zone
    assert isinstance(zone, Zone)  # noqa: S101 - it has settings
    zone.prepare(writing=writing and not zone.read_only)
    return zone.backend


def _store_snapshot(feed: str, logs: Sequence[Log]) -> Feed:
    uri = store_json(snapshot_of(feed, logs), label=_SNAPSHOT_LABEL)
    return _snapshot(uri)


def _snapshot(uri: str) -> Feed:
    content = load_json(uri)
    if content is None:
        raise NotFound(f"{uri} is nowhere to be found")
    feed, _, backend = load_snapshot(content, store_in_force().backend)
    return Feed(feed, [backend], uri=uri)
