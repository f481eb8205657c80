"""What would be computed again now, and for which reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from kachery_store import DigestMismatch, NotFound, Store, StoreTooNew
from kachery_store.amounts import span_text
from kachery_store.digest import blake3_bytes
from kachery_store.errors import KacheryError

from .answers import age_of
from .code_now import code_changes, task_named
from .definition import QUERY, Definition
from .holdings import holdings
from .listing import all_records, is_called
from .record import Record
from .settings import current

CODE, LOST, ASKED, INPUT, UNKNOWN = "code", "lost", "asked", "input", "unknown"  # kinds of reasons

_TELLING = 1024  # bytes; a value that is smaller may be the same as another one by chance

Seen = Callable[[], object]


class Reason(NamedTuple):
    """Why a job would be computed again.

    `kind`: `code` (it is another now), `lost` (the result), `asked` (a query, whose answer is too old),
    `input` (a job among the arguments is stale, or has another result now), or `unknown` (that cannot be
    told: the task is not found).
    """

    kind: str
    text: str


class StaleJob(NamedTuple):
    """A job that would be computed again if the same call were made now."""

    job_id: str
    task: str
    started: float
    reasons: list[Reason]

    @property
    def uri(self) -> str:
        """job://<job id>"""
        return f"job://{self.job_id}"

    @property
    def is_unknown(self) -> bool:
        """Whether it cannot be told."""
        return all(reason.kind == UNKNOWN for reason in self.reasons)


def stale(
    task: str | None = None, *, imports: Sequence[str] = (), seen: Seen = lambda: None
) -> list[StaleJob]:
    """The stored jobs that would be computed again if their calls were made now, newest first.

    Of the jobs of one call, made with other code or other results of its inputs, the newest counts.
    task: only this one, its name or the part after the colon. The modules that define the tasks are
    imported, and `imports` first, where a task has a name of its own. `seen()` is called for each job
    looked at. No task runs.
    """
    survey = _Survey(current().store, imports)
    found = [survey.judged(record) for record in survey.newest_of_calls(seen)]
    return [
        one
        for one in sorted(found, key=lambda one: one.started, reverse=True)
        if one.reasons and (task is None or is_called(survey.records[one.job_id], task))
    ]


