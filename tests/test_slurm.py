"""A real SLURM starts the workers, and ends them. What its page shows runs with that page (test_docs)."""

import os
import signal
import time
from pathlib import Path

import pytest
from conftest import note_call

import kachery


@pytest.fixture
def client(slurm, tmp_path, monkeypatch):
    """The client of a cluster that has one worker at a time, each of them a SLURM job."""
    import dask
    from distributed import Client

    interrupt = signal.getsignal(signal.SIGINT)
    from dask_jobqueue import SLURMCluster  # it makes a sys.exit() of each Ctrl-C in this process

    signal.signal(signal.SIGINT, interrupt)
    monkeypatch.chdir(tmp_path)  # where SLURM writes the logs of its jobs
    path = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path).rstrip(os.pathsep))
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "1s"}),
        SLURMCluster(queue="batch", cores=1, processes=1, memory="1GB") as cluster,
        Client(cluster) as client,
    ):
        cluster.adapt(maximum_jobs=1, interval="200ms")
        yield client


@pytest.mark.usefixtures("client")
def test_a_slurm_job_that_is_cancelled_is_replaced_and_takes_nothing_along(slurm, calls):
    @kachery.task
    def early(path):
        note_call(path)
        return path

    @kachery.task
    def gated(path):
        here, first = os.environ["SLURM_JOB_ID"], Path(path + "-first")
        if not first.exists():
            first.write_text(here)
        while here == first.read_text():
            time.sleep(0.05)
        return here

    job = gated.submit(early.job(calls.path))
    first = Path(calls.path + "-first")
    while not (first.exists() and first.read_text()):
        assert not job.done()
        time.sleep(0.05)
    cancelled = first.read_text()
    slurm.ask("scancel", cancelled)
    assert job.result(timeout=120) != cancelled
    assert calls.count == 1
