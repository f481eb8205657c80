"""What a feed of jobs tells of the records in a bundle: its checkpoint, and the tiles that lead to them.

What reading needs is what goes in: the same reading, from the bundle, verifies it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import msgpack

from kachery_store.backend import Backend
from kachery_store.errors import FeedDamaged, NotFound, StoreUnavailable
from kachery_store.feeds import Feed, Keyring, Place, Subfeed
from kachery_store.feeds.entries import parse_entry
from kachery_store.feeds.log import Log
from kachery_store.feeds.names import FOLDER, place_of
from kachery_store.feeds.tiles import WIDTH, entries_path

from ..feeds import load_feed
from ..job_feed import JOBS
from .archive import Archive

MOST_FEED_FILE = 64_000_000  # bytes; a batch that is staged has fewer

_ENTRIES = re.compile(r"tile/entries/((?:x[0-9]{3}/)*[0-9]{3})")


def testimony(records: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of the user's feed of jobs that tell of these records, by name; none without a feed.

    `records`: their bytes, by job id.
    """
    if Keyring().named(JOBS) is None:
        return {}
    feed: Feed = load_feed(JOBS)
    digests = {job_id: _seal_of(data) for job_id, data in records.items()}
    found: dict[str, bytes] = {}
    for name in feed.subfeed_names():
        found |= _told_in(feed.load_subfeed(name), digests)
    return found


def _told_in(subfeed: Subfeed, digests: Mapping[str, str]) -> dict[str, bytes]:
    """The files of a subfeed that are needed to read what it tells of these records."""
    log = subfeed.log
    log.refresh()
    told = [index for index, one in _messages(log, range(1, log.size)) if _is_of(one, digests)]
    if not told:
        return {}
    with suppress(StoreUnavailable):  # tiles are less than the batches in which all of it is staged
        subfeed.integrate()
    noting = _Noting(log.backend)
    again = Log(noting, log.place)  # type: ignore[arg-type]  # it is only read
    again.refresh()
    for start in dict.fromkeys(index // WIDTH * WIDTH for index in told):
        list(again.entries(start, start + WIDTH))
    return noting.seen


class _Noting:
    """A backend that is read, and notes what was."""

    def __init__(self, backend: Backend) -> None:
        self.url = backend.url
        self.seen: dict[str, bytes] = {}
        self._backend = backend

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """As of Backend."""
        self.seen[name] = data = self._backend.read(name)
        return data[start:end]


class _Packed:
    """The files of feeds in a bundle, as a backend that is only read."""

    def __init__(self, archive: Archive) -> None:
        self.url = archive.path
        self._archive = archive

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """As of Backend."""
        return self._archive.read(name, MOST_FEED_FILE)[start:end]


def check_testimony(
    archive: Archive, names: Iterable[str], records: Mapping[str, bytes]
) -> dict[str, int]:
    """How many of the records each subfeed in a bundle tells of. BadBundle, StoreTooNew.

    All that is told under a checkpoint is what the feed's key has signed, whoever that is.
    """
    digests = {job_id: _seal_of(data) for job_id, data in records.items()}
    files: dict[Place, list[str]] = {}
    for name in names:
        if name.startswith(f"{FOLDER}/"):
            _, feed, subfeed, file = name.split("/", 3)
            files.setdefault(place_of(feed, subfeed), []).append(file)
    found = {}
    for place, present in files.items():
        try:
            found[place.uri] = _count(archive, place, present, digests)
        except (FeedDamaged, NotFound) as error:
            raise archive.bad(str(error)) from error
    return {uri: count for uri, count in found.items() if count}


def _count(archive: Archive, place: Place, files: list[str], digests: Mapping[str, str]) -> int:
    log = Log(_Packed(archive), place)  # type: ignore[arg-type]  # it is only read
    log.refresh()
    told = {one["job"] for _, one in _messages(log, _present(log, files)) if _is_of(one, digests)}
    return len(told)


def _present(log: Log, files: Iterable[str]) -> Iterator[int]:
    """The entries that can be read with these files: those of whole bundles, and all after those."""
    for file in files:
        match = _ENTRIES.fullmatch(file)
        if match:
            index = int(match[1].replace("/", "").replace("x", ""))
            if entries_path(index) == file and (index + 1) * WIDTH <= log.edge.size:
                yield from range(max(index * WIDTH, 1), (index + 1) * WIDTH)
    yield from range(max(log.edge.size // WIDTH * WIDTH, 1), log.size)


def _messages(log: Log, indices: Iterable[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The messages among some entries, which are in order, with their numbers."""
    for index in indices:
        for data in log.entries(index, index + 1):
            message = parse_entry(data, log.place, index).message
            if message is not None:
                yield index, message


def _is_of(message: Mapping[str, Any], digests: Mapping[str, str]) -> bool:
    """Whether a message tells of one of these records, as it is here."""
    job, digest = message.get("job"), message.get("record")
    return isinstance(job, str) and digest is not None and digests.get(job) == digest


def _seal_of(data: bytes) -> str:
    """The digest in a sealed file, which is the same whoever has signed it."""
    digest: bytes = msgpack.unpackb(data)[3]
    return digest.hex()