class _Survey:
    """All records of a store, the calls that they are of, and which of them are stale."""

    def __init__(self, store: Store, imports: Sequence[str]) -> None:
        self._store = store
        self._imports = imports
        made = sorted(all_records(store), key=lambda one: one.started)
        self.records = {record.job_id: record for record in made}
        self._makers = _makers(made)
        self._calls: dict[str, bytes] = {}
        self._newest: dict[bytes, Record] = {}
        self._stale: set[str] = set()
        self._tasks: dict[str, Definition | str] = {}
        self._changes: dict[Any, list[Reason]] = {}
        self._held_by = holdings(store)
        for record in made:  # inputs were made before those who took them
            call = self._calls[record.job_id] = self._call_of(record)
            self._newest[call] = record

    def newest_of_calls(self, seen: Seen) -> Iterator[Record]:
        """The newest job of each call, in the order in which they were made."""
        for record in self.records.values():
            seen()
            if self._newest[self._calls[record.job_id]] is record:
                yield record

    def judged(self, record: Record) -> StaleJob:
        """A job with the reasons why it is stale, if it is; its inputs have been judged."""
        reasons = [*self._of_code(record), *self._of_age(record)]
        if self._is_lost(record):
            reasons.append(Reason(LOST, "its result is lost, or damaged"))
        reasons += self._of_inputs(record)
        found = StaleJob(record.job_id, record.task, record.started, reasons)
        if not found.is_unknown:
            self._stale.add(record.job_id)
        return found

    # Calls

    def _inputs(self, record: Record) -> list[tuple[str, str]]:
        """Parameters and the jobs whose results they were."""
        told = {name for name, _ in record.inputs}
        found = list(record.inputs)
        for name, address, _ in record.arguments:
            maker = None if name in told else self._makers.get(address)
            if maker is not None and maker.started + maker.seconds <= record.started:
                found.append((name, maker.job_id))
        return found

    def _call_of(self, record: Record) -> bytes:
        """What is the same for the jobs of one call, whatever its code and that of its inputs was."""
        inputs = self._inputs(record)
        parts: list[Any] = [record.kind, record.task]
        for name, address, _ in record.arguments:
            made = [self._calls.get(job_id, job_id) for of, job_id in inputs if of == name]
            parts.append((name, made or address or record.job_id))
        return blake3_bytes(repr(parts).encode())

    # Reasons

    def _of_code(self, record: Record) -> list[Reason]:
        definition = self._definition(record.task)
        if isinstance(definition, str):
            return [Reason(UNKNOWN, definition)]
        version = record.task, record.fingerprint, tuple(map(tuple, record.codes))
        if version not in self._changes:
            self._changes[version] = self._compared(definition, record)
        return self._changes[version]

    def _compared(self, definition: Definition, record: Record) -> list[Reason]:
        if definition.kind != record.kind:
            return [Reason(CODE, f"it is a {definition.kind} now")]
        try:
            changed = code_changes(self._store, definition, record)
        except KacheryError as error:
            return [Reason(UNKNOWN, str(error))]
        return [Reason(CODE, change) for change in changed]

    def _definition(self, task: str) -> Definition | str:
        if task not in self._tasks:
            try:
                self._tasks[task] = task_named(task, self._imports)
            except NotFound as error:
                self._tasks[task] = str(error)
        return self._tasks[task]

    def _of_age(self, record: Record) -> Iterator[Reason]:
        definition = self._definition(record.task)
        if record.kind != QUERY or isinstance(definition, str):
            return
        longest = definition.policy.max_age
        if longest is None:
            yield Reason(ASKED, "it is asked on each request")
        elif age_of(record) > longest:
            yield Reason(ASKED, f"its answer is older than max_age={span_text(longest)}")

    def _is_lost(self, record: Record) -> bool:
        """Whether something of the result is not there; what a zone may have is not lost."""
        if self._store.uplink is not None:
            return False
        backend = self._store.backend
        try:
            held = self._held_by(record.job_id, self._store.jobs.read(record.job_id))
        except (NotFound, DigestMismatch, StoreTooNew):
            return True
        for digest, size in held.blobs:
            if digest.hex == record.environment.hex():
                continue
            status = backend.status(digest.path)
            if status is None or size not in (-1, status.size):
                return True
        return not held.complete

    def _of_inputs(self, record: Record) -> Iterator[Reason]:
        for name, job_id in self._inputs(record):
            then = self.records.get(job_id)
            if then is None:
                yield Reason(INPUT, f"what made its argument `{name}` is not stored any more")
                continue
            now = self._newest[self._calls[job_id]]
            if now.result.address != then.result.address:
                yield Reason(INPUT, f"its argument `{name}`, of {now.task}, is another now")
            elif now.job_id in self._stale:
                yield Reason(INPUT, f"its argument `{name}`, of {now.task}, is stale")


def _makers(made: Sequence[Record]) -> dict[bytes, Record]:
    """By the address of a result the job that made it first; of results that are no one else's."""
    found: dict[bytes, Record] = {}
    for record in made:
        if record.result.size > _TELLING and not record.is_error:
            found.setdefault(record.result.address, record)
    return found


_TITLES = {
    CODE: "the code is another now",
    INPUT: "an argument is stale",
    ASKED: "queries",
    LOST: "the result is not there",
    UNKNOWN: "cannot be told",
}
_EXAMPLES = 3


def report(found: Sequence[StaleJob]) -> Iterator[str]:
    """What is stale, in lines for people: by reason, with some examples."""
    for kind, title in _TITLES.items():
        groups: dict[tuple[str, str], list[StaleJob]] = {}
        for job in found:
            texts = [reason.text for reason in job.reasons if reason.kind == kind]
            if texts:
                groups.setdefault((job.task, "; ".join(dict.fromkeys(texts))), []).append(job)
        if groups:
            yield f"{title}: {_jobs(len({job.job_id for of in groups.values() for job in of}))}"
        for (task, text), jobs in groups.items():
            examples = ", ".join(job.job_id[:12] for job in jobs[:_EXAMPLES])
            more = ", ..." if len(jobs) > _EXAMPLES else ""
            yield f"  {task}: {text}"
            yield f"    {_jobs(len(jobs))}: {examples}{more}"


def _jobs(count: int) -> str:
    return f"{count} job" if count == 1 else f"{count} jobs"
