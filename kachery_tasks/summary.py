"""A few words about a value, for people: its type and shape, for small plain values the value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LONGEST = 80  # characters of a summary
_LONGEST_CALL = 200
_SCALARS = (type(None), bool, int, float, complex, str, bytes)
_CONTAINERS = (list, tuple, dict, set, frozenset)
_MANY_DIGITS = 1 << 200


def summary_of(value: Any, *, texts: bool = True) -> str:
    """At most 80 characters about a value; without `texts` it tells nothing of strings and bytes.

    A value whose own methods raise is known by its type.
    """
    try:
        return _cut(_summary(value, texts))
    except Exception:  # noqa: BLE001 - attributes and lengths of the user's own types
        return _cut(type_name(value))


def type_name(value: Any) -> str:
    """The type of a value as a program would write it."""
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def call_text(task: str, arguments: Mapping[str, str]) -> str:
    """A call in short, of the summaries of its arguments: at most some 200 characters of those."""
    text = ", ".join(f"{name}={summary}" for name, summary in arguments.items())
    return f"{task}({text if len(text) <= _LONGEST_CALL else text[:_LONGEST_CALL] + '...'})"


def _summary(value: Any, texts: bool) -> str:
    if type(value) in _SCALARS:
        return _scalar(value, texts)
    if type(value) in _CONTAINERS:
        short = len(value) <= LONGEST and _is_shown(value, texts, 3)
        return _short_repr(value) or _counted(value) if short else _counted(value)
    function = getattr(value, "__qualname__", None)
    if isinstance(function, str) and callable(value):
        return f"{type_name(value)} {function}"
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if isinstance(shape, tuple) and dtype is not None:
        return f"{type_name(value)} {dtype} {shape}"
    if isinstance(shape, tuple):
        return f"{type_name(value)} {shape}"
    return type_name(value)


def _scalar(value: Any, texts: bool) -> str:
    if type(value) is int and abs(value) > _MANY_DIGITS:
        return f"int of {value.bit_length()} bits"
    if type(value) in (str, bytes):
        return repr(value[: LONGEST + 1]) if texts else f"{type_name(value)} of length {len(value)}"
    return repr(value)


def _is_shown(value: Any, texts: bool, depth: int) -> bool:
    """Whether a value is plain, small and open enough to be shown as it is."""
    kind = type(value)
    if kind in _CONTAINERS:
        members = [*value, *value.values()] if kind is dict else value
        small = len(value) <= LONGEST and depth > 0
        return small and all(_is_shown(member, texts, depth - 1) for member in members)
    if kind is int:
        return bool(abs(value) <= _MANY_DIGITS)
    return kind in _SCALARS and (kind not in (str, bytes) or (texts and len(value) <= LONGEST))


def _short_repr(value: Any) -> str:
    text = repr(sorted(value, key=repr) if type(value) in (set, frozenset) else value)
    if type(value) is set and value:
        text = "{" + text[1:-1] + "}"
    elif type(value) is frozenset:
        text = f"frozenset({text})"
    return text if len(text) <= LONGEST else ""


def _counted(value: Any) -> str:
    return f"{type_name(value)} of {len(value)}"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
