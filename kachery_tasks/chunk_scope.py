"""Where arrays in chunks come from, and go to, while a value that may have some is decoded or encoded.

Each hit and miss says that, so it is light: what knows such arrays (chunk_values) is imported when a
value is one.
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar, Token

from kachery_store import Store
from kachery_store.errors import StoreUnavailable
from kachery_store.refs import Refs

from .values.registry import known_in

Source = tuple[Store, str]  # a store, and the job whose result is read, or empty


class Storing:
    """A result that is being encoded. `job_id`: where what is stored of it is noted, if anywhere.

    `arrays`: how many of its arrays were stored by now;
    `used`: whether anything was stored in chunks, `seconds`: how long computing and storing it took;
    `error`: what computing a chunk raised.
    """

    def __init__(self, store: Store, job_id: str | None) -> None:
        self.store = store
        self.job_id = job_id
        self.arrays = 0
        self.used = False
        self.seconds = 0.0
        self.error: Exception | None = None


_source: ContextVar[Source | None] = ContextVar("kachery_reading", default=None)
_storing: ContextVar[Storing | None] = ContextVar("kachery_storing_chunks", default=None)


class storing:  # noqa: N801 - it is used like a function, and costs less than one
    """Have arrays in chunks that are encoded in this block stored."""

    __slots__ = ("_now", "_reset")

    def __init__(self, store: Store, job_id: str | None) -> None:
        self._now = Storing(store, job_id)

    def __enter__(self) -> Storing:
        self._reset = _storing.set(self._now)
        return self._now

    def __exit__(self, *_: object) -> None:
        _storing.reset(self._reset)


class reading:  # noqa: N801 - it is used like a function, and costs less than one
    """Have arrays in chunks that are decoded in this block be those of a store, of a job's result."""

    __slots__ = ("_reset", "_source")

    def __init__(self, store: Store, job_id: str = "") -> None:
        self._source = (store, job_id)

    def __enter__(self) -> None:
        self._reset: Token[Source | None] = _source.set(self._source)

    def __exit__(self, *_: object) -> None:
        _source.reset(self._reset)


def storing_now() -> Storing | None:
    """The result that is being encoded here, if one is."""
    return _storing.get()


def source_now() -> Source | None:
    """What is read here, if anything is."""
    return _source.get()


def forget_partial(store: Store, job_id: str) -> None:
    """Forget which chunks a job has stored, now that its result is."""
    notes = Refs(store.backend, f"partial/{job_id}")
    with suppress(StoreUnavailable):  # they do no harm, and a collection takes them
        for name in list(notes.names()):
            notes.remove(name)


known_in(f"{__package__}.chunk_values", "dask", "zarr", "kachery_store")
