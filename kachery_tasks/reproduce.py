"""Running a task again to see whether it gives the same result."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from kachery_store import DigestMismatch, NotFound, Store, StoreUnavailable
from kachery_store.errors import KacheryError

from .attempt import Ran, ran
from .binding import Arguments
from .cache import load
from .commit import keep_differing
from .definition import ACTION, QUERY, TASK, Definition
from .environment import environment_at, here
from .errors import CannotDecode, CannotEncode, NotReproducible, NotStored
from .identity import addresses_of, identify
from .lookup import lookup
from .record import Record
from .run_journal import note
from .runs import run_job
from .settings import current
from .summary import summary_of, type_name
from .values import encode

SAME, DIFFERENT, CANNOT = "same", "different", "cannot"  # verdicts, as the feed of jobs tells them

_SHOWN = 5  # places, and facts of an environment
_COMPARED = ("host", "python", "implementation", "platform", "kachery")
_MOST_TOLD, _LONGEST = 12, 300  # lines of a verdict, and characters of one


@dataclass(frozen=True, repr=False)
class Reproduction:
    """What came of running a job again; true when the result was the same.

    `record` is the stored one, `again` that of the second run. `differences` are places in the result
    with what was there before and what came now; `environment` is what was not the same around the two
    runs: host, Python, versions of packages.
    """

    same: bool
    record: Record
    again: Record
    differences: list[str]
    environment: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return self.same

    def __repr__(self) -> str:
        job = f"{self.record.task} (job {self.record.job_id})"
        if self.same:
            return f"same: {job} gave the result {self.record.result.address.hex()[:12]} again"
        return "\n".join(
            [
                f"different: {job} gave another result than at first; the first one stays",
                *(f"  {line}" for line in (*self.differences, *self.environment)),
            ]
        )


def reproduce(
    store: Store,
    definition: Definition,
    arguments: Arguments,
    *,
    strict: bool,
    not_kept: Sequence[str] = (),
) -> Reproduction:
    """Run a job again and compare; what has never run is run, and stored, first.

    `not_kept` are ignored parameters for whose arguments defaults stand: another result tells nothing
    then. The function runs in this process, what has never run twice. Another result is noted in the
    store, and the verdict for the feed of jobs. Raises what the function raises, NotReproducible for
    what is no task, and when a result cannot be stored and so cannot be compared; NotStored with
    `read_only`.
    """
    check_may_run(definition)
    addresses = addresses_of(definition, arguments)
    job_id = identify(definition, addresses)
    record = lookup(store, job_id, definition.name)
    if record is None:
        outcome = run_job(store, job_id, definition, arguments, addresses, strict=strict)
        record = outcome.record
        if record is None:
            raise NotReproducible(_why_not_stored(definition, outcome.warning))
        addresses = addresses_of(definition, arguments)
    verdicts = _Verdicts(store, definition, record, not_kept)
    try:
        again = ran(job_id, definition, arguments, addresses, strict=strict)
    except KacheryError as error:
        verdicts.cannot(str(error), error)
        raise
    except Exception as error:
        verdicts.raised(error)
        raise
    if again.record is None:
        why = _why_not_stored(definition, again.warning)
        verdicts.cannot(why, again.warning)
        raise NotReproducible(why)
    return verdicts.compared(again, again.record)


def check_may_run(definition: Definition) -> None:
    """Refuse what is no task, with NotReproducible, and to run anything with `read_only`: NotStored."""
    if definition.kind != TASK:
        raise NotReproducible(
            f"{definition.name} is {_KINDS[definition.kind]}: only tasks are run again. `kachery show`"
            " tells what is known of it"
        )
    if current().read_only:
        raise NotStored(f"{definition.name} would have to run again, and read_only=True")


_KINDS = {
    QUERY: "a query, which asks the outside world, whose answers change",
    ACTION: "an action, which would change the outside world once more",
}


def raised_now(error: Exception) -> str:
    """What differs when a run raises what the first one did not."""
    return f"a result at first, raised {type(error).__name__}: {error} now"


def _why_not_stored(definition: Definition, warning: Exception | None) -> str:
    return str(warning or f"the result of {definition.name} was not stored")


class _Verdicts:
    """What is said of a second run, here and in the feed of jobs: there nothing of secret arguments."""

    def __init__(
        self, store: Store, definition: Definition, record: Record, not_kept: Sequence[str]
    ) -> None:
        self._store = store
        self._definition = definition
        self._record = record
        self._not_kept = not_kept

    def cannot(self, why: str, error: Exception | None) -> None:
        """It could not be run, or its result not be compared."""
        hidden = f"it raised {type(error).__name__}"
        self._note(CANNOT, [hidden if self._definition.secret else why])

    def raised(self, error: Exception) -> None:
        """It raised what it had not raised. NotReproducible when that tells nothing."""
        self._refuse_if_not_kept(f"it raised {type(error).__name__}: {error}", error)
        hidden = f"a result at first, raised {type(error).__name__} now"
        self._note(DIFFERENT, [hidden if self._definition.secret else raised_now(error)])

    def compared(self, again: Ran, second: Record) -> Reproduction:
        """It gave a result. NotReproducible when that is another one and this tells nothing."""
        record = self._record
        if second.result.address == record.result.address:
            self._note(SAME, [])
            return Reproduction(same=True, record=record, again=second, differences=[])
        self._refuse_if_not_kept("the result is another one")
        keep_differing(self._store, second)
        places = _places(self._store, record, again)
        around = _around(self._store, record, second)
        told = ["another result"] if self._definition.secret else places
        self._note(DIFFERENT, [*told, *around])
        return Reproduction(
            same=False, record=record, again=second, differences=places, environment=around
        )

    def _refuse_if_not_kept(self, what: str, error: Exception | None = None) -> None:
        if not self._not_kept:
            return
        names = ", ".join(f"`{name}`" for name in self._not_kept)
        why = (
            f"of arguments in ignore= nothing is kept: with the default of {names}"
            f" {what}, which may be because of that. Call its .reproduce(...) with the arguments"
        )
        self.cannot(why, error)
        what = f"{self._record.task} (job {self._record.job_id[:12]})"
        raise NotReproducible(f"{what}: {why}") from error

    def _note(self, verdict: str, why: Sequence[str]) -> None:
        note_verdict(self._store, self._record, verdict, why)


def note_verdict(store: Store, record: Record, verdict: str, why: Sequence[str]) -> None:
    """Note what came of running a job again, for the feed of jobs."""
    host, user = here()
    told = {
        "type": "verdict",
        "job": record.job_id,
        "task": record.task,
        "result": record.result.address.hex(),
        "verdict": verdict,
        "why": [line[:_LONGEST] for line in why[:_MOST_TOLD]],
        "time": time.time(),
        "host": host,
        "user": user,
    }
    note(store, host, user, told)


def _around(store: Store, record: Record, second: Record) -> list[str]:
    """What differs between the environments of two runs, as far as both are known."""
    first, now = (
        {**(environment_at(store, one.environment) or {}), "host": one.host, "python": one.python}
        for one in (record, second)
    )
    told = [
        f"{name}: {first[name]} at first, {now[name]} now"
        for name in _COMPARED
        if name in first and name in now and first[name] != now[name]
    ]
    packages = [one.get("packages") for one in (first, now)]
    before, after = (one if isinstance(one, dict) else {} for one in packages)
    told += [
        f"{name}: version {before[name]} at first, {after[name]} now"
        for name in before
        if before[name] and after.get(name) and before[name] != after[name]
    ]
    return told if len(told) <= _SHOWN else [*told[:_SHOWN], "..."]


def _places(store: Store, record: Record, again: Ran) -> list[str]:
    if record.is_error or again.error is not None:
        now = summary_of(again.value) if again.error is None else f"raised {again.error!r}"
        return [f"{_as_stored(store, record)} at first, {now} now"]
    try:
        stored = load(store, record)
    except (CannotDecode, DigestMismatch, NotFound, StoreUnavailable) as error:
        return [f"the first result cannot be read here: {error}"]
    found: list[str] = []
    for place in _differing("result", stored, again.value):
        if len(found) == _SHOWN:
            return [*found, "..."]
        found.append(place)
    return found


def _as_stored(store: Store, record: Record) -> str:
    try:
        return summary_of(load(store, record))
    except Exception as error:  # noqa: BLE001 - one that was kept, or why it cannot be told
        return f"raised {error!r}" if record.is_error else f"not to be read here ({error})"


def _differing(place: str, first: Any, second: Any) -> Iterator[str]:
    """The places in two values that differ."""
    if _same(first, second):
        return
    if not _is_known(first) or not _is_known(second):  # opaque values may go round in circles
        yield _both(place, first, second)
        return
    found = False
    for one in _in_parts(place, first, second):
        found = True
        yield one
    if not found:  # something around the parts
        yield _both(place, first, second)


def _in_parts(place: str, first: Any, second: Any) -> Iterator[str]:
    members = _members(first), _members(second)
    if type(first) is not type(second) or members[0] is None or members[1] is None:
        yield _both(place, first, second)
    elif list(members[0]) != list(members[1]):
        same = sorted(members[0]) == sorted(members[1])
        what = "the same entries in another order" if same else "with other entries"
        lengths = f"{len(members[0])} at first, {len(members[1])} now"
        yield f"{place}: {type_name(first)} of {lengths}, {what}"
    else:
        for name, member in members[0].items():
            yield from _differing(f"{place}{name}", member, members[1][name])


def _same(first: Any, second: Any) -> bool:
    try:
        return encode(first).address == encode(second).address
    except CannotEncode:
        return False  # an opaque part: as a whole it was not the same


def _is_known(value: Any) -> bool:
    try:
        encode(value)
    except CannotEncode:
        return False
    return True


def _members(value: Any) -> dict[str, Any] | None:
    """What a value is made of, each with how a program would get it; None for what has no parts."""
    if isinstance(value, list | tuple):
        return {f"[{position}]": member for position, member in enumerate(value)}
    if isinstance(value, dict):
        return {f"[{name!r}]": member for name, member in value.items()}
    if type(value).__module__.partition(".")[0] == "pandas" and hasattr(value, "columns"):
        return {f"[{name!r}]": value.iloc[:, i] for i, name in enumerate(value.columns)}
    state = getattr(value, "__dict__", None)
    if state and type(value).__module__.partition(".")[0] not in ("numpy", "pandas"):
        return {f".{name}": member for name, member in state.items()}
    return None


def _both(place: str, first: Any, second: Any) -> str:
    before, now = summary_of(first), summary_of(second)
    if before != now:
        return f"{place}: {before} at first, {now} now"
    return f"{place}: {before}, other content{_count(first, second)}"


def _contiguous(array: Any) -> Any:
    return array.copy(order="C")


def _count(first: Any, second: Any) -> str:
    """How many elements of two arrays differ."""
    if type_name(first) != "numpy.ndarray" or first.dtype.hasobject:
        return ""
    if not first.size or not first.dtype.itemsize:
        return ""
    pairs = [
        a.reshape(-1, 1).view("u1").reshape(a.size, -1) for a in map(_contiguous, (first, second))
    ]
    differing = int((pairs[0] != pairs[1]).any(axis=1).sum())
    return f" ({differing:,} of {first.size:,} elements differ)"
