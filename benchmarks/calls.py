"""What a call costs: kachery beside joblib.Memory and diskcache, in one run.

    make bench                                  # installs the peers and runs this
    python benchmarks/calls.py                  # well under a minute on two cores
    python benchmarks/calls.py --quick          # a few seconds, and rougher
    python benchmarks/calls.py --dir /fast/ssd  # where the fresh temporary folders go

Three kinds of call of a function that does next to nothing, so that only the library is measured:

- small hit: two numbers in, one number out, stored before. Many known calls in turn.
- small miss: arguments never seen before; with everything the library does to keep the result.
- large hit: an array of 100 MB in, one number out, stored before.

Each library has its defaults and an empty folder of its own. They take turns in short batches, and
who begins changes with every round, so that a busy moment of the machine meets them all; the table
has the medians over the batches. The first batch of each (imports, fingerprints, opening a database)
does not count. Files come from the memory of the operating system, not from a cold disk. Nothing is
asserted about time; that each hit was a hit and each miss a miss is checked.

On ext4 without a journal (some virtual machines) every file that was deleted in the last minutes
slows new files down, for everyone. Rest between runs there, or use --dir /dev/shm.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import diskcache
import joblib
import numpy as np

import kachery
from kachery_store import flusher

KNOWN_CALLS = 100  # different small calls that are stored, then asked for in turn
LARGE_ITEMS = 12_500_000  # 100 MB of float64

CHECKS = """\
|  | kachery | joblib.Memory | diskcache `memoize` |
|---|---|---|---|
| an argument is known by | type and content: BLAKE3 of its encoding, large ones with several \
threads | MD5 of its pickle | the pickle itself, which is the key in the database: nothing is \
hashed, so every array that was ever an argument is stored there whole, and compared whole |
| `f(1, 2.0)` and `f(1, y=2.0)` | one call | one call | two calls |
| the code | of the function and of all that it reaches in the project; at every call it is checked \
that none of it has changed | the function's own source, compared at its first call in a process, \
then its code object; not what it calls | not looked at, only the function's name |
| a hit checks | the digest of the record, and that it is this job's; blobs once per process | \
nothing, it unpickles the file | nothing, it reads or unpickles the row |
| a miss keeps | the result; and who, when, how long, which code, which arguments | the result; and \
when, how long, which arguments | the result; and when |
| equal calls at the same time | run once, in threads and processes | each runs | each runs |
| power loss after a miss | synchronized in the background, *which is not in these figures* (see \
below); until then it can cost a recomputation | never synchronized | synchronized at the \
checkpoints of the database, which are in these figures |
| beyond 1 GB | keeps everything | keeps everything | forgets the oldest |"""


def small(x: int, y: float) -> float:
    return x * y


def large(array: np.ndarray[Any, Any]) -> float:
    return float(array[0])


class Peer(NamedTuple):
    """One library. `entries` counts the results that it holds; `settle` does what it has put off."""

    name: str
    small: Callable[[int, float], float]
    large: Callable[[Any], float]
    entries: Callable[[], int]
    settle: Callable[[], None] = lambda: None


@contextmanager
def all_peers(folder: Path) -> Iterator[list[Peer]]:
    """The libraries, with their defaults."""
    os.environ["KACHERY_DIR"] = str(folder / "kachery")
    memory = joblib.Memory(folder / "joblib", verbose=0)
    # In one database with keys of 100 MB, diskcache's small calls would become slower.
    with diskcache.Cache(folder / "d1") as cache, diskcache.Cache(folder / "d2") as large_cache:
        yield [
            Peer(
                "kachery",
                kachery.task(small),
                kachery.task(large),
                lambda: _count(folder / "kachery" / "jobs", "??/*"),
                flusher.sync_pending,
            ),
            Peer(
                "joblib",
                memory.cache(small),
                memory.cache(large),
                lambda: _count(folder / "joblib", "**/output.pkl"),
            ),
            Peer(
                "diskcache",
                cache.memoize()(small),
                large_cache.memoize()(large),
                lambda: len(cache) + len(large_cache),
            ),
        ]


def _count(folder: Path, pattern: str) -> int:
    return sum(1 for _ in folder.glob(pattern))


class Measured(NamedTuple):
    """Seconds per call: medians by peer, the number of batches, and kachery's put off work."""

    medians: dict[str, float]
    batches: int
    put_off: float


