"""Garbage collection in a zone: what nobody has touched for long goes.

Others write there meanwhile, from machines whose clocks and locks count for nothing. All times are the
server's. What is about to go is named in `gc.lock` first, then whatever has come since is marked, then
each thing is looked at once more (docs/keeping.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple

from .backend import Backend
from .collecting import BATCH_SECONDS, OnlyCollection
from .errors import ConfigError
from .inventory import HeldBy
from .survey import Survey, at_once, chunks
from .zone import Zone
from .zone_plan import RECORDS, STEPS, ZonePolicy, plan_zone

_BATCH = 1000  # things condemned at a time
_WITHIN_A_BATCH = 64  # deleted between two looks at the clock


class ZoneCollected(NamedTuple):
    """What went, or would go: records, other things, bytes. `spared`: what stayed after all.

    `objects` and `size`: what was found before.
    """

    records: int = 0
    others: int = 0
    freed: int = 0
    spared: int = 0
    objects: int = 0
    size: int = 0


# Told the name and size of each thing that goes.
Told = Callable[[str, int], object]


def collect_zone(
    zone: Zone,
    held_by: HeldBy,
    policy: ZonePolicy,
    *,
    dry_run: bool = False,
    tell: Told = lambda name, size: None,  # noqa: ARG005
) -> ZoneCollected:
    """Take from a zone what a policy says; with `dry_run` only tell what, by this machine's clock.

    Raises Busy when somebody else collects there, ConfigError for a zone that is only read, StoreTooNew,
    StoreUnavailable.
    """
    zone.prepare(writing=False)
    if zone.read_only and not dry_run:
        raise ConfigError(f"zone {zone.name} is read_only here, so nothing is deleted there")
    sole = OnlyCollection(zone.backend, policy.grace)
    with nullcontext() if dry_run else sole:
        now = time.time() if dry_run else sole.began
        survey = Survey(zone.backend, held_by, (lambda: None) if dry_run else sole.beat)
        try:
            survey.look()
            plan_zone(survey, policy, zone.expires, now)
            return _foreseen(survey, tell) if dry_run else _Sweep(survey, sole, tell).run()
        finally:
            survey.close()


def _foreseen(survey: Survey, tell: Told) -> ZoneCollected:
    done = _found(survey)
    for name, size, step in survey.all(
        "SELECT name, size, step FROM going JOIN object USING (name) ORDER BY step, name"
    ):
        tell(name, size)
        done = _with(done, step, size)
    return done


def _found(survey: Survey) -> ZoneCollected:
    count, size = survey.one("SELECT count(*), total(size) FROM object")
    return ZoneCollected(objects=count, size=int(size))


def _with(done: ZoneCollected, step: int, size: int) -> ZoneCollected:
    is_record = step == RECORDS
    return done._replace(
        records=done.records + is_record,
        others=done.others + (not is_record),
        freed=done.freed + size,
    )


class _Thing(NamedTuple):
    """Something that may go, if it is still older than `before`, a moment on the server's clock."""

    name: str
    size: int
    before: float


class _Sweep:
    """Carries a plan out, batch by batch."""

    def __init__(self, survey: Survey, sole: OnlyCollection, tell: Told) -> None:
        self._survey = survey
        self._backend: Backend = survey.backend
        self._sole = sole
        self._tell = tell
        self._done = _found(survey)

    def run(self) -> ZoneCollected:
        for step in STEPS:
            while batch := self._next(step):
                self._sole.condemn(thing.name for thing in batch)
                self._delete(step, batch)
        return self._done

    def _next(self, step: int) -> list[_Thing]:
        return [
            _Thing(*row)
            for row in self._survey.all(
                "SELECT name, size, before FROM going JOIN object USING (name) WHERE step = ?"
                " ORDER BY name LIMIT ?",
                step,
                _BATCH,
            )
        ]

    def _delete(self, step: int, batch: list[_Thing]) -> None:
        """Delete what is condemned and still needed by nobody, in the time that we have for that."""
        self._mark_what_came()
        until = time.monotonic() + BATCH_SECONDS
        for some in chunks(batch, _WITHIN_A_BATCH):
            if time.monotonic() > until:
                return  # what is left is condemned anew
            self._survey.db.executemany(
                "DELETE FROM going WHERE name = ?", ((one.name,) for one in some)
            )
            for thing, went in zip(some, at_once(self._goes, self._unneeded(some)), strict=True):
                self._note(step, thing, went)

    def _mark_what_came(self) -> None:
        """What was written or pinned since the beginning needs what it names."""
        survey = self._survey
        survey.keep_pinned()
        come = survey.look_again()
        survey.keep(name for name in come if not name.startswith("manifests/"))
        for name in (name for name in come if name.startswith("manifests/")):
            survey.keep(survey.all("SELECT owner FROM edge WHERE name = ?", name))

    def _unneeded(self, things: list[_Thing]) -> list[_Thing | None]:
        needed = "SELECT 1 FROM kept WHERE name = ?"
        return [None if self._survey.one(needed, thing.name) else thing for thing in things]

    def _goes(self, thing: _Thing | None) -> bool:
        if thing is None:
            return False
        status = self._backend.status(thing.name)
        if status is None or status.modified >= thing.before:
            return False
        return self._backend.remove(thing.name)

    def _note(self, step: int, thing: _Thing, went: bool) -> None:
        if not went:
            self._done = self._done._replace(spared=self._done.spared + 1)
            return
        self._tell(thing.name, thing.size)
        self._done = _with(self._done, step, thing.size)
