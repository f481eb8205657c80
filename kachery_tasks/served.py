"""The value of a plain call: from the store, or of a run.

What a run needs is imported when there is one, so that a process that finds all its results begins
quickly.
"""

from __future__ import annotations

from typing import Any

from kachery_store import DigestMismatch, Store, StoreUnavailable
from kachery_store.errors import KacheryError, KacheryWarning, OutOfReach

from . import counting
from .binding import Arguments
from .cache import ABSENT, Outcome, Unusable, known, load
from .definition import Definition
from .errors import CannotDecode
from .identity import Addresses
from .purity import note_answer, note_asked
from .record import Record
from .settings import Settings, applied

_ATTEMPTS = 3  # against stored results that turn out to be damaged


def recalled(settings: Settings, definition: Definition, job_id: str) -> Any:
    """The value of a call if nothing but the store has to be asked, and else ABSENT."""
    try:
        record = known(settings.store, job_id, definition, settings)
        if record is None:
            return ABSENT
        note_asked(job_id, definition)
        return _served(settings.store, record)
    except (Unusable, CannotDecode, StoreUnavailable, OutOfReach):
        return ABSENT  # `answer` meets the same and says so


def answer(
    settings: Settings,
    job_id: str,
    definition: Definition,
    arguments: Arguments,
    addresses: Addresses,
    *,
    waited: bool = False,
) -> tuple[Any, KacheryWarning | None]:
    """The value of a call whose job id is known, and a warning if it was not stored.

    `settings` are those in force. `waited` says that the addresses were taken some time ago: the
    arguments are hashed again before the function runs. Raises what the function raises.
    """
    store = settings.store
    note_asked(job_id, definition)
    warning = None
    for _ in range(_ATTEMPTS):
        try:
            record = known(store, job_id, definition, settings)
        except StoreUnavailable:
            record = None  # run_job meets the same and says so
        if record is None:
            try:
                outcome = _run(
                    settings, job_id, definition, arguments, None if waited else addresses
                )
            except Exception as error:
                counting.failure(definition.name, error)
                raise
            if outcome.record is None or outcome.value is not ABSENT:
                counting.miss(outcome.record, definition.name)
                note_answer(outcome.record)
                return outcome.value, outcome.warning
            record, warning = outcome.record, outcome.warning
        try:
            return _served(store, record), warning
        except Unusable:
            continue  # it has been set aside, so now it is computed
        except (CannotDecode, StoreUnavailable, OutOfReach) as error:
            return _unserved(definition, arguments, error)
    damage = DigestMismatch("what is stored of it was damaged each time it was read")
    return _unserved(definition, arguments, damage)


def _run(
    settings: Settings,
    job_id: str,
    definition: Definition,
    arguments: Arguments,
    addresses: Addresses | None,
) -> Outcome:
    """Run a job under settings; without addresses, those of the arguments are taken anew."""
    from .runs import run_job, run_submitted

    store, strict = settings.store, settings.strict
    with applied(settings):
        if addresses is None:
            return run_submitted(store, definition, arguments, expected=job_id, strict=strict)
        return run_job(store, job_id, definition, arguments, addresses, strict=strict)


def _served(store: Store, record: Record) -> Any:
    """The value that a record names, counted as a hit; so is an exception that was kept."""
    try:
        value = load(store, record)
    except (Unusable, CannotDecode, StoreUnavailable, OutOfReach):
        raise
    except Exception:
        counting.hit(record)
        raise
    counting.hit(record)
    note_answer(record)
    return value


def _unserved(
    definition: Definition, arguments: Arguments, why: KacheryError
) -> tuple[Any, KacheryWarning]:
    """The value of a call of which something is stored that cannot be used here."""
    from .attempt import not_stored
    from .calling import call

    return call(definition, arguments), not_stored(definition, why)
