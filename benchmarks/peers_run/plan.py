"""Which workloads there are, how large they are, and which rows of the table they give."""

from __future__ import annotations

from typing import NamedTuple

SECONDS, COUNT, BYTES = "seconds", "count", "bytes"


class Row(NamedTuple):
    """One row. `key` is what a workload calls its figure."""

    key: str
    title: str
    unit: str = SECONDS


class Workload(NamedTuple):
    """`kind` is one of child.py's, `arguments` are for it; `turns` is how often it repeats.

    `patience`: how many times the usual time one step of it may take.
    """

    name: str
    kind: str
    turns: int
    arguments: tuple[int | str, ...]
    rows: tuple[Row, ...]
    patience: float = 1.0


def workloads(*, quick: bool) -> list[Workload]:
    """All workloads, in the order of the table."""
    less = 100 if quick else 1
    return [
        Workload(
            "small",
            "small",
            5 if quick else 15,
            (2 if quick else 5, 20 if quick else 50),
            (
                Row("hit", "small call, hit"),
                Row("miss", "small call, miss"),
            ),
        ),
        Workload(
            "fresh",
            "fresh",
            3 if quick else 11,
            (),
            (Row("process", "a process from start to end, one small hit in it"),),
        ),
        *(_array(items // less, 3 if quick else turns) for items, turns in _ARRAYS),
        _argument("frame", 1_000_000 // less, f"hit, frame of {1_000_000 // less:,} mixed rows"),
        _argument("entries", 100_000 // less, f"hit, dict of {100_000 // less:,} nested entries"),
        *(_result(items // less, 3 if quick else turns) for items, turns in _RESULTS),
        _many(500 if quick else 20_000),
        Workload(
            "contended",
            "contended",
            1 if quick else 3,
            (),
            (
                Row("threads", "8 threads ask for one missing key: runs", COUNT),
                Row("processes", "2 processes ask for one missing key: runs", COUNT),
            ),
        ),
        _cluster(200 if quick else 5_000),
    ]


_ARRAYS = ((1_250_000, 9), (12_500_000, 7), (125_000_000, 5))
_RESULTS = ((12_500_000, 5), (125_000_000, 3))


def _size(items: int) -> str:
    size = items * 8
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 1000)):
        if size >= factor:
            return f"{size / factor:g} {unit}"
    return f"{size} bytes"


def _array(items: int, turns: int) -> Workload:
    size = _size(items)
    row = Row("hit", f"hit, array of {size} as argument")
    return Workload(
        f"argument-{size.replace(' ', '')}", "argument", turns, ("array", items), (row,)
    )


def _argument(name: str, count: int, title: str) -> Workload:
    return Workload(name, "argument", 5, (name, count), (Row("hit", title),))


def _result(items: int, turns: int) -> Workload:
    size = _size(items)
    return Workload(
        f"result-{size.replace(' ', '')}",
        "result",
        turns,
        (items,),
        (
            Row("miss", f"miss, {size} as result"),
            Row("first", f"hit, {size} as result: first load in a process, and its sum"),
            Row("again", f"hit, {size} as result: a later load, and its sum"),
        ),
    )


def _many(count: int) -> Workload:
    return Workload(
        "many",
        "many",
        1,
        (count,),
        (
            Row("fill", f"{count:,} small misses in turn, all of them"),
            Row("hit", f"small hit among {count:,} results"),
            Row("bytes", f"{count:,} results: bytes on the disk", BYTES),
            Row("files", f"{count:,} results: files", COUNT),
            Row("folders", f"{count:,} results: folders", COUNT),
            Row("list", f"{count:,} results: to list their names"),
        ),
    )


def _cluster(jobs: int) -> Workload:
    return Workload(
        "cluster",
        "cluster",
        1,
        (jobs,),
        (
            Row("miss", f"{jobs:,} trivial jobs on a Dask cluster, all misses"),
            Row("hit", f"{jobs:,} trivial jobs on a Dask cluster, all hits"),
        ),
        patience=4.0,  # plain Dask does some 500 jobs a second
    )
