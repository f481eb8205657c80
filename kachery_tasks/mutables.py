"""The mutables of kachery, in the store in force."""

from __future__ import annotations

import json
from typing import Any

from kachery_store.mutables import Mutables

from .errors import CannotEncode
from .files import local_store
from .purity import seen_here
from .record import MUTABLE_READ
from .values import encode

_NOT_SET: Any = object()


def _mutables() -> Mutables:
    return Mutables(local_store().backend)


def _note_read(name: str, value: Any, *, is_set: bool) -> None:
    """Note that the function that runs here, if one does, reads a mutable."""
    seen = seen_here()
    if seen is not None:
        seen.read(MUTABLE_READ, name, _address(value) if is_set else b"")


def _address(value: Any) -> bytes:
    try:
        return encode(value).address
    except CannotEncode:  # JSON may be nested more deeply than values are
        return encode(json.dumps(value)).address


def set_mutable_local(key: str, value: str) -> None:
    """Keep a text under a key such as "@folder/key"; on the disk when this returns.

    Readers see the old text or the new. BadMutable for a key that cannot be.
    """
    _mutables().set_text(key, value)


def get_mutable_local(key: str, default_value: str | None = None) -> str | None:
    """The text under a key such as "@folder/key", or the default."""
    text = _mutables().get_text(key)
    _note_read(key, text, is_set=text is not None)
    return default_value if text is None else text


def delete_mutable_local(key: str) -> None:
    """Delete the text under a key; NotFound when there is none."""
    _mutables().delete_text(key)


def delete_mutable_folder_local(key: str) -> None:
    """Delete a folder such as "@folder" and all that is in it; NotFound when there is none."""
    _mutables().delete_folder(key)


def set_mutable(key: Any, value: Any, update: bool = True) -> bool:
    """Keep a JSON value under a key that is any JSON value; on the disk when this returns.

    `update=False` sets it only if there is none, and of several who try at the same time one
    succeeds. Returns whether it was set.
    """
    return _mutables().set(key, value, update=update)


def get_mutable(key: Any, default: Any = None) -> Any:
    """The JSON value under a key, or the default."""
    value = _mutables().get(key, _NOT_SET)
    if seen_here() is not None:
        name = json.dumps(key, sort_keys=True, separators=(",", ":"))
        _note_read(name, value, is_set=value is not _NOT_SET)
    return default if value is _NOT_SET else value


def delete_mutable(key: Any) -> bool:
    """Delete the value under a key; returns whether there was one."""
    return _mutables().delete(key)
