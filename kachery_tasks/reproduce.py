"""Running a task again to see whether it gives the same result."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kachery_store import DigestMismatch, NotFound, Store, StoreUnavailable
from kachery_store.errors import KacheryError

from .attempt import Ran, ran
from .binding import Arguments
from .cache import load
from .commit import keep_differing
from .definition import Definition
from .environment import here
from .errors import CannotDecode, CannotEncode, NotReproducible
from .identity import addresses_of, identify
from .lookup import lookup
from .record import Record
from .run_journal import note
from .runs import run_job
from .summary import summary_of, type_name
from .values import encode

SAME, DIFFERENT, CANNOT = "same", "different", "cannot"  # verdicts, as the feed of jobs tells them

_SHOWN = 5  # places
_LONGEST = 300  # characters of a line in a verdict


@dataclass(frozen=True, repr=False)
class Reproduction:
    """What came of running a job again; true when the result was the same.

    `record` is the stored one, `again` that of the second run. `differences` are places in the result
    with what was there before and what came now.
    """

    same: bool
    record: Record
    again: Record
    differences: list[str]

    def __bool__(self) -> bool:
        return self.same

    def __repr__(self) -> str:
        job = f"{self.record.task} (job {self.record.job_id})"
        if self.same:
            return f"same: {job} gave the result {self.record.result.address.hex()[:12]} again"
        return "\n".join(
            [
                f"different: {job} gave another result than at first; the first one stays",
                *(f"  {place}" for place in self.differences),
            ]
        )


def reproduce(
    store: Store, definition: Definition, arguments: Arguments, *, strict: bool
) -> Reproduction:
    """Run a job again and compare; what has never run is run, and stored, first.

    The function runs in this process, what has never run twice. Another result is noted in the
    store, and the verdict for the feed of jobs. Raises what the function raises, NotReproducible when a
    result cannot be stored and so cannot be compared.
    """
    addresses = addresses_of(definition, arguments)
    job_id = identify(definition, addresses)
    record = lookup(store, job_id, definition.name)
    if record is None:
        outcome = run_job(store, job_id, definition, arguments, addresses, strict=strict)
        record = outcome.record
        if record is None:
            raise NotReproducible(str(outcome.warning))
        addresses = addresses_of(definition, arguments)
    try:
        again = ran(job_id, definition, arguments, addresses, strict=strict)
    except KacheryError as error:
        note_verdict(store, record, CANNOT, [str(error)])
        raise
    except Exception as error:
        note_verdict(store, record, DIFFERENT, [raised_now(error)])
        raise
    if again.record is None:
        note_verdict(store, record, CANNOT, [str(again.warning)])
        raise NotReproducible(str(again.warning))
    return _compared(store, record, again, again.record)


def raised_now(error: Exception) -> str:
    """What differs when a run raises what the first one did not."""
    return f"a result at first, raised {type(error).__name__}: {error} now"


def _compared(store: Store, record: Record, again: Ran, second: Record) -> Reproduction:
    if second.result.address == record.result.address:
        note_verdict(store, record, SAME, [])
        return Reproduction(same=True, record=record, again=second, differences=[])
    keep_differing(store, second)
    places = _places(store, record, again)
    note_verdict(store, record, DIFFERENT, places)
    return Reproduction(same=False, record=record, again=second, differences=places)


def note_verdict(store: Store, record: Record, verdict: str, why: Sequence[str]) -> None:
    """Note what came of running a job again, for the feed of jobs."""
    host, user = here()
    told = {
        "type": "verdict",
        "job": record.job_id,
        "task": record.task,
        "result": record.result.address.hex(),
        "verdict": verdict,
        "why": [line[:_LONGEST] for line in why[: _SHOWN + 1]],
        "time": time.time(),
        "host": host,
        "user": user,
    }
    note(store, host, user, told)


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
