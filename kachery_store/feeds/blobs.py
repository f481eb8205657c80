"""Messages that are too large for an entry: blobs beside the feed, pinned so that none is collected."""

from __future__ import annotations

from .. import transfer
from ..backend import Backend
from ..blobs import Blobs
from ..digest import Digest
from ..errors import FeedDamaged, NotFound
from ..local_backend import LocalBackend
from ..pins import Pin, Pins
from .names import Place


def put_blob(backend: Backend, place: Place, digest: Digest, data: bytes) -> None:
    """Store the blob of a message, durably."""
    Pins(backend).write(Pin(str(digest), f"a message of {place.uri}"))
    if isinstance(backend, LocalBackend):
        Blobs(backend).put(digest, data, durable=True)
    else:
        transfer.send_bytes(backend, digest, data)


def get_blob(backend: Backend, place: Place, digest: Digest) -> bytes:
    """The blob of a message. FeedDamaged when it is not there; DigestMismatch."""
    try:
        return transfer.load(backend, digest)
    except NotFound:
        raise FeedDamaged(
            f"{digest}, a message of {place.uri}, is missing at {backend.url}: fetch the feed again"
            " (kachery feed subscribe --again), or have its owner publish it again (kachery feed publish"
            " --again)"
        ) from None
