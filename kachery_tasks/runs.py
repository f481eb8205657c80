"""Getting one job done.

`run_job` promises: a known result is not computed again; equal jobs asked for at the same time run
once; what is stored is what the function made of exactly the arguments that the job id stands for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

from kachery_store import DigestMismatch, Store, StoreUnavailable
from kachery_store.amounts import span_text
from kachery_store.errors import KacheryError, KacheryWarning, OutOfReach

from . import counting
from .answers import add_answer, age_of, answer_id, answers
from .binding import Arguments
from .cache import ABSENT, Outcome, Unusable, known, load, lookup
from .calling import call
from .code import Fingerprint
from .commit import Took, codes_among, commit, keep_differing, record_of, stated
from .definition import QUERY, Definition
from .errors import (
    CannotDecode,
    CannotEncode,
    ImpureTaskWarning,
    NotStored,
    NotStoredWarning,
    StaleResultWarning,
)
from .identity import Addresses, addresses_of, identify
from .lease import lease
from .record import Record
from .settings import current
from .values import Encoded

ALWAYS_CHECKED_UP_TO = 64 << 20  # bytes of arguments that are hashed again after every run

_ATTEMPTS = 3  # against stored results that turn out to be damaged


def run_job(
    store: Store,
    job_id: str,
    definition: Definition,
    arguments: Arguments,
    addresses: Addresses,
    *,
    strict: bool = False,
) -> Outcome:
    """Get a job done: found in the store, waited for, or computed here and committed.

    The id and the addresses are those of the arguments at this moment. Raises what the function
    raises; then nothing is stored.
    """
    if current().read_only:
        return _only_read(store, job_id, definition)
    with ExitStack() as stack:
        try:
            stack.enter_context(lease(store, job_id))
            record = known(store, job_id, definition)
        except StoreUnavailable as error:
            return Outcome(None, call(definition, arguments), _not_stored(definition, error))
        if record is not None:
            return Outcome(record)
        return _compute(store, job_id, definition, arguments, addresses, strict)


def _only_read(store: Store, job_id: str, definition: Definition) -> Outcome:
    record = known(store, job_id, definition)
    if record is None:
        raise NotStored(
            f"the result of {definition.name} (job {job_id}) is not known, and read_only=True: run it"
            " where it may be stored"
        )
    return Outcome(record)


def answer(
    store: Store,
    definition: Definition,
    arguments: Arguments,
    addresses: Addresses,
    *,
    strict: bool,
    waited: bool = False,
) -> tuple[Any, KacheryWarning | None]:
    """The value of a call whose argument addresses are known, and a warning if it was not stored.

    `waited` says that the addresses were taken some time ago: the arguments are hashed again before
    the function runs. Raises what the function raises.
    """
    job_id = identify(definition, addresses)
    if waited:
        run = partial(run_submitted, store, definition, arguments, expected=job_id, strict=strict)
    else:
        run = partial(run_job, store, job_id, definition, arguments, addresses, strict=strict)
    warning = None
    for _ in range(_ATTEMPTS):
        try:
            record = known(store, job_id, definition)
        except StoreUnavailable:
            record = None  # run_job meets the same and says so
        if record is None:
            try:
                outcome = run()
            except Exception as error:
                counting.failure(definition.name, error)
                raise
            if outcome.record is None or outcome.value is not ABSENT:
                counting.miss(outcome.record, definition.name)
                return outcome.value, outcome.warning
            record, warning = outcome.record, outcome.warning
        try:
            value = load(store, record)
        except Unusable:
            continue  # it has been set aside, so now it is computed
        except (CannotDecode, StoreUnavailable, OutOfReach) as error:
            return call(definition, arguments), _not_stored(definition, error)
        counting.hit(record)
        return value, warning
    damage = DigestMismatch("what is stored of it was damaged each time it was read")
    return call(definition, arguments), _not_stored(definition, damage)


def run_submitted(
    store: Store,
    definition: Definition,
    arguments: Arguments,
    *,
    expected: str | None,
    strict: bool,
) -> Outcome:
    """`run_job` for arguments that have waited, or travelled, since the job was made.

    `expected` is the job id, if it was known then; KacheryError when the arguments have changed.
    """
    addresses = addresses_of(definition, arguments)
    job_id = identify(definition, addresses)
    if expected is not None and job_id != expected:
        raise KacheryError(
            f"the arguments of {definition.name} (job {expected}), or a global that it reads, are"
            " not what they were when the job was made. Do not change them before it is done"
        )
    return run_job(store, job_id, definition, arguments, addresses, strict=strict)


def _compute(
    store: Store,
    job_id: str,
    definition: Definition,
    arguments: Arguments,
    addresses: Addresses,
    strict: bool,
) -> Outcome:
    if definition.kind == QUERY:
        return _ask(store, job_id, definition, arguments, addresses, strict)
    run = ran(job_id, definition, arguments, addresses, strict=strict)
    return _kept(store, definition, run)


def _kept(store: Store, definition: Definition, run: Ran) -> Outcome:
    """The outcome of a run, which is stored if it can be."""
    if run.record is None or run.encoded is None:
        return Outcome(None, run.value, run.warning)
    try:
        again = current().refreshes(definition.name)
        if again:
            _note_first(store, run.record)
        stored = commit(store, run.record, run.encoded, run.codes, replace=again)
    except StoreUnavailable as error:
        return Outcome(None, run.value, _not_stored(definition, error))
    return Outcome(run.record, run.value) if stored else _second(store, run.record, run.value)


def _note_first(store: Store, again: Record) -> None:
    """Keep the result that a run on purpose is about to replace, if it is another one."""
    first = lookup(store, again.job_id)
    if first is not None and first.result.address != again.result.address:
        keep_differing(store, first)


def _ask(
    store: Store,
    query_id: str,
    definition: Definition,
    arguments: Arguments,
    addresses: Addresses,
    strict: bool,
) -> Outcome:
    """Run a query. If that fails, its last good answer counts, unless `fallback` is False."""
    record_id = answer_id(query_id)
    try:
        run = ran(query_id, definition, arguments, addresses, strict=strict, record_id=record_id)
    except Exception as error:
        last = next(answers(store, query_id), None) if definition.policy.fallback else None
        if last is None:
            raise
        return Outcome(last, warning=_stale(definition, last, error))
    outcome = _kept(store, definition, run)
    if outcome.record is not None:
        try:
            add_answer(store, query_id, outcome.record)
        except StoreUnavailable as error:
            return Outcome(None, run.value, _not_stored(definition, error))
    return outcome


def _stale(definition: Definition, last: Record, error: Exception) -> StaleResultWarning:
    return StaleResultWarning(
        f"{definition.name} failed ({type(error).__name__}: {error}); its last good answer is served,"
        f" of {span_text(age_of(last))} ago"
    )


class Ran(NamedTuple):
    """What a run returned, and what can be stored of it; `warning` says why nothing can."""

    value: Any
    record: Record | None = None
    encoded: Encoded | None = None
    codes: Sequence[Fingerprint] = ()
    warning: KacheryWarning | None = None


def ran(
    job_id: str,
    definition: Definition,
    arguments: Arguments,
    addresses: Addresses,
    *,
    strict: bool,
    record_id: str | None = None,
) -> Ran:
    """Run a job now, whatever is stored, and store nothing. Raises what the function raises.

    The record gets the id of the job, unless another one is given.
    """
    told = stated(definition, arguments, addresses)
    codes = codes_among(definition.package, *addresses.told)
    started = time.time()
    clock = time.perf_counter()
    value = call(definition, arguments)
    took = Took(started, time.perf_counter() - clock)
    if impurity := _impurity(job_id, definition, arguments, addresses, strict):
        return Ran(value, warning=impurity)
    try:
        record, encoded = record_of(record_id or job_id, definition, told, codes, took, value)
    except CannotEncode as error:
        return Ran(value, warning=_not_stored(definition, error.inside("its result")))
    return Ran(value, record, encoded, [definition.fingerprint(), *(code for _, code in codes)])


def _second(store: Store, record: Record, value: Any) -> Outcome:
    """What becomes of a run after which the store has a record already: the first result stays."""
    first = lookup(store, record.job_id)
    if first is None:  # it was damaged
        return Outcome(None, value, NotStoredWarning(f"{record.uri} was damaged while it ran"))
    if first.result.address != record.result.address:
        keep_differing(store, record)
    return Outcome(first)


def _impurity(
    job_id: str, definition: Definition, arguments: Arguments, before: Addresses, strict: bool
) -> KacheryWarning | None:
    """What speaks against storing the result of a run that has just ended."""
    after = before
    if before.size <= ALWAYS_CHECKED_UP_TO or strict:
        try:
            after = addresses_of(definition, arguments, before=before)
        except CannotEncode as error:
            return _changed_its(definition, f"arguments ({error})")
    changed = [repr(name) for name, address in before.of.items() if after.of[name] != address]
    if changed:
        return _changed_its(definition, f"argument {', '.join(changed)}")
    if identify(definition, after, before) != job_id:
        return ImpureTaskWarning(
            f"the code of {definition.name}, or a global that it reads, changed while it ran: the"
            " value is returned and not stored"
        )
    return None


def _changed_its(definition: Definition, what: str) -> ImpureTaskWarning:
    return ImpureTaskWarning(
        f"{definition.name} changed its {what}: the value is returned and not stored, because a"
        " stored result would not change the argument next time. Let the task work on a copy"
    )


def _not_stored(definition: Definition, error: Exception) -> NotStoredWarning:
    return NotStoredWarning(f"the result of {definition.name} is returned but not stored: {error}")
