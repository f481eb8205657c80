"""Chunked arrays in a store: identity, the stores of Zarr, damage, several writers, collection."""

import asyncio
import inspect
import json
import os
import pickle
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import count, run_python

import kachery
from kachery_store import Digest
from kachery_store.zarr.content import decode as decode_content
from kachery_store.zarr.content import encode as encode_content
from kachery_tasks.chunk_values import known_of
from kachery_tasks.chunked import writing_session
from kachery_tasks.settings import current
from kachery_tasks.values import encode

zarr = pytest.importorskip("zarr")
from zarr.core.buffer.cpu import Buffer  # noqa: E402
from zarr.testing.store import StoreTests  # noqa: E402

from kachery_store.zarr.writing import WriteStore  # noqa: E402

rng = np.random.default_rng(6)
IMAGE = rng.normal(size=(130, 70))


def chunk_files(folder="blake3"):
    root = Path(current().root, folder)
    return {path for path in root.rglob("*") if path.is_file()}


# Identity


def test_address_is_that_of_the_value():
    uri = kachery.store_zarr(IMAGE, chunks=(50, 40))
    array = kachery.open_zarr(uri)
    assert np.array_equal(array[...], IMAGE) and array.chunks == (50, 40)
    assert uri == f"blake3://{encode(array).address.hex()}"
    _, content, path = known_of(array)
    encoded = encode_content(content)
    assert encoded.data == encode(array).data and path == ""
    assert decode_content(encoded.data, None) == content


def test_large_digests_are_a_blob_of_the_value_format():
    uri = kachery.store_zarr(np.arange(4_000, dtype="i2"), chunks=1, codecs=None)
    array = kachery.open_zarr(uri)
    assert uri == f"blake3://{encode(array).address.hex()}" and len(encode(array).blobs) == 1
    assert array[17] == 17 and array[-1] == 3_999


@pytest.mark.filterwarnings("ignore:The codec")
def test_vectors():
    vectors = json.loads(
        (Path(__file__).parent.parent / "docs/formats/vectors/chunked.json").read_text()
    )
    for one in vectors:
        value = eval(one["value"], {"np": np})
        uri = kachery.store_zarr(value, chunks=one["chunks"])
        assert uri == f"blake3://{one['address']}", one
        content = known_of(kachery.open_zarr(uri))[1]
        assert encode_content(content).data.hex() == one["encoding"]


def test_how_it_is_stored_does_not_count():
    uri = kachery.store_zarr(IMAGE, chunks=(50, 40))
    codecs = [
        None,
        [],
        [zarr.codecs.GzipCodec()],
        [zarr.codecs.BloscCodec(), zarr.codecs.Crc32cCodec()],
        [zarr.codecs.TransposeCodec(order=(1, 0)), zarr.codecs.ZstdCodec(level=5)],
    ]
    for number, chosen in enumerate(codecs):
        with kachery.using(dir=f"{current().root}-{number}"):
            assert kachery.store_zarr(IMAGE, chunks=(50, 40), codecs=chosen) == uri
            assert np.array_equal(kachery.open_zarr(uri)[...], IMAGE)
    for same in (IMAGE.copy(order="F"), IMAGE.astype(">f8"), zarr.array(IMAGE, chunks=(50, 40))):
        assert kachery.store_zarr(same, chunks=(50, 40)) == uri


