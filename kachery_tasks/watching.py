"""Where the claims on actions are, and whether those who made them live.

A process of the same local store lives as long as it holds the lease on the action. Of others, signs of
life are in the zone: whoever waits sees them change, and reads no clock but its own.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from kachery_store import Store, StoreUnavailable
from kachery_store.backend import Backend
from kachery_store.errors import Unsupported
from kachery_store.running import is_running
from kachery_store.zone import Zone

from .claims import FINAL, PENDING, RUNNING, UNKNOWN, Beats, Log, Notes, Step
from .trust import TrustedWitness

_BEAT_EVERY = 15.0  # seconds
GONE_AFTER = 90.0  # seconds without a sign of life
_FIRST_PAUSE, _LONGEST_PAUSE = 0.04, 1.0


class Place:
    """Where the steps of one action are: in the zone, if there is one, else in the local store.

    Beside a zone, the local store has notes of the runs that were started from there.
    """

    def __init__(self, store: Store, job_id: str) -> None:
        self.job_id = job_id
        self.zone: Zone | None = store.zone
        self.backend: Backend = store.backend if store.zone is None else store.zone.backend
        self.beats = Beats(self.backend, job_id)
        self.notes = Notes(store.backend, job_id)
        self._store = store

    def log(self) -> Log:
        """The steps, as those who are trusted tell them."""
        witness = None if self.zone is None else TrustedWitness(self.zone.name)
        return Log(self.backend, self.job_id, witness)

    def prepare(self) -> None:
        """Make sure that claims can be made there. StoreUnavailable, StoreTooNew, Unsupported."""
        if self._store.uplink is None or self.zone is None:
            return
        if self.zone.read_only:
            raise Unsupported(self._refusal("is only read (read_only = true)"))
        self._store.uplink.prepare(writing=True)
        if not self.backend.capabilities.create:
            raise Unsupported(self._refusal("cannot tell which of two was first"))

    def _refusal(self, why: str) -> str:
        return (
            f"job {self.job_id}: nothing was started. An action that is started once at most is claimed"
            f" where others see it, and zone {self.zone and self.zone.name} {why}. Use another zone, or"
            " kachery.using(zone=None), where `once` holds for this machine's store alone"
        )

    def note(self, step: Step) -> None:
        """Note how far a run of ours is, where only we see it."""
        if self.zone is not None:
            self.notes.write(step)

    def forget(self, run: str) -> None:
        """Forget the note of a run."""
        if self.zone is not None:
            self.notes.remove(run)

    def note_of(self, step: Step) -> Step | None:
        """What this store knows of the run of a step; None when it was not started from here."""
        return step if self.zone is None else self.notes.read(step.run)

    def is_held(self) -> bool:
        """Whether a process of this store holds the lease on the action."""
        return is_running(self._store.backend, self.job_id)


def place_of(store: Store, job_id: str) -> Place:
    """Where the claims on an action are made; errors as for `Place.prepare`."""
    place = Place(store, job_id)
    place.prepare()
    return place


def settled(place: Place, log: Log) -> Step | None:
    """The last step, brought up to date with what is known here; only under the lease.

    Who holds the lease knows that no other process of this store runs the action.
    """
    while True:
        last = log.look()
        if last is None or last.state not in (RUNNING, UNKNOWN):
            return last
        known = place.note_of(last)
        if known is None or (known.state in (RUNNING, UNKNOWN) and last.state == UNKNOWN):
            return last
        state = known.state if known.state in (PENDING, *FINAL) else UNKNOWN
        log.add(known._replace(state=state, changed=time.time()))


def watch(place: Place, log: Log) -> None:
    """Wait until something follows the last step; if its holder seems to have gone, `unknown` does."""
    before, beat = log.last, place.beats.seen()
    patience, pause = time.monotonic() + GONE_AFTER, _FIRST_PAUSE
    while True:
        time.sleep(pause)
        pause = min(1.5 * pause, _LONGEST_PAUSE)
        if log.look() is not before:
            return
        seen = place.beats.seen()
        if seen != beat:
            beat, patience = seen, time.monotonic() + GONE_AFTER
        elif time.monotonic() > patience:
            if before is not None:
                log.add(before._replace(state=UNKNOWN, changed=time.time()))
            return


@contextmanager
def beating(place: Place) -> Iterator[None]:
    """Give signs of life while this lasts, if there is a zone."""
    if place.zone is None:
        yield
        return
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(_BEAT_EVERY):
            with suppress(StoreUnavailable):  # the outcome is tried for longer, and says so
                place.beats.give(os.urandom(16).hex())

    threading.Thread(target=beat, name="kachery-beat", daemon=True).start()
    try:
        yield
    finally:
        stop.set()
