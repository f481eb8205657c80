"""What is handed to store_zarr: chunks that are none, texts that are none."""

import numpy as np
import pytest

import kachery

pytest.importorskip("zarr")
da = pytest.importorskip("dask.array")


@pytest.mark.parametrize(
    "chunks", [0, -3, 2.5, "auto", (2, 2), (0,), ((2, 8),), {0: 2}, (2.5,), ()]
)
@pytest.mark.parametrize("lazy", [False, True])
def test_chunks_that_are_none_are_refused(chunks, lazy):
    array = da.arange(10, chunks=5) if lazy else np.arange(10)
    with pytest.raises(ValueError, match="one length for all axes, or one per axis"):
        kachery.store_zarr(array, chunks=chunks)


@pytest.mark.parametrize(
    ("chunks", "found"),
    [
        (3, (3, 3)),
        (np.int64(3), (3, 3)),
        (100, (10, 4)),
        (-1, (10, 4)),
        ((None, 2), (10, 2)),
        ([5, -1], (5, 4)),
    ],
)
def test_chunks_that_are_some(chunks, found):
    uri = kachery.store_zarr(np.zeros((10, 4)), chunks=chunks)
    assert kachery.open_zarr(uri).chunks == found


def test_half_a_character():
    for text in ("\ud800", "a\udfffb"):
        with pytest.raises(kachery.Unsupported, match="half of a character"):
            kachery.store_zarr(np.array([text, "whole"], object))


@pytest.mark.parametrize("function", [kachery.store_zarr, kachery.persist])
def test_what_dask_has_beside_arrays(function):
    dask = pytest.importorskip("dask")
    for value in (dask.delayed(3), dask.delayed([1, 2])):
        with pytest.raises(TypeError, match=r"not dask\.delayed\.Delayed"):
            function(value)
