"""Running jobs on a Dask cluster: the only module that knows Dask (but for who the client is).

One Dask key for each job: its job key. A worker looks into the store, computes what is missing and
commits it there; only the record comes back to the client. The value of a job that others in the
same graph need stays in the memory of the cluster beside it.
"""

from __future__ import annotations

import io
import os
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import cloudpickle
from distributed import as_completed

from kachery_store import Store
from kachery_store.errors import KacheryError
from kachery_store.zone_settings import ZoneSettings

from .cache import ABSENT, Outcome, Unusable, value_of
from .code import callable_fingerprint, changes, class_fingerprint, syntax_known
from .commit import codes_among
from .definition import Definition
from .errors import CodeMismatch
from .graph import inputs_first
from .job import Job, replaced
from .kept_code import keep_code, kept_code
from .names import find_class, main_known_as, main_name
from .project import Rule, rule, rule_known
from .record import Record
from .runs import run_submitted
from .settings import Settings, applied
from .values import Made, recall, remember


@dataclass(slots=True)
class Order:
    """What a worker is told about one job.

    The code: `definition` pickled, `by_value` or as a reference to its module; `fingerprint` and
    `syntax` as the client has them; `main`, the name of the client's `__main__`; `rule`, what counts
    as the project there. The arguments,
    pickled, with Stands for jobs: `inputs` are the keys of those that run on the cluster, `known`
    the outcomes of others. `expected` is the job id, where it is known.
    """

    key: str
    definition: bytes
    by_value: bool
    fingerprint: str
    syntax: dict[str, str]
    main: str
    rule: Rule
    arguments: bytes
    inputs: list[str]
    known: dict[str, Outcome]
    expected: str | None
    keep_value: bool
    root: str
    zone: ZoneSettings | None
    strict: bool
    refresh: bool | frozenset[str]
    read_only: bool

    def __dask_tokenize__(self) -> str:
        return self.key  # Dask names the whole graph by what is in it


class Stand:
    """Stands for a job among the arguments of another one, on the way to a worker."""

    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        self.key = key


class DaskExecutor:
    """Runs jobs on the cluster of one `distributed.Client`."""

    def __init__(self, settings: Settings, client: Any) -> None:
        self._settings = settings
        self._client = client
        self._pickled: WeakKeyDictionary[Definition, tuple[str, bytes]] = WeakKeyDictionary()
        self._remote: WeakValueDictionary[str, Any] = WeakValueDictionary()  # Dask's futures

    def start(self, jobs: Sequence[Job]) -> None:
        """Give each job a future. Inputs come before the jobs that need them, or have futures."""
        needed = {one.key for job in jobs for one in job.inputs}
        graph: dict[str, Any] = {}
        for job in jobs:
            job.future = Future()
        sent: list[Job] = []
        for job in jobs:
            try:
                running, known = self._inputs(job, graph)
                order = self._order(job, list(running), known, job.key in needed)
            except Exception as error:  # noqa: BLE001 - an input that failed, an argument that
                _settle(_future(job), error=error)  # cannot be sent: this job's alone
                continue
            graph[_dask_key(job)] = (carry_out, order, list(running.values()))
            sent.append(job)
        if not sent:
            return
        try:
            futures = self._client.get(graph, list(graph), sync=False)
        except Exception as error:  # noqa: BLE001 - nobody may wait for ever
            for job in sent:
                _settle(_future(job), error=error)
            return
        remote = dict(zip(futures, sent, strict=True))
        self._remote.update({_dask_key(job): future for future, job in remote.items()})
        watch = _Watch(self._client, remote, needed)
        threading.Thread(target=watch.run, name="kachery-watch", daemon=True).start()

    def _inputs(self, job: Job, graph: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Outcome]]:
        """The inputs that run on the cluster, by job key, as Dask takes them; and the others."""
        running: dict[str, Any] = {}
        known: dict[str, Outcome] = {}
        for one in job.inputs:
            remote = self._remote.get(_dask_key(one))
            if _dask_key(one) in graph:
                running[one.key] = _dask_key(one)
            elif remote is not None and not one.done():
                running[one.key] = remote
            elif one.runner is job.runner:
                known[one.key] = one.started().result()
            else:  # of another store, which the worker will not look into
                known[one.key] = Outcome(None, one.runner.value_of(one.started().result()))
        return running, known

    def _order(
        self, job: Job, inputs: list[str], known: dict[str, Outcome], keep_value: bool
    ) -> Order:
        definition = job.definition
        code = definition.fingerprint()
        codes = codes_among(definition.package, *job.told)
        told = [code, *(one for _, one in codes)]
        keep_code(self._settings.store, told)  # workers may lack the source
        return Order(
            key=job.key,
            definition=self._pickle(definition, code.digest),
            by_value=not definition.importable,
            fingerprint=code.digest,
            syntax=_main_syntax(job),
            main=main_name(),
            rule=rule(),
            arguments=_pickled(job.substituted(lambda one: Stand(one.key))),
            inputs=inputs,
            known=known,
            expected=None if job.inputs else job.key,
            keep_value=keep_value,
            root=self._settings.root,
            zone=self._settings.zone_settings(),
            strict=self._settings.strict,
            refresh=self._settings.refresh,
            read_only=self._settings.read_only,
        )

    def _pickle(self, definition: Definition, code: str) -> bytes:
        known = self._pickled.get(definition)
        if known is None or known[0] != code:
            known = self._pickled[definition] = (code, cloudpickle.dumps(definition))
        return known[1]


