"""What the workloads ask of each library."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any


class NotOffered(Exception):
    """The library does not do this at all."""


class Adapter:
    """A library that keeps results in a folder."""

    def __init__(self, name: str, folder: str) -> None:
        self.name = name
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        self.open()

    def open(self) -> None:
        """Get ready; before anything is memoized."""

    def memoize(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its results kept."""
        raise NotImplementedError

    def settle(self) -> None:
        """Do what was put off, so that it does not fall into another library's turn."""

    def results(self) -> int:
        """How many results are kept, as one who lists all of them finds; here by their files."""
        return sum(len(names) for _, _, names in os.walk(self.folder))

    def map_on(
        self, client: Any, function: Callable[..., Any], items: Iterable[int], runs: str
    ) -> list[Any]:
        """The results of a function for many items, on a Dask cluster.

        Here, as a user of the library does it: the workers call the memoized function.
        """
        calls = [(self.name, self.folder, function, item, runs) for item in items]
        return list(client.gather(client.map(_called_there, calls, pure=False)))


def _called_there(call: tuple[str, str, Callable[..., Any], int, str]) -> Any:
    name, folder, function, item, runs = call
    return _memoized_there(name, folder, function)(item, runs)


@lru_cache
def _memoized_there(name: str, folder: str, function: Callable[..., Any]) -> Callable[..., Any]:
    from . import adapter

    return adapter(name, folder).memoize(function)
