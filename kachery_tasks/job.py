"""Job: one task bound to arguments.

A job is known by its key at once, and by its id as soon as the addresses of its arguments are known.
How it is looked up and run is the business of the session it was made in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, Protocol

from kachery_store.errors import Unsupported

from .awaiting import done
from .binding import Arguments
from .cache import Outcome
from .definition import ACTION, TASK, Definition
from .errors import CannotEncode
from .graph import inputs_first
from .identity import Addresses, ClassCodes, Special, addresses_of, identify
from .record import Record
from .tracebacks import shorten
from .values import Encoder, ext
from .values.encoding import PREFIX


class Runner(Protocol):
    """What a job needs of its session."""

    def lookup(self, job_id: str, definition: Definition) -> Record | None:
        """The record that answers a job, so that nothing has to run."""

    def start(self, jobs: Sequence[Job]) -> int:
        """Give every job a future, looking up or starting what it takes; how many have to run."""

    def outcome(self, job: Job, timeout: float | None) -> Outcome:
        """What became of a job once it is done."""

    def value(self, job: Job, timeout: float | None) -> Any:
        """The value of a job once it is done; see Job.result."""

    def value_of(self, outcome: Outcome) -> Any:
        """The value of an outcome: a copy of its own, where the store has it."""

    def encoding(self, record: Record) -> bytes:
        """The encoding of the result that a record names."""

    def remove(self, job_id: str) -> None:
        """Forget the record of a job id."""

    def holds(self, record: Record) -> bool:
        """Whether a record is stored."""

    def has_threads(self) -> bool:
        """Whether jobs run on threads of this process, which cannot end before them."""

    def for_dask(self, job: Job) -> Any:
        """The graph and the key by which Dask knows a job."""

    def rebuilt(self, graph: Any, key: str, *, rename: Any = None) -> Any:
        """What Dask's `persist` gives back."""

    def computed(self, graph: Any, keys: Any, **options: Any) -> Any:
        """What Dask's scheduler for this process makes of a graph."""

    def visualize(self, job: Job, filename: str | None, **options: Any) -> Any:
        """Draw the graph of a job."""


