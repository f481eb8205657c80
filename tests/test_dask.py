"""Jobs on a real cluster with two worker processes."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import note_call, write

import kachery


@kachery.task
def image(i):
    return np.full((200, 200), float(i))


@kachery.task
def scaled(x, *, factor):
    return x * factor


@kachery.task
def total(items):
    return float(sum(np.sum(item) for item in items))


@kachery.task(ignore="path")
def counted(x, path):
    note_call(path)
    return os.getpid(), x


@kachery.task
def failing(x):
    raise KeyError(f"no {x}")


def test_a_graph_runs_on_the_workers(client, calls):
    jobs = [counted.submit(i, calls.path) for i in range(6)]
    values = kachery.gather(jobs)
    assert [x for _, x in values] == list(range(6))
    assert os.getpid() not in {pid for pid, _ in values}
    assert all(job.record.pid != os.getpid() and job.status == "finished" for job in jobs)
    assert kachery.gather([counted.job(i, calls.path) for i in range(6)]) == values
    assert calls.count == 6


def test_the_scheduler_s_key_is_made_of_the_job_key(client):
    job = scaled.job(image.job(41), factor=3.0)
    assert job.inputs[0].key == job.inputs[0].id and job.id is None
    seen = set()
    real = client.get

    def get(graph, keys, **options):
        seen.update(graph)
        return real(graph, keys, **options)

    client.get = get
    try:
        job.result()
    finally:
        del client.get
    assert seen == {f"scaled-{job.key}", f"image-{job.inputs[0].key}"}


def test_inner_values_stay_on_the_cluster_and_leaves_do_not(client, tmp_path):
    """For as long as others in the graph may need them."""
    gate = str(tmp_path / "gate")

    def values():
        found = {}  # by job key
        for kept in client.run(
            lambda dask_worker: {
                key.partition("-")[2]: one.value for key, one in dask_worker.data.items()
            }
        ).values():
            found.update(kept)
        return found

    @kachery.task(ignore="gate")
    def waiting(x, y, gate):
        while not os.path.exists(gate):
            time.sleep(0.005)
        return y

    inner = image.job(51)
    leaf = scaled.job(inner, factor=4.0)
    last = waiting.submit(inner, scaled.job(inner, factor=5.0), gate)
    assert leaf.result().shape == (200, 200)
    kept = values()
    assert isinstance(kept.get(inner.key), np.ndarray)
    assert not isinstance(kept.get(leaf.key), np.ndarray)
    Path(gate).touch()
    assert last.result().shape == (200, 200)
    while any(isinstance(value, np.ndarray) for value in values().values()):
        time.sleep(0.01)


def test_only_records_come_back(client):
    @kachery.task
    def big(n):
        return np.zeros(n)

    job = big.submit(2_000_000)  # 16 MB
    outcome = job.started().result(60)
    assert isinstance(outcome.value, type)  # not at hand: it is read from the store
    assert job.result().shape == (2_000_000,)


def test_workers_with_old_code_refuse(client, project, calls):
    path = write(
        project / "steps_of_cluster.py",
        """
        import kachery
        def helper(x):
            return x + 1
        @kachery.task
        def step(x):
            return helper(x)
        """,
    )
    client.run(lambda folder: __import__("sys").path.insert(0, folder), str(project))
    import importlib

    import steps_of_cluster

    assert kachery.gather(steps_of_cluster.step.map(range(4))) == [1, 2, 3, 4]
    path.write_text(path.read_text().replace("x + 1", "x + 100"))
    os.utime(path, (time.time() + 5, time.time() + 5))
    importlib.reload(steps_of_cluster)
    job = steps_of_cluster.step.submit(1)
    with pytest.raises(kachery.CodeMismatch, match=r"steps_of_cluster:helper.*[Rr]estart"):
        job.result()
    assert not job.cached
    client.restart()
    client.run(lambda folder: __import__("sys").path.insert(0, folder), str(project))
    assert steps_of_cluster.step.submit(1).result() == 101


def test_a_function_of_main_with_a_helper_module_that_differs(client, project):
    write(project / "helper_of_cluster.py", "def h(x):\n    return x\n")
    client.run(lambda folder: __import__("sys").path.insert(0, folder), str(project))
    import helper_of_cluster

    def local(x):
        return helper_of_cluster.h(x)

    task = kachery.task(local)
    assert task.submit(5).result() == 5

    def patched(x):
        return -x

    patched.__module__, patched.__qualname__ = "helper_of_cluster", "h"
    helper_of_cluster.h.__code__ = patched.__code__
    job = task.submit(6)
    with pytest.raises(kachery.CodeMismatch):
        job.result()


def test_a_module_that_the_workers_lack(client, tmp_path, monkeypatch):
    folder = tmp_path / "only_here"
    folder.mkdir()
    write(folder / "only_here.py", "import kachery\n@kachery.task\ndef f(x):\n    return x\n")
    monkeypatch.syspath_prepend(str(folder))
    import only_here

    with pytest.raises(kachery.CodeMismatch, match="only_here"):
        only_here.f.submit(1).result()


def test_equal_jobs_of_two_clients_run_once(client, cluster, calls):
    from distributed import Client

    jobs = [counted.job(i, calls.path) for i in range(5)]
    with Client(cluster, set_as_default=False) as other:
        with kachery.using(client=other):
            theirs = [counted.submit(i, calls.path) for i in range(5)]
        assert kachery.gather(jobs) == kachery.gather(theirs)
    assert calls.count == 5


def test_a_killed_worker_s_jobs_are_done_by_another(tmp_path, calls):
    from distributed import Client, LocalCluster

    @kachery.task(ignore="path")
    def slow(i, path):
        time.sleep(0.2)
        note_call(path)
        return i

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        jobs = [slow.submit(i, calls.path) for i in range(10)]
        while calls.count < 2:
            time.sleep(0.01)
        victim = next(iter(client.run(os.getpid).values()))
        os.kill(victim, 9)
        assert kachery.gather(jobs) == list(range(10))
    assert 10 <= calls.count <= 11
