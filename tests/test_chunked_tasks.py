"""Chunked arrays as results and arguments of tasks, on threads and on a cluster."""

import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from conftest import count, note_call, run_python, write

import kachery
from kachery_store.zarr.content import ArrayContent
from kachery_tasks import dask_arrays
from kachery_tasks.chunk_journal import Journal
from kachery_tasks.dask_arrays import StoredChunks

zarr = pytest.importorskip("zarr")

ROWS = np.arange(400.0)[:, None] * np.ones((1, 30))


def noted(block, path=None):
    if block.size:  # Dask looks at the type of what it makes of nothing
        note_call(path)
    return block * 2


@kachery.task(ignore=("path",))
def doubled(n, path):
    rows = da.from_array(ROWS[:n], chunks=(50, 30))
    return {"rows": rows.map_blocks(noted, path=path, dtype=float), "n": n}


@kachery.task
def mean_of(array):
    return float(np.asarray(array[...]).mean())


def test_a_result_is_lazy_and_computed_once(calls):
    first = doubled(400, calls.path)
    assert calls.count == 8 and type(first["rows"].dask.layers[first["rows"].name]) is StoredChunks
    assert np.array_equal(first["rows"].compute(), ROWS * 2)
    again = doubled(400, calls.path)
    assert np.array_equal(again["rows"][7:9].compute(), ROWS[7:9] * 2)
    assert calls.count == 8 and again["rows"].name == first["rows"].name
    assert mean_of(first["rows"]) == mean_of(again["rows"]) == (ROWS * 2).mean()
    assert kachery.stats().hits >= 2


def test_arguments_are_known_by_their_address(calls):
    rows = doubled(400, calls.path)["rows"]
    job = mean_of.job(rows)
    assert mean_of.job(pickle.loads(pickle.dumps(rows))).id == job.id
    assert mean_of.job(doubled(400, calls.path)["rows"]).id == job.id
    same = kachery.persist(da.from_array(ROWS * 2, chunks=(50, 30)))
    assert mean_of.job(same).id == job.id
    assert mean_of.job(kachery.persist(same.rechunk((40, 30)))).id != job.id
    assert calls.count == 8
    for unknown in (rows + 0, rows[:10], rows.rechunk(20), da.zeros(5), zarr.zeros((3,))):
        with pytest.raises(kachery.CannotEncode, match=r"kachery\.persist"):
            mean_of.job(unknown).id
    rows[0] = 7  # makes it another array, in place
    with pytest.raises(kachery.CannotEncode, match=r"kachery\.persist"):
        mean_of.job(rows).id


def test_zarr_as_result_and_argument(tmp_path):
    @kachery.task(version="1")
    def made(path):
        root = zarr.create_group(path)
        root.create_array("x", shape=(10,), chunks=(3,), dtype="i4")[:] = range(10)
        return [root, root["x"]]

    group, array = made(str(tmp_path / "made.zarr"))
    assert group["x"][9] == 9 and array[:].tolist() == list(range(10)) and group.store.read_only
    assert mean_of(array) == mean_of(group["x"]) == 4.5
    assert mean_of.job(array).id == mean_of.job(group["x"]).id

    @kachery.task(version="1")
    def part(group):
        return group["x"]

    assert part(group)[3] == 3 and part(group)[4] == 4


def test_xarray_as_result_and_argument():
    xr = pytest.importorskip("xarray")

    @kachery.task(version="1")
    def made(lazy):
        data = xr.Dataset({"a": (("y", "x"), ROWS)}, coords={"x": np.arange(30)})
        return data.chunk({"y": 100}) if lazy else data

    @kachery.task(version="1")
    def total(data):
        return float(data["a"].sum())

    lazy, plain = made(True), made(False)
    assert lazy.chunks["y"] == (100,) * 4 and not plain.chunks
    assert lazy.load().identical(plain) and total(made(True)) == total(plain) == ROWS.sum()
    with pytest.raises(kachery.CannotEncode, match=r"kachery\.persist"):
        total(plain.chunk({"y": 10}))
    assert total(kachery.persist(plain.chunk({"y": 10}))) == ROWS.sum()


