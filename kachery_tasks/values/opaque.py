"""Opaque values: what has no encoding, and is known by the job that made it.

The user has allowed pickle for it. A value of a stored result is remembered here with a digest of its
state, so that it is recognized as an argument as long as nobody has changed it.
"""

from __future__ import annotations

import io
import types
import weakref
from typing import Any, NamedTuple

from kachery_store.digest import blake3_bytes

from ..errors import CannotEncode
from ..project import is_project_module


class Made(NamedTuple):
    """Which opaque value it is: the job that made it, its number there, the digest of its pickle."""

    job_id: str
    number: int
    digest: bytes


class Pickled(NamedTuple):
    """A pickle, and the project's classes and functions that it holds, or only names."""

    data: bytes
    classes: list[type]
    functions: list[types.FunctionType]


class Opaque(NamedTuple):
    """An opaque value that was met while encoding: itself, who it is, its pickle, the code in it."""

    value: Any
    made: Made
    pickled: bytes
    classes: tuple[type, ...] = ()
    functions: tuple[types.FunctionType, ...] = ()


# By identity: a reference to the value, who it is, and the digest of its state when that was known.
_known: dict[int, tuple[weakref.ref[Any], Made, bytes]] = {}


def pickled_with_code(value: Any) -> Pickled:
    """The pickle of a value that has no encoding; CannotEncode when it has none either."""
    import cloudpickle

    classes: dict[int, type] = {}
    functions: dict[int, types.FunctionType] = {}

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            kind = obj if isinstance(obj, type) else type(obj)
            if is_project_module(kind.__module__):
                classes[id(kind)] = kind
            if isinstance(obj, types.FunctionType) and is_project_module(obj.__module__ or ""):
                functions[id(obj)] = obj
            return super().reducer_override(obj)

    file = io.BytesIO()
    try:
        Pickler(file).dump(value)
    except Exception as error:  # whatever the methods of its parts raise
        raise CannotEncode(
            f"it has no encoding, and pickle does not take it either ({error})"
        ) from error
    return Pickled(file.getvalue(), list(classes.values()), list(functions.values()))


def pickle_of(value: Any) -> bytes:
    """The pickle alone."""
    return pickled_with_code(value).data


def remember(value: Any, made: Made, state: bytes | None = None) -> None:
    """Note who a value is; `state` is the digest of its pickle now, where that is known."""
    identity = id(value)
    try:
        reference = weakref.ref(value, lambda _: _known.pop(identity, None))
    except TypeError:
        return  # such a value cannot be told from a later one at the same address
    _known[identity] = (reference, made, state or blake3_bytes(pickle_of(value)))


def recall(value: Any) -> Opaque | None:
    """Who a value is, if a stored job made it and it is as it was then."""
    known = _known.get(id(value))
    if known is None or known[0]() is not value:
        return None
    _, made, state = known
    data, classes, functions = pickled_with_code(value)
    if blake3_bytes(data) != state:
        return None
    return Opaque(value, made, data, tuple(classes), tuple(functions))
