"""The file functions of kachery, on the store in force.

As in kachery 2, the `load_*` functions return None for a file that is nowhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from kachery_store.errors import NotFound
from kachery_store.files import Files

from .settings import current

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")


def _files() -> Files:
    return current().store.files


def store_file(
    filename: str | os.PathLike[str], *, label: str | None = None, uri_type: int = 1
) -> str:
    """Store a copy of a file; returns its URI, sha1://HASH?label=LABEL.

    `uri_type=2` gives the form kachery:ZONE:sha1:HASH:LABEL.
    """
    return _files().store_file(filename, label=label, uri_type=uri_type)


def store_text(text: str, *, label: str | None = None, uri_type: int = 1) -> str:
    """Store text as UTF-8; returns its URI."""
    return _files().store_text(text, label=label, uri_type=uri_type)


def store_json(
    x: Any,
    *,
    separators: tuple[str, str] = (",", ":"),
    indent: int | str | None = None,
    label: str | None = None,
    uri_type: int = 1,
) -> str:
    """Store JSON with sorted keys; returns its URI. ValueError for NaN and infinities."""
    return _files().store_json(
        x, separators=separators, indent=indent, label=label, uri_type=uri_type
    )


def store_npy(array: np.ndarray[Any, Any], *, label: str | None = None, uri_type: int = 1) -> str:
    """Store a NumPy array as an .npy file; returns its URI."""
    return _files().store_npy(array, label=label, uri_type=uri_type)


def load_file(uri: str, *, dest: str | os.PathLike[str] | None = None) -> str | None:
    """The path of a stored file, verified, or of its copy at `dest`; None if it is nowhere."""
    return _or_none(lambda: _files().load_file(uri, dest=dest))


def load_text(uri: str) -> str | None:
    """A stored file as text; None if it is nowhere."""
    return _or_none(lambda: _files().load_text(uri))


def load_json(uri: str) -> Any:
    """A stored JSON file as Python data; None if it is nowhere."""
    return _or_none(lambda: _files().load_json(uri))


def load_npy(uri: str) -> np.ndarray[Any, Any] | None:
    """A stored .npy file as an array; None if it is nowhere."""
    return _or_none(lambda: _files().load_npy(uri))


def load_bytes(uri: str, start: int | None = None, end: int | None = None) -> bytes | None:
    """The bytes of a stored file from `start` up to, not including, `end`; None if it is nowhere."""
    return _or_none(lambda: _files().load_bytes(uri, start, end))


def cat_file(uri: str) -> None:
    """Write a stored file to standard output; nothing if it is nowhere."""
    _or_none(lambda: _files().cat_file(uri))


def get_kachery_dir() -> str:
    """The folder of the store in force."""
    return current().root


def _or_none(load: Callable[[], T]) -> T | None:
    try:
        return load()
    except NotFound:
        return None
