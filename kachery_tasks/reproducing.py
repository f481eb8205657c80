"""Running jobs again of which only the records are at hand."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kachery_store import Digest, DigestMismatch, NotFound, Store
from kachery_store.errors import KacheryError

from .binding import Arguments
from .cache import load
from .chunk_values import reading
from .code_now import code_changes, task_named
from .definition import TASK, Definition
from .environment import environment_at
from .errors import CannotDecode, NotReproducible
from .identity import addresses_of, identify
from .job import Job
from .listing import all_records, find_record
from .lookup import lookup
from .record import Record
from .reproduce import CANNOT, Reproduction, note_verdict
from .reproduce import reproduce as run_again
from .settings import current
from .values import decode, encode
from .values.opaque import Made

_SHOWN = 3  # changes of the code


def reproduce(x: str | Job | Record, *, imports: Sequence[str] = ()) -> Reproduction:
    """Run a job again and compare its result with the stored one; true if it is the same.

    x: a Job, a Record, a job:// URI or the beginning of a job id. Of a record the code and the arguments
    are looked for: the module that defines the task is imported, and `imports` first, where the task
    has a name of its own. The function runs in this process. The first result stays; the verdict
    goes into the feed of jobs. Raises NotReproducible when it cannot be run again, which says why,
    what the function raises, NotFound.
    """
    settings = current()
    if isinstance(x, Job):
        arguments = x.substituted(lambda job: job.result())
        return run_again(settings.store, x.definition, arguments, strict=settings.strict)
    record = x if isinstance(x, Record) else find_record(settings.store, x)
    return Reproducing(settings.store, imports).run(record)


class Reproducing:
    """Runs jobs of one store again, one after the other."""

    def __init__(self, store: Store, imports: Sequence[str] = ()) -> None:
        self._store = store
        self._imports = imports
        self._by_result: dict[bytes, str] | None = None

    def run(self, record: Record) -> Reproduction:
        """Run the job of a record again. Raises as `reproduce`."""
        try:
            definition, arguments = self._call(record)
        except Exception as error:  # whatever decoders of the user's own raise
            why = (
                str(error)
                if isinstance(error, KacheryError)
                else f"{type(error).__name__}: {error}"
            )
            note_verdict(self._store, record, CANNOT, [why])
            raise NotReproducible(f"{record.task} (job {record.job_id[:12]}): {why}") from error
        return run_again(self._store, definition, arguments, strict=current().strict)

    def _call(self, record: Record) -> tuple[Definition, Arguments]:
        if record.kind != TASK:
            raise NotReproducible(f"it is a {record.kind}: the outside world changes")
        definition = task_named(record.task, self._imports)
        if definition.kind != TASK:
            raise NotReproducible(f"{record.task} is a {definition.kind} now")
        self._refuse_other_code(definition, record)
        arguments = self._arguments(definition, record)
        self._refuse_other_code(definition, record)  # classes that came with the arguments
        addresses = addresses_of(definition, arguments)
        for name, address, _ in record.arguments:
            if addresses.of.get(name) != address:
                raise NotReproducible(f"argument `{name}`, read back, is not what it was")
        if identify(definition, addresses) != record.job_id:
            raise NotReproducible("the code of something among its arguments is another now")
        return definition, arguments

    def _refuse_other_code(self, definition: Definition, record: Record) -> None:
        changed = code_changes(self._store, definition, record)
        if not changed:
            return
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise NotReproducible(
            f"the code is another now ({'; '.join(changed[:_SHOWN])}{more}){self._at_commit(record)}"
        )

    def _at_commit(self, record: Record) -> str:
        git = (environment_at(self._store, record.environment) or {}).get("git")
        commit = git.get("commit") if isinstance(git, dict) else None
        if not isinstance(git, dict) or not isinstance(commit, str):
            return ": bring back what it was"
        dirty = ", with changes that were not committed" if git.get("dirty") else ""
        return f": it ran at git commit {commit[:12]}{dirty}: check that out"

    # Arguments

    def _arguments(self, definition: Definition, record: Record) -> Arguments:
        known = {name: (address, summary) for name, address, summary in record.arguments}
        arguments: Arguments = {}
        for name in definition.parameters.names:
            if name in known:
                arguments[name] = self._argument(record, name, *known[name])
            else:
                arguments[name] = _default(definition, name)
        return arguments

    def _argument(self, record: Record, name: str, address: bytes, summary: str) -> Any:
        if not address:
            raise NotReproducible(f"argument `{name}` is secret, and was not kept")
        for find in (self._kept_value, self._stored_value, self._result, self._results):
            try:
                return find(record, name, address)
            except (NotFound, DigestMismatch):
                continue
            except CannotDecode as error:
                raise NotReproducible(f"argument `{name}` cannot be read back: {error}") from error
        raise NotReproducible(f"argument `{name}` ({summary}) is not in the store")

    def _kept_value(self, record: Record, name: str, _: bytes) -> Any:
        encoding = dict(record.values).get(name)
        if encoding is None:
            raise NotFound("it was too large")
        return self._decoded(encoding)

    def _stored_value(self, _record: Record, _name: str, address: bytes) -> Any:
        return self._decoded(self._store.blobs.read(Digest("blake3", address.hex())))

    def _result(self, record: Record, _name: str, address: bytes) -> Any:
        """The result of some job that has the argument's address."""
        makers = [job_id for _, job_id in record.inputs]
        for job_id in (*makers, self._results_by_address().get(address, "")):
            made = lookup(self._store, job_id) if job_id else None
            if made is not None and made.result.address == address:
                return load(self._store, made)
        raise NotFound("no job that made it is known")

    def _results(self, record: Record, name: str, address: bytes) -> Any:
        """A list or tuple of the results of jobs, if it has the argument's address."""
        made = [lookup(self._store, job_id) for of, job_id in record.inputs if of == name]
        values = [load(self._store, one) for one in made if one is not None]
        for kind in (list, tuple):
            value = kind(values)
            if len(values) == len(made) and encode(value).address == address:
                return value
        raise NotFound("its parts are not known")

    def _decoded(self, encoding: bytes) -> Any:
        def load_blob(digest: bytes, _: int) -> memoryview:
            return self._store.blobs.map(Digest("blake3", digest.hex()))

        def load_opaque(made: Made) -> Any:
            raise NotFound(f"what job {made.job_id} made is opaque")

        with reading(self._store):
            return decode(encoding, load_blob, load_opaque)

    def _results_by_address(self) -> dict[bytes, str]:
        if self._by_result is None:
            self._by_result = {
                one.result.address: one.job_id
                for one in all_records(self._store)
                if not one.is_error
            }
        return self._by_result


