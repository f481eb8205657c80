"""Msgpack that anybody may have written: it takes no more memory than a few times what is usual."""

from __future__ import annotations

from typing import Any

import msgpack

MOST_ITEMS = 500_000  # in all lists and maps together; nothing that kachery writes has so many

_QUICKLY = 262_144  # bytes: so few cannot ask for much, whatever they are
_LONGEST = 100_000  # items of one list: room for all is made when the first is read


def unpack(data: Any) -> Any:
    """What some bytes say. ValueError when they are none, or say more than anybody needs.

    A list in a file of a byte for each item takes sixty bytes for each in memory.
    """
    try:
        if len(data) <= _QUICKLY:
            return msgpack.unpackb(data)
        count = _Count()
        return msgpack.unpackb(
            data,
            list_hook=count,
            object_hook=count,
            max_array_len=_LONGEST,
            max_map_len=_LONGEST,
        )
    except msgpack.UnpackException as error:
        raise ValueError(f"it is no msgpack ({error or type(error).__name__})") from error


class _Count:
    """Refuses what has too many items in all."""

    def __init__(self) -> None:
        self._items = 0

    def __call__(self, made: Any) -> Any:
        self._items += len(made) + 1
        if self._items > MOST_ITEMS:
            raise ValueError(f"it has more than {MOST_ITEMS} items")
        return made
