"""What a user does first, with the kachery that is installed: check_install.py runs this in an empty folder."""

import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import kachery

HEAVY = {"click", "cryptography", "dask", "distributed", "fsspec", "numpy", "s3fs", "zarr"}
RUNS = Path("runs")


@kachery.task
def doubled(array):
    RUNS.write_text(RUNS.read_text() + "once\n")
    return array * 2


@kachery.task
def square(number):
    return number**2


def command(name, *args):
    """What an installed command prints."""
    program = Path(sys.executable).parent / name
    done = subprocess.run([program, *args], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def the_installed_one_is_light():
    assert Path(kachery.__file__).is_relative_to(sys.prefix), kachery.__file__
    assert kachery.__version__ == version("kachery")
    said = subprocess.run(
        [sys.executable, "-c", "import sys, kachery; print(*sys.modules)"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    assert not HEAVY & set(said.split())


def a_task_runs_once():
    RUNS.write_text("")
    array = np.arange(100_000.0)
    first, again = doubled(array), doubled(array.copy())
    assert (first == array * 2).all() and (again == first).all()
    assert RUNS.read_text() == "once\n"
    assert doubled.job(array).cached


def jobs_run_on_a_cluster():
    from distributed import Client, LocalCluster

    at = {"dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"}
    with LocalCluster(n_workers=2, threads_per_worker=1, **at) as cluster, Client(cluster):
        jobs = square.map(range(20))
        assert kachery.gather(jobs) == [number**2 for number in range(20)]
        assert all(job.cached for job in jobs)


def files_and_commands():
    uri = kachery.store_text("some text", label="some.txt")
    assert kachery.load_text(uri) == "some text"
    Path("some.txt").write_text("some text")
    assert command("kachery-store", "some.txt").strip() == uri
    assert command("kachery-store-local", "some.txt").strip() == uri
    assert command("kachery-link", "some.txt").strip() == uri
    assert command("kachery-cat", uri) == "some text"
    assert "sha1" in command("kachery-load-info", uri)
    command("kachery-load", uri, "--dest", "other")
    assert Path("other").read_text() == "some text"
    assert "jobs" in command("kachery", "--help")
    assert command("kachery", "jobs").count("smoke:doubled") == 1
    assert kachery.__version__ in command("kachery", "--version")


def what_the_extras_bring():
    """Only where they are installed."""
    if find_spec("zarr"):
        import dask.array

        uri = kachery.store_zarr(dask.array.ones((20, 20), chunks=10))
        assert kachery.open_zarr(uri)[...].sum() == 400
    if find_spec("rocrate"):
        found = kachery.lineage(square.job(3))
        assert "prov" in found.to_prov()
        found.save("crate")
        assert Path("crate/ro-crate-metadata.json").exists()


if __name__ == "__main__":
    the_installed_one_is_light()
    a_task_runs_once()
    jobs_run_on_a_cluster()
    files_and_commands()
    what_the_extras_bring()
