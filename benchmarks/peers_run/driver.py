"""Runs workloads: one child process for each library, all of them taking turns."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from .environments import ROOT
from .libraries import Library
from .plan import Workload

_TO_END = 10.0  # seconds that a child has to end in


class Outcome(NamedTuple):
    """What a library did in a workload: medians by row, and what is wrong with it.

    `failures`: why there is no figure, by row. `marks`: what it does wrong, though it could be measured.
    """

    figures: dict[str, float]
    failures: dict[str, str]
    marks: tuple[str, ...] = ()


class Child:
    """A library in a process of its own, for one workload."""

    def __init__(
        self, library: Library, python: str, workload: Workload, folder: Path, seconds: float
    ) -> None:
        self.library, self.seconds = library, seconds
        self.folder = folder / library.name
        self.folder.mkdir(parents=True)
        self.marks: tuple[str, ...] = ()
        self.failure = ""
        self.figures: dict[str, list[float]] = {row.key: [] for row in workload.rows}
        self.failures: dict[str, str] = {}
        self._spent = 0.0  # seconds, in all turns
        self._log = folder / f"{library.name}.log"
        data = folder.parent / "data"
        data.mkdir(exist_ok=True)
        arguments = json.dumps(workload.arguments)
        answers, theirs = os.pipe()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [python, "-m", "peers_run.child", library.name, str(self.folder), str(data)]
                + [str(seconds), workload.kind, arguments, str(theirs)],
                env=_environment(library, folder),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=(theirs,),
                start_new_session=True,
            )
        os.close(theirs)
        self._answers = os.fdopen(answers, "rb", buffering=0)
        self.marks = tuple(self._answer().get("marks", ()))

    def turn(self, number: int) -> None:
        """One repeat; unless the library has failed before, or its repeats took long enough already."""
        if self.failure or self._spent > self.seconds:
            return
        began = time.monotonic()
        stdin = self._process.stdin
        with suppress(BrokenPipeError):
            stdin.write(f"{number}\n".encode())
            stdin.flush()
        for row, figure in self._answer().get("figures", {}).items():
            if isinstance(figure, str):
                self.failures[row] = figure
            else:
                self.figures[row].append(figure)
        self._spent += time.monotonic() - began

    def _answer(self) -> dict[str, Any]:
        answer = _line(self._answers, self.seconds)
        if answer is None:
            self.failure = f"> {self.seconds:g} s"
            self.kill()
            return {}
        if not answer:
            self.failure = "its process ended: " + self._last_words()
            return {}
        found: dict[str, Any] = json.loads(answer)
        for kind, text in found.items():
            if kind in _FAILURES:
                self.failure = _FAILURES[kind] + " ".join(str(text).split())[:200]
        return found

    def _last_words(self) -> str:
        return (self._log.read_text(errors="replace").strip().splitlines() or ["no word"])[-1]

    def outcome(self) -> Outcome:
        """What has come out, by now."""
        if self.failure:
            return Outcome({}, dict.fromkeys(self.figures, self.failure), self.marks)
        medians = {
            row: statistics.median(figures)
            for row, figures in self.figures.items()
            if figures and row not in self.failures
        }
        return Outcome(medians, self.failures, self.marks)

    def end(self) -> None:
        """End the process, and delete what it has stored."""
        self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_TO_END)
        self.kill()
        self._answers.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """End the process and those that it has started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


_FAILURES = {
    "error": "fails: ",
    "slow": "too slow: ",
    "wrong": "wrong: ",
    "not_offered": "not offered: ",
}


def _environment(library: Library, folder: Path) -> dict[str, str]:
    paths = [str(ROOT / "benchmarks")] + ([str(ROOT)] if library.name == "kachery" else [])
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("KACHERY", "PYTHON"))}
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "TMPDIR": str(folder)}


def _line(answers: Any, seconds: float) -> bytes | None:
    """One line; empty when the other end is closed, None when it does not come in time."""
    until, line = time.monotonic() + seconds, b""
    while not line.endswith(b"\n"):
        left = until - time.monotonic()
        if left <= 0 or not select.select([answers], [], [], left)[0]:
            return None
        piece = answers.read(65536)
        if not piece:
            return b""
        line += piece
    return line


def run(
    workload: Workload,
    entrants: Sequence[tuple[Library, str]],
    folder: Path,
    seconds: float,
) -> dict[str, Outcome]:
    """The outcomes of a workload by library. `entrants`: libraries and their interpreters.

    Who begins changes with each turn. `seconds` is what one step of one library may take.
    """
    began = time.monotonic()
    place = Path(tempfile.mkdtemp(prefix=f"{workload.name}-", dir=folder))
    children: list[Child] = []
    try:
        for library, python in entrants:
            if library.only and workload.kind not in library.only:
                continue
            _say(f"{workload.name}: {library.name}")
            children.append(Child(library, python, workload, place, seconds))
        for turn in range(1, workload.turns + 1):
            _say(f"{workload.name}: turn {turn} of {workload.turns}")
            first = turn % max(1, len(children))
            for child in children[first:] + children[:first]:
                child.turn(turn)
        return {child.library.name: child.outcome() for child in children}
    finally:
        for child in children:
            child.end()
        shutil.rmtree(place, ignore_errors=True)
        _say(f"{workload.name}: {time.monotonic() - began:.0f} s\n")


def _say(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)
    elif what.endswith("\n"):
        print(what, end="", file=sys.stderr, flush=True)
