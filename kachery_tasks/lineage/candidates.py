"""Of the jobs that made a thing, the one that a job took it from. Pure: no I/O of its own.

It is told by a few of them, however many there are: those that were the first on their hosts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

from ..record import Record
from .at_hand import AtHand
from .index import Maker

# Of a host's own clock: seconds, and for each second of a run. It may be set right meanwhile.
_SLACK, _SLEW = 0.001, 0.001

_Firsts = dict[
    str, list[tuple[float, Maker]]
]  # by host: two, and when they were done at the latest


class Candidates:
    """The jobs that made a thing."""

    def __init__(self, makers: Iterable[Maker], at_hand: AtHand) -> None:
        found = [(one, at_hand.get(one.job_id)) for one in makers]
        self._makers = [(one, record) for one, record in found if record is not None]
        self._first_runs = at_hand.first_runs

    @cached_property
    def _own(self) -> _Firsts:
        return _by_host((one, record) for one, record in self._makers if not one.passes)

    @cached_property
    def _passing(self) -> _Firsts:
        """Those that took it, too."""
        return _by_host((one, record) for one, record in self._makers if one.passes)

    @cached_property
    def _run_again(self) -> _Firsts:
        """Those that have run again since they made it."""
        first = ((one, record, self._first_runs.of(record)) for one, record in self._makers)
        return _by_host(
            (one._replace(finished=run.ended), record)
            for one, record, run in first
            if not one.passes and run.ended < one.finished
        )

    def of(self, record: Record) -> tuple[Maker, bool] | None:
        """Where a job has the thing from, and whether that was done before the job began.

        What was done later comes from another host, whose clock differs: on the same one it cannot be
        the origin, unless it had been done before. None: from no job.
        """
        found = _before(self._own, record) or _before(self._passing, record)
        if found is None and record.host in self._own:
            found = _before(self._run_again, record)
        if found is not None:
            return found, True
        later = [one for host, _, one in _firsts(self._own, record) if host != record.host]
        return (min(later, key=_order), False) if later else None


def _by_host(makers: Iterable[tuple[Maker, Record]]) -> _Firsts:
    found: _Firsts = {}
    for one, record in makers:
        slack = _SLACK + _SLEW * record.seconds
        found.setdefault(record.host, []).append((one.finished - slack, one))
    # One of the two may be who took it.
    return {host: sorted(all_of_it)[:2] for host, all_of_it in found.items()}


def _before(firsts: _Firsts, record: Record) -> Maker | None:
    before = [one for _, done, one in _firsts(firsts, record) if done <= record.started]
    return min(before, key=_order, default=None)


def _firsts(firsts: _Firsts, record: Record) -> Iterator[tuple[str, float, Maker]]:
    """The first of each host that is not the job itself, and when it was done, by that one's clock."""
    for host, two in firsts.items():
        done, one = two[0] if two[0][1].job_id != record.job_id else two[-1]
        if one.job_id != record.job_id:
            yield host, done if host == record.host else one.finished, one


def _order(one: Maker) -> tuple[float, str]:
    return one.finished, one.job_id
