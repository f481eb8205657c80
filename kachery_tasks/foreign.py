"""What comes from Dask itself, `dask.delayed` objects and futures, as the argument of a job.

It has no identity before it is computed, for Dask's keys say nothing certain of content. So it stands
among the arguments like a job whose result is not stored: the job that needs it gets its id when the
value is there, from that.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

from .binding import Arguments
from .cache import Outcome
from .definition import Definition
from .errors import CannotEncode
from .job import Job, replaced
from .record import Record
from .settings import client_in_force, current

_TYPES = (("dask.delayed", "Delayed"), ("distributed", "Future"))
_AT_ONCE = 8  # delayed objects that are computed in this process at the same time


class Foreign(Job):
    """A delayed object or future in the place of a job. `remote` is its future on a cluster, if any."""

    def __init__(self, source: Any) -> None:
        # Two with the same Dask key need not be the same.
        self.key = os.urandom(32).hex()
        self.source = source
        self.remote: Any = None
        self.inputs: list[Job] = []
        self.future: Future[Outcome] | None = None
        self._cancelled = None
        self.attempt = 0
        self.request = ""
        self.runner = _RUNNER
        self.state_of = None
        self._id = None
        self._asks = False

    @property
    def task(self) -> str:
        """What stands for the name of a task."""
        return type(self.source).__name__

    @property
    def classes(self) -> frozenset[tuple[str, str]]:
        """None are known."""
        return frozenset()

    @property
    def callables(self) -> tuple[Any, ...]:
        """None are known."""
        return ()

    def resolve(self) -> bool:
        """It has no id."""
        return False

    def _known_record(self) -> Record | None:
        return None


class _Runner:
    """Computes what comes from Dask: on its cluster, or in this process where there is none."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def start_afresh(self) -> None:
        """Forget the threads: in a forked child they are gone."""
        self._pool = None

    def start(self, jobs: Sequence[Job]) -> int:
        """Give each a future whose outcome has the value, or Dask's future of it."""
        for job in jobs:
            assert isinstance(job, Foreign)  # noqa: S101 - nobody else has this runner
            job.future = Future()
            job.remote = _remote(job.source)
            if job.remote is None:
                self._compute_here(job.source, job.future)
            else:
                job.remote.add_done_callback(partial(_hand_on, job.future))
        return len(jobs)

    def _compute_here(self, source: Any, future: Future[Outcome]) -> None:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="kachery-dask")
        self._pool.submit(_computed, source, future)

    def value_of(self, outcome: Outcome) -> Any:
        """The value, fetched from the cluster if it is there.

        It is the same for all jobs that need it: what gives a job its arguments makes the copy
        (cache.value_of), or pickles it.
        """
        return outcome.value.result() if _is(outcome.value, *_TYPES[1]) else outcome.value

    def value(self, job: Job, timeout: float | None) -> Any:
        """The value, once it is there."""
        return self.value_of(job.started().result(timeout))

    def outcome(self, job: Job, timeout: float | None) -> Outcome:
        """What became of it."""
        return job.started().result(timeout)

    def has_threads(self) -> bool:
        """What Dask is at is for Dask to end."""
        return False

    def lookup(self, job_id: str, definition: Definition) -> Record | None:  # noqa: ARG002
        """Nothing of it is stored."""
        return None

    def encoding(self, record: Record) -> bytes:  # noqa: ARG002
        """Never asked for."""
        raise CannotEncode("what comes from Dask is not stored")

    def remove(self, job_id: str) -> None:
        """There is nothing to forget."""

    def holds(self, record: Record) -> bool:  # noqa: ARG002
        """Nothing of it is stored."""
        return False

    def for_dask(self, job: Job) -> Any:
        """What Dask knows of it."""
        assert isinstance(job, Foreign)  # noqa: S101 - nobody else has this runner
        return job.source

    def rebuilt(self, graph: Any, key: str, *, rename: Any = None) -> Any:  # noqa: ARG002
        """Never asked for: nobody outside gets hold of a Foreign."""
        raise CannotEncode("what comes from Dask is not stored")

    def computed(self, graph: Any, keys: Any, **options: Any) -> Any:  # noqa: ARG002
        """Never asked for."""
        raise CannotEncode("what comes from Dask is not stored")

    def visualize(self, job: Job, filename: str | None, **options: Any) -> Any:
        """Draw what Dask knows of it."""
        return self.for_dask(job).visualize(filename, **options)


_RUNNER = _Runner()
os.register_at_fork(after_in_child=_RUNNER.start_afresh)


def lifted(arguments: Arguments) -> Arguments | None:
    """The arguments with a Foreign for each delayed object or future; None when there is none."""
    kinds = tuple(kind for module, name in _TYPES if (kind := _kind(module, name)) is not None)
    if not kinds or not _has_any(list(arguments.values()), kinds):
        return None
    met: dict[int, Foreign] = {}

    def lift(source: Any) -> Foreign:
        return met.setdefault(id(source), Foreign(source))

    return {name: replaced(value, kinds, lift) for name, value in arguments.items()}


def _has_any(values: list[Any], kinds: tuple[type, ...]) -> bool:
    """Whether there are instances in lists, tuples and dicts, however deep and often those occur."""
    seen: set[int] = set()
    while values:
        value = values.pop()
        if isinstance(value, kinds):
            return True
        if type(value) in (list, tuple, dict) and id(value) not in seen:
            seen.add(id(value))
            values.extend(value.values() if type(value) is dict else value)
    return False


def _kind(module: str, name: str) -> Any:
    return getattr(sys.modules.get(module), name, None)


def _is(value: Any, module: str, name: str) -> bool:
    kind = _kind(module, name)
    return kind is not None and isinstance(value, kind)


def _remote(source: Any) -> Any:
    """Dask's future of a source; None when it is to be computed in this process."""
    if _is(source, *_TYPES[1]):
        return source
    client = client_in_force(current())
    return None if client is None else client.compute(source)


def _computed(source: Any, future: Future[Outcome]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        value = source.compute(scheduler="threads")
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
        future.set_exception(error)
    else:
        future.set_result(Outcome(None, value))


def _hand_on(future: Future[Outcome], remote: Any) -> None:
    with suppress(InvalidStateError):  # it was cancelled here
        if remote.status == "finished":
            future.set_result(Outcome(None, remote))
        elif remote.status == "error":
            future.set_exception(remote.exception())
        else:
            future.cancel()
