"""Who made what a job took.

The record tells, where it was handed over as a job. Otherwise content does: it is the job that returned
it first, before the job that took it had started.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from ..record import Record
from .at_hand import AtHand
from .candidates import Candidates
from .index import Index, Maker
from .model import CONTENT, EARLIER, RECORD, REPLACED
from .things import Taken, taken_by

_ALWAYS = float("inf")
_CONTAINERS = ("[", "(", "{", "list", "tuple", "dict")  # of summaries: what may have jobs in it


class Origins:
    """Finds origins, each once."""

    def __init__(self, index: Index, at_hand: AtHand) -> None:
        self._index = index
        self._at_hand = at_hand
        self._makers: dict[tuple[str, bool], list[Maker]] = {}
        self._candidates: dict[str, Candidates] = {}
        self._ids: dict[str, dict[str, None]] = {}
        self._taken: dict[str, dict[str, Taken]] = {}
        self._found: dict[tuple[str, str], dict[str, str]] = {}
        self._chosen: dict[_Choice, float] = {}  # until when others count that made the same

    def of(self, record: Record, name: str) -> dict[str, str]:
        """The jobs that made an argument of a job, or what is in it, and how that is known.

        None: it is a raw input.
        """
        key = record.job_id, name
        if key not in self._found:
            taken = self.taken(record).get(name)
            self._found[key] = {} if taken is None else self._of(record, taken)
        return self._found[key]

    def taken(self, record: Record) -> dict[str, Taken]:
        """What a job took, by parameter."""
        if record.job_id not in self._taken:
            self._taken[record.job_id] = {taken.name: taken for taken in taken_by(record)}
        return self._taken[record.job_id]

    def _of(self, record: Record, taken: Taken) -> dict[str, str]:
        told = dict.fromkeys(source for name, source in record.inputs if name == taken.name)
        if not told:
            whole = self._by_content(record, taken.exact)
            if whole is not None:
                return {whole: CONTENT}
        has = frozenset((taken.exact, *taken.inside))
        is_whole = len(told) == 1 and not taken.summary.startswith(_CONTAINERS)
        only = taken.summary.partition(" ")[0] if len(told) == 1 and not taken.complete else ""
        argument = _Argument(record, has, is_whole, only, taken.complete)
        found = {source: self._told(argument, source) for source in told}
        for thing in taken.inside:  # beside jobs there may be values
            if not self.that_made(thing, found):
                part = self._by_content(record, thing)
                if part is not None:
                    found.setdefault(part, CONTENT)
        return found

    def _told(self, argument: _Argument, source: str) -> str:
        """How it is known that an argument is, or has in it, what a job made, as the record tells.

        The record of that job may be of a later run, which gave something else.
        """
        record, has = argument.record, argument.has
        maker = self._at_hand.get(source)
        if maker is None or maker.result.address.hex() in has:
            return RECORD
        is_another = argument.is_whole or (argument.complete and self._is_telling(maker))
        if not is_another and maker.started + maker.seconds <= record.started:
            return RECORD  # it was there when it was taken
        is_another |= maker.result.type == argument.only  # probably the argument itself
        others = self._at_hand.others(maker)
        if any(one.result.address.hex() in has for one in others):
            return EARLIER
        if is_another:
            return REPLACED
        return EARLIER if any(one.started < record.started for one in others) else RECORD

    def _is_telling(self, maker: Record) -> bool:
        """Whether what a job made is found in what has it in it."""
        return bool(self.that_made(maker.result.address.hex(), {maker.job_id}))

    def _by_content(self, record: Record, thing: str) -> str | None:
        """The job that a job has a thing from, as far as content tells; None: from no job."""
        if thing not in self._candidates:
            self._candidates[thing] = Candidates(self.makers(thing), self._at_hand)
        found = self._candidates[thing].of(record)
        if found is None:
            return None
        (maker, is_before) = found
        choice = _Choice(maker.job_id, thing, is_slight=False)
        until = record.started if is_before else _ALWAYS
        self._chosen[choice] = max(until, self._chosen.get(choice, until))
        return maker.job_id

    def makers(self, thing: str, *, slight: bool = False) -> list[Maker]:
        """The jobs whose records count that made a thing, as of Index."""
        if (thing, slight) not in self._makers:
            makers = self._index.makers(thing, slight=slight)
            self._makers[thing, slight] = [
                one for one in makers if self._at_hand.get(one.job_id) is not None
            ]
        return self._makers[thing, slight]

    def that_made(self, thing: str, job_ids: Collection[str]) -> list[str]:
        """Of some jobs those that made a thing; job_ids: a dict or a set, however large."""
        if thing not in self._ids:
            self._ids[thing] = dict.fromkeys(one.job_id for one in self.makers(thing))
        few, many = sorted((self._ids[thing], job_ids), key=len)
        return [one for one in few if one in many]

    def choose(self, job_id: str, things: Iterable[str]) -> None:
        """Note that a job stands for all that made some things, which may be slight ones."""
        choices = (_Choice(job_id, thing, is_slight=True) for thing in things)
        self._chosen.update(dict.fromkeys(choices, _ALWAYS))

    def also(self) -> dict[str, tuple[str, ...]]:
        """For a job that was found, others that made the same."""
        found: dict[str, dict[str, None]] = {}
        for chosen, until in self._chosen.items():
            for one in self.makers(chosen.thing, slight=chosen.is_slight):
                if one.job_id != chosen.job_id and not one.passes and one.finished <= until:
                    found.setdefault(chosen.job_id, {})[one.job_id] = None
        return {job_id: tuple(others) for job_id, others in found.items()}


class _Argument(NamedTuple):
    """An argument of a job that was handed over as a job, or has such in it.

    `has`: what it is, and what is in it; that is `complete` if nothing telling is missing. `is_whole`:
    it is what one job made. `only`: its type, if only one job is in it.
    """

    record: Record
    has: frozenset[str]
    is_whole: bool
    only: str
    complete: bool


class _Choice(NamedTuple):
    """A job that was found for a thing."""

    job_id: str
    thing: str
    is_slight: bool
