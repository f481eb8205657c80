"""What the fields of records and of steps of actions may be: a file that is intact may be anybody's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

Is = Callable[[Any], bool]

_NAME = re.compile("[0-9A-Za-z][0-9A-Za-z_.-]{0,127}")
_DIGEST_BYTES = 32
_MOST_SECONDS = 1e11  # of the year 5138; dates have an end


def wrong_one(names: Iterable[str], rules: Iterable[Is], values: Iterable[Any]) -> str | None:
    """The name of the first of some values that is not what it should be, or None."""
    for name, is_right, value in zip(names, rules, values, strict=True):
        if not is_right(value):
            return name
    return None


def is_text(value: Any) -> bool:
    """Whether it is a text."""
    return type(value) is str


def is_name(value: Any) -> bool:
    """Whether it can be the name of a file: others lead out of the store."""
    return type(value) is str and _NAME.fullmatch(value) is not None


def is_name_or_empty(value: Any) -> bool:
    """Whether it can be the name of a file, or is none."""
    return value == "" or is_name(value)


def is_bytes(value: Any) -> bool:
    """Whether it is bytes."""
    return type(value) is bytes


def is_digest(value: Any) -> bool:
    """Whether it is a digest as bytes."""
    return type(value) is bytes and len(value) == _DIGEST_BYTES


def is_address(value: Any) -> bool:
    """Whether it is an address, or empty, as that of a secret argument."""
    return value == b"" or is_digest(value)


def is_count(value: Any) -> bool:
    """Whether it is a number of things."""
    return type(value) is int and value >= 0


def is_seconds(value: Any) -> bool:
    """Whether it is a time, or how long something took."""
    return type(value) in (int, float) and 0 <= value < _MOST_SECONDS


def or_none(is_right: Is) -> Is:
    """What is right, or None."""
    return lambda value: value is None or is_right(value)


def one_of(*allowed: str) -> Is:
    """One of some texts."""
    return lambda value: type(value) is str and value in allowed


def list_of(is_right: Is) -> Is:
    """A list of such."""
    return lambda value: type(value) is list and all(map(is_right, value))


def at_most(most: int, is_right: Is) -> Is:
    """One that is not longer than that."""
    return lambda value: is_right(value) and len(value) <= most


def row_of(*rules: Is) -> Is:
    """A list that may have grown."""
    return lambda value: (
        isinstance(value, (list, tuple))
        and len(value) >= len(rules)
        and all(is_right(one) for is_right, one in zip(rules, value, strict=False))
    )
