"""Why a call is a hit or a miss, and what differs from the nearest known job."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kachery_store import Store
from kachery_store.errors import KacheryError
from kachery_store.progress import progress_of
from kachery_store.saying import clean

from .cache import Outcome
from .code import Coverage, Description, changes, coverage_of
from .commit import codes_among, stated
from .definition import Definition
from .job import Job
from .kept_code import kept_code
from .listing import records_of
from .record import Record

SHOWN = 12  # differences that are printed
LISTED = 30  # names and constants that are printed


class Difference(NamedTuple):
    """One component that differs: its name, how it is here and there, or what to know about it.

    `diff` is the change of a function's source, as `diff -u` shows it.
    """

    component: str
    here: str = ""
    there: str = ""
    note: str = ""
    diff: str = ""

    def __str__(self) -> str:
        text = self.note or f"{self.here} here, {self.there} there"
        lines = [f"{self.component}: {text}", *(f"    {line}" for line in self.diff.splitlines())]
        return "\n".join(lines)


@dataclass(frozen=True, repr=False)
class Explanation:
    """Why a call is a hit or a miss; as text it is made for reading.

    `record` is that of the call, if its result is stored. `nearest` is the known job of the same task
    that differs least, or the one that was `chosen`; `differences` are the components that differ.
    `coverage` tells what the fingerprint stands for and what it leaves out; `ignored` are the
    arguments that do not count.
    """

    task: str
    job_id: str
    record: Record | None
    nearest: Record | None
    differences: list[Difference]
    coverage: Coverage | None
    ignored: tuple[str, ...]
    chosen: bool

    @property
    def hit(self) -> bool:
        """Whether the result is stored."""
        return self.record is not None

    def __repr__(self) -> str:
        return "\n".join([*self._verdict(), *self._comparison(), *self._covered()])

    def _verdict(self) -> Iterator[str]:
        if self.record is None:
            yield f"miss: no result of {self.task} is stored for this call (job {self.job_id})"
        else:
            yield f"hit: the result of {self.task} is stored (job {self.job_id})"
            yield f"  computed {_when(self.record)}"

    def _comparison(self) -> Iterator[str]:
        if self.nearest is None:
            yield (
                f"no other job of {self.task} is known"
                if self.hit
                else (f"no job of {self.task} is known")
            )
            return
        title = "compared with job" if self.chosen else "nearest known job:"
        yield f"{title} {self.nearest.job_id}, computed {_when(self.nearest)}"
        for difference in self.differences[:SHOWN]:
            for line in str(difference).splitlines():
                yield f"  {line}"
        if len(self.differences) > SHOWN:
            yield f"  and {len(self.differences) - SHOWN} more differences"

    def _covered(self) -> Iterator[str]:
        if self.coverage is None:
            return
        code, constants, versions, installed, inert = self.coverage
        yield "what the code's fingerprint covers"
        yield from _listed("functions and classes", code)
        yield from _lines("constants", constants)
        yield from _listed("versions", [f"{name} {version}" for name, version in versions.items()])
        yield from _listed("installed, by name only", installed)
        yield "what it leaves out"
        yield from _lines("what does not affect results", inert)
        yield from _listed("arguments in ignore=", list(self.ignored))
        yield "  versions of installed packages that depends= does not name, comments, docstrings"


def explain_call(store: Store, job: Job, *, progress: bool = True) -> Explanation:
    """Why the call of a job is a hit or a miss.

    KacheryError while the results of jobs among its arguments are not known.
    """
    definition = job.definition
    side = _of_call(job)
    record = job.stored_record()
    nearest, differences = _nearest(store, side, record, progress=progress)
    return Explanation(
        definition.name,
        side.job_id,
        record,
        nearest,
        differences,
        coverage_of(definition.fingerprint().description),
        definition.ignore,
        chosen=False,
    )


def explain_record(store: Store, record: Record, other: Record | None = None) -> Explanation:
    """What differs between a stored job and another one, or the nearest one of the same task."""
    side = _of_record(record)
    if other is None:
        nearest, differences = _nearest(store, side, record, progress=True)
    else:
        nearest, differences = other, _differences(store, side, _of_record(other))
    code = kept_code(store, record.fingerprint)
    coverage = None if code is None else coverage_of(code)
    return Explanation(
        record.task,
        record.job_id,
        record,
        nearest,
        differences,
        coverage,
        (),
        chosen=other is not None,
    )


class _Side(NamedTuple):
    """What a job id is made of, and what a record tells about it."""

    job_id: str
    task: str
    version: str | None
    fingerprint: str
    arguments: dict[str, tuple[bytes, str]]
    codes: dict[str, str]
    python: str
    described: dict[str, Description]  # the code of a call, which need not be in the store


def _of_record(record: Record) -> _Side:
    return _Side(
        record.job_id,
        record.task,
        record.version,
        record.fingerprint,
        {name: (address, summary) for name, address, summary in record.arguments},
        _by_name(record.codes),
        record.python,
        {},
    )


def _of_call(job: Job) -> _Side:
    """What a call is."""
    definition: Definition = job.definition
    addresses = job.final_addresses()
    if addresses is None or job.id is None:
        open_inputs = sorted({one.task for one in job.inputs if one.record is None})
        raise KacheryError(
            f"the id of this job of {job.task} is not known before the results of its inputs are"
            f" ({', '.join(open_inputs)}); explain those jobs, or compute them first"
        )
    arguments = job.substituted(lambda one: one.runner.value_of(Outcome(one.record)))
    codes = codes_among(definition.package, *addresses.told)
    return _Side(
        job.id,
        definition.name,
        definition.version,
        definition.fingerprint().digest,
        {name: (at, text) for name, at, text in stated(definition, arguments, addresses)},
        _by_name([(name, code.digest) for name, code in codes]),
        platform.python_version(),
        {
            code.digest: code.description
            for code in (definition.fingerprint(), *(code for _, code in codes))
        },
    )


def _by_name(codes: Iterable[Sequence[str]]) -> dict[str, str]:
    """Digests by name, those of the same name told apart."""
    found: dict[str, str] = {}
    for name, digest in codes:
        number = sum(known.partition("#")[0] == name for known in found)
        found[name if number == 0 else f"{name}#{number + 1}"] = digest
    return found


def _nearest(
    store: Store, side: _Side, own: Record | None, *, progress: bool
) -> tuple[Record | None, list[Difference]]:
    """The known job of the same task in which the fewest components differ.

    Of several one with the same arguments, and then the newest. For a job that has run, as `own` tells,
    those before it come first: they say why it did.
    """
    best: Record | None = None
    least = (False, 0, 0, 0.0)
    names = list(store.jobs.names())
    with progress_of(
        "looking for the nearest known job", len(names), unit="job", wanted=progress
    ) as bar:
        for record in records_of(store, names, seen=bar.add):
            if record.job_id == side.job_id or record.task != side.task:
                continue
            other = _of_record(record)
            distance = (
                own is not None and record.started > own.started,
                _distance(side, other),
                _of_other_arguments(side, other),
                -record.started,
            )
            if best is None or distance < least:
                best, least = record, distance
    return best, [] if best is None else _differences(store, side, _of_record(best))


def _distance(here: _Side, there: _Side) -> int:
    return (
        _of_other_arguments(here, there)
        + (here.fingerprint != there.fingerprint)
        + (here.codes != there.codes)
    )


def _of_other_arguments(here: _Side, there: _Side) -> int:
    names = here.arguments.keys() | there.arguments.keys()
    return sum(_address(here, name) != _address(there, name) for name in names)


def _address(side: _Side, name: str) -> bytes | None:
    return side.arguments.get(name, (None, ""))[0]


def _differences(store: Store, here: _Side, there: _Side) -> list[Difference]:
    found = [*_of_arguments(here, there)]
    if here.task != there.task:
        found.append(Difference("task", here.task, there.task))
    if here.version != there.version:
        found.append(Difference("version", _version(here), _version(there)))
    found += _of_code(store, "code", here, there, (here.fingerprint, there.fingerprint))
    for name in sorted(here.codes.keys() | there.codes.keys()):
        digests = here.codes.get(name), there.codes.get(name)
        found += _of_code(store, f"code of {name} among the arguments", here, there, digests)
    if not found and here.job_id != there.job_id:
        found += [
            Difference(f"argument `{name}`", note="another secret value")
            for name, (address, _) in here.arguments.items()
            if not address
        ]
    return found


def _of_arguments(here: _Side, there: _Side) -> Iterator[Difference]:
    for name in here.arguments | there.arguments:
        component = f"argument `{name}`"
        if name not in here.arguments or name not in there.arguments:
            side = "here" if name in here.arguments else "there"
            yield Difference(component, note=f"only {side}: the parameters are not the same")
            continue
        (ours, now), (theirs, then) = here.arguments[name], there.arguments[name]
        if ours == theirs:
            continue
        if not ours or not theirs:
            yield Difference(component, note="secret on one side, so it cannot be compared")
        elif now != then:
            yield Difference(component, now, then)
        else:
            yield Difference(component, now, then, note=f"{_alike(now)}, other content")


def _alike(summary: str) -> str:
    shaped = summary.endswith(")") and " (" in summary
    return f"same {'type, dtype and shape' if shaped else 'type'} ({summary})"


def _of_code(
    store: Store, component: str, here: _Side, there: _Side, digests: tuple[str | None, str | None]
) -> Iterator[Difference]:
    if digests[0] == digests[1]:
        return
    if digests[0] is None or digests[1] is None:
        yield Difference(component, note=f"only {'there' if digests[0] is None else 'here'}")
        return
    ours = here.described.get(digests[0]) or kept_code(store, digests[0])
    theirs = kept_code(store, digests[1])
    if ours is None or theirs is None:
        yield Difference(component, digests[0][:12], digests[1][:12], "not the same code")
        return
    for change in changes(ours, theirs):
        if change.here or change.there:
            note = f"{change.here}, other content" if change.here == change.there else ""
            yield Difference(f"{component}: {change.what}", change.here, change.there, note)
        elif change.diff:
            yield Difference(f"{component}: {change.what}", note="changed", diff=change.diff)
        else:
            note = f"changed; its source was not kept (Python {here.python} here, {there.python} there)"
            yield Difference(f"{component}: {change.what}", note=note)


def _version(side: _Side) -> str:
    return "none" if side.version is None else repr(side.version)


def _listed(title: str, items: list[str]) -> Iterator[str]:
    if items:
        yield f"  {title}: {', '.join(items[:LISTED])}{_more(items)}"


def _lines(title: str, items: list[tuple[str, str]]) -> Iterator[str]:
    if items:
        yield f"  {title}:"
        yield from (f"    {place}: {what}" for place, what in items[:LISTED])
        if len(items) > LISTED:
            yield f"   {_more(items)}"


def _more(items: list[Any]) -> str:
    return f" and {len(items) - LISTED} more" if len(items) > LISTED else ""


def _when(record: Record) -> str:
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.started))
    return f"{moment} by {clean(record.user)} on {clean(record.host)}"
