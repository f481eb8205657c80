"""Checking all files of a log: those that reading trusts, and those that only other programs read."""

from __future__ import annotations

from itertools import islice

from ..errors import FeedDamaged, NotFound
from . import tiles
from .log import Log
from .tiles import WIDTH

_AT_ONCE = 64 * WIDTH


def verify_files(log: Log) -> None:
    """Compare every tile and bundle with what the entries give. FeedDamaged names one that differs."""
    log.refresh()
    edge, end = tiles.NO_EDGE, log.edge.size
    entries = log.entries(0, end)
    while edge.size < end:
        some = list(islice(entries, _AT_ONCE))
        files, edge = tiles.grow(edge, some, tiles.leaf_hashes(some), partial=False)
        for name, data in files:
            _compare(log, name, data)
    for name, data in tiles.edge_files(edge):
        _compare(log, name, data)


def _compare(log: Log, name: str, data: bytes) -> None:
    where = log.place.file(name)
    try:
        if log.backend.read(where) == data:
            return
        wrong = "is damaged"
    except NotFound:
        wrong = "is missing"
    raise FeedDamaged(
        f"{where} at {log.backend.url} {wrong}, though the entries of {log.place.uri} are intact: have"
        " its owner publish it again (kachery feed publish --again)"
    )
