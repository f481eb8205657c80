"""What kachery adds to Dask: the same functions with and without it, side by side in one run.

    python benchmarks/cluster.py                 # 2,000 jobs in one map; a few minutes on two cores
    python benchmarks/cluster.py --jobs 10000    # five times as many
    python benchmarks/cluster.py --hits 100000   # how fast as_completed hands on what is known
    python benchmarks/cluster.py --table 100000  # the table of scaling goes on to so many jobs
    python benchmarks/cluster.py --quick         # under a minute, and rougher
    python benchmarks/cluster.py --figure scaling.png

One LocalCluster with two worker processes of one thread each, on the machine where this runs: client,
scheduler and workers share its cores. The jobs do next to nothing, so that only what is around them is
measured, with one exception: the chain hands arrays of 200 MB from task to task. Each round is plain
Dask first and kachery second, or the other way around, in turn; the tables have medians. Nothing is
asserted about time.
"""

from __future__ import annotations

import argparse
import gc
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
from distributed import Client, LocalCluster

import kachery

LARGE = 25_000_000  # float64: 200 MB


def plain(i):
    return i + 1


@kachery.task(version="1")
def kept(i):
    return i + 1


def make(seed):
    return np.arange(LARGE, dtype=np.float64) + seed


def shift(x):
    return x + 1.0


def add(x):
    return x * 0.5


kept_make = kachery.task(version="1")(make)
kept_shift = kachery.task(version="1")(shift)
kept_add = kachery.task(version="1")(add)
kept_sum = kachery.task(version="1", name="kept_sum")(np_sum := lambda x: float(x[::1000].sum()))


def timed(function: Callable[[], object]) -> float:
    gc.collect()
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


class Numbers:
    """Arguments that were never seen before."""

    def __init__(self) -> None:
        self.next = 0

    def take(self, n: int) -> range:
        self.next += n
        return range(self.next - n, self.next)


def map_plain(client: Client, numbers: range) -> None:
    values = client.gather(client.map(plain, numbers, pure=False))
    assert values == [i + 1 for i in numbers]


def map_kept(numbers: range) -> None:
    values = kachery.gather(kept.map(numbers, progress=False), progress=False)
    assert values == [i + 1 for i in numbers]


def alternately(rounds: int, *functions: Callable[[], object]) -> list[float]:
    """The median seconds of each."""
    took: list[list[float]] = [[] for _ in functions]
    for turn in range(rounds):
        order = list(enumerate(functions))
        for which, function in order[:: -1 if turn % 2 else 1]:
            took[which].append(timed(function))
    return [statistics.median(one) for one in took]


def throughput(client: Client, numbers: Numbers, jobs: int, rounds: int) -> list[str]:
    known = numbers.take(jobs)
    map_kept(known)
    dask, miss, hit = alternately(
        rounds,
        lambda: map_plain(client, numbers.take(jobs)),
        lambda: map_kept(numbers.take(jobs)),
        lambda: map_kept(known),
    )
    return [
        f"| plain Dask, `client.map` and `gather` | {jobs / dask:,.0f} /s | |",
        f"| kachery, all misses | {jobs / miss:,.0f} /s | {dask / miss:.0%} of plain Dask |",
        f"| kachery, all hits | {jobs / hit:,.0f} /s | {dask / hit:.1f} times plain Dask |",
    ]


def scheduler_memory(client: Client, numbers: Numbers, jobs: int) -> list[str]:
    """Bytes that the scheduler holds for jobs that wait, by what a process of its own grows."""
    import subprocess
    import sys

    sizes = []
    for which in ("plain", "kept"):
        code = _MEMORY.format(which=which, jobs=jobs, path=os.path.abspath(__file__))
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True, timeout=300
        )
        sizes.append(int(done.stdout.split()[-1]))
    return [
        f"| memory of the scheduler per waiting job | {sizes[1] / jobs:,.0f} bytes | {sizes[1] / sizes[0]:.2f} times plain Dask ({sizes[0] / jobs:,.0f}) |"
    ]


_MEMORY = """
import os, subprocess, sys, time
sys.path.insert(0, os.path.dirname({path!r}))
import cluster as bench  # by a name that the scheduler can import, too
import kachery
from distributed import Client

def resident(dask_scheduler=None):
    import gc
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096, len(dask_scheduler.tasks)

with open(os.devnull, "w") as null:
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--host", "127.0.0.1",
         "--no-dashboard", "--scheduler-file", f"/tmp/kachery-bench-{{os.getpid()}}.json"],
        stdout=null, stderr=null, env={{**os.environ, "PYTHONPATH": os.path.dirname({path!r})}})
    try:
        client = Client(scheduler_file=f"/tmp/kachery-bench-{{os.getpid()}}.json", timeout=60)
        def send(numbers):
            if "{which}" == "plain":
                return client.map(bench.plain, numbers, pure=False)
            return bench.kept.map(numbers, progress=False)
        warm = send(range(-500, 0))
        while client.run_on_scheduler(resident)[1] < 500:
            time.sleep(0.01)
        before, _ = client.run_on_scheduler(resident)
        jobs = send(range({jobs}))
        while client.run_on_scheduler(resident)[1] < {jobs} + 500:
            time.sleep(0.01)
        time.sleep(1)
        after, _ = client.run_on_scheduler(resident)
        print(after - before)
    finally:
        scheduler.kill()
"""


