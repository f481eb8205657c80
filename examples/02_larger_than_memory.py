"""Arrays that no memory holds: made, kept, and handed on in chunks.

    python examples/02_larger_than_memory.py
    python examples/02_larger_than_memory.py 6      # gigabytes

Run it twice: the second time nothing is computed. The data is made on the spot.
"""

import resource
import sys
import time

import dask.array as da
import numpy as np
from distributed import Client, LocalCluster
from own_store import own_store

import kachery


@kachery.task
def recording(gigabytes, seed):
    """A recording of 64 channels: noise with a slow wave. A lazy array; workers store its chunks."""
    rows = int(gigabytes * 1e9) // (64 * 4)
    noise = da.random.default_rng(seed).normal(size=(rows, 64), chunks=(100_000, 64))
    wave = da.sin(da.arange(rows, chunks=100_000) / 5_000)[:, None]
    return (noise + 3 * wave).astype("f4")


@kachery.task
def power(array):
    """The power of each channel. The argument costs nothing: its address is known."""
    return np.asarray((array.astype("f8") ** 2).mean(axis=0).compute())


def main():
    """Make a recording, and look at it."""
    own_store("larger_than_memory", empty=False)
    gigabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 0.5
    options = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": "1GB"}
    with LocalCluster(**options, dashboard_address="127.0.0.1:0") as cluster, Client(cluster):
        start = time.perf_counter()
        array = recording(gigabytes, seed=1)
        print(f"{array.nbytes / 1e9:.1f} GB in {array.npartitions} chunks")
        first, *_ = power(array)
        print(f"power of the first channel: {first:.4f}")
        assert abs(first - 5.5) < 0.1, "1 of the noise and 9 / 2 of the wave"
        uri = kachery.store_zarr(array)
        print(f"{uri} after {time.perf_counter() - start:.1f} s")
        opened = kachery.open_zarr(uri)  # with zarr, on any machine that has the store or the zone
        print(f"rows 1,000 to 1,003 of channel 7: {opened[1000:1003, 7]}")
    print(kachery.stats())
    print(f"this process used {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")


if __name__ == "__main__":
    main()
