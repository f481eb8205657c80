"""What stores of Zarr have in common: keys below prefixes, and ranges of bytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def below(prefix: str) -> str:
    """A prefix that ends where a name ends."""
    return prefix if not prefix or prefix.endswith("/") else prefix + "/"


def children(names: Iterable[str], prefix: str) -> list[str]:
    """The first parts of the names below a folder, each once."""
    folder = below(prefix)
    found = {
        name[len(folder) :].partition("/")[0]: None for name in names if name.startswith(folder)
    }
    return list(found)


def bounds(size: int, wanted: Any) -> tuple[int, int]:
    """From where to where a request of zarr wants the bytes of something of that size."""
    from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest

    if wanted is None:
        return 0, size
    if isinstance(wanted, RangeByteRequest):
        return wanted.start, min(wanted.end, size)
    if isinstance(wanted, OffsetByteRequest):
        return wanted.offset, size
    if isinstance(wanted, SuffixByteRequest):
        return max(0, size - wanted.suffix), size
    raise ValueError(f"Unexpected byte_range, got {wanted!r}.")
