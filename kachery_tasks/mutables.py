"""The mutables of kachery, in the store in force."""

from __future__ import annotations

from typing import Any

from kachery_store.mutables import Mutables

from .files import local_store


def _mutables() -> Mutables:
    return Mutables(local_store().backend)


def set_mutable_local(key: str, value: str) -> None:
    """Keep a text under a key such as "@folder/key"; on the disk when this returns.

    Readers see the old text or the new. BadMutable for a key that cannot be.
    """
    _mutables().set_text(key, value)


def get_mutable_local(key: str, default_value: str | None = None) -> str | None:
    """The text under a key such as "@folder/key", or the default."""
    return _mutables().get_text(key, default_value)


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
    return _mutables().get(key, default)


def delete_mutable(key: Any) -> bool:
    """Delete the value under a key; returns whether there was one."""
    return _mutables().delete(key)