def test_what_counts():
    others = [
        kachery.store_zarr(IMAGE, chunks=(50, 40)),
        kachery.store_zarr(IMAGE, chunks=(40, 50)),
        kachery.store_zarr(IMAGE.astype("f4"), chunks=(50, 40)),
        kachery.store_zarr(IMAGE[:129], chunks=(50, 40)),
        kachery.store_zarr(np.where(IMAGE == IMAGE[7, 7], -0.0, IMAGE), chunks=(50, 40)),
        kachery.store_zarr(np.where(IMAGE == IMAGE[7, 7], 0.0, IMAGE), chunks=(50, 40)),
    ]
    for change in (
        {"attributes": {"unit": "V"}},
        {"fill_value": 7},
        {"dimension_names": ("y", "x")},
    ):
        array = zarr.create_array({}, shape=IMAGE.shape, chunks=(50, 40), dtype="f8", **change)
        array[...] = IMAGE
        others.append(kachery.store_zarr(array))
        back = kachery.open_zarr(others[-1])
        assert dict(back.attrs) == dict(array.attrs) and back.fill_value == array.fill_value
        assert back.metadata.dimension_names == array.metadata.dimension_names
    assert len(set(others)) == len(others)


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((), "f8"),
        np.zeros((0, 3), "i4"),
        np.arange(10, dtype="u1").astype("?"),
        np.arange(7, dtype="c8"),
        np.array(["2020-01-01", "NaT"], "M8[ns]"),
        np.array([5, 6], "m8[s]"),
        np.array(["a", "bcd"]),
        np.array([b"a", b""], "S2"),
        np.array(["ä", "", "x" * 100], object),
        np.full((5, 5), np.nan, "f2"),
    ],
    ids=lambda value: value.dtype.str + str(value.shape),
)
def test_dtypes(value):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The (data type|codec)")
        try:
            uri = kachery.store_zarr(value, chunks=2)
            back = kachery.open_zarr(uri)[...]
        except kachery.Unsupported as error:  # older zarr has no such type
            if value.dtype.kind in "MmUS" and tuple(map(int, zarr.__version__.split(".")[:2])) < (
                3,
                1,
            ):
                pytest.skip(str(error))
            raise
    assert np.asarray(back).astype(value.dtype).tobytes() == value.tobytes() or list(back) == list(
        value
    )
    assert kachery.store_zarr(value, chunks=2, codecs=None) == uri
    assert kachery.open_dask(uri).compute().shape == value.shape


def test_refused_dtypes():
    for value in (np.zeros(2, "f8,i4"), np.zeros(2, np.longdouble)):
        with pytest.raises(kachery.Unsupported, match="dtype"):
            kachery.store_zarr(value)
    with pytest.raises(kachery.Unsupported, match="no codec of Zarr 3"):
        kachery.store_zarr(IMAGE, codecs=["zip"])
    with pytest.raises(kachery.BadURI, match="no chunked array"):
        kachery.open_zarr("sha1://" + "0" * 40)
    with pytest.raises(kachery.NotFound, match="not stored as a chunked array"):
        kachery.open_zarr("blake3://" + "0" * 64)


def test_equal_chunks_are_stored_once():
    kachery.store_zarr(np.zeros((1000, 10)), chunks=(10, 10))
    assert len(chunk_files()) == 2  # the chunk and the encoding


def test_one_chunk_changed():
    """Of 10,000: one chunk, its manifest, and what that refers to."""
    array = np.arange(10_000, dtype="i8")
    number = count(10_000, 3_000)
    kachery.store_zarr(array[:number], chunks=1, codecs=None)
    before, manifests = chunk_files(), chunk_files("arrays")
    array[5] = -1
    kachery.store_zarr(array[:number], chunks=1, codecs=None)
    new = chunk_files() - before
    assert len(chunk_files("arrays") - manifests) == 1
    assert sum(path.stat().st_size == 8 for path in new) == 1 and len(new) <= 4
    assert sum(path.stat().st_size for path in new) < 80 * number


# Zarr's own suite


def in_a_loop(cls):
    """Run the coroutines of the suite without a plugin of pytest for them."""
    for name, test in inspect.getmembers(cls, inspect.iscoroutinefunction):
        if name.startswith("test"):

            def run(self, *args, _test=test, **kwargs):
                return asyncio.run(_test(self, *args, **kwargs))

            run.__signature__ = inspect.signature(test)
            run.pytestmark = getattr(test, "pytestmark", [])
            setattr(cls, name, run)
    return cls


def reopened(root):
    return kachery_store_at(root)


def kachery_store_at(root):
    from kachery_tasks.settings import store_at

    return store_at(root)


