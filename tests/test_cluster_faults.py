"""A cluster whose parts die, and clusters of other shapes."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import dask
import numpy as np
import pytest
from conftest import count, note_call, write
from distributed import Client, LocalCluster
from distributed.core import Status
from distributed.security import Security

import kachery
from kachery_tasks.errors import WorkerLost

QUIET = {"dashboard_address": "127.0.0.1:0"}


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    import logging

    for name in (
        "distributed.nanny",
        "distributed.scheduler",
        "distributed.worker",
        "distributed.core",
    ):
        monkeypatch.setattr(logging.getLogger(name), "disabled", True)


@contextmanager
def cluster_of(**options):
    with LocalCluster(**QUIET, **options) as cluster, Client(cluster) as client:
        yield client


@kachery.task(ignore="path")
def slow(i, path, seconds=0.1):
    note_call(path)
    time.sleep(seconds)
    return np.full(1000, i)


@kachery.task
def total(x):
    return int(x.sum())


@kachery.task(ignore="gate")
def gated(i, gate):
    while not os.path.exists(gate):
        time.sleep(0.005)
    return i


def wait_for(what, seconds=120):
    limit = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < limit, "it did not come"
        time.sleep(0.01)


# Parts that die


def test_workers_die_again_and_again(calls, store_dir):
    """All jobs are done, all are right, and each is committed once."""
    n = count(300, 30)
    stop = threading.Event()
    killed = []

    def kill(client):
        before = 0
        while not stop.wait(0.01):
            running = sorted(settled(client.cluster) - set(killed))
            if running and calls.count >= before + 5:  # so there is progress on any machine
                before = calls.count
                victim = running[len(killed) % len(running)]
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)

    with cluster_of(n_workers=2, threads_per_worker=1, processes=True) as client:
        killer = threading.Thread(target=kill, args=(client,))
        killer.start()
        try:
            jobs = [total.job(slow.job(i, calls.path, 0.2)) for i in range(n)]
            assert kachery.gather(jobs) == [1000 * i for i in range(n)]
        finally:
            stop.set()
            killer.join()
    assert len(killed) >= 2
    assert len({job.record.result.address for job in jobs}) == n
    assert not list((store_dir / "differing").rglob("*")) and not list(
        (store_dir / "quarantine").rglob("*")
    )
    assert n <= calls.count <= n + len(killed)


def settled(cluster):
    """Process ids of workers that may die: a nanny gives up for good on one that dies while it starts."""
    nannies = [one for one in cluster.workers.values() if one.status is Status.running]
    processes = [one.process for one in nannies if one.process is not None]
    return {one.pid for one in processes if one.status is Status.running} - {None}


def test_innocent_jobs_outlive_more_workers_than_dask_allows(tmp_path, calls):
    """Dask gives a job up when it was with a few workers that died; it is sent again."""

    @kachery.task(ignore="path")
    def beside(i, path):
        note_call(path)
        if len(Path(path).read_text().splitlines()) <= 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return i

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        cluster_of(n_workers=1, threads_per_worker=1, processes=True),
    ):
        first = beside.job(1, calls.path)
        with pytest.raises(WorkerLost, match="died one after another"):
            first.result()
        assert calls.count == 2
        assert scaled(beside.job(1, calls.path)).result() == 2


def scaled(job):
    return kachery.task(lambda x: 2 * x).job(job)


def test_a_lost_worker_s_value_is_found_in_the_store(calls, tmp_path):
    gate = tmp_path / "gate"

    @kachery.task(ignore="gate")
    def waiting(x, gate):
        while not os.path.exists(gate):
            time.sleep(0.005)
        return int(x.sum())

    with cluster_of(n_workers=2, threads_per_worker=1, processes=True) as client:
        inner = slow.job(3, calls.path, 0)
        last = waiting.submit(inner, str(gate))
        inner.result()
        holders = client.who_has()
        address = next(where[0] for key, where in holders.items() if inner.key in key)
        os.kill(client.run(os.getpid)[address], signal.SIGKILL)
        wait_for(lambda: address not in client.scheduler_info()["workers"])
        gate.touch()
        assert last.result() == 3000
    assert calls.count == 1


CLIENT = """
import os, sys, time
import kachery
from distributed import Client

@kachery.task(ignore="path", version="1", name="client_job")
def slow(i, path):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"call\\n")
    os.close(fd)
    time.sleep(0.05)
    return i

