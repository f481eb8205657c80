"""Running jobs on a Dask cluster: Dask's one door (dask_watch.py is the other half of it).

One Dask key for each job, made of its job key. A worker looks into the store, computes what is
missing and commits it there; only the record comes back to the client. The value of a job that others
in the same graph need stays in the memory of the cluster beside it. Retries and time limits belong to
the run itself; Dask's scheduler knows priorities and resources.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from distributed import LocalCluster, WorkerPlugin

from kachery_store.errors import KacheryWarning
from kachery_store.saying import warn

from .cache import Outcome
from .dask_watch import Sent, Watch, settle
from .foreign import Foreign
from .job import Job
from .orders import Orders
from .settings import Settings
from .worker import as_outcome, carry_out

_Policy = tuple[int, tuple[tuple[str, float], ...]]  # priority, resources
_ORDINARY: _Policy = (0, ())
_ORDER_BYTES = 2000  # that an order has without its arguments, generously


class DaskExecutor:
    """Runs jobs on the cluster of one `distributed.Client`."""

    def __init__(self, settings: Settings, client: Any) -> None:
        self._settings = settings
        self._client = client
        self._orders = Orders(settings)
        # Dask's futures of jobs that are not done, by the futures of the jobs
        self._remote: WeakKeyDictionary[Future[Outcome], Any] = WeakKeyDictionary()
        self._failed: Counter[str] = Counter()  # how often jobs have, by their keys
        self._watch = Watch(settings, client, self._send, self._remote, self._failed)
        self._missing: set[str] = set()  # resources that no worker offered, which was said
        _keep_from_interrupts(client)

    def start(self, jobs: Sequence[Job]) -> None:
        """See that each future is settled. Inputs come before those who need them, or have futures."""
        self._tell_missing(jobs)
        self._send(jobs, 1)

    def _send(self, jobs: Sequence[Job], attempt: int) -> None:
        """Give jobs to Dask, for the first time or again."""
        needed = {one.key for job in jobs for one in job.inputs}
        graph: dict[str, Any] = {}
        sent: dict[Future[Outcome], tuple[str, Job]] = {}
        self._orders.begin()
        for job in jobs:
            future = job.started()
            if future.done():
                continue  # it was cancelled before it was sent
            try:
                running, known = self._inputs(job, sent)
                order = self._orders.order(job, list(running), known, keep_value=job.key in needed)
            except Exception as error:  # noqa: BLE001 - an input that failed, an argument that
                settle(future, error=error)  # cannot be sent: this job's alone
                continue
            key = _dask_key(job, attempt, self._failed[job.key], self._orders.mark)
            graph[key] = (
                (carry_out, order, list(running.values())) if running else (carry_out, order)
            )
            sent[future] = (key, job)
        try:
            remote = self._submit(graph, dict(sent.values()))
        except Exception as error:  # noqa: BLE001 - nobody may wait for ever
            for future in sent:
                settle(future, error=error)
            return
        self._remote.update({future: remote[key] for future, (key, _) in sent.items()})
        self._watch.add(
            Sent(remote[key], job, future, job.key in needed, attempt)
            for future, (key, job) in sent.items()
        )

    def _submit(self, graph: dict[str, Any], jobs: Mapping[str, Job]) -> dict[str, Any]:
        """Dask's futures by its keys."""
        if not graph:
            return {}
        by_policy: dict[_Policy, list[str]] = {}
        for key, job in jobs.items():
            by_policy.setdefault(_policy_of(job), []).append(key)
        whole = graph if by_policy.keys() == {_ORDINARY} else _in_layers(graph, by_policy)
        keys = list(graph)
        with _warned_above(len(keys)):
            return dict(zip(keys, self._client.get(whole, keys, sync=False), strict=True))

    def _inputs(
        self, job: Job, sent: Mapping[Future[Outcome], tuple[str, Job]]
    ) -> tuple[dict[str, Any], dict[str, Outcome]]:
        """The inputs that run on the cluster, by job key, as Dask takes them; and the others."""
        running: dict[str, Any] = {}
        known: dict[str, Outcome] = {}
        for one in job.inputs:
            future = one.started()
            remote = None if future.done() else self._remote.get(future)
            if isinstance(one, Foreign) and self._has(one.remote):
                running[one.key] = (as_outcome, one.remote)
            elif future in sent:
                running[one.key] = sent[future][0]
            elif remote is not None:
                running[one.key] = remote
            elif one.runner is job.runner:
                known[one.key] = future.result()
            else:  # of another store, which the worker will not look into
                known[one.key] = Outcome(None, one.runner.value_of(future.result()))
        return running, known

    def _has(self, remote: Any) -> bool:
        return remote is not None and remote.client is self._client

    def _tell_missing(self, jobs: Sequence[Job]) -> None:
        """Say which resources no worker offers: Dask waits for one that does, without a word."""
        asked = {name: job for job in jobs for name in job.definition.policy.resources}
        if asked.keys() <= self._missing:
            return
        workers, offered = self._client.run_on_scheduler(_offered)
        for name, job in asked.items():
            amount = job.definition.policy.resources[name]
            if name not in self._missing and offered.get(name, 0) < amount:
                self._missing.add(name)
                most = f"at most {offered.get(name, 0)}" if workers else "it has no worker yet"
                warn(
                    KacheryWarning(
                        f"{job.task} asks for resources={{{name!r}: {amount}}}, and no worker of the"
                        f" cluster offers that ({most}): its jobs wait until one"
                        f' does. Start workers with `dask worker --resources "{name}={amount}"`'
                    )
                )