def test_what_a_chunk_raises_is_the_tasks_error():
    @kachery.task(version="1")
    def failing():
        return da.ones(10, chunks=5).map_blocks(lambda block: 1 // np.zeros(2, int)[0] * block)

    def bad(block):
        raise RuntimeError("no such detector")

    @kachery.task(version="1")
    def raising():
        return da.ones(10, chunks=5).map_blocks(bad, dtype=float)

    with pytest.raises(RuntimeError, match="no such detector"):
        raising()
    assert raising.job().status != "finished"


def test_what_is_no_array_of_numpy():
    @kachery.task(version="1")
    def unknown_size():
        x = da.arange(10, chunks=5)
        return x[x > 3]

    with pytest.warns(kachery.NotStoredWarning, match="compute_chunk_sizes"):
        unknown_size()


def test_uneven_chunks():
    uneven = da.from_array(ROWS, chunks=((100, 250, 50), (30,)))
    kept = kachery.persist(uneven)
    assert kept.chunks[0] == (250, 150) and np.array_equal(kept.compute(), ROWS)


def test_a_lost_chunk_of_a_result_is_named(calls):
    rows = doubled(100, calls.path)["rows"]
    place, _ = dask_arrays.stored_as(rows)
    blob, _ = dask_arrays.opened(place).array().blob((1, 0))
    os.unlink(dask_arrays.store_of(place).backend.path(blob.path))
    again = doubled(100, calls.path)["rows"]
    with pytest.raises(kachery.NotFound, match=r"chunk c/1/0 .*called again computes it"):
        again.compute(scheduler="synchronous")
    with pytest.warns(kachery.DamagedWarning, match="lost its result"):
        doubled(100, calls.path)
    assert np.array_equal(doubled(100, calls.path)["rows"].compute(), ROWS[:100] * 2)


# Partial results

PARTIAL = """
import sys, os, time
import dask, dask.array as da, numpy as np, kachery
from conftest import note_call

def slow(block, path=None, block_id=None):
    if block_id[0] == int(os.environ.get("STOP_AT", -1)):
        print("there", flush=True)
        sys.stdin.readline()  # until it is killed
    note_call(path)
    return block + 1

@kachery.task(ignore=("path",), version="1")
def long(path):
    return da.ones((100, 10), chunks=(10, 10)).map_blocks(slow, path=path, dtype=float)
"""


def test_a_killed_run_goes_on(project, calls, monkeypatch):
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ["PYTHONPATH"]])
    )
    write(project / "partial.py", PARTIAL)
    code = "import dask, sys, partial\nwith dask.config.set(scheduler='synchronous'):\n    print(partial.long(sys.argv[1]).sum().compute())"
    command = [sys.executable, "-c", code, calls.path]
    pipe, stopping = subprocess.PIPE, {**os.environ, "STOP_AT": "6"}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, env=stopping) as process:
        assert process.stdout.readline() == b"there\n"
        process.kill()
    done = calls.count
    assert 1 <= done < 10
    assert run_python(code, calls.path).stdout.strip() == "2000.0"
    assert calls.count == 10
    store = kachery.get_kachery_dir()
    assert not [path for path in Path(store, "partial").rglob("*") if path.is_file()]


def test_a_note_is_only_a_hint():
    """A blob that was collected since, or a damaged note, is not counted on."""
    from kachery_tasks.chunk_places import place_in
    from kachery_tasks.settings import current

    store = current().store
    form = ArrayContent("<f8", (4,), (2,), bytes(8), None, "{}", b"")
    journal = Journal(place_in(store), "ab" * 32, form, "[]")
    writer = dask_arrays.Writer(place_in(store), form, '[{"name":"bytes"}]', None)
    written = writer(np.ones(2), (0,)).item()
    journal.note((0,), written)
    assert journal.find((0,)) == written and journal.find((1,)) is None
    os.unlink(next(p for p in Path(store.root, "blake3").rglob("*") if p.is_file()))
    assert journal.find((0,)) is None


# On a cluster