@in_a_loop
class TestWriteStore(StoreTests[WriteStore, Buffer]):
    store_cls = WriteStore
    buffer_cls = Buffer

    @pytest.fixture
    def store_kwargs(self, store_dir):
        return {"reopen": reopened, "place": str(store_dir), "session": "5e" * 32}

    @pytest.fixture
    def store(self, store_kwargs):
        return asyncio.run(WriteStore.open(**store_kwargs))

    @pytest.fixture
    def store_not_open(self, store_kwargs):
        return WriteStore(**store_kwargs)

    @pytest.fixture
    def open_kwargs(self, store_kwargs):
        return store_kwargs

    async def set(self, store, key, value):
        store._set(key, value.to_bytes())

    async def get(self, store, key):
        return Buffer.from_bytes(store._read(store._note(key)))

    def test_store_repr(self, store):
        assert str(store) == f"kachery-writing://{store.session}"

    def test_store_supports_writes(self, store):
        assert store.supports_writes

    def test_store_supports_listing(self, store):
        assert store.supports_listing


def test_the_store_that_is_read():
    uri = kachery.store_zarr(IMAGE, chunks=(50, 40), label="image")
    store = kachery.zarr_store(uri)

    async def look():
        keys = [key async for key in store.list()]
        assert keys == ["zarr.json", *(f"c/{i}/{j}" for i in range(3) for j in range(2))]
        assert [key async for key in store.list_prefix("c/1")] == ["c/1/0", "c/1/1"]
        assert sorted([key async for key in store.list_dir("")]) == ["c", "zarr.json"]
        assert [key async for key in store.list_dir("c")] == ["0", "1", "2"]
        assert await store.exists("c/2/1") and not await store.exists("c/3/0")
        assert await store.get("other") is None
        with pytest.raises(kachery.NotFound):  # never a fill value
            await store.get("c/3/0")
        with pytest.raises(ValueError, match="read-only"):
            await store.set("c/0/0", Buffer.from_bytes(b""))
        with pytest.raises(ValueError, match="read-only"):
            await store.delete("c/0/0")
        part = await store.get("c/0/0", byte_range=zarr.abc.store.RangeByteRequest(8, 16))
        assert part.to_bytes() == IMAGE[0, 1].tobytes()

    asyncio.run(look())
    again = pickle.loads(pickle.dumps(store))
    assert again == store and np.array_equal(zarr.open(again, mode="r")[...], IMAGE)
    with pytest.raises(ValueError, match=r"read-only|cannot be changed"):
        kachery.open_zarr(uri)[0, 0] = 1


# Groups, format 2, xarray


def a_group(store, zarr_format):
    root = zarr.create_group(store, zarr_format=zarr_format, attributes={"b": 1, "a": [1.5, None]})
    deep = root.create_group("one/two", attributes={"deep": True})
    array = deep.create_array("x", shape=(11,), chunks=(4,), dtype="i4", fill_value=9)
    array[:6] = np.arange(6)  # the rest was never written
    return root


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_groups(tmp_path, zarr_format):
    source = a_group(str(tmp_path / "g.zarr"), zarr_format)
    uri = kachery.store_zarr(source)
    back = kachery.open_zarr(uri)
    assert dict(back.attrs) == {"a": [1.5, None], "b": 1} and back["one/two"].attrs["deep"] is True
    assert back["one/two/x"][:].tolist() == [0, 1, 2, 3, 4, 5, 9, 9, 9, 9, 9]
    assert uri == f"blake3://{encode(back).address.hex()}" == kachery.store_zarr(back)
    assert kachery.open_dask(uri, "one/two/x").sum().compute() == 60
    part = kachery.store_zarr(back["one"])
    assert kachery.open_zarr(part)["two/x"][5] == 5 and len(chunk_files("arrays")) == 2
    alone = kachery.store_zarr(back["one/two/x"])
    assert alone == kachery.store_zarr(source["one/two/x"])


def test_both_formats_are_one_content(tmp_path):
    addresses = {kachery.store_zarr(a_group(str(tmp_path / f"{v}.zarr"), v)) for v in (2, 3)}
    assert len(addresses) == 1


