"""Datasets and trees of xarray, stored in chunks: nothing is lost, nothing asked for is left out in silence."""

from pathlib import Path

import numpy as np
import pytest

import kachery
from kachery_tasks.chunk_values import known_of
from kachery_tasks.settings import current

zarr = pytest.importorskip("zarr")
xr = pytest.importorskip("xarray")
da = pytest.importorskip("dask.array")

TIME = np.datetime64("2020-01-01T00:00", "ns") + np.arange(10) * np.timedelta64(1, "h")
BLOSC = zarr.codecs.BloscCodec(typesize=8)


def dataset():
    return xr.Dataset(
        {"v": ("time", np.arange(10.0) + 0.1), "name": ("time", np.array(list("abcdefghij")))},
        coords={"time": TIME},
        attrs={"of": "a test"},
    )


def tables(uri):
    return known_of(kachery.open_zarr(uri))[0].manifest.tables


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("v", {"scale_factor": 7.0, "dtype": "int8", "_FillValue": -1}),
        ("v", {"dtype": "float32"}),
        ("v", {"dtype": "int16"}),
        ("v", {"_FillValue": 0.1}),
        ("v", {"filters": (zarr.codecs.TransposeCodec(order=(0,)),), "compressors": (BLOSC,)}),
        ("time", {"units": "days since 2020-01-01", "dtype": "int64"}),
        ("time", {"units": "days since 2020-01-01", "dtype": "float32"}),
    ],
)
def test_how_it_was_packed_before_does_not_count(name, encoding):
    """It is what a file had from which the variable was read; what was computed since need not fit."""
    plain = kachery.store_zarr(dataset())
    packed = dataset()
    packed[name].encoding = encoding
    assert kachery.store_zarr(packed) == plain
    assert packed[name].encoding == encoding  # whose it is
    found = xr.open_zarr(kachery.zarr_store(plain))
    xr.testing.assert_identical(found.load(), dataset())


def test_chunks_that_it_had_count():
    chunked = dataset()
    chunked["v"].encoding = {"chunks": (3,)}
    assert kachery.open_zarr(kachery.store_zarr(chunked))["v"].chunks == (3,)
    lazy = dataset().chunk(time=4)
    lazy["v"].encoding = {"chunks": (3,)}  # as the file had it
    assert kachery.open_zarr(kachery.store_zarr(lazy))["v"].chunks == (4,)


def test_uneven_chunks_become_regular():
    lengths = ((2, 5, 3),)
    uneven = xr.Dataset({"a": ("x", da.from_array(np.arange(10.0), chunks=lengths))})
    uri = kachery.store_zarr(uneven)
    assert kachery.open_zarr(uri)["a"].chunks == (5,)
    xr.testing.assert_identical(xr.open_zarr(kachery.zarr_store(uri)).load(), uneven.load())


def tree():
    below = xr.Dataset({"b": ("z", np.arange(3))}, attrs={"u": 1})
    return xr.DataTree.from_dict(
        {"/": dataset(), "/g": dataset()[["v"]], "/g/h": below, "/e": None}
    )


@pytest.mark.parametrize("codecs", ["auto", None, [BLOSC], BLOSC])
def test_codecs_of_all_nodes_of_a_tree(codecs):
    uri = kachery.store_zarr(tree(), codecs=codecs)
    used = {path: table.codecs for path, table in tables(uri).items()}
    assert {"v", "name", "time", "g/v", "g/h/b"} <= used.keys()
    for one in used.values():
        assert ("blosc" in one, "zstd" in one) == {"auto": (False, True), None: (False, False)}.get(
            codecs if isinstance(codecs, str | None) else 0, (True, "zstd" in one)
        )
    found = xr.open_datatree(kachery.zarr_store(uri), engine="zarr").load()
    xr.testing.assert_identical(found, tree())


def test_a_part_of_a_tree_has_the_coordinates_of_those_above():
    uri = kachery.store_zarr(tree()["g"])
    found = xr.open_datatree(kachery.zarr_store(uri), engine="zarr")
    assert np.array_equal(found["time"], TIME) and found["h"]["b"].shape == (3,)


@pytest.mark.filterwarnings("ignore:Numcodecs codecs")
def test_codecs_that_do_not_fit_are_refused():
    from zarr.codecs import numcodecs

    lossy = numcodecs.FixedScaleOffset(scale=1, offset=0, dtype="f8")
    for codecs in ([lossy], [zarr.codecs.TransposeCodec(order=(1, 0))], ["zstd"]):
        with pytest.raises(kachery.Unsupported, match="codec"):
            kachery.store_zarr(dataset(), codecs=codecs)
    with pytest.raises(kachery.Unsupported, match="chunks="):
        kachery.store_zarr(tree(), chunks=5)


def test_what_xarray_cannot_write_leaves_nothing():
    pd = pytest.importorskip("pandas")
    both = pd.MultiIndex.from_product([[1, 2], ["a", "b"]], names=["p", "q"])
    index = xr.Coordinates.from_pandas_multiindex(both, "x")
    with pytest.raises(kachery.Unsupported, match="MultiIndex"):
        kachery.store_zarr(xr.Dataset({"o": ("x", np.arange(4))}, coords=index))
    kachery.store_zarr(dataset())
    assert not list(Path(current().root, "sessions").glob("*"))
