"""Who made what a job took.

The record tells, where it was handed over as a job. Otherwise content does: it is the job that returned
it first, if possible before the job that took it had started.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..record import Record
from .at_hand import AtHand
from .index import Index, Maker
from .things import Taken


class Origins:
    """Finds origins. `also`: for a job that was found, others that made the same."""

    def __init__(self, index: Index, at_hand: AtHand) -> None:
        self.also: dict[str, dict[str, None]] = {}
        self._index = index
        self._at_hand = at_hand
        self._known: dict[tuple[str, bool], list[Maker]] = {}

    def of(self, record: Record, taken: Taken) -> list[str]:
        """The jobs that made an argument of a job, or what is in it; none: it is a raw input."""
        found = [source for name, source in record.inputs if name == taken.name]
        if not found:
            whole = self._maker_for(record, taken.exact)
            if whole is not None:
                return [whole]
        for thing in taken.inside:  # beside jobs there may be values
            if not any(one.job_id in found for one in self.before(record, thing)):
                part = self._maker_for(record, thing)
                found += [] if part is None else [part]
        return list(dict.fromkeys(found))

    def _maker_for(self, record: Record, thing: str) -> str | None:
        """The job that a job has a thing from, as far as content tells; None: from no job."""
        found = self.before(record, thing)
        if not found:
            return None
        self.note_others(found[0], found)
        return found[0].job_id

    def before(self, record: Record, thing: str) -> list[Maker]:
        """The jobs that a job may have a thing from; the most likely one first."""
        makers = [one for one in self.makers(thing) if one.job_id != record.job_id]
        before = [one for one in makers if one.finished <= record.started]
        # None: clocks differ, or what made it was computed again since.
        return before or [one for one in makers if not one.passes]

    def makers(self, thing: str, *, slight: bool = False) -> list[Maker]:
        """The jobs whose records count that made a thing, as of Index."""
        if (thing, slight) not in self._known:
            makers = self._index.makers(thing, slight=slight)
            self._known[thing, slight] = [
                one for one in makers if self._at_hand.get(one.job_id) is not None
            ]
        return self._known[thing, slight]

    def note_others(self, chosen: Maker, makers: Iterable[Maker]) -> None:
        """Note for a job that was chosen which others made the same."""
        others = [one.job_id for one in makers if one.job_id != chosen.job_id and not one.passes]
        if others:
            self.also.setdefault(chosen.job_id, {}).update(dict.fromkeys(others))
