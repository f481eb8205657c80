"""What it costs to keep arrays in chunks by content, beside plain zarr and icechunk, in one run.

    python benchmarks/zarr_arrays.py            # some minutes; needs 8 GB of disk in --folder
    python benchmarks/zarr_arrays.py --quick    # a tenth of the data

An array of 1 GB (float32, smooth with noise, chunks of 8 MB, zstd as zarr has it by default) is written
and read by each by turns; the table has medians, and how many times kachery's they are. kachery reads
everything verified; the read is that of a process that has verified nothing yet. `and on disk` also
synchronizes, which kachery.store_zarr always does. Then ten versions of the array with 1 % of the
chunks changed: bytes on the disk.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import zarr

import kachery

ROUNDS = 5

os.environ.setdefault("ICECHUNK_LOG", "error")


def data(megabytes: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    rows = megabytes * 1_000_000 // 4 // 2000
    t = np.linspace(0, 100, rows, dtype="f4")[:, None]
    values = np.sin(t * np.linspace(0.5, 2, 2000, dtype="f4")) * 1000
    return np.round(values + rng.normal(size=(rows, 2000)).astype("f4") * 20).astype("f4")


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def write_zarr(folder: Path, array: np.ndarray, chunks: tuple[int, int]) -> None:
    z = zarr.create_array(
        str(folder / "a.zarr"), shape=array.shape, chunks=chunks, dtype=array.dtype
    )
    z[...] = array


def write_kachery(folder: Path, array: np.ndarray, chunks: tuple[int, int]) -> None:
    with kachery.using(dir=folder):
        (folder / "uri").write_text(kachery.store_zarr(array, chunks=chunks))


def write_icechunk(folder: Path, array: np.ndarray, chunks: tuple[int, int]) -> None:
    import icechunk

    storage = icechunk.local_filesystem_storage(str(folder / "repo"))
    repo = icechunk.Repository.open_or_create(storage)
    session = repo.writable_session("main")
    z = zarr.create_array(
        session.store, name="a", shape=array.shape, chunks=chunks, dtype=array.dtype, overwrite=True
    )
    z[...] = array
    session.commit("written")


def change_icechunk(folder: Path, array: np.ndarray, rows: list[int]) -> None:
    """It keeps versions, so only what changed is written."""
    import icechunk

    repo = icechunk.Repository.open(icechunk.local_filesystem_storage(str(folder / "repo")))
    session = repo.writable_session("main")
    z = zarr.open(session.store, mode="r+")["a"]
    for row in rows:
        z[row : row + z.chunks[0]] = array[row : row + z.chunks[0]]
    session.commit("changed")


# Each read is in a process of its own; what it takes is measured there, without imports.
READS = {
    "plain zarr": "z = zarr.open(folder + '/a.zarr', mode='r')",
    "kachery": "kachery.configure(dir=folder); z = kachery.open_zarr(open(folder + '/uri').read())",
    "icechunk": "repo = icechunk.Repository.open(icechunk.local_filesystem_storage(folder + '/repo'));"
    "z = zarr.open(repo.readonly_session('main').store, mode='r')['a']",
}
READ = """
import sys, time, zarr, numpy, numcodecs.zstd, {library}
folder = sys.argv[1]
zarr.zeros((1,))[:]
start = time.perf_counter()
{opening}
found = z[...]
print(time.perf_counter() - start, float(found[-1, -1]))
"""


def read(name: str, folder: Path) -> float:
    library = {"plain zarr": "zarr", "kachery": "kachery, kachery_store.zarr.reading"}.get(
        name, name
    )
    code = READ.format(library=library, opening=READS[name])
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True
    )
    return float(done.stdout.splitlines()[-1].split()[0])


WRITES = {"plain zarr": write_zarr, "kachery": write_kachery, "icechunk": write_icechunk}


def table(title: str, times: dict[str, list[float]], gigabytes: float) -> None:
    print(f"\n{title}")
    ours = statistics.median(times["kachery"])
    for name, found in times.items():
        median = statistics.median(found)
        print(
            f"  {name:24} {median:7.2f} s  {gigabytes / median:6.2f} GB/s  {median / ours:5.2f} x kachery"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", default=tempfile.gettempdir())
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    folder = Path(options.folder, f"kachery-zarr-{os.getpid()}")
    array = data(100 if options.quick else 1000)
    chunks = (1000, 2000)
    names = [name for name in WRITES if name != "icechunk" or has_icechunk()]
    versions = [
        f"{one} {version(one)}"
        for one in ("zarr", "numpy", "icechunk")
        if one != "icechunk" or has_icechunk()
    ]
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {', '.join(versions)}; {array.nbytes / 1e9:.2f} GB"
    )
    try:
        measure(folder, array, chunks, names)
        versions_stored(folder, array, chunks, names)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(folder: Path, array: np.ndarray, chunks: tuple[int, int], names: list[str]) -> None:
    writes: dict[str, list[float]] = {name: [] for name in names}
    durable: dict[str, list[float]] = {name: [] for name in names}
    reads: dict[str, list[float]] = {name: [] for name in names}
    for number in range(ROUNDS):
        for name in names if number % 2 else reversed(names):
            place = emptied(folder / name.replace(" ", ""))
            os.sync()
            took = timed(partial(WRITES[name], place, array, chunks))
            synced = took + timed(os.sync)
            writes[name].append(took)
            durable[name].append(synced)
            reads[name].append(read(name, place))
    gigabytes = array.nbytes / 1e9
    table("write (kachery: it is on the disk)", writes, gigabytes)
    table("write, and on disk", durable, gigabytes)
    table("read, kachery's verified", reads, gigabytes)
    for name in names:
        print(f"  {name:24} {size_of(folder / name.replace(' ', '')) / 1e6:9.1f} MB stored")


def versions_stored(
    folder: Path, array: np.ndarray, chunks: tuple[int, int], names: list[str]
) -> None:
    print("\nten versions, 1 % of the chunks changed each time")
    rng = np.random.default_rng(1)
    places = {name: emptied(folder / name.replace(" ", "")) for name in names}
    rows = -(-array.shape[0] // chunks[0])
    changed: list[int] = []
    for number in range(10):
        for name, place in places.items():
            if name == "icechunk" and number:
                change_icechunk(place, array, changed)
                continue
            inside = place / str(number) if name == "plain zarr" else place
            inside.mkdir(exist_ok=True)
            WRITES[name](inside, array, chunks)
        chosen = rng.choice(rows, max(1, rows // 100), replace=False)
        changed = [int(row) * chunks[0] for row in chosen]
        for row in changed:
            array[row] += 1
    for name, place in places.items():
        print(f"  {name:24} {size_of(place) / 1e6:9.1f} MB")


def has_icechunk() -> bool:
    try:
        import icechunk  # noqa: F401
    except ImportError:
        return False
    return True


if __name__ == "__main__":
    main()
