"""Arrays of PyArrow joined to one, without changing what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.types as kinds

from ..errors import CannotEncode


def concatenated(arrays: list[Any]) -> Any:
    """Arrays of one type as one."""
    kind = arrays[0].type
    if any(kinds.is_dictionary(inner) and _has_floats(inner) for inner in _within(kind)):
        raise CannotEncode(
            f"PyArrow would take 0.0 and -0.0 in the dictionaries of {kind} for one; decode the"
            " dictionaries with cast() first, or, if that does not matter, combine_chunks()"
        )
    return pa.concat_arrays(arrays)


def _has_floats(kind: Any) -> bool:
    return any(map(kinds.is_floating, _within(kind.value_type)))


def _within(kind: Any) -> Iterator[Any]:
    """A type and all that it is made of."""
    yield kind
    for position in range(kind.num_fields):
        yield from _within(kind.field(position).type)
    if kinds.is_dictionary(kind):
        yield from _within(kind.value_type)
