"""What a review found wrong in chunked arrays: results and arguments that were other values."""

import os
import subprocess
import sys
import time
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from conftest import run_python, write

import kachery
from kachery_tasks.dask_arrays import stored_as

zarr = pytest.importorskip("zarr")


@kachery.task
def of_one_form(kind):
    found = {"a": da.zeros(8, chunks=4), "b": da.ones(8, chunks=4)}
    return {"dict": found, "list": list(found.values()), "tuple": tuple(found.values())}[kind]


@kachery.task
def attributes(array):
    return dict(array.attrs)


@kachery.task(version="1")
def returned(folder):
    return HELD[folder]


HELD = {}


def opened(value, **options):
    return kachery.open_zarr(kachery.store_zarr(value, **options))


def blob_file(array, number=0):
    """The file of a chunk of an array without codecs."""
    source = array.store.opened
    blob, _ = source.array(array.path).blob((number,))
    return source.store.backend.path(blob.path)


@pytest.mark.parametrize("kind", ["dict", "list", "tuple"])
def test_arrays_of_one_form_in_one_result(kind):
    for found in (of_one_form(kind), of_one_form(kind)):
        first, second = found.values() if kind == "dict" else found
        assert first.compute().tolist() == [0] * 8 and second.compute().tolist() == [1] * 8


def test_arrays_of_one_form_on_a_cluster(client):
    first, second = of_one_form("list")
    assert first.compute().tolist() == [0] * 8 and second.compute().tolist() == [1] * 8


KILLED = """
import os, sys
import dask.array as da, numpy as np, kachery
from conftest import note_call

def slow(block, path=None, block_id=None):
    if block_id[0] == int(os.environ["STOP"]):
        print("there", flush=True)
        sys.stdin.readline()  # until it is killed
    note_call(path)
    return block + 1

@kachery.task
def long(path):
    made = [da.ones(10, chunks=1), da.zeros(10, chunks=1), da.random.default_rng(3).random(10, chunks=1)]
    return [array.map_blocks(slow, path=path, dtype=float) for array in made]
"""


def test_a_killed_run_of_several_arrays_goes_on(project, calls, monkeypatch):
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ["PYTHONPATH"]])
    )
    write(project / "killed.py", KILLED)
    code = (
        "import dask, sys, killed\nwith dask.config.set(scheduler='synchronous'):\n"
        "    found = killed.long(sys.argv[1])\n    print([float(x.sum().compute()) for x in found[:2]])"
    )
    command = [sys.executable, "-c", code, calls.path]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, env={**os.environ, "STOP": "6"}
    ) as process:
        assert process.stdout.readline() == b"there\n"
        process.kill()
    assert 1 <= calls.count < 10
    assert run_python(code, calls.path, env={"STOP": "-1"}).stdout.strip() == "[20.0, 10.0]"
    assert calls.count == 30


def test_variables_of_one_form_in_a_dataset():
    xr = pytest.importorskip("xarray")

    @kachery.task(version="1")
    def made():
        return xr.Dataset({"a": ("t", np.zeros(4)), "b": ("t", np.ones(4))}).chunk(t=2)

    found = made()
    assert found["a"].values.tolist() == [0] * 4 and found["b"].values.tolist() == [1] * 4


def test_the_same_array_twice_in_a_result():
    @kachery.task(version="1")
    def made():
        one = da.arange(8, chunks=4)
        return [one, one, one + 1]

    assert [array.compute()[0] for array in made()] == [0, 0, 1]


STATE = {}


def added(block, block_id=None):
    """Of a module, so that Dask's name says nothing of STATE."""
    if STATE["slow"] and block_id == (1,):
        time.sleep(0.3)
    if STATE["fails"] and block_id == (2,):
        time.sleep(0.1)
        raise ValueError("boom")
    return block + STATE["seed"]


