"""Arguments for the workloads, the same in every process that makes them."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from . import functions

_LARGE = 50_000_000  # items; from there an array is changed in one way only


class Case(NamedTuple):
    """An argument, the function of it, and ways to change it into another one for a while."""

    value: Any
    function: Callable[[Any], float]
    changes: tuple[Callable[[Any], Any], ...]


def array_case(folder: str, items: int, *, short: bool) -> Case:
    """An array of float64. With `short`, it is changed in one way only, for that costs a miss."""
    array = _shared_array(folder, items)
    changes = (_one_element,) if short else (_one_element, _other_type)
    return Case(array, functions.middle, changes)


def _shared_array(folder: str, items: int) -> Any:
    """An array over a private map of one file: its memory is there once for all processes."""
    path = os.path.join(folder, f"{items}.f8")
    if not os.path.exists(path):
        random = np.random.default_rng(0)
        with open(f"{path}.part", "wb") as file:
            for start in range(0, items, 1 << 24):
                random.random(min(1 << 24, items - start)).tofile(file)
        os.rename(f"{path}.part", path)
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return np.frombuffer(mapped, dtype=np.float64)


@contextmanager
def _one_element(array: Any) -> Iterator[Any]:
    place = len(array) // 2
    before = array[place]
    array[place] = before + 1.0
    yield array
    array[place] = before


@contextmanager
def _other_type(array: Any) -> Iterator[Any]:
    yield array.view(np.int64)


def frame_case(rows: int) -> Case:
    """A frame whose columns have six types."""
    import pandas as pd

    random = np.random.default_rng(1)
    numbers = random.integers(0, 1 << 40, rows)
    measured = random.random(rows)
    measured[::1000] = np.nan
    measured[-1] = 0.5
    frame = pd.DataFrame(
        {
            "number": numbers,
            "measured": measured,
            "when": pd.to_datetime(numbers, unit="ms"),
            "site": pd.Categorical.from_codes(numbers % 7, [f"site {i}" for i in range(7)]),
            "label": [f"sample {number}" for number in numbers.tolist()],
            "good": numbers % 3 == 0,
        }
    )
    return Case(frame, functions.last_cell, (_cell("measured", 1.5), _cell("label", "other")))


def _cell(column: str, other: Any) -> Callable[[Any], Any]:
    @contextmanager
    def changed(frame: Any) -> Iterator[Any]:
        changed = frame.copy()
        changed.loc[changed.index[-1], column] = other
        yield changed

    return changed


def entries_case(count: int, *, read_again: bool) -> Case:
    """A dictionary of dictionaries, with lists and tuples inside.

    With `read_again`, no two of its texts are one object, as if each had been read from a file: the same
    value to whoever looks at it, and another pickle.
    """
    text = _copied if read_again else str
    entries = {
        f"entry {i}": {
            text("limits"): [i, i / 3],
            text("name"): f"name {i}",
            text("flags"): (True, None),
        }
        for i in range(count)
    }
    return Case(entries, functions.deepest, (_one_limit, _tuple_for_list))


def _copied(text: str) -> str:
    return "".join(list(text))


@contextmanager
def _one_limit(entries: Any) -> Iterator[Any]:
    limits = entries["entry 77"]["limits"]
    before = limits[1]
    limits[1] = before + 1.0
    yield entries
    limits[1] = before


@contextmanager
def _tuple_for_list(entries: Any) -> Iterator[Any]:
    before = entries["entry 78"]
    entries["entry 78"] = {**before, "limits": tuple(before["limits"])}
    yield entries
    entries["entry 78"] = before


def case_of(data: str, name: str, count: str | int, *, read_again: bool = False) -> Case:
    """An argument by its name and size."""
    size = int(count)
    if name == "array":
        return array_case(data, size, short=size >= _LARGE)
    return frame_case(size) if name == "frame" else entries_case(size, read_again=read_again)
