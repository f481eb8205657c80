"""A program of its own, in a fresh process: what a first call there costs, and what it finds.

    python -m peers_run.fresh LIBRARY FOLDER call                  one small call that is known
    python -m peers_run.fresh LIBRARY FOLDER argument DATA CASE    a call with a large argument
    python -m peers_run.fresh LIBRARY FOLDER make SEED ITEMS       a miss with a large result
    python -m peers_run.fresh LIBRARY FOLDER result SEED ITEMS     a hit of it, twice
    python -m peers_run.fresh LIBRARY FOLDER contend X RUNS        waits for a line, and calls

It prints JSON, except for `call`, which has nothing to spare.
"""

from __future__ import annotations

import sys

from peers_run import functions
from peers_run.adapters import Adapter, adapter


def _argument(peer: Adapter, data: str, name: str) -> None:
    from peers_run.values import case_of

    case = case_of(data, *name.split(":"), read_again=True)
    _say({"value": peer.memoize(case.function)(case.value)})


def _make(peer: Adapter, seed: str, items: str) -> None:
    import time

    peer.memoize(functions.small)(1, 2.0)
    make = peer.memoize(functions.make)
    make(0, 1)  # what is imported and opened for a first result is not in the time
    peer.settle()
    began = time.perf_counter()
    made = make(int(seed), int(items))
    seconds = time.perf_counter() - began
    del made
    peer.settle()
    _say({"seconds": seconds})


def _result(peer: Adapter, seed: str, items: str) -> None:
    import time

    import numpy  # noqa: F401 - so that its import is not in the time below

    peer.memoize(functions.small)(1, 2.0)
    make = peer.memoize(functions.make)
    times, sums = [], []
    for _ in range(2):
        began = time.perf_counter()
        made = make(int(seed), int(items))
        sums.append(float(made.sum()))
        times.append(time.perf_counter() - began)
        del made
    _say({"times": times, "sums": sums})


def _contend(peer: Adapter, x: str, runs: str) -> None:
    slow = peer.memoize(functions.slow)
    _say({"ready": True})
    sys.stdin.readline()
    _say({"value": slow(int(x), runs)})


def _say(answer: dict[str, object]) -> None:
    import json

    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Do what the command line says."""
    name, folder, what, *rest = sys.argv[1:]
    peer = adapter(name, folder)
    if what == "call":
        if peer.memoize(functions.small)(1, 2.0) != 2.0:
            sys.exit("a wrong result")
        return
    ways = {"argument": _argument, "make": _make, "result": _result, "contend": _contend}
    ways[what](peer, *rest)


if __name__ == "__main__":
    main()