@pytest.mark.parametrize("slow", [False, True])  # a thread may note after the run has failed
def test_a_run_after_an_error_begins_anew(slow):
    @kachery.task(version="1")
    def made():
        return da.zeros(6, chunks=2).map_blocks(added, dtype="f8", name="added")

    STATE.update(seed=1, fails=True, slow=slow)
    with pytest.raises(ValueError, match="boom"):
        made()
    time.sleep(0.5)
    STATE.update(seed=2, fails=False, slow=False)
    assert made().compute().tolist() == [2] * 6
    notes = Path(kachery.get_kachery_dir(), "partial").rglob("*")
    assert not [path for path in notes if path.is_file()]


RUNS = []


def counted(block):
    RUNS.append(1)
    return block


def test_notes_are_of_one_computation():
    from kachery_tasks.chunk_places import place_in
    from kachery_tasks.chunk_values import Notes
    from kachery_tasks.dask_arrays import dask_form, write_dask
    from kachery_tasks.settings import current

    place, codecs = place_in(current().store), '[{"name":"bytes"}]'
    runs = RUNS

    def stored(number, seed):
        array = (da.zeros(4, chunks=2) + seed).map_blocks(counted, dtype="f8", meta=np.zeros(0))
        return write_dask(place, array, dask_form(array), codecs, Notes("ab" * 32, number))

    first = stored("1", 0)
    assert len(runs) == 2 and stored("1", 0) == first and len(runs) == 2
    assert stored("1", 5) != first and len(runs) == 4
    assert stored("2", 0) == first and len(runs) == 6


OTHERS = {
    "float for int": (lambda b: b * 1.5, "i8"),
    "complex for float": (lambda b: b + 1j, "f8"),
    "ms for s": (lambda b: (b * 1500).astype("M8[ms]"), "M8[s]"),
    "longer texts": (lambda b: b.astype("U10"), "U5"),
    "longer bytes": (lambda b: b.astype("S10"), "S5"),
    "large ints for float": (lambda b: b + 2**53 + 1, "f8"),
    "numbers for texts": (lambda b: b, "U30"),
    "numbers for times": (lambda b: b, "m8[s]"),
}


@pytest.mark.parametrize("chunks", [2, ((2, 1, 1),)])
@pytest.mark.parametrize("name", OTHERS)
def test_blocks_of_another_dtype(name, chunks):
    function, dtype = OTHERS[name]
    array = da.arange(4, chunks=2).rechunk(chunks).map_blocks(function, dtype=dtype)
    with pytest.raises(TypeError, match=r"dtype .* dtype= or meta="):
        kachery.store_zarr(array)

    HELD[name] = array
    with pytest.warns(kachery.NotStoredWarning, match="dtype= or meta="):
        returned(name)


def test_blocks_that_lose_nothing():
    x = da.arange(4, chunks=2)
    for function, dtype in (
        (lambda b: b.astype("i2"), "i8"),
        (lambda b: b.astype(">i8"), "i8"),
        (lambda b: b.astype("f4"), "f8"),
        (lambda b: b.astype("U3"), "U9"),
        (lambda b: b.astype("M8[s]"), "M8[ms]"),
        (lambda b: b, "f8"),
    ):
        kept = kachery.persist(x.map_blocks(function, dtype=dtype))
        assert kept.dtype == dtype
        assert (kept.compute() == function(np.arange(4)).astype(dtype)).all()


@pytest.mark.parametrize(
    ("function", "shape"),
    [(lambda b: b[:1], "(1,)"), (np.sum, "()"), (lambda b: b[None], "(1, ")],
)
@pytest.mark.parametrize("chunks", [2, ((1, 3, 4),)])
def test_blocks_of_another_shape(function, shape, chunks):
    array = da.arange(8, chunks=4).rechunk(chunks).map_blocks(function, dtype="i8")
    with pytest.raises(kachery.Unsupported) as error:
        kachery.store_zarr(array)
    assert "block (" in str(error.value) and f"has shape {shape}" in str(error.value)


def test_blocks_that_have_the_right_sum_of_lengths():
    """Once they are put together nobody sees it."""
    array = da.arange(6, chunks=((2, 4),)).map_blocks(lambda b: np.arange(6 - b.size), dtype="i8")
    with pytest.raises(kachery.Unsupported, match="has shape"):
        kachery.store_zarr(array)


