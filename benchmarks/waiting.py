"""What waiting for a job costs that somebody else computes, and how soon it ends.

    python benchmarks/waiting.py                # within one store, and through a folder as zone
    python benchmarks/waiting.py --s3           # also through a bucket (a real server on this machine)
    python benchmarks/waiting.py --rounds 20 --seconds 3

One process computes a job that takes some seconds; another one asks for it meanwhile, and waits. The table
has how long after the end of the first one's call the second one had the result (below zero: before
the first one's call had returned), and the processor time that waiting took.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = """
import json, sys, time
import kachery

@kachery.task(version="1", ignore=("seconds",))
def slow(x: int, seconds: float) -> int:
    print("started", flush=True)
    time.sleep(seconds)
    return x

slow.job(-1, 0).cached      # what is done once is done before
for line in sys.stdin:
    x, seconds = json.loads(line)
    used = time.process_time()
    slow(x, seconds)
    print(json.dumps([time.monotonic(), time.process_time() - used]), flush=True)
"""


def process(folder: Path, name: str, zone: str | None) -> subprocess.Popen[str]:
    env = {**os.environ, "KACHERY_DIR": str(folder / name)}
    if zone is not None:
        config = folder / "kachery.toml"
        config.write_text(f"[zones.bench]\n{zone}\n")
        env |= {"KACHERY_CONFIG": str(config), "KACHERY_ZONE": "bench"}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def tell(one: subprocess.Popen[str], x: int, seconds: float) -> None:
    assert one.stdin is not None
    one.stdin.write(json.dumps([x, seconds]) + "\n")
    one.stdin.flush()


def heard(one: subprocess.Popen[str]) -> str:
    assert one.stdout is not None
    return one.stdout.readline()


def measure(
    rounds: int, seconds: float, zone: str | None, folder: Path
) -> tuple[list[float], list[float]]:
    names = ("one", "one") if zone is None else ("one", "two")
    holder, waiter = (process(folder, name, zone) for name in names)
    late, used = [], []
    for x in range(rounds + 1):
        tell(holder, x, seconds)
        assert heard(holder) == "started\n"
        tell(waiter, x, seconds)
        ended, _ = json.loads(heard(holder))
        got, processor = json.loads(heard(waiter))
        if x > 0:  # the first one opens connections
            late.append((got - ended) * 1e3)
            used.append(processor * 1e3)
    for one in (holder, waiter):
        one.communicate()
    return late, used


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long the job takes")
    parser.add_argument("--s3", action="store_true", help="also through a bucket")
    options = parser.parse_args()
    print(
        f"| {options.rounds} jobs of {options.seconds:g} s | median | worst | processor per wait |"
    )
    print("|---|---:|---:|---:|")

    def row(name: str, zone: str | None, folder: str) -> None:
        late, used = measure(options.rounds, options.seconds, zone, Path(folder))
        figures = f"{statistics.median(late):.1f} ms | {max(late):.1f} ms | {statistics.median(used):.1f} ms"
        print(f"| {name} | {figures} |", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        row("one store", None, folder)
    with tempfile.TemporaryDirectory() as folder:
        row("two stores, a folder as zone", f'url = "{folder}/zone"', folder)
    if options.s3:
        sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
        import s3server

        with s3server.running() as server, tempfile.TemporaryDirectory() as folder:
            server.make_bucket("lab")
            os.environ |= server.environment()
            toml = f'url = "s3://lab/bench"\nendpoint_url = "{server.endpoint}"'
            row("two stores, a bucket as zone", toml, folder)


if __name__ == "__main__":
    main()