_kept: WeakSet[Any] = WeakSet()  # clusters whose workers have been told


class _Uninterrupted(WorkerPlugin):  # type: ignore[misc]
    """Lets the process of a worker go on when somebody presses Ctrl-C, which is for those who wait.

    It leaves the group of the program, and so do the tools that its tasks run. To ignore the signal
    would be no good: tools would inherit that, and could not be interrupted by the task either.
    """

    name = "kachery-uninterrupted"

    def setup(self, worker: Any) -> None:  # noqa: ARG002
        """On each worker, those that come later too."""
        on_main_thread = threading.current_thread() is threading.main_thread()
        if multiprocessing.parent_process() is not None and on_main_thread:  # not in the program
            with suppress(OSError):  # it leads a session, so it has a group of its own
                os.setpgid(0, 0)


def _keep_from_interrupts(client: Any) -> None:
    """Keep the workers of a cluster on this machine from being interrupted with the program.

    A terminal, and a notebook, interrupts all processes of its group. Workers would end, and nothing
    would start them again.
    """
    cluster = getattr(client, "cluster", None)
    if isinstance(cluster, LocalCluster) and cluster not in _kept:
        client.register_plugin(_Uninterrupted())
        _kept.add(cluster)


def _warned_above(jobs: int) -> Any:
    """Have Dask warn of a large graph when its arguments are large, not when its jobs are many."""
    import dask

    name = "distributed.admin.large-graph-warning-threshold"
    usual = dask.utils.parse_bytes(dask.config.get(name, "10MB"))
    return dask.config.set({name: usual + jobs * _ORDER_BYTES})


def _offered(dask_scheduler: Any = None) -> tuple[int, dict[str, float]]:
    """How many workers the scheduler has, and the most that one of them has of each resource."""
    most: dict[str, float] = {}
    for worker in dask_scheduler.workers.values():
        for name, amount in worker.resources.items():
            most[name] = max(amount, most.get(name, 0))
    return len(dask_scheduler.workers), most


def _in_layers(graph: dict[str, Any], by_policy: dict[_Policy, list[str]]) -> Any:
    """The graph in layers, one for each policy, as Dask wants it where policies differ."""
    from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

    layers = {}
    for (priority, resources), keys in by_policy.items():
        annotations: dict[str, Any] = {"priority": priority} if priority else {}
        if resources:
            annotations["resources"] = dict(resources)
        layers[f"kachery-{keys[0]}"] = MaterializedLayer(
            {key: graph[key] for key in keys}, annotations=annotations
        )
    return HighLevelGraph(layers, {name: set() for name in layers})


def _policy_of(job: Job) -> _Policy:
    policy = job.definition.policy
    return policy.priority, tuple(sorted(policy.resources.items()))


def _dask_key(job: Job, attempt: int, failed: int, mark: str) -> str:
    """The function's name and the job key, as "denoise-3f1c...".

    Dask groups tasks by what stands before the dash: for its dashboard, for what it lets wait on the
    scheduler, and in memory, where each group costs as much as a task. After a loss or a
    failure the key is another one, because the scheduler may remember that; so is that of each request
    of a query. `mark` keeps apart who does not believe the same people: what a worker finds in a zone is
    judged for whoever asked.
    """
    name = job.definition.function.__name__
    again = "" if attempt == 1 else f"again{attempt}"
    parts = [
        job.key,
        mark,
        job.request,
        str(job.attempt or ""),
        f"failed{failed}" if failed else "",
        again,
    ]
    return f"{name if name.isidentifier() else 'lambda'}-{'~'.join(part for part in parts if part)}"