def test_xarray():
    xr = pytest.importorskip("xarray")
    data = xr.Dataset(
        {"t": (("y", "x"), IMAGE, {"units": "K"}), "n": ("y", np.arange(130))},
        coords={"x": np.arange(70), "when": ("y", np.arange(130).astype("M8[s]").astype("M8[ns]"))},
        attrs={"title": "test"},
    )
    uri = kachery.store_zarr(data)
    back = xr.open_zarr(kachery.zarr_store(uri)).load()
    assert back.identical(data)
    assert kachery.store_zarr(data, codecs=None) == uri
    lazy = kachery.persist(data.chunk({"y": 50}))
    assert lazy.chunks["y"] == (50, 50, 30) and lazy.load().identical(data)
    tree = xr.DataTree.from_dict({"/": data, "/deep": data[["n"]]})
    opened = xr.open_datatree(kachery.zarr_store(kachery.store_zarr(tree)), engine="zarr").load()
    assert opened.identical(tree)


def test_references(tmp_path):
    from zarr.storage import FsspecStore

    fsspec = pytest.importorskip("fsspec")
    uri = kachery.store_zarr(IMAGE, chunks=(50, 40))
    path = tmp_path / "refs.json"
    kachery.zarr_references(uri, path)
    fs = fsspec.filesystem("reference", fo=json.loads(path.read_text()), asynchronous=True)
    assert np.array_equal(zarr.open(FsspecStore(fs, read_only=True), mode="r")[...], IMAGE)
    with pytest.raises(kachery.Unsupported, match="no zone"):
        kachery.zarr_references(uri, path, in_zone=True)


# Writing sessions


