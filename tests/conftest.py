"""Shared fixtures. Real parts only: real folders, real processes, a real Dask cluster."""

import compileall
import functools
import gc
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest
import s3server
import slurmserver

import kachery

ROOT = Path(__file__).parents[1]
# A local cluster drops a worker for good that takes longer to start again: 15 s, on a busy machine too few.
os.environ["DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT"] = "10m"
FULL = os.environ.get("KACHERY_TEST_FULL") == "1"


def count(full, usual):
    """A count named by an issue: all of it in `make test-full`, less in `make test`."""
    return full if FULL else usual


def pytest_configure(config):
    """Compile the packages once, not in each of a thousand child processes; an import would, if it may."""
    if not hasattr(config, "workerinput"):
        for name in ("kachery", "kachery_store", "kachery_tasks"):
            compileall.compile_dir(ROOT / name, quiet=2)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session):
    """Keep what pytest makes of the tests, also where PYTHONDONTWRITEBYTECODE is set."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, False
    try:
        return (yield)
    finally:
        sys.dont_write_bytecode = before


def pytest_collection_finish(session):
    """What is imported by now stays: the garbage collector need not look through it, again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def store_dir(tmp_path, monkeypatch):
    """Every test has a store of its own, also in the processes it starts."""
    folder = tmp_path / "store"
    monkeypatch.setenv("KACHERY_DIR", str(folder))
    monkeypatch.setenv("KACHERY_USER_DIR", str(tmp_path / "user"))
    return folder


def read_models_once():
    """botocore parses the same megabyte of JSON for every client; here once in a process."""
    from botocore.loaders import JSONFileLoader

    real = JSONFileLoader.load_file
    read = functools.cache(lambda path: real(JSONFileLoader(), path))
    JSONFileLoader.load_file = lambda self, path: read(path)


@pytest.fixture(scope="session")
def s3():
    """A real S3 server with two identities and a bucket `lab`, for all tests of the session."""
    read_models_once()
    with s3server.running() as server:
        server.make_bucket("lab")
        yield server


class Bucket(NamedTuple):
    """A place in a bucket. `toml` is what kachery.toml says of it in the table of a zone."""

    url: str
    endpoint: str

    @property
    def toml(self):
        return f'url = "{self.url}"\nendpoint_url = "{self.endpoint}"\n'


@pytest.fixture
def bucket(s3, monkeypatch):
    """An empty place for one test; this process and its children may write there."""
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)
    return Bucket(f"s3://lab/{os.urandom(6).hex()}", s3.endpoint)


@pytest.fixture(scope="session")
def slurm_node():
    """A real SLURM of one node, or a skip that says aloud what was not tried."""
    lacking = slurmserver.lacking()
    if lacking:
        if os.environ.get("KACHERY_TEST_SLURM") == "1":
            pytest.fail(lacking)
        pytest.skip(lacking)
    with slurmserver.running() as slurm:
        yield slurm


@pytest.fixture
def slurm(slurm_node, monkeypatch):
    """SLURM for one test: its commands, and dask-jobqueue, here and in children use it."""
    for name, value in slurm_node.environment().items():
        monkeypatch.setenv(name, value)
    return slurm_node


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder for modules that a test writes, importable here and in child processes."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    monkeypatch.setenv("PYTHONPATH", path)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file and file.startswith(str(folder)):
            del sys.modules[name]


def write(path, text):
    """Write a source file, and make sure that its time differs from the last version's."""
    path = Path(path)
    old = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(textwrap.dedent(text))
    if old:
        os.utime(path, ns=(old + 2_000_000_000,) * 2)
    return path


def run_python(code, *args, env=None, check=True, python=sys.executable, **options):
    """Run a program text in a fresh interpreter; returns the completed process."""
    return subprocess.run(
        [python, "-c", textwrap.dedent(code), *map(str, args)],
        env={**os.environ, **(env or {})},
        check=check,
        text=True,
        stdout=subprocess.PIPE,
        stderr=None if check else subprocess.PIPE,
        timeout=240,
        **options,
    )


@pytest.fixture(scope="session")
def cluster():
    """A cluster with two worker processes."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1"
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    from distributed import Client

    with Client(cluster) as client:
        yield client


@pytest.fixture
def calls(tmp_path):
    """Counts runs of tasks, in whatever process: tasks append a line to this file."""
    return Calls(tmp_path / "calls")


class Calls:
    def __init__(self, path):
        self.path = str(path)

    @property
    def count(self):
        return len(Path(self.path).read_text().splitlines()) if os.path.exists(self.path) else 0


def note_call(path):
    """Append one line atomically."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"call\n")
    os.close(fd)


__all__ = ["FULL", "count", "kachery", "note_call", "run_python", "write"]
