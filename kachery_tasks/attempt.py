"""One run of a job's function, with its retries, and what can be stored of what came out."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from resource import RUSAGE_SELF, getrusage
from typing import Any, NamedTuple

from kachery_store import Store
from kachery_store.errors import KacheryWarning

from .binding import Arguments
from .cache import ABSENT
from .calling import Tries, call
from .chunk_scope import Storing, storing
from .code import Fingerprint
from .commit import Codes, Took, codes_among, keeping, record_of, stated
from .definition import TASK, Definition
from .environment import ask_repository
from .errors import CannotEncode, ImpureTaskWarning, NotStoredWarning
from .failures import Told, note_failure, note_kept
from .identity import Addresses, addresses_of, are_constant, identify
from .kept_errors import is_kept, raised
from .parts import Parts
from .record import ERROR, Record
from .settings import current
from .summary import type_name
from .values import Encoded, Keep, encode

_PEAK_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes, of what the system tells

ALWAYS_CHECKED_UP_TO = 64 << 20  # bytes of arguments that are hashed again after every run


class Ran(NamedTuple):
    """What a run returned, and what can be stored of it; `warning` says why nothing can.

    `error` is what it raised, if that counts as a result. `is_lazy`: its value is in the store, in
    chunks, and what the function returned is not computed.
    """

    value: Any
    record: Record | None = None
    encoded: Encoded | None = None
    codes: Sequence[Fingerprint] = ()
    warning: KacheryWarning | None = None
    error: Exception | None = None
    is_lazy: bool = False


def ran(
    job_id: str,
    definition: Definition,
    arguments: Arguments,
    addresses: Addresses,
    *,
    strict: bool,
    record_id: str | None = None,
    noted_in: Store | None = None,
) -> Ran:
    """Run a job now, whatever is stored, and store no record. Raises what the function raises.

    The record gets the id of the job, unless another one is given. If a store is given, a failure is
    noted there, and the largest buffers of the result are there when this returns.
    """
    told = stated(definition, arguments, addresses)
    codes = codes_among(definition.package, *addresses.told)
    impure: list[KacheryWarning] = []  # what is said of arguments that were changed
    parts: dict[str, Parts] = {}

    def look(strict: bool) -> None:
        if not impure:
            found = _impurity(job_id, definition, arguments, addresses, strict, parts)
            impure.extend([] if found is None else [found])

    tries = Tries(after_failure=lambda: look(strict=True))
    chunks: Storing | None = None
    ask_repository(definition)
    result, took = _timed(job_id, definition, arguments, tries)
    try:
        if result.error is not None:
            if not is_kept(result.error, definition.policy.cache_errors):
                _note(noted_in, job_id, definition, told, took, tries.count, result.error)
                raise result.error
            note_kept(result.error, job_id, definition, told)
        look(strict or tries.count > 1)
        if tries.is_shared and not impure:
            impure.append(_used_by_others(definition))
        if impure:
            return result._replace(warning=impure[0])
        with storing(current().store, _journal(job_id, definition, noted_in)) as chunks:
            record, encoded = _record_of(
                record_id or job_id,
                *(definition, told, codes, took, result, addresses._replace(parts=parts)),
                keep=keeping(noted_in),
            )
        if chunks.seconds:
            record = record._replace(seconds=took.seconds + chunks.seconds)
        made_by = [definition.fingerprint(), *(code for _, code in codes)]
        return Ran(result.value, record, encoded, made_by, error=result.error, is_lazy=chunks.used)
    except CannotEncode as why:
        if why is result.error:
            raise
        _raise_that_of_a_chunk(chunks)
        return result._replace(warning=not_stored(definition, why.inside("its result")))
    finally:
        del result  # the traceback of an error holds this frame, which must not hold the error


def _note(noted_in: Store | None, *failure: Any) -> None:
    if noted_in is not None:
        note_failure(noted_in, *failure)


def _timed(
    job_id: str, definition: Definition, arguments: Arguments, tries: Tries
) -> tuple[Ran, Took]:
    """What the function returned or raised, and how long that took."""
    cpu, started, clock = time.process_time(), time.time(), time.perf_counter()
    try:
        result = Ran(call(definition, arguments, tries, job_id=job_id))
    except Exception as error:  # noqa: BLE001 - whoever asked looks at it
        result = Ran(ABSENT, error=error)
    seconds = time.perf_counter() - clock
    spent, peak = time.process_time() - cpu, getrusage(RUSAGE_SELF).ru_maxrss * _PEAK_UNIT
    try:
        return result, Took(started, seconds, spent, peak, tries.count, tries.seen)
    finally:
        del result  # the traceback of an error holds this frame, which must not hold the error


def _record_of(
    job_id: str,
    definition: Definition,
    told: Told,
    codes: Codes,
    took: Took,
    result: Ran,
    addresses: Addresses,
    keep: Keep | None,
) -> tuple[Record, Encoded]:
    if result.error is None:
        return record_of(job_id, definition, told, codes, took, result.value, addresses, keep)
    kept = raised(result.error)
    encode(kept)  # nothing in it is pickled, whatever `opaque=` allows to results
    record, encoded = record_of(job_id, definition, told, codes, took, kept, addresses)
    described = record.result._replace(type=type_name(result.error))
    return record._replace(status=ERROR, result=described), encoded


def _raise_that_of_a_chunk(chunks: Storing | None) -> None:
    """What the task's own code raised when a chunk of its result was computed."""
    if chunks is not None and chunks.error is not None:
        raise chunks.error from None


def _journal(job_id: str, definition: Definition, noted_in: Store | None) -> str | None:
    """Where it is noted which chunks of a result are stored: of a task, which makes the same again."""
    again = current().refreshes(definition.name)
    return None if noted_in is None or again or definition.kind != TASK else job_id


def _impurity(
    job_id: str,
    definition: Definition,
    arguments: Arguments,
    before: Addresses,
    strict: bool,
    parts: dict[str, Parts],
) -> KacheryWarning | None:
    """What speaks against storing the result of a run that has just ended. Fills in `parts`."""
    after = before
    if are_constant(definition, arguments):
        pass
    elif before.size <= ALWAYS_CHECKED_UP_TO or strict:
        try:
            after = addresses_of(definition, arguments, before=before)
        except CannotEncode as error:
            return _changed_its(definition, f"arguments ({error})")
    parts.update(after.parts)
    changed = [repr(name) for name, address in before.of.items() if after.of[name] != address]
    if changed:
        return _changed_its(definition, f"argument {', '.join(changed)}")
    if identify(definition, after, before) != job_id:
        return ImpureTaskWarning(
            f"the code of {definition.name}, or a global that it reads, changed while it ran: the"
            " value is returned and not stored"
        )
    return None


def _used_by_others(definition: Definition) -> ImpureTaskWarning:
    return ImpureTaskWarning(
        f"an earlier run of {definition.name} or of another task, which took longer than its timeout and"
        " cannot be stopped, was still using the same arguments: the value is returned and not stored,"
        " because that run may have changed them meanwhile. Give it more time with timeout="
    )


def _changed_its(definition: Definition, what: str) -> ImpureTaskWarning:
    return ImpureTaskWarning(
        f"{definition.name} changed its {what}: the value is returned and not stored, because a"
        " stored result would not change the argument next time. Let the task work on a copy"
    )


def not_stored(definition: Definition, error: Exception) -> NotStoredWarning:
    """The warning that says why a result is not stored."""
    return NotStoredWarning(f"the result of {definition.name} is returned but not stored: {error}")
