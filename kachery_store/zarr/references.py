"""Where the bytes of an array are, for readers without kachery: a reference file as Kerchunk has it."""

from __future__ import annotations

import json
from typing import Any

from ..errors import Unsupported
from . import grid
from .arrays import Opened
from .keys import below
from .metadata import all_json


def references(opened: Opened, *, in_zone: bool = False) -> dict[str, Any]:
    """The references to an array or group: metadata with its codecs, and a file for each chunk.

    Files of this machine, checked; with `in_zone` the URLs of the zone in force. Unsupported without
    one, or for chunks that the zone has in parts.
    """
    codecs = {path: opened.array(path).codecs for path in opened.paths()}
    refs: dict[str, Any] = {
        key: json.dumps(value) for key, value in all_json(opened.content, codecs).items()
    }
    for path in opened.paths():
        array = opened.array(path)
        for index in grid.indices(array.content.shape, array.content.chunks):
            blob, size = array.blob(index)
            where = _url(opened, blob, size) if in_zone else opened.store.blobs.path(blob)
            refs[below(path) + grid.key_of(index)] = [where, 0, size]
    return {"version": 1, "refs": refs}


def _url(opened: Opened, blob: Any, size: int) -> str:
    zone = opened.store.zone
    if zone is None:
        raise Unsupported("no zone is in force whose URLs could be named; leave in_zone= out")
    part = zone.backend.part_size
    if part is not None and size > part:
        raise Unsupported(
            f"a chunk has {size} bytes, and zone {zone.name} keeps such in parts: use smaller chunks"
        )
    return f"{zone.backend.url.rstrip('/')}/{blob.path}"
