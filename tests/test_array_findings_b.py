"""What a reviewer of chunked arrays found: keys, checks, collection, codecs, stores that change."""

import asyncio
import os
import threading
import time
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
from conftest import run_python

import kachery
from kachery_store.sweep import refresh
from kachery_store.zarr.arrays import open_stored
from kachery_tasks import chunk_places
from kachery_tasks.dask_arrays import stored_as
from kachery_tasks.settings import current

zarr = pytest.importorskip("zarr")

BIG_ENDIAN = '[{"configuration":{"endian":"big"},"name":"bytes"}]'


def memory_group():
    return zarr.open_group(zarr.storage.MemoryStore(), mode="w")


def age():
    """Let files become older than what counts as just written."""
    time.sleep(2.1)


def lie(uri, codecs):
    """Have the manifest say that the chunks are to be decoded otherwise."""
    address = uri.removeprefix("blake3://")
    store = current().store
    manifest = open_stored(store, address).manifest
    tables = {path: one._replace(codecs=codecs) for path, one in manifest.tables.items()}
    store.arrays.replace(address, manifest._replace(tables=tables).to_bytes())


# Keys


@pytest.mark.parametrize("path", ["c/time", "x/c", "c", "c/c", "c/c/c", "x"])
def test_an_array_without_axes_may_have_any_path(path):
    group = memory_group()
    group.create_array(path, shape=(), dtype="i4")[...] = 42
    uri = kachery.store_zarr(group)
    array = kachery.open_zarr(uri)[path]
    assert array[()] == 42 == kachery.open_dask(uri, path).compute()


def test_arrays_below_c_that_have_axes():
    group = memory_group()
    for path in ("c/a", "c/0", "a/c/c"):
        group.create_array(path, shape=(2, 3), chunks=(1, 2), dtype="i4")[...] = len(path)
    opened = kachery.open_zarr(kachery.store_zarr(group))
    assert all((opened[path][...] == len(path)).all() for path in ("c/a", "c/0", "a/c/c"))


def test_what_looks_like_a_chunk_and_is_none_is_no_fill_value():
    group = memory_group()
    group.create_array("c/x", shape=(4,), chunks=(2,), dtype="i4")[...] = 1
    store = kachery.zarr_store(kachery.store_zarr(group))
    for key in ("c/x/c", "c/x/c/2", "c/x/c/0/0", "c/x/c/00"):
        with pytest.raises(kachery.NotFound, match="no chunk of the array 'c/x'"):
            asyncio.run(store.get(key))
        assert not asyncio.run(store.exists(key))
    for key in ("c/x/c/zarr.json", "c/0", "c/y", "c/x/.zarray"):
        assert asyncio.run(store.get(key)) is None


# Checks


def test_a_file_that_was_seen_is_checked_again_when_it_is_decoded_otherwise():
    honest, other = np.arange(8, dtype="i4"), memory_group()
    other.create_array("x", data=honest)
    first, second = (kachery.store_zarr(one, codecs=None) for one in (honest, other))
    age()
    assert kachery.open_zarr(first)[3] == 3  # the chunk of both is known now
    lie(second, BIG_ENDIAN)
    chunk_places.forget_opened()
    with pytest.raises(kachery.DigestMismatch, match="chunk c/0"):
        kachery.open_zarr(second)["x"][...]


def test_a_manifest_that_lies_is_replaced_by_who_stores_again():
    uri = kachery.store_zarr(np.arange(8, dtype="i4"), codecs=None)
    lie(uri, BIG_ENDIAN)
    assert kachery.store_zarr(np.arange(8, dtype="i4"), codecs=None) == uri
    assert np.array_equal(kachery.open_zarr(uri)[...], np.arange(8))


def test_a_manifest_of_a_damaged_chunk_is_replaced_by_who_stores_with_other_codecs():
    values = np.arange(100, 108)
    uri = kachery.store_zarr(values, codecs=None)
    digest, _ = kachery.open_zarr(uri).store.opened.array("").blob((0,))
    path = Path(current().root, digest.path)
    path.chmod(0o644)
    path.write_bytes(b"\xff" + path.read_bytes()[1:])
    with pytest.warns(kachery.DamagedWarning):
        assert kachery.store_zarr(values) == uri
    assert np.array_equal(kachery.open_zarr(uri)[...], values)


def test_a_sound_manifest_stays_whatever_codecs_come_later():
    uri = kachery.store_zarr(np.arange(8), codecs=None)
    assert kachery.store_zarr(np.arange(8)) == uri
    assert "zstd" not in kachery.open_zarr(uri).store.opened.array("").codecs


# Codecs


@pytest.mark.filterwarnings("ignore:Numcodecs codecs")
def test_lossy_codecs_are_refused():
    from zarr.codecs.numcodecs import Delta, Quantize

    values = np.linspace(0, 1, 8)
    with pytest.raises(kachery.Unsupported, match="lossy codec"):
        kachery.store_zarr(values, codecs=[Quantize(digits=1, dtype="f8")])
    uri = kachery.store_zarr(np.round(values), codecs=[Quantize(digits=1, dtype="f8")])
    assert np.array_equal(kachery.open_zarr(uri)[...], np.round(values))
    uri = kachery.store_zarr(np.arange(8), codecs=[Delta(dtype="i8")])
    assert np.array_equal(kachery.open_zarr(uri)[...], np.arange(8))


