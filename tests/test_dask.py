"""Jobs on a real cluster with two worker processes."""

import os
import subprocess
import sys
import time

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


def test_jobs_of_jobs_and_the_same_ids_without_a_cluster(client, tmp_path):
    images = image.map(range(3))
    more = [scaled.job(i, factor=f) for i in images for f in (1.0, 2.0)]
    top = total.job(more)
    assert top.result() == (0 + 1 + 2) * 3 * 40_000
    with kachery.using(client=None, dir=tmp_path / "other"):
        again = total.job(
            [scaled.job(i, factor=f) for i in image.map(range(3)) for f in (1.0, 2.0)]
        )
        assert again.result() == top.result()
        assert again.id == top.id and again.key == total.job(more).key


def test_the_scheduler_s_key_is_the_job_key(client):
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
    assert seen == {job.key, job.inputs[0].key}


def test_inner_values_stay_on_the_cluster_and_leaves_do_not(client):
    def sizes(dask_worker):
        return {key: outcome.value for key, outcome in dask_worker.data.items()}

    inner = image.job(51)
    leaves = [scaled.job(inner, factor=f) for f in (4.0, 5.0)]
    kachery.gather([inner, *leaves])
    kept = {}
    for values in client.run(sizes).values():
        kept.update(values)
    assert isinstance(kept.get(inner.key), np.ndarray)
    assert all(not isinstance(kept.get(leaf.key), np.ndarray) for leaf in leaves)


def test_only_records_come_back(client):
    @kachery.task
    def big(n):
        return np.zeros(n)

    job = big.submit(2_000_000)  # 16 MB
    outcome = job.started().result(60)
    assert isinstance(outcome.value, type)  # not at hand: it is read from the store
    assert job.result().shape == (2_000_000,)


def test_exceptions_come_back_as_they_are(client):
    job = failing.submit(1)
    with pytest.raises(KeyError, match="no 1"):
        job.result()
    assert job.status == "error" and isinstance(job.exception(), KeyError)
    downstream = scaled.job(failing.job(2), factor=1)
    good = scaled.job(2, factor=2)
    outcome = kachery.gather([downstream, good], return_exceptions=True)
    assert isinstance(outcome[0], KeyError) and outcome[1] == 4


def test_a_result_that_cannot_be_stored_comes_back(client):
    @kachery.task
    def changing(x):
        x.append(1)
        return x

    with pytest.warns(kachery.ImpureTaskWarning):
        assert changing.submit([0]).result() == [0, 1]
    downstream = scaled.job(changing.job([5]), factor=2)
    assert downstream.result() == [5, 1, 5, 1]


def test_classes_and_helpers_of_main(client, tmp_path, store_dir):
    """What a script defines exists on no worker; it travels, and has the ids of a plain run."""
    script = write(
        tmp_path / "as_main.py",
        """
        import dataclasses, sys
        import kachery

        RATE = 2

        @dataclasses.dataclass
        class Model:
            rate: int
            def predict(self, x):
                return helper(x) * self.rate

        def helper(x):
            return x + RATE

        @kachery.task
        def fit(rate):
            return Model(rate)

        @kachery.task
        def apply(model, x):
            return model.predict(x)

        @kachery.task
        def call(f, x):
            return f(x)

        if __name__ == "__main__":
            jobs = [apply.job(fit.job(r), 1) for r in range(3)] + [apply.job(Model(7), 2)]
            jobs += [call.job(helper, 5), call.job(lambda x: helper(x) * 2, 5)]
            jobs += [call.job(Model(2).predict, 1)]
            if sys.argv[1] == "cluster":
                from distributed import Client, LocalCluster
                with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as c, Client(c):
                    print(kachery.gather(jobs), [j.id for j in jobs], jobs[0].task)
            else:
                assert all(j.cached for j in jobs) == (sys.argv[1] == "served"), "served"
                print(kachery.gather(jobs), [j.id for j in jobs], jobs[0].task)
        """,
    )
    outputs = []
    for where, folder in (("cluster", "a"), ("here", "b"), ("served", "a")):
        env = {**os.environ, "KACHERY_DIR": str(tmp_path / folder)}
        done = subprocess.run(
            [sys.executable, "-W", "error::UserWarning", script, where],
            env=env,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert outputs[0].startswith("[0, 3, 6, 28, 7, 14, 6]") and outputs[0].endswith(
        "as_main:apply\n"
    )
    assert outputs[0] == outputs[1] == outputs[2]


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


def test_cancel(client, calls):
    @kachery.task(ignore="path")
    def slow(i, path):
        time.sleep(0.3)
        note_call(path)

    jobs = [slow.submit(i, calls.path) for i in range(10)]
    assert jobs[-1].cancel()
    kachery.gather(jobs[:-1])
    assert calls.count == 9


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


@pytest.mark.filterwarnings("ignore::kachery.DamagedWarning")
def test_a_result_lost_while_its_graph_runs_is_computed_again(client, store_dir, tmp_path):
    gate = tmp_path / "gate"

    @kachery.task
    def big(x):
        return np.full(100_000, x)

    @kachery.task(ignore="gate")
    def waiting(x, gate):
        while not os.path.exists(gate):
            time.sleep(0.01)
        return float(x.sum())

    first = big.submit(1.0)
    last = waiting.submit(first, str(gate))
    first.started().result(60)
    for path in (store_dir / "blake3").rglob("*"):
        if path.is_file():
            path.unlink()
    assert first.result().sum() == 100_000
    gate.touch()
    assert last.result() == 100_000


def test_map_of_map_does_not_wait(client, tmp_path):
    gate = tmp_path / "gate"

    @kachery.task(ignore="gate")
    def waiting(i, gate):
        while not os.path.exists(gate):
            time.sleep(0.01)
        return i

    jobs = scaled.map(waiting.map(range(4), gate=str(gate)), factor=2)
    assert not any(job.done() for job in jobs)  # else it would have waited for ever
    gate.touch()
    assert kachery.gather(jobs) == [0, 2, 4, 6]


def test_a_function_redefined_in_main(tmp_path):
    script = write(
        tmp_path / "redefining.py",
        """
        import kachery

        def helper(x):
            return x + 1

        @kachery.task
        def f(x):
            return helper(x)

        def ask(x):
            return f(x), f.submit(x).result(), f.job(x).id

        if __name__ == "__main__":
            from distributed import Client, LocalCluster
            with LocalCluster(
                n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0"
            ) as cluster, Client(cluster):
                first = ask(1)
                old = f.job(2)

                def helper(x):
                    return x + 100

                second = ask(1)
                try:
                    print("late", old.result())
                except kachery.KacheryError as error:
                    print("late", type(error).__name__)

                @kachery.task
                def f(x):
                    return helper(x) * 2

                third = ask(1)
            print(first[:2], second[:2], third[:2], len({first[2], second[2], third[2]}))
        """,
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["late KacheryError", "(2, 2) (101, 101) (202, 202) 3"], (
        done.stdout + done.stderr
    )
