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
    if store.backend.stat(f"arrays/{place.address[:2]}/{place.address}") is None:
        forget_opened()  # it is to be fetched, or was collected
    return _opened(place)


def forget_opened() -> None:
    """Look again at what is opened next."""
    _opened.cache_clear()


@lru_cache(maxsize=64)
def _opened(place: Place) -> Opened:
    return open_stored(store_of(place), place.address)