def test_codecs_in_threads_leave_the_settings_of_zarr_alone():
    chosen = [zarr.codecs.BloscCodec(clevel=1)]
    errors = []

    def store(number):
        try:
            kachery.store_zarr(np.full(600, number % 2), chunks=10, codecs=chosen)
        except Exception as error:
            errors.append(error)

    with zarr.config.set({"array.write_empty_chunks": False}):
        threads = [threading.Thread(target=store, args=(number,)) for number in range(4)]
        for one in threads:
            one.start()
        while any(one.is_alive() for one in threads):
            assert zarr.config.get("array.write_empty_chunks") is False
        assert not errors


def test_xarray_keeps_which_nan_it_is():
    xr = pytest.importorskip("xarray")
    odd = np.full(4, 0x7FF8000000000123, "u8").view("f8")
    uri = kachery.store_zarr(xr.Dataset({"x": ("t", odd)}))
    assert kachery.open_zarr(uri)["x"][...].tobytes() == odd.tobytes()
    assert uri != kachery.store_zarr(xr.Dataset({"x": ("t", np.full(4, np.nan))}))
    tree = xr.DataTree.from_dict({"/a": xr.Dataset({"x": ("t", odd)})})
    assert kachery.open_zarr(kachery.store_zarr(tree))["a/x"][...].tobytes() == odd.tobytes()


# Collection


@kachery.task
def half_shared(number):
    values = np.arange(4000.0)
    values[2000:] = number
    return da.from_array(values, chunks=2000)


@kachery.task
def large():
    return da.from_array(np.random.default_rng(1).random(200_000), chunks=100_000)


def test_an_array_stored_while_a_collection_is_under_way_keeps_shared_chunks():
    large()
    arrays = {half_shared.job(number).id: half_shared(number) for number in (1, 2)}
    age()
    plan = kachery.gc(max_items=0, grace=0, dry_run=True).plan
    order = [one.job_id for one in plan.going if one.job_id]
    assert order[0] not in arrays  # so that something goes before
    victim = arrays[next(one for one in order if one in arrays)]
    said = []

    def store_it(_):
        if not said:
            address = stored_as(victim)[0].address
            refresh(current().store.backend, f"arrays/{address[:2]}/{address}")  # no more than that
            said.append(f"blake3://{address}")

    assert kachery.gc(max_items=0, grace=0, progress=store_it).spared >= 2
    assert kachery.open_dask(said[0]).compute()[1999] == 1999


@kachery.task
def same(number):
    return [da.from_array(np.arange(10.0), chunks=5), number]


def test_a_record_that_stays_keeps_the_manifests_of_its_arrays():
    large()
    ids = {same.job(number).id: number for number in (1, 2)}
    found = {number: same(number) for number in ids.values()}
    age()
    plan = kachery.gc(max_items=0, grace=0, dry_run=True).plan
    order = [one.job_id for one in plan.going if one.job_id]
    assert order[0] not in ids
    spared = next(one for one in order if one in ids)
    pinned = []

    def pin_it(_):
        if not pinned:
            pinned.append(kachery.pin(f"job://{spared}"))

    kachery.gc(max_items=0, grace=0, progress=pin_it)
    chunk_places.forget_opened()
    array, _ = same(ids[spared])
    assert np.array_equal(array.compute(), np.arange(10.0))
    assert found


# Another process


def test_a_process_sees_what_another_one_stored_in_the_place_of_it():
    values = np.arange(1000.0)
    uri = kachery.store_zarr(values, chunks=500)
    array, lazy = kachery.open_zarr(uri), kachery.open_dask(uri)
    assert array[0] == 0 and lazy[1].compute() == 1
    age()
    done = run_python(f"""
        import kachery, numpy as np
        kachery.gc(max_size=0, files=True, grace=0)
        assert kachery.store_zarr(np.arange(1000.0), chunks=500, codecs=None) == {uri!r}
    """)
    assert getattr(done, "returncode", 0) == 0
    assert np.array_equal(lazy.compute(), values)
    assert np.array_equal(kachery.open_dask(uri).compute(), values)
    assert np.array_equal(array[...], values)


def test_what_was_collected_and_not_stored_again_is_named_chunk_by_chunk():
    array = kachery.open_zarr(kachery.store_zarr(np.arange(10.0), chunks=5))
    opened = array.store.opened
    os.remove(Path(current().root, opened.array("").blob((1,))[0].path))
    with pytest.raises(kachery.NotFound, match="chunk c/1"):
        array[...]
    os.remove(Path(current().root, f"arrays/{opened.address[:2]}/{opened.address}"))
    with pytest.raises(kachery.NotFound, match="chunk c/1"):
        array[...]