def chains(client: Client, numbers: Numbers, rounds: int) -> list[str]:
    def dask() -> None:
        made = [client.submit(make, seed, pure=False) for seed in numbers.take(2)]
        ends = client.map(add, client.map(shift, made, pure=False), pure=False)
        client.gather(client.map(np_sum, ends, pure=False))

    def kachery_chain() -> None:
        ends = [kept_add.job(kept_shift.job(kept_make.job(seed))) for seed in numbers.take(2)]
        kachery.gather([kept_sum.job(end) for end in ends], progress=False)

    plain_seconds, seconds = alternately(rounds, dask, kachery_chain)
    return [
        f"| 2 chains of three tasks over 200 MB, plain Dask | {plain_seconds:.2f} s | |",
        f"| the same with kachery, all stored | {seconds:.2f} s | {seconds / plain_seconds:.2f} times plain Dask |",
    ]


def hits_as_completed(numbers: Numbers, hits: int) -> list[str]:
    some = numbers.take(min(hits, 2000))
    map_kept(some)

    def ask() -> None:
        asked = (kept.job(some[i % len(some)]) for i in range(hits))
        assert sum(1 for _ in kachery.as_completed(asked)) == hits

    return [f"| `as_completed` of {hits:,} known jobs | {hits / timed(ask):,.0f} /s | |"]


def scaling(client: Client, numbers: Numbers, most: int) -> list[tuple[int, float, float, float]]:
    rows = []
    n = 1
    while n <= most:
        rounds = max(1, min(20, 1000 // n))
        known = numbers.take(n)
        map_kept(known)
        seconds = alternately(
            rounds,
            lambda n=n: map_plain(client, numbers.take(n)),
            lambda n=n: map_kept(numbers.take(n)),
            lambda known=known: map_kept(known),
        )
        rows.append((n, *(1e3 * one / n for one in seconds)))
        n *= 10
    return rows


def draw(rows: list[tuple[int, float, float, float]], path: str) -> None:
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        print("no figure: matplotlib is not installed")
        return
    counts, *columns = zip(*rows, strict=True)
    figure, axes = pyplot.subplots(figsize=(6, 4))
    for name, column in zip(("plain Dask", "kachery, miss", "kachery, hit"), columns, strict=True):
        axes.loglog(counts, column, marker="o", label=name)
    axes.set_xlabel("jobs in one map")
    axes.set_ylabel("milliseconds per job")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--hits", type=int, default=20_000)
    parser.add_argument("--table", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "--only", nargs="*", default=["map", "memory", "chain", "completed", "table"]
    )
    parser.add_argument("--dir", default=None)
    parser.add_argument("--figure", default=None)
    options = parser.parse_args()
    if options.quick:
        options.jobs, options.hits, options.table, options.rounds = 500, 5000, 100, 1
    numbers = Numbers()
    lines, rows = [], []
    with (
        tempfile.TemporaryDirectory(dir=options.dir) as folder,
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        kachery.configure(dir=folder)
        map_plain(client, numbers.take(200))
        map_kept(numbers.take(200))
        if "map" in options.only:
            lines += throughput(client, numbers, options.jobs, options.rounds)
        if "completed" in options.only:
            lines += hits_as_completed(numbers, options.hits)
        if "chain" in options.only:
            lines += chains(client, numbers, options.rounds)
        if "memory" in options.only:
            lines += scheduler_memory(client, numbers, options.jobs)
        if "table" in options.only:
            rows = scaling(client, numbers, options.table)
    print(
        f"kachery {kachery.__version__}, distributed {version('distributed')}, Python"
        f" {platform.python_version()}, {os.cpu_count()} cores; {options.jobs:,} jobs in one map\n"
    )
    print("|  | rate or time | beside plain Dask |\n|---|---|---|")
    print("\n".join(lines))
    if rows:
        print(
            "\n| jobs in one map | plain Dask, ms per job | kachery, miss | kachery, hit |\n|---|---|---|---|"
        )
        for n, *columns in rows:
            print(f"| {n:,} | " + " | ".join(f"{one:.3g}" for one in columns) + " |")
    if options.figure and rows:
        draw(rows, options.figure)


if __name__ == "__main__":
    main()
