"""When a job first gave the result that it has: its record may be of a later run, which gave the same.

The journal of runs tells, as long as it is there (docs/formats/runs.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from kachery_store import Store
from kachery_store.errors import KacheryError

from ..record import Record
from ..run_journal import FOLDER, SUFFIX, lines_from

_Named = tuple[str, str, str]  # job, address of the result in hex, host


class Span(NamedTuple):
    """When a run began and ended."""

    started: float
    ended: float


class FirstRuns:
    """The runs that the journals of a store tell of, which are read when somebody asks."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._spans: dict[_Named, Span] | None = None

    def of(self, record: Record) -> Span:
        """The first run of a job, on the host of its record, that gave the same result."""
        if self._spans is None:
            self._spans = {}
            for name, span in self._told():
                self._spans[name] = min(span, self._spans.get(name, span))
        own = Span(record.started, record.started + record.seconds)
        name = record.job_id, record.result.address.hex(), record.host
        return min(own, self._spans.get(name, own))

    def _told(self) -> Iterator[tuple[_Named, Span]]:
        backend = self._store.backend
        for path in backend.names(FOLDER):
            with suppress(OSError, KacheryError):
                data = backend.read(path) if path.endswith(SUFFIX) else b""
                yield from (found for found in map(_span_in, lines_from(data)) if found)


def _span_in(message: dict[str, Any]) -> tuple[_Named, Span] | None:
    try:
        name = message["job"], message["result"], message["host"]
        started = float(message["started"])
        return name, Span(started, started + float(message["seconds"]))
    except (KeyError, TypeError, ValueError):  # a verdict, or what a later kachery wrote
        return None
