"""Getting one job done.

`run_job` promises: a known result is not computed again; equal jobs asked for at the same time run
once; what is stored is what the function made of exactly the arguments that the job id stands for.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from typing import Any

from kachery_store import Store, StoreUnavailable
from kachery_store.amounts import span_text
from kachery_store.saying import warn

from . import counting
from .answers import add_answer, age_of, answer_id, answers
from .attempt import Ran, not_stored, ran
from .binding import Arguments
from .cache import ABSENT, Outcome, known, load
from .calling import call
from .chunk_scope import forget_partial
from .commit import commit, keep_differing
from .definition import ACTION, QUERY, Definition
from .errors import NotStored, NotStoredWarning, StaleResultWarning
from .failures import carried, forget_failure
from .identity import Addresses, addresses_of, identify
from .inputs import changed_since
from .lease import Lease, lease
from .lookup import lookup
from .names import works_for_client
from .purity import inside_task
from .record import Record
from .settings import current
from .tracebacks import shorten

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
    if definition.kind == ACTION:
        from .performing import perform  # tasks and queries do without

        return perform(store, job_id, definition, arguments, addresses)
    if current().read_only:
        return _only_read(store, job_id, definition)
    asked = time.perf_counter()
    with ExitStack() as stack:
        try:
            held = stack.enter_context(lease(store, job_id, replacing=True))
            record = _waited_for(store, job_id, definition, held)
        except StoreUnavailable as error:
            return Outcome(None, call(definition, arguments), not_stored(definition, error))
        counting.waited(job_id, definition.name, time.perf_counter() - asked)
        if record is not None:
            return Outcome(record)
        outcome = _compute(store, job_id, definition, arguments, addresses, strict)
        if outcome.record is not None and outcome.value is ABSENT and outcome.warning is None:
            return outcome._replace(warning=held.lost(definition.name))
        return outcome


def _waited_for(store: Store, job_id: str, definition: Definition, held: Lease) -> Record | None:
    """What answers a job once nobody else computes it.

    No other machine waits for an answer of a query, or for a run on purpose.
    """
    lookup = partial(known, store, job_id, definition)
    if definition.kind == QUERY or current().refreshes(definition.name):
        return lookup()
    return held.wait(lookup)


def _only_read(store: Store, job_id: str, definition: Definition) -> Outcome:
    record = known(store, job_id, definition)
    if record is None:
        raise NotStored(
            f"the result of {definition.name} (job {job_id}) is not known, and read_only=True: run it"
            " where it may be stored"
        )
    return Outcome(record)


def run_submitted(
    store: Store,
    definition: Definition,
    arguments: Arguments,
    *,
    expected: str | None,
    strict: bool,
    addresses: Addresses | None = None,
) -> Outcome:
    """`run_job` for arguments that have waited, or travelled, since the job was made.

    `expected` is the job id, if it was known then; KacheryError when the arguments have changed.
    `addresses` are those of the arguments, if they are known. What is raised on a worker says where, and
    can be pickled.
    """
    try:
        outcome = _run_submitted(store, definition, arguments, expected, strict, addresses)
        if outcome.record is not None and outcome.record.is_error:
            load(store, outcome.record)  # raises what was kept
        return outcome
    except Exception as error:
        if inside_task() or not works_for_client():
            raise
        sent = carried(error, definition.name)
        shorten(error)
        sent.__traceback__ = error.__traceback__
    try:
        raise sent  # out here the error is not its context, which would be pickled with it
    finally:
        del sent  # its traceback would hold this frame, and this frame the traceback


def _run_submitted(
    store: Store,
    definition: Definition,
    arguments: Arguments,
    expected: str | None,
    strict: bool,
    addresses: Addresses | None,
) -> Outcome:
    if addresses is None:
        addresses = addresses_of(definition, arguments)
    job_id = identify(definition, addresses)
    if expected is not None and job_id != expected:
        raise changed_since(definition, expected)
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
    run = ran(job_id, definition, arguments, addresses, strict=strict, noted_in=store)
    outcome = _kept(store, definition, run)
    forget_failure(store, job_id)
    error = run.error
    del run
    try:
        if error is not None and (outcome.record is None or outcome.record.is_error):
            if outcome.warning is not None:
                warn(outcome.warning)
            raise error
    finally:
        del error  # its traceback would hold this frame, and this frame the traceback
    return outcome


def _kept(store: Store, definition: Definition, run: Ran) -> Outcome:
    """The outcome of a run, which is stored if it can be."""
    if run.record is None or run.encoded is None:
        return Outcome(None, run.value, run.warning)
    try:
        again = current().refreshes(definition.name)
        if again:
            _note_first(store, run.record)
        began = time.perf_counter()
        stored = commit(store, run.record, run.encoded, run.codes, replace=again)
        counting.committed(run.record, time.perf_counter() - began)
    except StoreUnavailable as error:
        return Outcome(None, run.value, not_stored(definition, error))
    if not run.is_lazy:
        return Outcome(run.record, run.value) if stored else _second(store, run.record, run.value)
    forget_partial(store, run.record.job_id)
    value = load(store, run.record)  # what the function returned would compute it again
    return Outcome(run.record, value) if stored else _second(store, run.record, value)


def _note_first(store: Store, again: Record) -> None:
    """Keep the result that a run on purpose is about to replace, if it is another one."""
    first = lookup(store, again.job_id, again.task)
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
        run = ran(
            query_id,
            definition,
            arguments,
            addresses,
            strict=strict,
            record_id=record_id,
            noted_in=store,
        )
    except Exception as error:
        earlier = answers(store, query_id, definition.name)
        last = next(earlier, None) if definition.policy.fallback else None
        if last is None:
            raise
        return Outcome(last, warning=_stale(definition, last, error))
    outcome = _kept(store, definition, run)
    forget_failure(store, query_id)
    if outcome.record is not None:
        try:
            add_answer(store, query_id, outcome.record)
        except StoreUnavailable as error:
            return Outcome(None, run.value, not_stored(definition, error))
    return outcome


def _stale(definition: Definition, last: Record, error: Exception) -> StaleResultWarning:
    return StaleResultWarning(
        f"{definition.name} failed ({type(error).__name__}: {error}); its last good answer is served,"
        f" of {span_text(age_of(last))} ago"
    )


def _second(store: Store, record: Record, value: Any) -> Outcome:
    """What becomes of a run after which the store has a record already: the first result stays."""
    first = lookup(store, record.job_id, record.task)
    if first is None:  # it was damaged
        return Outcome(None, value, NotStoredWarning(f"{record.uri} was damaged while it ran"))
    if first.result.address != record.result.address:
        keep_differing(store, record)
    return Outcome(first)
