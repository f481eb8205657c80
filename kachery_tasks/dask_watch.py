"""Handing on what becomes of jobs on a Dask cluster."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

from distributed import KilledWorker

from .cache import Outcome, Unusable
from .errors import WorkerLost
from .graph import inputs_first
from .job import Job
from .lookup import lookup
from .orders import ValueKept
from .record import Record
from .settings import Settings

_LOOK_EVERY = 0.5  # seconds; for what Dask does not tell: a closed client, data that was lost
_MANY, _TOGETHER = 100, 0.05  # of so many jobs those that end within 50 ms are fetched at once
_TRIES = 2  # how often a job is given to Dask, which itself gives it to several workers that die


class Sent(NamedTuple):
    """A job on the cluster.

    `future` is the one that the job had when it was sent: a job that was started over has another.
    `needed` says that others in its graph need the value, `attempt` how often Dask was given the job.
    """

    remote: Any
    job: Job
    future: Future[Outcome]
    needed: bool
    attempt: int


class Watch:
    """Hands on what becomes of Dask's futures, on a thread that lives while there are any."""

    def __init__(
        self,
        settings: Settings,
        client: Any,
        send: Callable[[Sequence[Job], int], None],
        remote: WeakKeyDictionary[Future[Outcome], Any],
        failed: Counter[str],
    ) -> None:
        self._settings = settings
        self._remote = remote
        self._failed = failed
        self._client = client
        self._send = send
        self._open: dict[Future[Outcome], Sent] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ended: SimpleQueue[Sent] = SimpleQueue()

    def add(self, sent: Iterable[Sent]) -> None:
        """Watch these, too."""
        new = list(sent)
        with self._lock:
            self._open.update((one.future, one) for one in new)
            if self._open and self._thread is None:
                self._thread = threading.Thread(target=self._run, name="kachery-watch", daemon=True)
                self._thread.start()
        for one in new:
            one.future.add_done_callback(partial(_release_cancelled, ref(one.remote)))
        self._client.loop.add_callback(self._follow_all, new)  # which wakes its thread once

    def _follow_all(self, sent: list[Sent]) -> None:
        for one in sent:
            self._client.loop.add_callback(self._follow, one)

    async def _follow(self, one: Sent) -> None:
        # As Dask's own callbacks do, whose threads complain when the program ends before its jobs.
        while one.remote.status == "pending":
            await one.remote._state.wait()  # noqa: SLF001
        self._ended.put(one)

    def _run(self) -> None:
        lost: list[Sent] = []
        while True:
            batch = lost + self._batch()
            lost = [one for one in batch if one.remote.status == "lost"]  # Dask computes it again
            try:
                self._hand_on([one for one in batch if one.remote.status != "lost"])
            except Exception as error:  # noqa: BLE001 - nobody may wait for ever
                for one in batch:
                    self._settle(one, error=error)
            if self._client.status in ("closing", "closed"):
                for one in list(self._open.values()):
                    self._settle(one, error=self._cluster_lost(one))
            del batch  # the cluster may forget what nobody asks for any more
            with self._lock:
                self._forget_done()
                if not self._open:
                    self._thread = None
                    return

    def _forget_done(self) -> None:
        for future in [future for future in self._open if future.done()]:
            del self._open[future]
            self._remote.pop(future, None)

    def _batch(self) -> list[Sent]:
        """What has ended since: after the first of them all that are there."""
        batch: list[Sent] = []
        with suppress(Empty):
            batch.append(self._ended.get(timeout=_LOOK_EVERY))
            if len(self._open) > _MANY:
                time.sleep(_TOGETHER)
            while True:
                batch.append(self._ended.get_nowait())
        return batch

    def _hand_on(self, batch: list[Sent]) -> None:
        fetched: list[Sent] = []
        killed: list[Sent] = []
        for one in batch:
            if one.future.done():
                continue
            status = one.remote.status
            if status == "finished":
                fetched += self._at_hand(one)
            elif status != "error":
                self._settle(one, error=self._cluster_lost(one))
            elif isinstance(error := one.remote.exception(), KilledWorker):
                killed.append(one)
            else:
                self._settle(one, error=error)
        self._fetch(fetched)
        self._try_again(killed)

    def _at_hand(self, one: Sent) -> list[Sent]:
        """Settle a job whose value stays on the cluster; what is to be fetched instead, if anything."""
        kind = one.remote.type
        if not (kind is ValueKept or (one.needed and kind is not Outcome)):
            return [one]
        record = self._stored(one.job)
        if record is not None:
            self._settle(one, Outcome(record))
            return []
        remote = self._client.submit(_without_value, one.remote, key=f"{one.remote.key}~record")
        self.add([one._replace(remote=remote, needed=False)])
        return []

    def _stored(self, job: Job) -> Record | None:
        try:
            store, task = self._settings.store, job.definition.name
            return None if job.id is None else lookup(store, job.id, task)
        except (Unusable, OSError):  # fetching the outcome tells more
            return None

    def _fetch(self, fetched: list[Sent]) -> None:
        if not fetched:
            return
        try:
            outcomes = self._client.gather([one.remote for one in fetched])
        except Exception:  # noqa: BLE001 - one by one, to see which
            for one in fetched:
                self._fetch_one(one)
        else:
            for one, outcome in zip(fetched, outcomes, strict=True):
                self._receive(one, outcome)

    def _fetch_one(self, one: Sent) -> None:
        try:
            self._receive(one, one.remote.result())
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's
            self._settle(one, error=error)

    def _receive(self, one: Sent, outcome: Outcome) -> None:
        """Believe an outcome if its record is stored: the scheduler remembers what was forgotten."""
        record = outcome.record
        if record is not None and not one.job.runner.holds(record):
            forgotten = Unusable(f"job {record.job_id} has been forgotten since it ran")
            self._settle(one, error=forgotten)
        else:
            self._settle(one, outcome)

    def _try_again(self, killed: list[Sent]) -> None:
        """Send jobs again whose workers died: most are innocent, and were only beside a culprit."""
        again: dict[int, list[Job]] = {}
        for one in killed:
            if one.attempt < _TRIES and one.job.future is one.future:
                again.setdefault(one.attempt + 1, []).append(one.job)
            else:
                self._settle(one, error=_worker_lost(one))
        for attempt, jobs in again.items():
            wanted = set(map(id, jobs))
            ordered = inputs_first(
                jobs, without=lambda job: job.future is None or job.future.done()
            )
            self._send([job for job in ordered if id(job) in wanted], attempt)

    def _settle(
        self, one: Sent, outcome: Outcome | None = None, error: BaseException | None = None
    ) -> None:
        if error is not None:
            self._failed[one.job.key] += 1
        settle(one.future, outcome, error)

    def _cluster_lost(self, one: Sent) -> WorkerLost:
        where = getattr(getattr(self._client, "scheduler", None), "address", "which is closed")
        return WorkerLost(
            f"the cluster ({where}) has lost {one.job.task} (job {one.job.key}): its scheduler ended or"
            " cannot be reached, or the client was closed or restarted. What has finished is stored:"
            " connect to a cluster and ask again"
        )


def settle(
    future: Future[Outcome], outcome: Any = None, error: BaseException | None = None
) -> None:
    """Settle a future, unless that has happened."""
    with suppress(InvalidStateError):  # it was cancelled here
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(outcome)


def _worker_lost(one: Sent) -> WorkerLost:
    return WorkerLost(
        f"{one.job.task} (job {one.job.key}) was with several workers that died one after another, each"
        " time. Most often they run out of memory, a library crashes, or the walltime of a batch system"
        " ends: see the logs of the workers, give them more memory or time, or let fewer jobs run in"
        " each"
    )


def _release_cancelled(reference: Any, future: Future[Outcome]) -> None:
    remote = reference()
    if remote is not None and future.cancelled():
        remote.release()  # it does not start unless others want it


def _without_value(outcome: Outcome) -> Outcome:
    return Outcome(outcome.record, warning=outcome.warning)
