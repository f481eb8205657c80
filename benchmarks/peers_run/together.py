"""Workloads of many results and many callers; classes as in workloads.py."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from . import functions
from .adapters import Adapter, NotOffered
from .context import Context, Figures, TooSlow, Wrong, answer, hits, program

_NO_CLUSTER = ("prefect", "redun")
_SHARE = 0.8  # of the time of a step: what one part of it may take
_SEEN = 0.1  # of that: from there on it is told whether the rest can be done in time
_FIRST, _TRIAL = 100, 100  # jobs on a cluster: for what is imported, and to see how long they take


class Many:
    """Many small results."""

    def __init__(self, context: Context, count: int) -> None:
        self.context, self.count = context, count

    def turn(self, _turn: int) -> Figures:
        """Fill a folder, ask it, and list it."""
        peer = self.context.adapter()
        function = peer.memoize(functions.small)
        fill = self._fill(function)
        peer.settle()
        some = range(0, self.count, max(1, self.count // 500))
        began = time.perf_counter()
        self.context.runs(lambda: [function(x, 0.5) for x in some], 0, "no hit")
        hit = (time.perf_counter() - began) / len(some)
        return {"fill": fill, "hit": hit, "list": self._listed(peer), **_taken(peer.folder)}

    def _listed(self, peer: Adapter) -> float | str:
        """The seconds for the names of all results, again: what was read once is known by then."""
        found = peer.results()
        if found < self.count:
            return f"not offered: {found:,} names"
        began = time.perf_counter()
        peer.results()
        return time.perf_counter() - began

    def _fill(self, function: Callable[..., Any]) -> float:
        """The seconds that all misses took; TooSlow as soon as they cannot be done in time."""
        limit = _SHARE * self.context.seconds
        began = time.perf_counter()
        for x in range(self.count):
            function(x, 0.5)
            took = time.perf_counter() - began
            if took > limit * _SEEN and took / (x + 1) * self.count > limit:
                raise TooSlow(f"{x + 1:,} of {self.count:,} within {took:.0f} s")
        return took


def _taken(folder: str) -> Figures:
    """What a folder takes on its disk."""
    walked = list(os.walk(folder))
    paths = [os.path.join(top, name) for top, _, names in walked for name in names]
    return {
        "bytes": sum(os.lstat(path).st_blocks * 512 for path in paths),
        "files": len(paths),
        "folders": sum(len(names) for _, names, _ in walked),
    }


class Contended:
    """One missing key that several ask for at once."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.peer = context.adapter()
        self.slow = self.peer.memoize(functions.slow)
        self.slow(-1, context.path("none"))

    def turn(self, turn: int) -> Figures:
        """8 threads, then 2 processes."""
        return {
            "threads": self._ran(turn, "threads", self._in_threads),
            "processes": self._ran(turn, "processes", self._in_processes),
        }

    def _ran(self, x: int, how: str, ask: Callable[[int, str], list[Any]]) -> float | str:
        runs = self.context.path(f"runs {how} {x}")
        try:
            answers = ask(x, runs)
        except Exception as error:
            return f"fails: {type(error).__name__}: {error}"
        wrong = [answer for answer in answers if answer != x + 1]
        if wrong:
            return f"fails: {len(wrong)} of {len(answers)} got {wrong[0]!r}"
        return os.path.getsize(runs)

    def _in_threads(self, x: int, runs: str) -> list[Any]:
        barrier, answers = threading.Barrier(8), []

        def ask() -> None:
            barrier.wait()
            try:
                answers.append(self.slow(x, runs))
            except Exception as error:
                answers.append(f"{type(error).__name__}: {error}")

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    def _in_processes(self, x: int, runs: str) -> list[Any]:
        command = program(self.context.library, self.peer.folder, "contend", x, runs)
        processes = [
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                pass_fds=(functions.RUNS_FD,),
            )
            for _ in range(2)
        ]
        for process in processes:
            while (line := process.stdout.readline()) and not line.startswith("{"):
                pass
        for process in processes:
            with suppress(BrokenPipeError):  # it has failed, and says why below
                process.stdin.write("\n")
                process.stdin.flush()
        return [_value_of(process) for process in processes]


def _value_of(process: subprocess.Popen[str]) -> Any:
    with suppress(BrokenPipeError):
        out, errors = process.communicate()
        if process.returncode:
            return (errors.strip() or "no word").splitlines()[-1]
        return answer(out)["value"]
    return "its process ended"


class Cluster:
    """Trivial jobs on two worker processes of one thread each."""

    def __init__(self, context: Context, jobs: int) -> None:
        self.context, self.jobs = context, jobs

    def turn(self, turn: int) -> Figures:
        """All of them as misses, then as hits."""
        from distributed import Client, LocalCluster

        if self.context.library in _NO_CLUSTER:
            raise NotOffered("not from inside the jobs of a Dask cluster")
        peer = self.context.adapter(f"store {turn}")
        with (
            LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
            ) as cluster,
            Client(cluster) as client,
        ):
            self._try(peer, client)
            runs = self.context.path("runs")
            miss = self._timed(peer, client, runs, self.jobs)
            hit = self._timed(peer, client, runs, hits(self.context) * self.jobs)
        return {"miss": miss, "hit": hit}

    def _try(self, peer: Adapter, client: Any) -> None:
        none, limit = self.context.path("none"), _SHARE / 2 * self.context.seconds
        peer.map_on(client, functions.trivial, range(-_FIRST, 0), none)
        began = time.perf_counter()
        peer.map_on(client, functions.trivial, range(-_FIRST - _TRIAL, -_FIRST), none)
        took = time.perf_counter() - began
        if took / _TRIAL * self.jobs > limit:
            raise TooSlow(f"{_TRIAL:,} of {self.jobs:,} jobs within {took:.1f} s")

    def _timed(self, peer: Adapter, client: Any, runs: str, expected: int) -> float:
        before = os.path.getsize(runs) if os.path.exists(runs) else 0
        began = time.perf_counter()
        values = peer.map_on(client, functions.trivial, range(self.jobs), runs)
        took = time.perf_counter() - began
        if values != [i + 1 for i in range(self.jobs)]:
            raise Wrong("a wrong result")
        if os.path.getsize(runs) - before != expected:
            raise Wrong(f"{os.path.getsize(runs) - before:,} runs instead of {expected:,}")
        return took