def test_a_session_of_several_processes():
    session = writing_session()
    array = zarr.create_array(session, shape=(40, 10), chunks=(4, 10), dtype="f8")
    code = """
    import pickle, sys, numpy as np, zarr
    session, first = pickle.loads(bytes.fromhex(sys.argv[1])), int(sys.argv[2])
    array = zarr.open(session, mode="r+")
    for row in range(first, 36, 8):
        array[row : row + 4] = row
    """
    pickled = pickle.dumps(session).hex()
    threads = [threading.Thread(target=run_python, args=(code, pickled, n)) for n in (0, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    address = session.commit()
    expected = np.repeat(np.arange(0, 40, 4.0), 4)[:, None] * np.ones(10)
    expected[36:] = 0  # nobody wrote these
    assert np.array_equal(kachery.open_zarr(f"blake3://{address}")[...], expected)
    assert kachery.store_zarr(expected, chunks=(4, 10)) == f"blake3://{address}"
    assert not chunk_files("sessions") and array.shape == (40, 10)


def test_a_session_in_which_the_array_grows():
    session = writing_session()
    array = zarr.create_array(session, shape=(10,), chunks=(4,), dtype="i4")
    array[:] = np.arange(10)
    array.append(np.arange(10, 13))
    array.attrs["unit"] = "s"
    address = session.commit()
    assert kachery.open_zarr(f"blake3://{address}")[:].tolist() == list(range(13))


def test_a_session_in_which_the_array_shrinks():
    session = writing_session()
    array = zarr.create_array(session, shape=(10,), chunks=(4,), dtype="i4")
    array[:] = np.arange(10)
    array.resize((9,))  # the last chunk is not written again, and has less content
    address = session.commit()
    uri = f"blake3://{address}"
    assert kachery.open_zarr(uri)[:].tolist() == list(range(9))
    assert kachery.store_zarr(np.arange(9, dtype="i4"), chunks=4) == uri


def test_a_session_that_cannot_be_committed():
    session = writing_session()
    with pytest.raises(kachery.BadManifest, match="nothing was written"):
        session.commit()
    array = zarr.create_array(session, shape=(10,), chunks=(4,), dtype="i4")
    array[:] = 1
    session._set("c/9", b"1234")
    with pytest.raises(kachery.BadManifest, match="belongs to no array"):
        session.commit()


# Damage


def stored_chunk(uri, index):
    opened = known_of(kachery.open_zarr(uri))[0]
    return Path(current().store.backend.path(opened.array().blob(index)[0].path))


@pytest.mark.parametrize("codecs", ["auto", None])
@pytest.mark.parametrize("damage", ["gone", "shorter", "other bytes"])
def test_a_chunk_is_lost_or_damaged(codecs, damage):
    uri = kachery.store_zarr(IMAGE, chunks=(50, 40), codecs=codecs)
    path = stored_chunk(uri, (1, 1))
    path.chmod(0o644)
    if damage == "gone":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data[:-1] if damage == "shorter" else data)
    kind = kachery.NotFound if damage == "gone" else kachery.DigestMismatch
    array, lazy = kachery.open_zarr(uri), kachery.open_dask(uri)
    assert np.array_equal(array[:50], IMAGE[:50])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", kachery.DamagedWarning)
        with pytest.raises(kind, match=f"chunk c/1/1 of {uri}"):
            array[...]
        with pytest.raises((kachery.NotFound, kachery.DigestMismatch), match="chunk c/1/1"):
            lazy.sum().compute(scheduler="synchronous")
    assert kachery.store_zarr(IMAGE, chunks=(50, 40), codecs=codecs) == uri  # stored again
    assert np.array_equal(kachery.open_zarr(uri)[...], IMAGE)


def test_a_manifest_whose_chunks_are_lost_is_replaced():
    uri = kachery.store_zarr(IMAGE, chunks=(50, 40), codecs=None)
    stored_chunk(uri, (1, 1)).unlink()
    assert kachery.store_zarr(IMAGE, chunks=(50, 40)) == uri
    assert np.array_equal(kachery.open_zarr(uri)[...], IMAGE)
    assert "zstd" in known_of(kachery.open_zarr(uri))[0].array().codecs


def test_a_manifest_that_lies():
    """Blobs that are intact, in the wrong places, are found out by the content."""
    from kachery_store.zarr.manifest import Manifest

    uri = kachery.store_zarr(IMAGE, chunks=(50, 40))
    address = uri[9:]
    refs = current().store.arrays
    manifest = Manifest.from_bytes(refs.read(address), address)
    table = manifest.tables[""]
    swapped = table.entries[40:80] + table.entries[:40] + table.entries[80:]
    lie = manifest._replace(tables={"": table._replace(entries=swapped)})
    refs.replace(address, lie.to_bytes())
    run = """
    import sys, kachery
    kachery.open_zarr(sys.argv[1])[...]
    """
    done = run_python(run, uri, check=False)
    assert done.returncode == 1 and "chunk c/0/" in done.stderr and "DigestMismatch" in done.stderr


def test_a_damaged_manifest_is_set_aside():
    uri = kachery.store_zarr(IMAGE, chunks=(50, 40))
    path = next(iter(chunk_files("arrays")))
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    run = "import sys, kachery\nkachery.open_zarr(sys.argv[1])"
    done = run_python(run, uri, check=False)
    assert "DigestMismatch" in done.stderr and not path.exists()


# Several writers


def test_two_processes_write_the_same_array():
    code = """
    import sys, numpy as np, kachery
    array = np.random.default_rng(1).normal(size=(400, 400))
    sys.stdin.readline()
    print(kachery.store_zarr(array, chunks=(40, 40)))
    """
    import subprocess
    import sys
    import textwrap

    processes = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    uris = {process.communicate(timeout=120)[0].strip() for process in processes}
    assert len(uris) == 1 and all(process.returncode == 0 for process in processes)
    assert len(chunk_files()) == 101 and len(chunk_files("arrays")) == 1
    expected = np.random.default_rng(1).normal(size=(400, 400))
    assert np.array_equal(kachery.open_zarr(uris.pop())[...], expected)


# What stays and what goes


def test_collection_leaves_named_arrays():
    uri = kachery.store_zarr(IMAGE, chunks=(50, 40))
    big = kachery.store_zarr(np.arange(3_000), chunks=1)
    kachery.gc(orphans=True, max_items=0, older_than=0, grace=0)
    assert np.array_equal(kachery.open_zarr(uri)[...], IMAGE)
    assert kachery.open_zarr(big)[2_999] == 2_999
    kachery.pin(uri)
    kachery.gc(max_size=0, grace=0)
    assert np.array_equal(kachery.open_zarr(uri)[...], IMAGE)
    with pytest.raises(kachery.NotFound):
        kachery.open_zarr(big)
    kachery.unpin(uri)
    kachery.gc(max_size=0, grace=0)
    assert not chunk_files() and not chunk_files("arrays")


@kachery.task(version="1")
def filled(value):
    import dask.array as da

    return da.full((100, 100), value, chunks=(50, 100)) + np.arange(100)[:, None]


def test_a_result_goes_with_its_chunks():
    kept, going = filled.job(1.0), filled.job(2.0)
    kept.result(), going.result()
    assert len(chunk_files("arrays")) == 2
    kachery.gc(orphans=True, grace=0)
    assert len(chunk_files("arrays")) == 2
    kachery.pin(kept)
    kachery.gc(max_items=0, grace=0)
    here = Digest("blake3", kept.record.environment.hex()).path
    chunks = [path for path in chunk_files() if not str(path).endswith(here)]
    assert len(chunk_files("arrays")) == 1 and len(chunks) == 3
    assert kept.result()[99, 0].compute() == 100


def test_verify_finds_a_damaged_manifest():
    from kachery_tasks.keeping import verification

    kachery.store_zarr(IMAGE, chunks=(50, 40))
    assert verification().run().damaged == ()
    path = next(iter(chunk_files("arrays")))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert [one.name.split("/")[0] for one in verification().run().damaged] == ["arrays"]


# Zones


def test_through_a_zone(tmp_path):
    zone = {"dir": str(tmp_path / "zone")}
    os.makedirs(current().root, exist_ok=True)
    Path(current().root, "kachery.toml").write_text(f'[zones.lab]\nurl = "{tmp_path}/zone"\n')
    Path(tmp_path, "other").mkdir()
    Path(tmp_path, "other", "kachery.toml").write_text(f'[zones.lab]\nurl = "{tmp_path}/zone"\n')
    with kachery.using(zone="lab"):
        uri = kachery.store_zarr(IMAGE, chunks=(50, 40))
        filled(3.0)
    assert zone
    with kachery.using(dir=tmp_path / "other", zone="lab"):
        assert np.array_equal(kachery.open_zarr(uri)[:50], IMAGE[:50])
        assert filled(3.0)[0, 0].compute() == 3.0 and kachery.stats().hits >= 1
        kachery.pull(uri)
    with kachery.using(dir=tmp_path / "other", zone=None):
        assert np.array_equal(kachery.open_zarr(uri)[...], IMAGE)


def test_pushed_and_pulled(tmp_path):
    for folder in (Path(current().root), tmp_path / "other"):
        folder.mkdir(exist_ok=True, parents=True)
        (folder / "kachery.toml").write_text(f'[zones.lab]\nurl = "{tmp_path}/zone"\n')
    uri = kachery.store_zarr(np.arange(3_000), chunks=1)
    job = filled.job(4.0)
    job.result()
    with kachery.using(zone="lab"):
        kachery.push(uri, job)
    with kachery.using(dir=tmp_path / "other", zone="lab"):
        kachery.pull(uri, job.uri)
    with kachery.using(dir=tmp_path / "other", zone=None):
        assert kachery.open_zarr(uri)[2_000] == 2_000
        assert filled(4.0)[1, 1].compute() == 5.0
        assert len([1 for job in [filled.job(4.0)] if job.cached]) == 1


@pytest.mark.parametrize("value", [[1, 2], "text", None, {"a": 1}])
def test_what_is_no_array_is_refused_by_type(value):
    with pytest.raises(TypeError, match=f"not builtins.{type(value).__name__}"):
        kachery.store_zarr(value)
