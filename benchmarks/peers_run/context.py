"""What a workload has to work with, inside a library's child process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from . import functions
from .adapters import Adapter, adapter
from .runs import Counter

Figures = dict[str, float | str]  # a text says why there is no figure


class Wrong(Exception):
    """The library is not correct in this workload."""


class TooSlow(Exception):
    """The library has not done its part in time."""


class Context(NamedTuple):
    """What a workload has: the library's name, folders of its own and for shared data, the counter."""

    library: str
    folder: str
    data: str
    counter: Counter
    seconds: float  # that one step may take

    def adapter(self, name: str = "store") -> Adapter:
        """The library, with a folder."""
        return adapter(self.library, self.path(name))

    def path(self, name: str) -> str:
        """A folder of this workload."""
        return os.path.join(self.folder, name)

    def runs(self, call: Callable[[], Any], expected: int, why: str) -> Any:
        """What a call returns, if the function ran as often as it should."""
        self.counter.since()
        value = call()
        found = self.counter.since().count
        if found != expected:
            raise Wrong(why)
        return value

    def fresh(self, *arguments: object, seed: str = "1") -> subprocess.CompletedProcess[str]:
        """Run fresh.py to its end."""
        done = subprocess.run(
            program(self.library, *arguments),
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            pass_fds=(functions.RUNS_FD,),
        )
        if done.returncode:
            raise RuntimeError((done.stderr.strip() or "no word").splitlines()[-1])
        return done


def program(library: str, *arguments: object) -> list[str]:
    """The command that runs fresh.py."""
    return [sys.executable, "-m", "peers_run.fresh", library, *map(str, arguments)]


def answer(text: str) -> Any:
    """What fresh.py said, among what libraries may have printed."""
    return json.loads([line for line in text.splitlines() if line.startswith("{")][-1])


def hits(context: Context) -> int:
    """How often the function runs for one hit: nobody keeps what `nothing` computes."""
    return 1 if context.library == "nothing" else 0