def _default(definition: Definition, name: str) -> Any:
    """The argument for a parameter that does not count, of which nothing was kept."""
    parameter = inspect.signature(definition.function, follow_wrapped=False).parameters[name]
    if parameter.kind is parameter.VAR_POSITIONAL:
        return ()
    if parameter.kind is parameter.VAR_KEYWORD:
        return {}
    if parameter.default is parameter.empty:
        raise NotReproducible(f"argument `{name}` is in ignore=, has no default, and was not kept")
    return parameter.default


def sample(
    store: Store, count: int, task: str | None, seed: int | None, seen: Callable[[], object]
) -> list[Record]:
    """Some results of tasks, chosen at random, of one task or all; the same for the same seed.

    `seen()` is called for each job looked at.
    """
    chooser = random.Random(seed)
    if task is not None:
        found = sorted(_of_tasks(store, task), key=lambda one: one.job_id)
        return chooser.sample(found, min(count, len(found)))
    ids = sorted(store.jobs.names())
    chooser.shuffle(ids)
    chosen: list[Record] = []
    for job_id in ids:
        record = lookup(store, job_id) if len(chosen) < count else None
        seen()
        if record is not None and record.kind == TASK:
            chosen.append(record)
    return chosen


def _of_tasks(store: Store, task: str) -> Iterator[Record]:
    return (one for one in all_records(store, task) if one.kind == TASK)
