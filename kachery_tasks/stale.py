"""What would be computed again now, and for which reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from kachery_store import DigestMismatch, NotFound, Store, StoreTooNew
from kachery_store.amounts import span_text
from kachery_store.errors import KacheryError
from kachery_store.saying import clean

from .answers import age_of
from .code_now import code_changes, task_named
from .definition import QUERY, Definition
from .holdings import holdings
from .listing import all_records, is_called
from .record import Record
from .same_calls import WHOLE, Calls, ran_since
from .settings import current

CODE, LOST, ASKED, INPUT, UNKNOWN = "code", "lost", "asked", "input", "unknown"  # kinds of reasons

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

    def __repr__(self) -> str:
        reasons = "; ".join(reason.text for reason in self.reasons)
        return clean(f"<StaleJob {self.task} {self.job_id[:12]}: {reasons}>")

    @property
    def is_unknown(self) -> bool:
        """Whether it cannot be told."""
        return all(reason.kind == UNKNOWN for reason in self.reasons)


def stale(
    task: str | None = None, *, imports: Sequence[str] = (), seen: Seen = lambda: None
) -> list[StaleJob]:
    """The stored jobs that would be computed again if their calls were made now, newest first.

    Of the jobs of one call, made with other code or other results of its inputs, the one counts that
    answers it now, if there is one, and otherwise the newest.
    task: only this one, its name or the part after the colon. The modules that define the tasks are
    imported, and `imports` first, where a task has a name of its own. `seen()` is called for each job
    looked at. No task runs.
    """
    survey = _Survey(current().store, imports)
    found = list(survey.judged(seen))
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
        self._tasks: dict[str, Definition | str] = {}
        self._changes: dict[Any, list[Reason]] = {}
        made = sorted(all_records(store), key=lambda one: one.started)
        self._calls = Calls(store, made, self._definition)
        self.records = self._calls.records
        self._answers: dict[bytes, StaleJob] = {}  # what each call gets, as far as it is judged
        self._held_by = holdings(store)

    def judged(self, seen: Seen) -> Iterator[StaleJob]:
        """Of each call the newest job that answers it now; of one that none answers the newest."""
        for call, jobs in self._calls.each():
            found = None
            for record in jobs:
                seen()
                if found is None or found.reasons:
                    one = StaleJob(
                        record.job_id, record.task, record.started, self._reasons(record)
                    )
                    found = one if found is None or not one.reasons else found
            assert found is not None  # noqa: S101 - each call has jobs
            self._answers[call] = found
            yield found

    # Reasons

    def _reasons(self, record: Record) -> list[Reason]:
        """Why a job is stale; its inputs have been judged."""
        reasons = [*self._of_code(record), *self._of_age(record)]
        if self._is_lost(record):
            reasons.append(Reason(LOST, "its result is lost, or damaged"))
        return [*reasons, *self._of_inputs(record)]

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
        return [
            *(Reason(CODE, change) for change in changed.told),
            *(Reason(UNKNOWN, why) for why in changed.unknown),
        ]

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
        for name, job_id in self._calls.inputs(record):
            then = self.records.get(job_id)
            if then is None:
                yield Reason(INPUT, f"what made its argument `{name}` is not stored any more")
                continue
            answer = self._answers.get(self._calls.call_of(job_id))
            now = then if answer is None else self.records[answer.job_id]
            taken = self._taken(record, name, then)
            if taken is None:
                yield Reason(
                    UNKNOWN,
                    f"whether its argument `{name}` is what it was cannot be told: {now.task}, of which"
                    " a result is in it, ran again since",
                )
            elif now.result.address != taken:
                yield Reason(INPUT, f"its argument `{name}`, of {now.task}, is another now")
            elif answer is not None and answer.reasons and not answer.is_unknown:
                yield Reason(INPUT, f"its argument `{name}`, of {now.task}, is stale")

    def _taken(self, record: Record, name: str, then: Record) -> bytes | None:
        """The address of what a job took from an input; None when that was replaced, and is not known.

        The record of an input may be that of a later run.
        """
        form = self._calls.form(record, name)
        if form == WHOLE:
            return next(address for one, address, _ in record.arguments if one == name)
        return None if form is None and ran_since(then, record) else then.result.address


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
