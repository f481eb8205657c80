"""The workloads of one caller, as they run inside a library's child process.

Each is a class: made once, which prepares it, then `turn(n)` is called for each repeat and returns its
figures by the keys of its rows. What a library gets wrong is a Wrong, or one of the `marks` of a
workload that can be measured all the same.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable
from typing import Any

from . import functions
from .context import Context, Figures, Wrong, answer, hits
from .values import case_of

KNOWN = 100  # different small calls that are stored, then asked for in turn
_ENOUGH = 1.0  # seconds of small calls in one turn, of a slow library
_FIRST_CALLS = 2  # misses of fresh.py before the one that it times


class Small:
    """Calls with two numbers."""

    def __init__(self, context: Context, passes: int, misses: int) -> None:
        self.context, self.passes, self.misses = context, passes, misses
        self.peer = context.adapter()
        self.function = self.peer.memoize(functions.small)
        self.known = [(x, 1.5) for x in range(KNOWN)]
        self.next = KNOWN
        context.runs(self._call_all, KNOWN, "misses that did not run")
        context.runs(self._call_all, 0, "no hit")
        if self.function(4, 1.5) != 6.0:
            raise Wrong("a wrong result")
        self.peer.settle()

    def _call_all(self) -> None:
        for x, y in self.known:
            self.function(x, y)

    def _call(self, calls: Iterable[tuple[int, float]]) -> int:
        function, until, done = self.function, time.perf_counter() + _ENOUGH, 0
        for done, (x, y) in enumerate(calls, 1):
            function(x, y)
            if not done % 10 and time.perf_counter() > until:
                break
        return done

    def _timed(self, calls: list[tuple[int, float]], *, known: bool) -> float:
        self.context.counter.since()
        began = time.perf_counter()
        done = self._call(calls)
        took = time.perf_counter() - began
        self.peer.settle()
        if self.context.counter.since().count != (0 if known else done):
            raise Wrong("hits that ran" if known else "misses that did not run")
        return took / done

    def turn(self, _turn: int) -> Figures:
        """Hits, then misses."""
        new = [(x, 1.5) for x in range(self.next, self.next + self.misses)]
        self.next += self.misses
        return {
            "hit": self._timed(self.known * self.passes, known=True),
            "miss": self._timed(new, known=False),
        }


class Fresh:
    """One hit in a process of its own, from its start to its end."""

    def __init__(self, context: Context) -> None:
        self.context = context
        context.fresh(context.path("store"), "call")
        context.runs(lambda: self.turn(0), hits(context), "no hit in another process")

    def turn(self, _turn: int) -> Figures:
        """One process."""
        began = time.perf_counter()
        self.context.fresh(self.context.path("store"), "call")
        return {"process": time.perf_counter() - began}


class Argument:
    """Hits with one large argument."""

    def __init__(self, context: Context, name: str, count: int) -> None:
        self.context = context
        self.marks: list[str] = []
        self.case = case_of(context.data, name, count)
        peer = context.adapter()
        self.function = peer.memoize(self.case.function)
        value = self.function(self.case.value)
        for change in self.case.changes:
            self._told_apart(change)
        if context.runs(self._call, 0, "no hit") != value:
            raise Wrong("a wrong result")
        peer.settle()
        if name != "array":
            self._again_elsewhere(f"{name}:{count}")

    def _call(self) -> float:
        result: float = self.function(self.case.value)
        return result

    def _told_apart(self, change: Callable[[Any], Any]) -> None:
        with change(self.case.value) as other:
            self._marked(lambda: self.function(other), 1, "collides")

    def _again_elsewhere(self, case: str) -> None:
        def elsewhere() -> None:
            self.context.fresh(self.context.path("store"), "argument", self.context.data, case)

        self._marked(elsewhere, 0, "no hit in another process")

    def _marked(self, call: Callable[[], object], expected: int, mark: str) -> None:
        try:
            self.context.runs(call, expected, mark)
        except Wrong:
            if mark not in self.marks:
                self.marks.append(mark)

    def turn(self, _turn: int) -> Figures:
        """One hit."""
        self.context.counter.since()
        began = time.perf_counter()
        self._call()
        took = time.perf_counter() - began
        if self.context.counter.since().count:
            raise Wrong("no hit")
        return {"hit": took}


class Result:
    """Storing a large array, and loading it in a process of its own."""

    def __init__(self, context: Context, items: int) -> None:
        self.context, self.items = context, items

    def turn(self, turn: int) -> Figures:
        """One miss, without what the function took itself; then two hits elsewhere."""
        folder = self.context.path(f"store {turn}")
        try:
            return self._stored_and_loaded(folder, turn)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _stored_and_loaded(self, folder: str, turn: int) -> Figures:
        miss = self._miss(folder, turn)
        os.sync()  # so that writing back does not fall into another library's turn
        done = self.context.runs(
            lambda: self.context.fresh(folder, "result", turn, self.items), 0, "no hit"
        )
        found = answer(done.stdout)
        if found["sums"] != [float(turn) * self.items] * 2:
            raise Wrong("a wrong result")
        return {"miss": miss, "first": found["times"][0], "again": found["times"][1]}

    def _miss(self, folder: str, turn: int) -> float:
        self.context.counter.since()
        done = self.context.fresh(folder, "make", turn, self.items)
        ran = self.context.counter.since()
        if ran.count != _FIRST_CALLS + 1:
            raise Wrong("misses that did not run")
        seconds: float = answer(done.stdout)["seconds"]
        return seconds - ran.seconds