class _ArgumentPickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Tells of opaque values which job made them, so that a worker knows it, too."""

    def reducer_override(self, value: Any) -> Any:
        opaque = recall(value)
        if opaque is None:
            return super().reducer_override(value)
        return _remembered, (opaque.made, opaque.pickled)


def _pickled(arguments: Any) -> bytes:
    file = io.BytesIO()
    _ArgumentPickler(file).dump(arguments)
    return file.getvalue()


def _remembered(made: Made, data: bytes) -> Any:
    value = cloudpickle.loads(data)
    remember(value, made)
    return value


def _dask_key(job: Job) -> str:
    """The job key; another one after a loss, because the scheduler may remember what was lost.

    That is also why each request of a query has one of its own.
    """
    parts = [job.key, job.request, str(job.attempt or "")]
    return "~".join(part for part in parts if part)


def _main_syntax(job: Job) -> dict[str, str]:
    """What a worker must be told of `__main__`: of the task, and of classes that inputs may bring."""
    syntax: dict[str, str] = {}
    classes: set[str] = set()
    for one in inputs_first([job]):
        syntax |= one.definition.fingerprint().main_syntax
        for value in one.callables:
            syntax |= callable_fingerprint(value).main_syntax
        classes.update(name for name, _ in one.classes)
        if one.future is not None and (record := one.record) is not None:
            classes.update(name for name, _ in record.result.classes)
    for name in classes:
        cls = find_class(name)
        code = None if cls is None else class_fingerprint(cls)
        syntax |= {} if code is None else code.main_syntax
    return syntax


class _Watch:
    """Hands on what becomes of the cluster's futures, until all are done.

    Each goes to the future that the job had when it was sent: a job that was started over has a new
    one, which is not this watch's.
    """

    def __init__(self, client: Any, jobs: dict[Any, Job], needed: set[str]) -> None:
        self._client = client
        self._jobs = jobs
        self._futures = {remote: _future(job) for remote, job in jobs.items()}
        self._needed = needed

    def run(self) -> None:
        """Watch; this is what the thread does."""
        for remote, future in self._futures.items():
            future.add_done_callback(partial(_cancel_remote, remote))
        lost: BaseException = KacheryError("the cluster has lost the job")
        try:
            for batch in as_completed(list(self._jobs)).batches():
                self._hand_on(batch)
        except BaseException as error:  # noqa: BLE001 - nobody may wait for ever
            lost = error
        for future in self._futures.values():
            _settle(future, error=lost)  # those that are settled stay so

    def _hand_on(self, batch: list[Any]) -> None:
        fetched = []
        for remote in batch:
            if remote.status == "error":
                _settle(self._futures[remote], error=remote.exception())
            elif remote.status != "finished":
                self._futures[remote].cancel()
            elif (record := self._stored(self._jobs[remote])) is not None:
                _settle(self._futures[remote], Outcome(record))
            else:
                fetched.append(remote)
        try:
            outcomes = self._client.gather(fetched)
        except Exception:  # noqa: BLE001 - one by one, to see which
            for remote in fetched:
                self._fetch(remote)
        else:
            for remote, outcome in zip(fetched, outcomes, strict=True):
                self._receive(remote, outcome)

    def _fetch(self, remote: Any) -> None:
        try:
            self._receive(remote, remote.result())
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's
            _settle(self._futures[remote], error=error)

    def _receive(self, remote: Any, outcome: Outcome) -> None:
        """Believe an outcome if its record is stored: the scheduler remembers what was forgotten."""
        record = outcome.record
        if record is not None and not self._jobs[remote].runner.holds(record):
            forgotten = Unusable(f"job {record.job_id} has been forgotten since it ran")
            _settle(self._futures[remote], error=forgotten)
        else:
            _settle(self._futures[remote], outcome)

    def _stored(self, job: Job) -> Record | None:
        """The record of a job whose outcome would bring its value along."""
        return job.stored_record() if job.key in self._needed else None


def _future(job: Job) -> Future[Outcome]:
    assert job.future is not None  # noqa: S101 - start() has set it
    return job.future


def _settle(
    future: Future[Outcome], outcome: Any = None, error: BaseException | None = None
) -> None:
    with suppress(InvalidStateError):  # it was cancelled here
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(outcome)


def _cancel_remote(remote: Any, future: Future[Outcome]) -> None:
    if future.cancelled():
        remote.cancel()


# On the worker


def carry_out(order: Order, inputs: list[Outcome]) -> Outcome:
    """Do one job on a worker: check the code, get the inputs, look up or compute, commit."""
    settings = Settings(order.root, order.zone, None, order.strict, order.refresh, order.read_only)
    with (
        main_known_as(order.main),
        rule_known(order.rule),
        syntax_known(order.syntax),
        applied(settings),
    ):
        definition = _load_definition(order)
        _check_code(settings.store, definition, order)
        outcomes = {**order.known, **dict(zip(order.inputs, inputs, strict=True))}
        values = {key: _input_value(settings.store, one) for key, one in outcomes.items()}
        arguments = replaced(cloudpickle.loads(order.arguments), Stand, lambda s: values[s.key])
        try:
            outcome = run_submitted(
                settings.store,
                definition,
                arguments,
                expected=order.expected,
                strict=order.strict,
            )
        except SystemExit as error:  # it would end the worker
            raise RuntimeError(f"{definition.name} called sys.exit({error.code!r})") from error
        if outcome.record is None:
            return _sendable(outcome, definition)
        if not order.keep_value:
            return Outcome(outcome.record, warning=outcome.warning)
        if outcome.value is ABSENT:
            outcome = outcome._replace(value=value_of(settings.store, outcome))
        return outcome


def _sendable(outcome: Outcome, definition: Definition) -> Outcome:
    try:
        cloudpickle.dumps(outcome.value)
    except Exception as error:
        raise KacheryError(
            f"the result of {definition.name} can neither be stored nor sent back from the worker:"
            f" {outcome.warning}; {error}"
        ) from error
    return outcome


def _input_value(store: Store, outcome: Outcome) -> Any:
    # From the store every job gets a copy of its own, so that none sees what another one changed.
    try:
        return value_of(store, outcome)
    except Unusable:
        if outcome.value is ABSENT:
            raise
        return outcome.value


def _load_definition(order: Order) -> Definition:
    if order.by_value:
        return _definition_by_value(order.definition)
    try:
        definition: Definition = cloudpickle.loads(order.definition)
    except (ImportError, AttributeError) as error:
        raise CodeMismatch(
            f"the worker on {socket.gethostname()} does not have the task's module: {error}."
            " Install it there, or start the workers where it can be imported"
        ) from error
    return definition


@lru_cache(maxsize=256)
def _definition_by_value(pickled: bytes) -> Definition:
    definition: Definition = cloudpickle.loads(pickled)
    return definition


def _check_code(store: Store, definition: Definition, order: Order) -> None:
    """Refuse to run anything but the code that the client's job id stands for."""
    here = definition.fingerprint()
    if here.digest == order.fingerprint:
        return
    client = kept_code(store, order.fingerprint)
    differing = [] if client is None else [one.what for one in changes(here.description, client)]
    raise CodeMismatch(
        f"{definition.name}: the code of {', '.join(differing) or 'the task'} on the worker"
        f" {socket.gethostname()} (process {os.getpid()}, {definition.function.__code__.co_filename})"
        " is not the client's. Nothing was computed. Restart the workers (client.restart()), or"
        " bring both to the same version of the code"
    )