if __name__ == "__main__":
    client = Client(sys.argv[1])
    n = int(sys.argv[3])
    print(kachery.gather([slow.job(i, sys.argv[2]) for i in range(n)]) == list(range(n)))
"""


def test_the_client_dies_and_the_next_one_goes_on(tmp_path, calls):
    n = count(200, 40)
    script = write(tmp_path / "client.py", CLIENT)
    with cluster_of(n_workers=2, threads_per_worker=1, processes=True) as client:
        command = [sys.executable, script, client.scheduler.address, calls.path, str(n)]
        process = subprocess.Popen(command)
        wait_for(lambda: calls.count >= 5)
        process.kill()
        process.wait()
        before = calls.count
        assert before < n
        done = subprocess.run(command, capture_output=True, text=True, timeout=200)
        assert done.stdout == "True\n", done.stderr
    assert calls.count == n


@contextmanager
def scheduler_and_worker(tmp_path, *options, **environment):
    """A scheduler and a worker as people start them, and the scheduler's address."""
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    found = tmp_path / f"scheduler-{os.urandom(3).hex()}.json"
    log = open(tmp_path / "log", "ab")
    path = f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    env = {**os.environ, "PYTHONPATH": path.rstrip(os.pathsep), **environment}
    common = {"stdout": log, "stderr": log, "env": env, "cwd": tmp_path}
    scheduler = subprocess.Popen(
        [
            *command,
            "--port",
            "0",
            "--host",
            "127.0.0.1",
            "--no-dashboard",
            "--scheduler-file",
            found,
            *options,
        ],
        **common,
    )
    processes = [scheduler]
    try:
        wait_for(lambda: found.exists() and found.read_text().strip().endswith("}"))
        address = re.search(r'"address": "([^"]*)"', found.read_text())[1]
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "2"]
                + ["--no-dashboard", "--local-directory", str(tmp_path / "scratch"), *options],
                **common,
            )
        )
        yield address, processes
    finally:
        for process in processes[::-1]:
            process.terminate()
        for process in processes[::-1]:
            process.wait(60)
        log.close()


def test_the_scheduler_dies_and_another_cluster_goes_on(tmp_path, calls):
    gate = tmp_path / "gate"
    with dask.config.set({"distributed.comm.timeouts.connect": "2s"}):
        with scheduler_and_worker(tmp_path) as (address, processes), Client(address, timeout=120):
            jobs = [slow.submit(i, calls.path, 0) for i in range(5)]
            kachery.gather(jobs)
            waiting = [gated.submit(i, str(gate)) for i in range(4)]
            below = [total.submit(np.ones(3)), *[scaled(job) for job in waiting]]
            processes[0].kill()
            outcome = kachery.gather(waiting, return_exceptions=True)
            assert all(isinstance(error, WorkerLost) for error in outcome), outcome
            assert all(address in str(error) for error in outcome)
            with pytest.raises(Exception, match=r"cluster|connect|closed|lost"):
                below[1].result()
        gate.touch()
        with scheduler_and_worker(tmp_path) as (address, _), Client(address, timeout=120):
            jobs = [slow.job(i, calls.path, 0) for i in range(10)]
            assert [int(x[0]) for x in kachery.gather(jobs)] == list(range(10))
            assert kachery.gather([gated.job(i, str(gate)) for i in range(4)]) == list(range(4))
    assert calls.count == 10


def test_a_client_that_is_closed(tmp_path):
    gate = tmp_path / "gate"
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, **QUIET) as cluster:
        client = Client(cluster)
        job = gated.submit(1, str(gate))
        client.close()
        with pytest.raises(WorkerLost, match=r"ask again"):
            job.result(120)
        gate.touch()


# Other shapes


def test_adaptive_scaling(calls):
    with LocalCluster(n_workers=0, threads_per_worker=1, **QUIET) as cluster, Client(cluster):
        cluster.adapt(minimum=0, maximum=2, interval="100ms")
        jobs = [total.job(slow.job(i, calls.path, 0.05)) for i in range(10)]
        assert kachery.gather(jobs) == [1000 * i for i in range(10)]
        wait_for(lambda: not cluster.scheduler.workers)
        assert kachery.gather(
            [total.job(job) for job in slow.map(range(12), path=calls.path, seconds=0.05)]
        ) == [1000 * i for i in range(12)]
    assert calls.count == 12