def grown(node):
    node.attrs["of"].append(2)


def test_attributes_that_were_changed_in_place():
    source = zarr.create_array({}, shape=(4,), dtype="i4", attributes={"of": [1]})
    source[:] = 1
    array = opened(source)
    known = attributes.job(array).id
    assert attributes(array) == {"of": [1]}
    grown(array)
    with pytest.raises(kachery.CannotEncode, match=r"kachery\.persist"):
        attributes.job(array).id
    again = kachery.persist(array)
    assert dict(again.attrs) == {"of": [1, 2]} and attributes(again) == {"of": [1, 2]}
    HELD["array"] = array
    assert dict(returned("array").attrs) == {"of": [1, 2]}
    assert attributes.job(opened(source)).id == known


def test_attributes_in_a_group_that_were_changed_in_place():
    root = zarr.open_group({}, mode="w", attributes={"of": [1]})
    below = root.create_group("below", attributes={"of": [1]})
    below.create_array("x", shape=3, dtype="i4", attributes={"of": [1]})[:] = 1
    for path in ("", "below"):
        group = opened(root)
        node = group[path] if path else group
        assert attributes(node) == {"of": [1]}
        grown(node)
        with pytest.raises(kachery.CannotEncode, match=r"kachery\.persist"):
            attributes.job(node).id
        assert attributes(kachery.persist(node)) == {"of": [1, 2]}


def test_an_array_in_another_order_of_memory():
    array = opened(np.ones((3, 4)))
    attributes.job(array).id
    with pytest.raises(kachery.CannotEncode, match=r"kachery\.persist"):
        attributes.job(array.with_config({"order": "F"})).id


def test_an_array_of_dask_that_says_something_else():
    kept = kachery.persist(da.arange(8.0, chunks=4))
    assert stored_as(kept) is not None
    for chunks, dtype in ((((3, 5),), "f8"), (kept.chunks, "f4")):
        assert stored_as(da.Array(kept.dask, kept.name, chunks, dtype=dtype)) is None
    for value in (np.ones((0, 3)), np.array(4), np.array(["a", "b"], object)):
        lazy = kachery.open_dask(kachery.store_zarr(value))
        assert stored_as(lazy) is not None and lazy.compute().tolist() == value.tolist()


def test_what_is_lost_is_not_acknowledged():
    array = opened(np.arange(8), chunks=4, codecs=None)
    lazy = kachery.open_dask(f"blake3://{array.store.opened.address}")
    assert kachery.store_zarr(array) == kachery.store_zarr(lazy)
    os.unlink(blob_file(array, 1))
    for store in (kachery.store_zarr, kachery.persist):
        for value in (array, lazy):
            with pytest.raises(kachery.NotFound, match=r"chunk c/1 of blake3://.* is lost"):
                store(value)
    HELD["lost"] = array
    with pytest.warns(kachery.NotStoredWarning, match=r"chunk c/1 of blake3://.* is lost"):
        returned("lost")
    kachery.store_zarr(np.arange(8), chunks=4, codecs=None)
    assert kachery.open_zarr(kachery.store_zarr(array))[7] == 7


def test_a_collected_array_that_is_still_open():
    array = opened(np.arange(50.0), chunks=25)
    time.sleep(0.1)
    kachery.gc(max_size=0, files=True, grace=0)
    with pytest.raises(kachery.NotFound, match="is lost"):
        kachery.store_zarr(array)


def test_an_array_whose_manifest_alone_has_gone():
    array = opened(np.arange(50.0), chunks=25)
    source = array.store.opened
    os.unlink(source.store.backend.path(f"arrays/{source.address[:2]}/{source.address}"))
    HELD["open"] = array
    assert returned("open")[49] == 49


def test_times_without_a_unit():
    for kind in ("M8", "m8"):
        with pytest.raises(kachery.Unsupported, match="no unit"):
            kachery.store_zarr(np.array(["NaT"], kind))
