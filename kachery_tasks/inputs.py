"""The arguments of a job, once the jobs among them are done.

The address of a large result is in its record: the bytes that are loaded were checked against it, so
they need not be hashed again as an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from kachery_store import Store
from kachery_store.errors import KacheryError

from .attempt import ALWAYS_CHECKED_UP_TO
from .binding import Arguments
from .cache import Outcome, encoding_of
from .definition import Definition
from .identity import Addresses, addresses_of, identify
from .job import Job, replaced
from .record import Record
from .values import Encoder, ext
from .values.encoding import PREFIX


class HasKey(Protocol):
    """A job, or what stands for one."""

    @property
    def key(self) -> str:
        """The job key."""


class Filled(NamedTuple):
    """Arguments without jobs, and their addresses."""

    arguments: Arguments
    addresses: Addresses


class Filling(NamedTuple):
    """How jobs among arguments become values.

    `stands`: the type of what stands for jobs. `value_of`: the value of such a job; `outcome_of`: what
    became of it, without a record if the value is not that of the store. `strict` as of Settings.
    """

    store: Store
    stands: tuple[type, ...]
    outcome_of: Callable[[Any], Outcome]
    value_of: Callable[[Any], Any]
    strict: bool


def filled(
    definition: Definition, arguments: Arguments, key: str, opened: Sequence[str], how: Filling
) -> Filled:
    """The arguments with values for the jobs that are in the parameters `opened`.

    Raises KacheryError when the rest is not what it was when the job of that key was made, and what
    loading the values raises.
    """
    before = addresses_of(definition, arguments, dict.fromkeys(how.stands, _stand_in))
    if identify(definition, before) != key:
        raise changed_since(definition, key)
    values: dict[int, Any] = {}
    large: list[int] = []
    met: list[HasKey] = []
    makers: list[tuple[str, str]] = []

    def value(stand: HasKey) -> Any:
        met.append(stand)
        if id(stand) not in values:
            values[id(stand)] = how.value_of(stand)
        return values[id(stand)]

    def small_only(stand: HasKey) -> Any:
        found = value(stand)
        record = how.outcome_of(stand).record
        if record is None or how.strict or not _is_spared(record):
            return found
        large.append(record.result.size)
        return stand

    def splice(stand: HasKey, _: Encoder) -> bytes:
        record = how.outcome_of(stand).record
        assert record is not None  # noqa: S101 - it is large
        return encoding_of(how.store, record)[len(PREFIX) :]

    whole, partly = dict(arguments), dict(arguments)
    for name in opened:
        met.clear()
        whole[name] = replaced(arguments[name], how.stands, value)
        if name not in definition.secret:
            makers += ((name, job_id) for job_id in _ids_of(met, how))
        partly[name] = replaced(arguments[name], how.stands, small_only)
    addresses = addresses_of(definition, partly, dict.fromkeys(how.stands, splice), before, opened)
    size = addresses.size + sum(large)
    return Filled(whole, addresses._replace(size=size, makers=makers))


def _ids_of(stands: list[HasKey], how: Filling) -> Iterable[str]:
    """The ids of the jobs that have records, each once. Of an answer it is that of its own record."""
    records = (how.outcome_of(stand).record for stand in stands)
    return dict.fromkeys(record.job_id for record in records if record is not None)


def changed_since(definition: Definition, key: str) -> KacheryError:
    """What to raise for a job whose arguments are not those that it was made of."""
    return KacheryError(
        f"the arguments of {definition.name} (job {key}), or a global that it reads, are not what they"
        " were when the job was made. Do not change them before it is done"
    )


def for_jobs() -> tuple[type, ...]:
    """The types of jobs, where no other things stand for them."""
    return (Job, *Job.__subclasses__())


def _stand_in(stand: HasKey, encoder: Encoder) -> bytes:
    return encoder.extension(ext.JOB, stand.key.encode())


def _is_spared(record: Record) -> bool:
    """Whether a result is so large that it is not hashed again after the run either.

    Instances of the project's classes are looked at before and after the run, so they are met here.
    """
    result = record.result
    return result.size > ALWAYS_CHECKED_UP_TO and not result.classes and not result.pickles
