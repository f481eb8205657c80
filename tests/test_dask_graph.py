"""Jobs among Dask's own things: as its collections, and with its objects as their arguments."""

import warnings
from contextlib import suppress

import dask
import dask.array as da
import numpy as np
import pytest
from conftest import note_call
from distributed import Client

import kachery


@kachery.task
def ramp(n, path):
    note_call(path)
    return np.arange(float(n))


@kachery.task
def total(arrays, path):
    note_call(path)
    return float(sum(array.sum() for array in arrays))


@kachery.task
def more(x, path):
    note_call(path)
    return x + 1


@kachery.task
def fails(x):
    raise ValueError(f"no {x}")


@kachery.task
def many(things):
    return len(things)


@pytest.fixture(scope="module")
def cluster():
    with Client(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as client:
        yield client


@pytest.fixture(params=["here", "cluster"])
def client(request):
    """With a cluster at hand, and without."""
    if request.param == "here":
        with kachery.using(client=None), dask.config.set(scheduler="threads"):
            yield None
    else:
        yield request.getfixturevalue("cluster")


def test_dask_computes_a_graph_of_jobs(client, calls):
    job = total.job([ramp.job(3, calls.path), ramp.job(5, calls.path)], calls.path)
    assert dask.compute(job, [job]) == (13.0, [13.0])
    assert job.cached and calls.count == 3
    again = total.job([ramp.job(3, calls.path), ramp.job(5, calls.path)], calls.path)
    assert dask.compute(again) == (13.0,) and calls.count == 3
    assert len(dict(again.__dask_graph__())) == 1  # of what is known nothing is computed


def test_only_what_is_missing_is_in_the_graph(client, calls):
    ramp(3, calls.path)
    job = total.job([ramp.job(3, calls.path), ramp.job(5, calls.path)], calls.path)
    assert len(dict(job.__dask_graph__())) == 3
    assert dask.compute(job) == (13.0,) and calls.count == 3


def test_what_was_lost_is_computed_again(client, calls, store_dir):
    job = ramp.job(30_000, calls.path)
    assert dask.compute(job)[0].sum() == dask.compute(job)[0].sum()
    for blob in store_dir.glob("blake3/*/*"):
        blob.unlink()
    while calls.count < 2:  # a cluster may have it in memory for a moment
        with warnings.catch_warnings(), suppress(kachery.DigestMismatch):
            warnings.simplefilter("ignore", kachery.DamagedWarning)  # said where it is found out
            dask.compute(job)
    assert dask.compute(job)[0][-1] == 29_999 and calls.count == 2


def test_jobs_among_delayed_objects_and_arrays(client, calls):
    job = ramp.job(4, calls.path)
    assert dask.delayed(lambda x: x.sum() * 2)(job).compute() == 12.0
    assert da.from_delayed(ramp.job(4, calls.path), (4,), dtype=float).sum().compute() == 6.0
    (kept,) = dask.persist(job)
    assert list(kept.compute()) == [0, 1, 2, 3]
    assert calls.count == 1


def test_a_client_computes_a_job(cluster, calls):
    assert list(cluster.compute(ramp.job(2, calls.path)).result()) == [0, 1]
    assert calls.count == 1


def test_delayed_objects_are_arguments(client, calls):
    one = dask.delayed(lambda: 41)()
    assert more.job(one, calls.path).result() == 42
    assert more(dask.delayed(lambda: 41)(), calls.path) == 42
    assert more(41, calls.path) == 42
    assert calls.count == 1  # the value counts, wherever it came from
    assert many.job([one, {"inside": one}, 3]).result() == 3
    assert dask.compute(more.job(one, calls.path)) == (42,)


def test_two_delayed_objects_of_one_name_are_two(calls):
    """In one process, that is; a cluster takes things of one name for the same, whoever asks."""
    first, second = (dask.delayed(lambda n: n)(n, dask_key_name="x") for n in (1, 2))
    jobs = [more.job(first, calls.path), more.job(second, calls.path)]
    assert jobs[0].key != jobs[1].key and jobs[0].id is None
    with kachery.using(client=None):
        assert kachery.gather(jobs) == [2, 3]


def test_futures_are_arguments(cluster, calls):
    future = cluster.submit(lambda: 5)
    assert more.submit(future, calls.path).result() == 6
    with kachery.using(client=None):
        assert more.job(future, calls.path).result() == 6
    assert calls.count == 1


def test_what_fails_fails_for_who_needs_it(client, calls):
    with pytest.raises(ZeroDivisionError):
        more.job(dask.delayed(lambda: 1 // 0)(), calls.path).result()
    with pytest.raises(ValueError, match="no 3") as caught:
        dask.compute(fails.job(3))
    assert any("kachery show" in note for note in caught.value.__notes__)
    assert calls.count == 0
