"""Snapshots: feeds as they are at one moment, in one JSON file, as trustworthy as the feeds."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Any

from ..backend import Backend, Capabilities
from ..errors import BadFeed, NotFound
from . import tiles
from .log import Log
from .names import Place, place_of

FORMAT = "kachery feed snapshot 1"


def snapshot_of(feed: str, logs: Iterable[Log]) -> dict[str, Any]:
    """What a snapshot's file says: for each subfeed the checkpoint, and all entries in base64."""
    return {
        "feed": feed,
        "format": FORMAT,
        "subfeeds": {log.place.subfeed: _subfeed(log) for log in logs if log.size},
    }


def _subfeed(log: Log) -> dict[str, Any]:
    entries = [base64.b64encode(entry).decode() for entry in log.entries(0, log.size)]
    return {"checkpoint": log.note.decode(), "entries": entries}


def load_snapshot(content: Any, blobs: Backend) -> tuple[str, list[str], Backend]:
    """The feed of a snapshot, its subfeeds, and a backend from which it is read. BadFeed.

    Nothing is verified yet; blobs are read from `blobs`.
    """
    try:
        if content["format"] != FORMAT:
            raise BadFeed(f"that is no snapshot of a feed: its format is not {FORMAT!r}")
        feed, names = content["feed"], list(content["subfeeds"])
        files: dict[str, bytes] = {}
        for name, subfeed in content["subfeeds"].items():
            entries = [base64.b64decode(entry, validate=True) for entry in subfeed["entries"]]
            files |= _files(place_of(feed, name), entries, subfeed["checkpoint"].encode())
    except (KeyError, TypeError, AttributeError, binascii.Error, OverflowError):
        raise BadFeed("that is no snapshot of a feed, or a damaged one") from None
    return feed, names, _Snapshot(files, blobs)


def _files(place: Place, entries: list[bytes], note: bytes) -> dict[str, bytes]:
    made, _ = tiles.grow(tiles.NO_EDGE, entries, tiles.leaf_hashes(entries))
    return {place.file(name): data for name, data in made} | {place.checkpoint: note}


class _Snapshot:
    """A backend that has the files of a snapshot, and the blobs of another one. It is only read."""

    def __init__(self, files: dict[str, bytes], blobs: Backend) -> None:
        self.url = "a snapshot"
        self.part_size = blobs.part_size
        self.capabilities = Capabilities(create=False, swap=False, checksum=False, presign=False)
        self._files = files
        self._blobs = blobs
        self.status = blobs.status
        self.create, self.replace, self.swap = blobs.create, blobs.replace, blobs.swap
        self.remove, self.quarantine = blobs.remove, blobs.quarantine
        self.names, self.entries = blobs.names, blobs.entries

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes under a name; NotFound."""
        if name in self._files:
            return self._files[name][start:end]
        if name.startswith("feeds/"):
            raise NotFound(f"{name} is not in the snapshot")
        return self._blobs.read(name, start, end)