class Job:
    """One task bound to arguments, which may be jobs themselves (in lists, tuples and dicts too).

    Nothing runs before `result`, `submit` or `gather` asks for it. Jobs made of equal calls have the
    same key; `key` always exists, `id` is None until the addresses of all arguments are known.
    """

    def __init__(self, definition: Definition, arguments: Arguments, runner: Runner) -> None:
        self.definition = definition
        self.arguments = arguments
        self.inputs: list[Job] = []  # the jobs among the arguments, each once
        self.future: Future[Outcome] | None = None
        self._cancelled: Future[Outcome] | None = None
        self.attempt = 0  # counts how often the result was lost
        self.request = ""  # tells this run from others that have the same key
        self.state_of: Callable[[str], str] | None = None  # tells the state of an action's job id
        self.runner = runner
        self.opened: list[str] = []  # the parameters whose arguments have jobs in them
        self.key, self._addresses = self._identify()
        self._id: str | None = None if self.inputs else self.key
        self._dask: Any = None  # what Dask is told of it, once it has asked
        self._asks: bool = definition.kind != TASK or any(job._asks for job in self.inputs)  # noqa: SLF001

    # Identity

    @property
    def classes(self) -> ClassCodes:
        """The project's classes whose instances are among the arguments."""
        return self._addresses.classes

    @property
    def callables(self) -> tuple[Any, ...]:
        """The functions among the arguments."""
        return self._addresses.callables

    @property
    def told(self) -> tuple[ClassCodes, tuple[Any, ...]]:
        """Of the classes and functions those that are not in secret arguments."""
        return self._addresses.told

    @property
    def task(self) -> str:
        """The name of the task."""
        return self.definition.name

    @property
    def id(self) -> str | None:
        """The job id, 64 hex digits; None while the result of an argument is not known."""
        if self._id is None:
            for job in inputs_first([self]):
                job.resolve()
        return self._id

    def resolve(self) -> bool:
        """Find the id if the records of all inputs are known; whether it is known now."""
        if self._id is None:
            addresses = self._with_results()
            if addresses is not None:
                self._id = identify(self.definition, addresses)
        return self._id is not None

    @property
    def uri(self) -> str | None:
        """job://<job id>, or None as long as that is not known."""
        return None if self.id is None else f"job://{self.id}"

    def _identify(self) -> tuple[str, Addresses]:
        """The key, and the addresses of the arguments with jobs standing for their keys."""
        met: dict[int, Job] = {}

        def stand_in(job: Job, encoder: Encoder) -> bytes:
            met[id(job)] = job
            return encoder.extension(ext.JOB, job.key.encode())

        addresses = addresses_of(self.definition, self.arguments, _for_jobs(stand_in))
        if met or self.definition.ignore:
            self._find_inputs(met)
        return identify(self.definition, addresses), addresses

    def _find_inputs(self, met: dict[int, Job]) -> None:
        found: dict[int, Job] = {}
        for name, value in self.arguments.items():
            try:
                inside = {id(job): job for job in _jobs_in(value)}
            except RecursionError:
                raise CannotEncode("it is nested too deeply", f"{self.task}({name})") from None
            found.update(inside)
            if inside:
                self.opened.append(name)
        if not met.keys() <= found.keys():
            raise CannotEncode(
                "jobs may stand in lists, tuples and the values of dicts, not in other containers",
                f"{self.task}(...)",
            )
        self.inputs.extend(found.values())

    def _with_results(self) -> Addresses | None:
        """The addresses of the arguments with jobs standing for their results; None if unknown."""
        records: dict[int, Record] = {}
        classes: set[tuple[str, str]] = set()
        for job in self.inputs:
            record = job._known_record()  # noqa: SLF001 - another job
            if record is None or record.is_error:
                return None
            records[id(job)] = record

        def splice(job: Job, _: Encoder) -> bytes:
            record = records[id(job)]
            classes.update((name, code) for name, code in record.result.classes)
            return self.runner.encoding(record)[len(PREFIX) :]

        addresses = addresses_of(
            self.definition, self.arguments, _for_jobs(splice), self._addresses, self.opened
        )
        return addresses._replace(classes=addresses.classes | classes)

    def final_addresses(self) -> Addresses | None:
        """The addresses of all arguments; None while the result of one is not known."""
        if not self.inputs:
            return self._addresses
        return None if self.id is None else self._with_results()

    def substituted(self, replacement: Callable[[Job], Any]) -> Arguments:
        """The arguments with every job replaced."""
        return {
            name: replaced(value, Job, replacement) if name in self.opened else value
            for name, value in self.arguments.items()
        }

    # State

    @property
    def record(self) -> Record | None:
        """The record, if the job has finished and its result is stored."""
        if self.id is None and self.future is None:
            return None
        known = self._known_record()
        return None if known is None else known.apart()

    def _known_record(self) -> Record | None:
        future = self.future
        if future is not None and future.done():
            if future.cancelled() or future.exception() is not None:
                return self._kept_error()
            outcome = future.result()
            if outcome.record is not None:
                return outcome.record
        return None if self._id is None else self.runner.lookup(self._id, self.definition)

    def _kept_error(self) -> Record | None:
        """The record of what the run raised, if that counts as its result (`cache_errors=`)."""
        if self._id is None or not self.definition.policy.cache_errors:
            return None
        record = self.runner.lookup(self._id, self.definition)
        return record if record is not None and record.is_error else None

    def stored_record(self) -> Record | None:
        """The record as the store has it now, whatever became of this job's own run."""
        return None if self.id is None else self.runner.lookup(self.id, self.definition)

    @property
    def cached(self) -> bool:
        """Whether the result is in the store, so that asking for it computes nothing."""
        return self.stored_record() is not None

    @property
    def status(self) -> str:
        """`pending`, `running`, `finished` or `error`; of an action also `unknown`, see its document."""
        ended = self.future is None or self.future.done()
        if ended and self.state_of is not None:
            return "pending" if self.id is None else self.state_of(self.id)
        if self.future is None or self.future.cancelled():
            return "finished" if self.cached else "pending"
        if not self.future.done():
            return "running" if self.future.running() else "pending"
        return "finished" if self.future.exception() is None else "error"

    # As concurrent.futures.Future

    def result(self, timeout: float | None = None) -> Any:
        """The value: from the store, or computed if it is not known; starts the job if nobody has.

        Raises what the task raised, TimeoutError after `timeout` seconds, CancelledError.
        """
        try:
            return self.runner.value(self, timeout)
        except BaseException as error:
            shorten(error)
            raise

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the task raised, or None; waits like `result`."""
        try:
            outcome = self.runner.outcome(self, timeout)
        except CancelledError:
            raise
        except BaseException as error:
            if isinstance(error, TimeoutError) and not self._raised(error):
                raise
            return error
        if outcome.record is None or not outcome.record.is_error:
            return None
        try:
            self.runner.value_of(outcome)
        except Exception as error:  # noqa: BLE001 - what was kept
            return error
        return None

    def _raised(self, error: BaseException) -> bool:
        """Whether an exception is the task's, and not that of whoever waited for it."""
        future = self.future
        return future is not None and future.done() and future.exception() is error

    def done(self) -> bool:
        """Whether the job has finished, failed or been cancelled (when its status is `pending`)."""
        return self.cached if self.future is None else self.future.done()

    def cancel(self) -> bool:
        """Keep the job from starting; False if it runs or is done already."""
        if self.future is None or not self.future.cancel():
            return False
        self._cancelled = self.future
        return True

    @property
    def is_cancelled_here(self) -> bool:
        """Whether `cancel` of this very job has ended its run, and not that of an equal one."""
        return self._cancelled is not None and self._cancelled is self.future

    def add_done_callback(self, function: Callable[[Job], object]) -> None:
        """Call `function(job)` when the job is done; starts the job if nobody has."""
        self.started().add_done_callback(lambda _: function(self))

    def forget(self) -> None:
        """Remove the result from the store: the job will be computed when it is next asked for.

        Raises Unsupported for an action: that it was started is not forgotten.
        """
        if self.definition.kind == ACTION:
            raise Unsupported(
                f"that {self.task} was started is not forgotten: hand it another idempotency="
                '"..." to have it done once more'
            )
        if self.id is not None:
            self.runner.remove(self.id)
        self.reset()

    def reset(self) -> None:
        """Look the job up again, or run it again, when it is next asked for."""
        self.future = self._dask = None
        self.attempt += 1
        if self.inputs:
            self._id = None

    def join(self, other: Job) -> None:
        """Share the run of an equal job."""
        self.future, self.request, self.attempt = other.future, other.request, other.attempt

    def reconsider(self) -> None:
        """Find the id again, where it depends on answers that may have become too old since."""
        if self.inputs and self._asks:
            self._id = None

    def run_anew(self, *, always: bool) -> None:
        """Let this run be another one than earlier ones, as each of a query is, and with `always`."""
        if always or self.definition.kind != TASK:
            self.request = os.urandom(6).hex()

    def __await__(self) -> Generator[Any, None, Any]:
        yield from done(self.started()).__await__()
        return self.result()

    def started(self) -> Future[Outcome]:
        """The future of the job, which is started if nobody has."""
        if self.future is None:
            self.runner.start([self])
        assert self.future is not None  # noqa: S101 - that is what start() is for
        return self.future

    # As a Dask collection, so that `dask.compute(job)` and `dask.delayed(f)(job)` work

    __dask_optimize__ = None  # every task in the graph is wanted as it is

    def __dask_graph__(self) -> Any:
        """What computes the value; see dask_graph.py."""
        return self._for_dask().graph

    def __dask_keys__(self) -> list[str]:
        """The one key of the graph that has the value."""
        return [self._for_dask().key]

    def __dask_layers__(self) -> tuple[str, ...]:
        """The layer of the graph that has the value."""
        return (self._for_dask().key,)

    def __dask_postcompute__(self) -> Any:
        """From what Dask computed for the keys to the value."""
        return _only, ()

    def __dask_postpersist__(self) -> Any:
        """From a graph that holds the value to something that stands for it: a dask.delayed object."""
        return self.runner.rebuilt, (self._for_dask().key,)

    def __dask_scheduler__(self, graph: Any, keys: Any, **options: Any) -> Any:
        """Where it is computed when nothing else is said: on threads of this process."""
        return self.runner.computed(graph, keys, **options)

    def __dask_tokenize__(self) -> str:
        return self.key

    def visualize(self, filename: str | None = "job", **options: Any) -> Any:
        """Draw what would run, with the options of `dask.visualize`. Unsupported without graphviz."""
        return self.runner.visualize(self, filename, **options)

    def _for_dask(self) -> Any:
        if self._dask is None or not all(map(self.runner.holds, self._dask.known)):
            self._dask = self.runner.for_dask(self)
        return self._dask

    def __repr__(self) -> str:
        from .drawing.lines import job_text

        return job_text(self)

    def _repr_html_(self) -> str:
        """How notebooks show it; see drawing/notebook.py."""
        from .drawing.notebook import job_html

        return job_html(self)


def _only(values: Sequence[Any]) -> Any:
    return values[0]


def _for_jobs(encode: Callable[[Any, Encoder], bytes]) -> Special:
    return dict.fromkeys((Job, *Job.__subclasses__()), encode)


def _jobs_in(value: Any) -> Iterator[Job]:
    if isinstance(value, Job):
        yield value
    elif type(value) in (list, tuple):
        for item in value:
            yield from _jobs_in(item)
    elif type(value) is dict:
        for item in value.values():
            yield from _jobs_in(item)


def replaced(value: Any, kind: type | tuple[type, ...], replacement: Callable[[Any], Any]) -> Any:
    """A value with every instance of `kind` in its lists, tuples and dicts replaced."""
    if isinstance(value, kind):
        return replacement(value)
    if type(value) in (list, tuple):
        return type(value)(replaced(item, kind, replacement) for item in value)
    if type(value) is dict:
        return {name: replaced(item, kind, replacement) for name, item in value.items()}
    return value
