"""The arguments of a job, once the jobs among them are done.

The address of a large result is in its record: the bytes that are loaded were checked against it, so
they need not be hashed again as an argument.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from kachery_store import Store

from .attempt import ALWAYS_CHECKED_UP_TO
from .binding import Arguments
from .cache import Outcome, encoding_of
from .definition import Definition
from .identity import Addresses, addresses_of
from .job import replaced
from .record import Record
from .values import Encoder
from .values.encoding import PREFIX

Stands = type | tuple[type, ...]


class Filled(NamedTuple):
    """Arguments without jobs; `addresses`, if any of them was spared the hashing."""

    arguments: Arguments
    addresses: Addresses | None


def filled(
    store: Store,
    definition: Definition,
    arguments: Arguments,
    stands: Stands,
    outcome_of: Callable[[Any], Outcome],
    value_of: Callable[[Outcome], Any],
    *,
    strict: bool,
) -> Filled:
    """The arguments with values for what stands for jobs in them, by their outcomes.

    Raises what loading the values raises.
    """
    values: dict[int, Any] = {}
    large: list[int] = []

    def value(stand: Any) -> Any:
        if id(stand) not in values:
            values[id(stand)] = value_of(outcome_of(stand))
        return values[id(stand)]

    def small_only(stand: Any) -> Any:
        outcome = outcome_of(stand)
        found = value(stand)
        if strict or found is outcome.value or not _is_spared(outcome.record):
            return found
        assert outcome.record is not None  # noqa: S101 - it is large
        large.append(outcome.record.result.size)
        return stand

    def splice(stand: Any, _: Encoder) -> bytes:
        record = outcome_of(stand).record
        assert record is not None  # noqa: S101 - it is large
        return encoding_of(store, record)[len(PREFIX) :]

    whole = {name: replaced(one, stands, value) for name, one in arguments.items()}
    partly = {name: replaced(one, stands, small_only) for name, one in arguments.items()}
    if not large:
        return Filled(whole, None)
    kinds = stands if isinstance(stands, tuple) else (stands,)
    addresses = addresses_of(definition, partly, dict.fromkeys(kinds, splice))
    return Filled(whole, addresses._replace(size=addresses.size + sum(large)))


def _is_spared(record: Record | None) -> bool:
    """Whether a result is so large that it is not hashed again after the run either.

    Instances of the project's classes are looked at before and after the run, so they are met here.
    """
    if record is None or record.is_error:
        return False
    result = record.result
    return result.size > ALWAYS_CHECKED_UP_TO and not result.classes and not result.pickles
