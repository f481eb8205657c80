"""The errors of a log that is not what it should be: what, where, and what next. No input or output."""

from __future__ import annotations

from ..backend import Backend
from ..errors import FeedDamaged, FeedForked, FeedRolledBack
from .names import Place
from .tiles import COPY_AGAIN


def shorter(place: Place, backend: Backend, now: int, before: int) -> FeedRolledBack:
    """It has fewer entries than before."""
    return FeedRolledBack(
        f"{place.uri} at {backend.url} has {now} entries, and had {before} when it was last read"
        " here: it was cut short, or is an old copy. Nothing of it is used. Bring the copy up to date"
        " (kachery feed subscribe), or ask its owner"
    )


def forked(place: Place, backend: Backend, size: int) -> FeedForked:
    """It does not begin with what was read before."""
    return FeedForked(
        f"{place.uri} at {backend.url} is forked: its first {size} entries are not those that were read"
        " here before, though its key signed both. Nothing of it is used. Ask its owner: the key may be"
        " in other hands, or in use on a copy"
    )


def does_not_fit(place: Place, backend: Backend, name: str) -> FeedDamaged:
    """A tile or bundle is not what its checkpoint covers."""
    return FeedDamaged(
        f"{place.file(name)} at {backend.url} is damaged: it does not fit the checkpoint of"
        f" {place.uri}. {COPY_AGAIN}"
    )


def wrong_edge(place: Place, backend: Backend, size: int) -> FeedDamaged:
    """The partial tiles do not give the root."""
    return FeedDamaged(
        f"the files at the end of {place.uri} at {backend.url} are not those of its checkpoint, with"
        f" {size} entries. {COPY_AGAIN}"
    )


def missing(place: Place, backend: Backend, name: str) -> FeedDamaged:
    """A tile or bundle is not there."""
    return FeedDamaged(
        f"{place.file(name)} is missing at {backend.url}, though the checkpoint of {place.uri} covers"
        f" it. {COPY_AGAIN}"
    )
