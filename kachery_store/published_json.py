"""JSON as kachery 2 writes it, byte for byte, because the digests of its files are published.

It differs from Python's own where keys are not text (they become text first, and are sorted then),
for named tuples (objects) and for bytes (text).
"""

from __future__ import annotations

import json
import math
from typing import Any

from .digest import hash_buffer

_PLAIN = (str, int, float, bool, type(None))


def published_json(
    value: Any,
    *,
    separators: tuple[str, str] | None = (",", ":"),
    indent: int | str | None = None,
) -> str:
    """The text that kachery 2 stores for a value.

    ValueError for NaN and infinities, TypeError for what JSON does not have.
    """
    return json.dumps(
        _plain(value), separators=separators, indent=indent, allow_nan=False, sort_keys=True
    )


def read_json(data: bytes | str) -> Any:
    """What JSON says. ValueError when it is none, or a name occurs twice in an object.

    Of two values under one name each reader takes the one it likes.
    """
    return json.loads(data, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in an object")
    return found


def sha1_of_dict(x: Any) -> str:
    """The SHA-1 of a value's JSON, in which whole floats are integers: 1.0 and 1 give the same.

    Raises as published_json; OverflowError for infinities.
    """
    return hash_buffer("sha1", published_json(_whole(x)).encode())


def _plain(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, tuple) and (fields := getattr(value, "_asdict", None)) is not None:
        return _plain(fields())
    if isinstance(value, dict):
        return _with_text_keys(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value


def _with_text_keys(value: dict[Any, Any]) -> dict[str, Any]:
    found = {_text(key): _plain(item) for key, item in value.items()}
    if len(found) != len(value):
        raise ValueError("two keys of a dict are the same text in JSON, such as 1 and '1'")
    return found


def _text(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, _PLAIN):
        return json.dumps(key, allow_nan=False)
    raise TypeError(f"{type(key).__name__} cannot be a key in JSON")


def _whole(value: Any) -> Any:
    if isinstance(value, float) and not math.isnan(value):
        whole = int(value)
        return whole if whole == value else value
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_whole(item) for item in value]
    return value