def test_threads_only(calls):
    with cluster_of(n_workers=2, threads_per_worker=2, processes=False):
        jobs = [total.job(slow.job(i, calls.path, 0.01)) for i in range(20)]
        assert kachery.gather(jobs) == [1000 * i for i in range(20)]
    assert calls.count == 20


def test_tls(tmp_path, calls):
    key, cert = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj"]
        + ["/CN=kachery-test", "-keyout", key, "-out", cert],
        check=True,
        capture_output=True,
    )
    files = ["--tls-ca-file", cert, "--tls-cert", cert, "--tls-key", key, "--protocol", "tls"]
    security = Security(
        tls_ca_file=cert,
        tls_client_cert=cert,
        tls_client_key=key,
        require_encryption=True,
    )
    with (
        scheduler_and_worker(tmp_path, *files) as (address, _),
        Client(address, security=security, timeout=120),
    ):
        assert address.startswith("tls://")
        jobs = [total.job(slow.job(i, calls.path, 0)) for i in range(4)]
        assert kachery.gather(jobs) == [1000 * i for i in range(4)]


@pytest.mark.skipif(sys.platform != "linux", reason="one path that means another folder elsewhere")
@pytest.mark.parametrize("zone", [True, False])
def test_workers_that_do_not_share_the_disk(tmp_path, monkeypatch, calls, zone):
    """What the client calls its store is another folder for the worker: only a zone joins them."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("KACHERY_DIR", "/proc/self/cwd/store")
    if zone:
        (here / "store").mkdir()
        write(here / "store" / "kachery.toml", f'[zones.lab]\nurl = "{tmp_path / "lab"}"\n')
    with (
        scheduler_and_worker(there, KACHERY_DIR=str(there / "own")) as (address, _),
        Client(address, timeout=120),
        kachery.using(zone="lab" if zone else None),
    ):
        jobs = [total.job(slow.job(i, calls.path, 0)) for i in range(4)]
        if not zone:
            with pytest.raises(kachery.KacheryError, match=r"not to be found on .*zone"):
                kachery.gather(jobs)
            assert calls.count == 0
            return
        assert kachery.gather(jobs) == [1000 * i for i in range(4)]
        assert kachery.gather([total.job(slow.job(i, calls.path, 0)) for i in range(4)]) == [
            1000 * i for i in range(4)
        ]
    assert calls.count == 4
    assert any((there / "own" / "jobs").rglob("*")) and not (there / "store").exists()


# Priorities and resources


def test_priorities_and_resources_travel(tmp_path):
    @kachery.task(resources={"GPU": 1})
    def on_gpu(x):
        from distributed import get_worker

        return get_worker().name, x

    @kachery.task(priority=7)
    def urgent(x):
        return x

    with cluster_of(
        n_workers=1, threads_per_worker=1, processes=True, resources={"GPU": 1}
    ) as client:
        seen = {}
        real = client.get

        def get(graph, keys, **options):
            futures = real(graph, keys, **options)
            while not set(keys) <= seen.keys():
                seen.update(client.run_on_scheduler(asked))
            return futures

        def asked(dask_scheduler):
            return {
                key: (task.resource_restrictions, task.annotations)
                for key, task in dask_scheduler.tasks.items()
            }

        client.get = get
        gate = tmp_path / "gate"
        first = gated.job(1, str(gate))
        jobs = [urgent.job(first), on_gpu.job(first), urgent.job(on_gpu.job(first))]
        threading.Timer(0.5, gate.touch).start()
        values = kachery.gather(jobs)
        assert values[0] == 1 and values[1][1] == 1 and values[2] == values[1]
        assert seen[f"on_gpu-{jobs[1].key}"][0] == {"GPU": 1}
        assert seen[f"urgent-{jobs[0].key}"][1] == {"priority": 7}
        assert not seen[f"gated-{first.key}"][1]


def test_resources_are_asked_of_a_cluster_whose_workers_are_to_come():
    @kachery.task(resources={"QPU": 2})
    def odd(x):
        return x

    with cluster_of(n_workers=0), pytest.warns(kachery.KacheryWarning, match="no worker yet"):
        assert odd.submit(1).cancel()


def test_resources_that_no_worker_offers_are_told(client):
    @kachery.task(resources={"QPU": 2})
    def odd(x):
        return x

    with pytest.warns(kachery.KacheryWarning, match=r"'QPU': 2.*at most 0") as told:
        jobs = odd.map(range(3))
    assert len(told) == 1
    for job in jobs:
        assert job.cancel()
