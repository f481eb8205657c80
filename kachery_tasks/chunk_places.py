"""Where a chunked array is, so that any process can open it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache

from kachery_store import Store
from kachery_store.store import default_root
from kachery_store.zarr.arrays import Opened, open_stored
from kachery_store.zone_settings import ZoneSettings

from .settings import absolute, store_at, zone_settings_of


@dataclass(frozen=True)
class Place:
    """A store: its folder, and the zone behind it; and an address there, if it is that of an array.

    No tuple, because Dask looks into tuples.
    """

    root: str
    zone: ZoneSettings | None
    address: str = ""


@dataclass(frozen=True)
class Notes:
    """Which array of which job it is whose chunks are noted.

    `array` tells apart what is of one form: the arrays of a result, and those of two runs. `failed`
    is the mark that the last run has left, if that failed, or empty; `is_lost`: that it has stored a
    result, of which something is lost since.
    """

    job_id: str
    array: str
    failed: str = ""
    is_lost: bool = False


def place_in(store: Store, address: str = "") -> Place:
    """The place of something in a store that this process has open."""
    return Place(store.root, zone_settings_of(store), address)


def store_of(place: Place) -> Store:
    """The store of a place; on another machine its own one, if there is a zone behind both."""
    root = place.root
    if place.zone is not None and not os.path.isdir(root):
        root = absolute(default_root())
    return store_at(root, place.zone)


def opened(place: Place) -> Opened:
    """What is at a place. NotFound, DigestMismatch."""
    store = store_of(place)
    status = store.backend.stat(f"arrays/{place.address[:2]}/{place.address}")
    if status is None:
        forget_opened()  # it is to be fetched, or was collected
        return open_stored(store, place.address)
    return _opened(place, (status.st_ino, status.st_mtime_ns, status.st_size))


def forget_opened() -> None:
    """Look again at what is opened next."""
    _opened.cache_clear()


@lru_cache(maxsize=64)
def _opened(place: Place, file: tuple[int, int, int]) -> Opened:  # noqa: ARG001
    """What a manifest opens; `file` tells it from another that took its place."""
    return open_stored(store_of(place), place.address)
