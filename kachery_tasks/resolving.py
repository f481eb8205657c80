"""What is known of actions, and saying what became of one of which nobody knows."""

from __future__ import annotations

import time
from collections.abc import Iterator

from kachery_store import NotFound, Store
from kachery_store.errors import Busy, KacheryError
from kachery_store.running import is_running

from .claims import ERROR, FINISHED, PENDING, RUNNING, UNKNOWN, Log, Step, job_ids
from .environment import here
from .lease import lease
from .settings import store_at
from .watching import Place, place_of, settled, watch


def known_of(store: Store, job_id: str) -> Step | None:
    """The state of an action as it is now; None when nobody has asked for it. Nothing is written.

    Of a run on another machine it is `running` until somebody who waited for it found no sign of life.
    """
    place = Place(store, job_id)
    log = place.log()
    step = log.look()
    if step is None:
        return _last_of(store, place)
    if step.state not in (RUNNING, UNKNOWN):
        return step
    note = place.note_of(step)
    if note is not None and note.state not in (RUNNING, UNKNOWN):
        return note  # we know better
    if step.state == UNKNOWN or note is None or place.is_held():
        return step
    step = log.look()  # the outcome is written before the lease is given back
    return step._replace(state=UNKNOWN) if step is not None and step.state == RUNNING else step


def _last_of(store: Store, place: Place) -> Step | None:
    """The last change of an action that runs each time."""
    step = place.notes.last()
    if step is None or step.state != RUNNING or is_running(store.backend, step.run):
        return step
    step = place.notes.last()
    return step._replace(state=UNKNOWN) if step is not None and step.state == RUNNING else step


def state_of(store: Store, job_id: str) -> str:
    """The state of an action: a word."""
    step = known_of(store, job_id)
    return PENDING if step is None else step.state


def find_action(store: Store, text: str) -> Step:
    """What is known of the action with a job id, the beginning of one, or a job:// URI.

    NotFound when there is none, or more than one.
    """
    steps = actions_like(store, text)
    if len(steps) > 1:
        raise NotFound(
            f"{len(steps)} actions begin with {text}; give more digits of the one you mean"
        )
    if not steps:
        where = store.root if store.zone is None else f"zone {store.zone.name}"
        raise NotFound(f"no action {text} is known in {where}; `kachery actions` lists what is")
    return steps[0]


def actions_like(store: Store, text: str) -> list[Step]:
    """What is known of the actions whose job ids begin like this."""
    start = text.removeprefix("job://").lower()
    return list(_known_of_all(store, start)) if start else []


def all_actions(store: Store) -> Iterator[Step]:
    """What is known of each action in the zone, or without one in the local store."""
    return _known_of_all(store, "")


def _known_of_all(store: Store, start: str) -> Iterator[Step]:
    found = set(job_ids(store.backend, start))
    if store.zone is not None:
        found.update(job_ids(store.zone.backend, start))
    for job_id in sorted(found):
        step = known_of(store, job_id)
        if step is not None:
            yield step


def resolve(store: Store, job_id: str, *, done: bool) -> Step:
    """Say what became of an action whose outcome is unknown; returns what is known of it then.

    Raises Busy when whoever runs it lives, KacheryError when its outcome is known, and as `place_of`.
    It may wait until no sign of life has come from another machine for a while.
    """
    place = place_of(store, job_id)
    if place.is_held():
        raise Busy(f"job {job_id} is running on this machine; its outcome will be known")
    with lease(store_at(store.root), job_id):
        log = place.log()
        last = settled(place, log)
        if last is not None and last.state == RUNNING:
            watch(place, log)
            last = log.look()
        if last is None:
            raise NotFound(
                f"job {job_id} is no action that is started once at most, or nobody has started it:"
                " there is nothing to resolve"
            )
        return _resolved(log, last, done)


def _resolved(log: Log, last: Step, done: bool) -> Step:
    if last.state != UNKNOWN:
        raise KacheryError(
            f"the outcome of job {last.job_id} ({last.action}) is not unknown: it is {last.state}"
        )
    host, user = here()
    said = last._replace(
        state=FINISHED if done else ERROR, changed=time.time(), by=f"{user} on {host}"
    )
    if not log.add(said):
        raise Busy(f"job {last.job_id} has changed meanwhile; look at it with `kachery show`")
    return said
