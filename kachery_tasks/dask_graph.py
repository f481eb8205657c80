"""Jobs as Dask collections: what Dask is told so that it can compute one among its own things.

The graph has the job and what it needs that is not known yet, as on a cluster (dask_executor.py), and
one more key, which has the value.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from typing import Any, NamedTuple

from kachery_store.errors import Unsupported

from .cache import Outcome
from .foreign import Foreign
from .graph import inputs_first
from .job import Job
from .orders import Order, Orders
from .record import Record
from .settings import Settings
from .worker import as_outcome, carry_out, value_here


class DaskGraph(NamedTuple):
    """A HighLevelGraph, the key in it that has the value of a job, the records that it counts on."""

    graph: Any
    key: str
    known: list[Record]


class _Names(NamedTuple):
    token: str

    def of(self, job: Job) -> str:
        """Dask's key for a job in this graph; what stands before the dash groups them."""
        return f"{job.task.rpartition(':')[2]}-{self.token}~{job.key}"


def graph_of(settings: Settings, job: Job) -> DaskGraph:
    """The graph of a job; of what is known only the record is in it."""
    from dask.highlevelgraph import HighLevelGraph

    orders = Orders(settings)
    orders.begin()
    known = _known([job])
    # Whoever holds a future of an earlier graph makes Dask remember what became of its keys.
    names = _Names(os.urandom(6).hex())
    tasks: dict[str, Any] = {}
    for one in inputs_first([job], without=lambda one: id(one) in known):
        if isinstance(one, Foreign):
            tasks.update(_of_foreign(one, names))
        elif id(one) not in known:
            tasks[names.of(one)] = _task(orders, one, known, names)
    found = known.get(id(job))
    key = f"value-{names.token}~{job.key}"
    tasks[key] = (value_here, orders.standing(job), names.of(job) if found is None else found)
    counted_on = [one.record for one in known.values() if one.record is not None]
    return DaskGraph(HighLevelGraph({key: tasks}, {key: set()}), key, counted_on)


def _known(jobs: Sequence[Job]) -> dict[int, Outcome]:
    """The outcomes of those jobs, and of all that they need, that need not run."""
    found: dict[int, Outcome] = {}
    for one in inputs_first(jobs):
        record = _record(one)
        if record is not None:
            found[id(one)] = Outcome(record)
    return found


def _record(job: Job) -> Record | None:
    return job.stored_record() if job.resolve() else None


def _task(orders: Orders, job: Job, known: dict[int, Outcome], names: _Names) -> Any:
    at_hand = {one.key: known[id(one)] for one in job.inputs if id(one) in known}
    others = {one.key: names.of(one) for one in job.inputs if id(one) not in known}
    order = orders.order(job, list(others), at_hand, keep_value=True)
    return carry_out_anywhere, order, list(others.values())


def _of_foreign(one: Foreign, names: _Names) -> dict[str, Any]:
    source = one.source
    if hasattr(source, "__dask_graph__"):
        return {**dict(source.__dask_graph__()), names.of(one): (as_outcome, source.key)}
    return {names.of(one): (as_outcome, source)}


def carry_out_anywhere(order: Order, inputs: Sequence[Outcome]) -> Outcome:
    """`carry_out`, also in the process that asked, where errors are not pickled on their way."""
    from .failures import Carried

    try:
        return carry_out(order, inputs)
    except Carried as error:
        if _on_worker():
            raise
        original = pickle.loads(pickle.dumps(error))
    raise original


def _on_worker() -> bool:
    from distributed import get_worker

    try:
        get_worker()
    except ValueError:
        return False
    return True


def rebuilt(graph: Any, key: str, rename: dict[str, str] | None) -> Any:
    """The dask.delayed object of a graph that has the value under a key."""
    from dask.delayed import Delayed

    return Delayed((rename or {}).get(key, key), graph)


def computed(graph: Any, keys: Any, **options: Any) -> Any:
    """What Dask's threads make of a graph."""
    from dask.threaded import get

    return get(graph, keys, **options)


def visualize(job: Job, filename: str | None, **options: Any) -> Any:
    """Draw a job's graph. Unsupported where graphviz is not installed."""
    import dask

    try:
        return dask.visualize(job, filename=filename, **options)
    except (ImportError, RuntimeError) as error:
        raise Unsupported(
            f"the jobs cannot be drawn: {error}. That needs the package graphviz, pip install"
            " 'kachery[ui]', and the program dot, which is Graphviz itself"
        ) from error