def measure(
    peers: list[Peer], rounds: int, calls: int, batch: Callable[[Peer, int], None]
) -> Measured:
    """Run `batch(peer, round)`, which makes `calls` calls, for the peers in turn, round by round."""
    times: dict[str, list[float]] = {peer.name: [] for peer in peers}
    settling: list[float] = []
    for turn in range(rounds + 1):
        first = turn % len(peers)
        for peer in peers[first:] + peers[:first]:
            start = time.perf_counter()
            batch(peer, turn)
            end = time.perf_counter()
            peer.settle()  # so that work in the background does not fall into another's batch
            if turn > 0:
                times[peer.name].append((end - start) / calls)
                if peer.name == "kachery":
                    settling.append((time.perf_counter() - end) / calls)
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    return Measured(medians, rounds, statistics.median(settling))


def run(peers: list[Peer], *, quick: bool) -> dict[str, Measured]:
    """All measurements, by the name of their row."""
    rounds = 9 if quick else 45
    passes = 2 if quick else 5  # over all known calls, in one batch of hits
    misses = 20 if quick else 50  # in one batch of misses
    array = np.random.default_rng(0).random(LARGE_ITEMS)
    known = [(x, 1.5) for x in range(KNOWN_CALLS)]

    def hits(peer: Peer, _turn: int) -> None:
        function = peer.small
        for _ in range(passes):
            for x, y in known:
                function(x, y)

    def new(peer: Peer, turn: int) -> None:
        function = peer.small
        start = KNOWN_CALLS + turn * misses
        for x in range(start, start + misses):
            function(x, 1.5)

    def hit_large(peer: Peer, _turn: int) -> None:
        peer.large(array)

    for peer in peers:
        for x, y in known:
            peer.small(x, y)
        peer.large(array)
        peer.settle()
    _expect(peers, KNOWN_CALLS + 1)
    large_hit = measure(peers, 3 if quick else 15, 1, hit_large)
    small_hit = measure(peers, rounds, passes * KNOWN_CALLS, hits)
    _expect(peers, KNOWN_CALLS + 1)
    small_miss = measure(peers, rounds, misses, new)
    _expect(peers, KNOWN_CALLS + 1 + (rounds + 1) * misses)
    return {"small hit": small_hit, "small miss": small_miss, "large hit": large_hit}


def _expect(peers: list[Peer], entries: int) -> None:
    for peer in peers:
        found = peer.entries()
        if found != entries:
            sys.exit(f"{peer.name} holds {found} results and not {entries}: nothing to compare")


ROWS = {
    "small hit": ("`f(x: int, y: float) -> float`", "no slower than diskcache"),
    "small miss": ("`f(x: int, y: float) -> float`", "at most half of joblib's time"),
    "large hit": ("a 100 MB array in, a float out", "joblib takes five times as long, or longer"),
}


def report(measured: dict[str, Measured], folder: Path) -> None:
    """The table, and what each library does for its time."""
    print("| median time of a call | kachery | joblib | diskcache | aim of kachery |")
    print("|---|---:|---:|---:|---|")
    for row, (call, aim) in ROWS.items():
        medians = measured[row].medians
        cells = [f"{_time(s)} ({_ratio(s / medians['kachery'])})" for s in medians.values()]
        print(f"| {row}: {call} | {' | '.join(cells)} | {aim} |")
    print("\nIn brackets: how many times kachery's.")
    print(f"Medians of {', '.join(f'{m.batches} batches ({row})' for row, m in measured.items())}.")
    print(f"\nWhat each does for its time, with its defaults:\n\n{CHECKS}\n")
    put_off = _time(measured["small miss"].put_off)
    print(f"What kachery puts off to its background thread took {put_off} per small miss here.")
    print(f"Folders under {folder}, {os.cpu_count()} CPUs, {platform.platform()};")
    packages = ("joblib", "diskcache", "blake3", "msgpack", "numpy")
    print(f"Python {platform.python_version()}, kachery {kachery.__version__}, ", end="")
    print(", ".join(f"{package} {version(package)}" for package in packages) + ".")


def _time(seconds: float) -> str:
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1:
            break
    return f"{seconds * factor:.3g} {unit}"


def _ratio(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and smaller batches")
    parser.add_argument("--dir", help="where the temporary folders go (default: as tempfile does)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kachery-bench-", dir=options.dir) as name:
        folder = Path(name)
        with all_peers(folder) as peers:
            measured = run(peers, quick=options.quick)
    report(measured, folder.parent)


if __name__ == "__main__":
    main()
