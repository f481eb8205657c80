"""What it costs to identify an argument: kachery's encoding beside joblib's hash, in one run.

    make bench                              # installs the peers and runs this, too
    python benchmarks/arguments.py          # about a minute; needs 4 GB of memory
    python benchmarks/arguments.py --quick  # a tenth of the data

Both turn an argument into the digest that their cache looks up, and that is all that is measured:
`kachery_tasks.values.encode` and `joblib.hash` (MD5 of a pickle), and `blake3` alone over the same
memory where it is one piece. They take turns, and who begins changes with every round; the table has
medians.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import blake3
import joblib
import numpy as np
import pandas as pd

from kachery_tasks.values import encode

Call = Callable[[], object]


def large_array(scale: float) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).random(int(125_000_000 * scale))


def mixed_frame(scale: float) -> pd.DataFrame:
    """Ten columns: numbers, flags, texts, a category, dates, numbers with gaps."""
    rows = int(1_000_000 * scale)
    rng = np.random.default_rng(0)
    words = np.array([f"word {number}" for number in range(1000)])
    return pd.DataFrame(
        {
            "a": rng.integers(0, 1000, rows),
            "b": rng.random(rows),
            "c": rng.random(rows).astype("f4"),
            "d": rng.random(rows) < 0.5,
            "e": words[rng.integers(0, 1000, rows)],
            "f": [f"text {number}" for number in rng.integers(0, 1_000_000_000, rows)],
            "g": pd.Categorical.from_codes(rng.integers(0, 5, rows), list("uvwxy")),
            "h": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 10**9, rows), "s"),
            "i": pd.array(rng.integers(0, 9, rows), "Int64"),
            "j": rng.integers(0, 100, rows).astype("i1"),
        }
    )


def nested_dict(scale: float) -> dict[str, Any]:
    """Entries of a few levels, as a parsed JSON file has them."""
    return {
        f"entry {number}": {
            "id": number,
            "score": number / 7,
            "tags": ["a", str(number)],
            "no": None,
        }
        for number in range(int(100_000 * scale))
    }


CASES: dict[str, tuple[Callable[[float], Any], str]] = {
    "1 GB array of float64": (large_array, "joblib at least 8 times, at most 1.5 times blake3"),
    "1,000,000 rows, 10 mixed columns": (mixed_frame, "joblib at least 3 times"),
    "dict of 100,000 nested entries": (nested_dict, "joblib at least 10 times"),
}


def measure(calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """Median seconds of each call; a first round does not count."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for turn in range(rounds + 1):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            calls[name]()
            if turn > 0:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def calls_for(value: Any) -> dict[str, Call]:
    calls: dict[str, Call] = {
        "kachery": lambda: encode(value).address,
        "joblib": lambda: joblib.hash(value),
    }
    if isinstance(value, np.ndarray):
        memory = memoryview(value).cast("B")
        calls["blake3"] = lambda: blake3.blake3(memory, max_threads=blake3.blake3.AUTO).digest()
    return calls


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the data")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    options = parser.parse_args()
    print("| to identify | kachery | joblib | blake3 alone | aim, in kachery's time |")
    print("|---|---:|---:|---:|---|")
    for name, (make, aim) in CASES.items():
        medians = measure(calls_for(make(0.1 if options.quick else 1.0)), options.rounds)
        own = medians["kachery"]
        cells = [
            f"{medians[peer] * 1e3:.0f} ms ({medians[peer] / own:.1f})" if peer in medians else ""
            for peer in ("joblib", "blake3")
        ]
        print(f"| {name} | {own * 1e3:.0f} ms | {' | '.join(cells)} | {aim} |")
    print(f"\nIn brackets: how many times kachery's. Medians of {options.rounds} rounds.")
    packages = ("joblib", "blake3", "msgpack", "numpy", "pandas")
    print(f"{os.cpu_count()} CPUs, {platform.platform()}, Python {platform.python_version()},")
    print(", ".join(f"{package} {version(package)}" for package in packages) + ".")


if __name__ == "__main__":
    main()
