"""The libraries that are compared."""

from __future__ import annotations

from typing import NamedTuple

from .environments import own_requirements


class Library(NamedTuple):
    """What to install, and in a few words what the library leaves out that kachery does.

    `is_peer` is false for what is there to compare with, but keeps no promise. `only`: the workloads
    that make sense for it, if not all.
    """

    name: str
    requirements: tuple[str, ...]
    leaves_out: str = ""
    is_peer: bool = True
    only: tuple[str, ...] = ()


def libraries() -> list[Library]:
    """All of them, kachery first."""
    return [
        Library("kachery", own_requirements()),
        Library(
            "joblib",
            ("joblib>=1.4",),
            "Nothing is verified. Only the function's own source counts, not what it calls; an edit deletes"
            " its older results. Equal calls at once each run.",
        ),
        Library(
            "diskcache",
            ("diskcache>=5.6",),
            "Nothing is verified, code does not count. Arguments are the key, pickled, and stored whole."
            " Beyond 1 GB it forgets the oldest by default (here it may not). Equal calls at once each run.",
        ),
        Library(
            "cachier",
            ("cachier>=4.2",),
            "Nothing is verified, code does not count. A key is the digest of a pickle, which equal values may"
            " not share.",
        ),
        Library(
            "checkpointer",
            ("checkpointer>=2.14",),
            "Nothing is verified. Code counts, also of what the function calls. A file is written in place, so a"
            " crash leaves half of it. Equal calls at once each run.",
        ),
        Library(
            "exca",
            ("exca>=0.6",),
            "Nothing is verified, code does not count. Small results come from memory after the first look. The user"
            " makes a text of each argument, which is its key: no arrays, frames or dictionaries.",
        ),
        Library(
            "mandala",
            (
                "pymandala>=0.2.0a0",
                "graphviz",
                "ipython",
                "pillow",
                "prettytable",
                "pyarrow",
                "rich",
                "tqdm",
            ),
            "Nothing is verified. Code counts if it is asked to. Results are committed at the end of a block."
            " One thread, one process.",
        ),
        Library(
            "permacache",
            ("permacache>=5",),
            "Nothing is verified, code does not count. Arguments whose text is too long need a digest function,"
            " one by one.",
        ),
        Library(
            "redun",
            ("redun>=0.44",),
            "Results are values in its database, unverified. The function's own source counts. A workflow"
            " engine: calls are expressions that a scheduler runs.",
        ),
        Library(
            "prefect",
            ("prefect>=3.4", "fastapi<0.140"),
            "Nothing is verified. The function's own source counts. An orchestrator: each call is a run that a"
            " server is told of.",
        ),
        Library("by_hand", ("blake3>=1.0",), is_peer=False, only=_HAND),
        Library("nothing", (), is_peer=False, only=("fresh", "cluster")),
    ]


_HAND = ("small", "fresh", "argument", "result", "many")  # kinds