def test_workers_store_the_chunks(client, project, calls):
    write(
        project / "onworkers.py",
        """
        import os, dask.array as da, kachery
        from pathlib import Path

        def noted(block, path=None):
            Path(path + f".{os.getpid()}").touch()
            return block + 1

        @kachery.task(ignore=("path",))
        def made(n, path):
            return da.ones((n, 100), chunks=(100, 100)).map_blocks(noted, path=path, dtype=float)

        @kachery.task
        def summed(array):
            return float(array.sum().compute())
        """,
    )
    client.run(lambda folder: __import__("sys").path.insert(0, folder), str(project))
    import onworkers

    job = onworkers.made.submit(800, calls.path)
    array = job.result()
    writers = {int(p.name.rpartition(".")[2]) for p in Path(calls.path).parent.glob("calls.*")}
    workers = set(client.run(os.getpid).values())
    assert writers <= workers and len(writers) == 2
    assert float(array.sum().compute()) == 160_000  # read by workers
    assert onworkers.summed.submit(array).result() == 160_000
    assert onworkers.summed.submit(onworkers.made.job(800, calls.path)).result() == 160_000
    uri = kachery.store_zarr(da.ones((300, 10), chunks=(100, 10)) * 3)
    assert kachery.open_zarr(uri)[299, 9] == 3
    assert kachery.persist(da.ones(10, chunks=5) * 4).sum().compute() == 40


LARGE = """
import os, sys
from pathlib import Path
import dask.array as da, kachery
from distributed import Client, LocalCluster

def main():
    gigabytes, kill, other = float(sys.argv[1]), sys.argv[2] == "kill", sys.argv[3:]
    if other:
        kachery.configure(zone="lab")
    rows = int(gigabytes * 1e9 / 8 / 1000)
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, memory_limit="1GB",
        host="127.0.0.1", dashboard_address="127.0.0.1:0")
    with cluster, Client(cluster) as client:
        x = da.random.default_rng(3).integers(0, 1000, size=(rows, 1000), chunks=(2000, 1000))
        if kill:
            import threading, time
            pid = list(client.run(os.getpid).values())[0]
            def when_some_are_stored():
                while len(list(Path(os.environ["KACHERY_DIR"]).glob("blake3/*/*"))) < 5:
                    time.sleep(0.01)
                os.kill(pid, 9)
            threading.Thread(target=when_some_are_stored, daemon=True).start()
        uri = kachery.store_zarr(x)
        if other:  # another machine, which has nothing but what is in the zone
            kachery.configure(dir=other[0], zone="lab")
        back = kachery.open_dask(uri)
        assert back.shape == (rows, 1000)
        total = int(back.sum().compute())
        expected = int(x.sum().compute())
        assert total == expected, (total, expected)
    print(uri, int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) // 1024)

if __name__ == "__main__":
    main()
"""


def computed_stored_and_reduced(tmp_path, *options):
    """The URI of the array, after all that on workers of 1 GB each, with a client of less than 300 MB."""
    script = tmp_path / "large.py"
    script.write_text(textwrap.dedent(LARGE))
    done = subprocess.run(
        [sys.executable, str(script), str(count(6, 0.6)), *options],
        capture_output=True,
        text=True,
        timeout=count(1500, 200),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    uri, megabytes = done.stdout.split()[-2:]
    print(f"the client used {megabytes} MB at most")
    assert int(megabytes) < 300, megabytes
    return uri


@pytest.mark.parametrize("kill", ["", "kill"])
def test_larger_than_memory(tmp_path, kill):
    assert kachery.open_zarr(computed_stored_and_reduced(tmp_path, kill))[0, 0] >= 0


def test_larger_than_memory_through_an_s3_zone(bucket, store_dir, tmp_path):
    other = tmp_path / "other"
    for folder in (store_dir, other):
        folder.mkdir()
        (folder / "kachery.toml").write_text(f"[zones.lab]\n{bucket.toml}")
    uri = computed_stored_and_reduced(tmp_path, "", str(other))
    with kachery.using(zone=None, dir=other):
        assert kachery.open_zarr(uri)[0, 0] >= 0


def test_through_an_s3_zone(s3, bucket, tmp_path, client):
    """Chunks computed by workers are in the bucket; another store opens them from there."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "kachery.toml").write_text(f"[zones.lab]\n{bucket.toml}")
    client.run(lambda names: __import__("os").environ.update(names), s3.environment())
    rows = count(200_000, 20_000)
    x = da.arange(rows * 100, chunks=100_000).reshape(rows, 100) % 1000
    with kachery.using(dir=tmp_path / "one", zone="lab"):
        uri = kachery.store_zarr(x)
    with kachery.using(dir=tmp_path / "two", zone="lab"):
        assert int(kachery.open_dask(uri).sum().compute()) == rows * 100 // 1000 * 499_500
        assert kachery.open_zarr(uri)[rows - 1, 99] == 999
