"""How the cost of kachery grows: with sizes, with numbers, and with the latency of a zone, in one run.

    python benchmarks/growth.py                   # all of it; some minutes on two cores
    python benchmarks/growth.py --quick           # small sizes; about a minute
    python benchmarks/growth.py --only zone       # argument, result, stored, map, workers, zone
    python benchmarks/growth.py --into docs/performance.md

Medians of calls in one process; nothing is compared with other libraries, for that see peers.py. The
zone is a real S3 server on this machine, behind a relay that keeps everything back for a while. Up to
4 GB of memory and 6 GB of disk are used.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from cluster import Numbers, alternately, scaling
from distributed import Client, LocalCluster
from peers_run.report import put_into
from relay import Relay

import kachery
from kachery_store.flusher import sync_pending
from kachery_tasks.settings import current

Call = Callable[[], object]
_own: list[float] = []  # seconds that the function itself took


@kachery.task(version="1")
def length(value):
    return len(value)


@kachery.task(version="1")
def small(x):
    return x + 0.5


@kachery.task(version="1")
def make(seed, size):
    began = time.perf_counter()
    made = np.full(size, seed % 251, np.uint8)
    _own.append(time.perf_counter() - began)
    return made


def nap(i, seconds):
    time.sleep(seconds)
    return i


kept_nap = kachery.task(version="1")(nap)


def timed(call: Call) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def median(calls: Iterable[Call]) -> float:
    """The median seconds of some calls."""
    return statistics.median(timed(call) for call in calls)


def miss_of(seed: int, size: int) -> float:
    """The seconds of one miss, without those of the function."""
    return timed(lambda: make(seed, size)) - _own[-1]


def text(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1:
            break
    return f"{seconds * factor:.3g} {unit}"


def size_of(count: int) -> str:
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 1000)):
        if count >= factor:
            return f"{count // factor} {unit}"
    return f"{count} bytes"


def table(*heads: str) -> list[str]:
    return [f"| {' | '.join(heads)} |", "|" + "---:|" * len(heads)]


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def sizes(*, quick: bool) -> list[int]:
    return [10**power for power in range(3, 7 if quick else 10)]


def rounds_for(size: int) -> int:
    return 3 if size >= 10**8 else 15


def argument(folder: Path, *, quick: bool) -> list[str]:
    """Hits, by the size of their argument."""
    lines = table(
        "size of the argument", "hit, array of bytes", "hit, list of as many bytes in floats"
    )
    with kachery.using(dir=folder / "argument"):
        for size in sizes(quick=quick):
            values = [np.random.default_rng(0).integers(0, 255, size, np.uint8)]
            if size <= 10**7:
                values.append(list(map(float, range(size // 8))))
            cells = []
            for value in values:
                length(value)
                cells.append(text(median([lambda v=value: length(v)] * rounds_for(size))))
            lines.append(row(size_of(size), *cells, *[""] * (2 - len(cells))))
    return lines


def result(folder: Path, *, quick: bool) -> list[str]:
    """Misses and loads, by the size of the result."""
    lines = table("size of the result", "miss", "first load in a process", "later loads")
    root = folder / "result"
    for size in sizes(quick=quick):
        seeds = range(1, 1 + rounds_for(size))
        with kachery.using(dir=root):
            make(0, size)
            misses = [miss_of(seed, size) for seed in seeds]
            sync_pending()
        afresh = folder / f"result as another process sees it, {size}"
        afresh.symlink_to(root)
        with kachery.using(dir=afresh):
            make(0, size)
            first = median(lambda seed=seed, size=size: make(seed, size) for seed in seeds)
            later = median(lambda seed=seed, size=size: make(seed, size) for seed in seeds)
        lines.append(row(size_of(size), text(statistics.median(misses)), text(first), text(later)))
    return lines


def stored(folder: Path, *, quick: bool) -> list[str]:
    """Hits and misses, by the number of results that a store has."""
    lines = table("results in the store", "hit", "miss", "to list their names")
    numbers, some = Numbers(), 200
    with kachery.using(dir=folder / "stored"):
        for count in [10**power for power in range(3, 4 if quick else 6)]:
            for x in numbers.take(count - numbers.next - some):
                small(x)
            miss = median(lambda x=x: small(x) for x in numbers.take(some))
            hit = median(lambda x=x: small(x) for x in range(0, count, count // some))
            names = timed(lambda: list(current().store.jobs.names()))
            lines.append(row(f"{count:,}", text(hit), text(miss), text(names)))
    return lines


def in_map(folder: Path, *, quick: bool) -> list[str]:
    """Jobs on a cluster, by their number."""
    lines = table("jobs in one map", "plain Dask, per job", "kachery, miss", "kachery, hit")
    with kachery.using(dir=folder / "map"), cluster_of(2) as client:
        for count, *columns in scaling(client, Numbers(), 100 if quick else 10_000):
            lines.append(row(f"{count:,}", *(text(one / 1e3) for one in columns)))
    return lines


def workers(folder: Path, *, quick: bool) -> list[str]:
    """Jobs that wait, by the number of workers that share them."""
    jobs, seconds = (20, 0.05) if quick else (200, 0.05)
    lines = table(
        "workers",
        f"{jobs} jobs that sleep {size_text(seconds)}: at best",
        "plain Dask",
        "kachery, miss",
    )
    numbers = Numbers()
    for count in (1, 2) if quick else (1, 2, 4, 8):
        with kachery.using(dir=folder / "workers"), cluster_of(count) as client:
            run_naps(numbers.take(4 * count), 0.0)
            plain, kept = alternately(
                1,
                lambda c=client: c.gather(c.map(nap, range(jobs), seconds=seconds, pure=False)),
                lambda: run_naps(numbers.take(jobs), seconds),
            )
        lines.append(row(str(count), text(jobs * seconds / count), text(plain), text(kept)))
    return lines


def size_text(seconds: float) -> str:
    return f"{seconds * 1e3:g} ms"


def run_naps(numbers: range, seconds: float) -> None:
    kachery.gather(kept_nap.map(numbers, seconds=seconds, progress=False), progress=False)


@contextmanager
def cluster_of(count: int) -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=count, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def zone(folder: Path, *, quick: bool) -> list[str]:
    """Calls with a bucket behind the store, by how long a request takes there."""
    lines = table(
        "added to each round trip",
        "miss",
        "hit, in the zone",
        "the same, 10 MB as result",
        "hit, here",
    )
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
    import s3server

    config = folder / "kachery.toml"
    os.environ |= {"KACHERY_CONFIG": str(config), "KACHERY_USER_DIR": str(folder / "user")}
    with s3server.running() as server:
        server.make_bucket("lab")
        os.environ |= server.environment()
        for milliseconds in (0, 20) if quick else (0, 10, 50, 100):
            with Relay(server.endpoint, milliseconds / 1e3) as relay:
                name = f"after{milliseconds}"
                config.write_text(
                    f'[zones.{name}]\nurl = "s3://lab/{name}"\nendpoint_url = "{relay.endpoint}"\n'
                )
                figures = in_zone(folder, name, 3 if quick else 9)
            lines.append(row(f"{milliseconds} ms", *map(text, figures)))
    return lines


def in_zone(folder: Path, name: str, rounds: int) -> list[float]:
    """The seconds of a miss, of hits on another machine: small, and 10 MB; and of a hit at hand."""
    known, large = range(1, rounds + 1), 10**7
    with kachery.using(dir=folder / f"{name} one", zone=name):
        small(0)
        miss = median(lambda x=x: small(x) for x in known)
        for seed in range(4):
            make(seed, large)
    with kachery.using(dir=folder / f"{name} two", zone=name):
        small(0)
        make(0, large)
        runs = len(_own)
        there = median(lambda x=x: small(x) for x in known)
        blob = median(lambda seed=seed: make(seed, large) for seed in range(1, 4))
        assert len(_own) == runs, "no hit in the zone"
        return [miss, there, blob, median(lambda x=x: small(x) for x in known)]


SECTIONS = {
    "argument": argument,
    "result": result,
    "stored": stored,
    "map": in_map,
    "workers": workers,
    "zone": zone,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--only", nargs="+", default=list(SECTIONS), choices=list(SECTIONS))
    parser.add_argument("--dir", type=Path, help="where the temporary folder goes")
    parser.add_argument("--into", type=Path, help="write the tables there, between their markers")
    options = parser.parse_args()
    parts = []
    with tempfile.TemporaryDirectory(prefix="kachery-growth-", dir=options.dir) as folder:
        for name in options.only:
            parts.append("\n".join(SECTIONS[name](Path(folder), quick=options.quick)))
            print(f"{parts[-1]}\n", flush=True)
        sync_pending()
    parts.append(
        f"Python {platform.python_version()}, {os.cpu_count()} CPUs, {platform.system()}"
        f" {platform.machine()}; kachery {kachery.__version__}."
    )
    print(parts[-1])
    if options.into:
        put_into(options.into, "\n\n".join(parts) + "\n", "growth")


if __name__ == "__main__":
    main()
