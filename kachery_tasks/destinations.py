"""Other destinations for stored files: a folder that the environment names, or the user's own code."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias
from urllib.parse import quote

from kachery_store.digest import Digest, check_algorithm, new_hasher
from kachery_store.flusher import fsync
from kachery_store.progress import progress_bar
from kachery_store.uri import check_label, format_uri

_PIECE = 4 << 20

Destination: TypeAlias = Callable[[str, str | None], str]  # (path, label) -> URI


class StorageBackend(Protocol):
    """What `set_custom_storage_backend` takes."""

    def store_file(self, filename: str, *, label: str | None = None) -> str:
        """Store a file somewhere; returns its URI."""


_custom: StorageBackend | None = None


def set_custom_storage_backend(backend: Any) -> None:
    """Have files stored by an object of yours: its `store_file(filename, *, label)` returns the URI.

    What is stored with `local=True` stays here. None ends it. TypeError for an object without such a
    method.
    """
    global _custom
    if backend is not None and not callable(getattr(backend, "store_file", None)):
        raise TypeError("a storage backend has a method store_file(filename, *, label) -> uri")
    _custom = backend


def destination(uri_type: int, algorithm: str, zone: str) -> Destination | None:
    """Where files go instead of the store in force: as KACHERY_STORE_FILE_DIR says, else by the
    user's storage backend; None for the store.
    """
    folder = os.environ.get("KACHERY_STORE_FILE_DIR")
    custom = _custom
    if folder:
        return lambda path, label: _store_in(folder, path, label, uri_type, algorithm, zone)
    if custom is not None:
        return lambda path, label: custom.store_file(path, label=label)
    return None


def as_file(data: bytes, store: Callable[[str], str]) -> str:
    """Call a function with the path of a file that holds these bytes, and only as long as it runs."""
    with tempfile.NamedTemporaryFile(prefix="kachery-") as file:
        file.write(data)
        file.flush()
        return store(file.name)


def _store_in(
    folder: str, path: str, label: str | None, uri_type: int, algorithm: str, zone: str
) -> str:
    """Copy a file to `<folder>/<algorithm>/<hash>`; returns its URI.

    That is `<KACHERY_STORE_FILE_PREFIX>/<algorithm>/<hash>` where a prefix is set.
    """
    if label is not None:
        check_label(label)
    digest = _copy(path, folder, algorithm)
    prefix = os.environ.get("KACHERY_STORE_FILE_PREFIX")
    if prefix is None:
        return format_uri(digest, label, uri_type=uri_type, zone=zone)
    uri = f"{prefix}/{digest.algorithm}/{digest.hex}"
    return uri if label is None else f"{uri}?label={quote(label)}"


def _copy(path: str, folder: str, algorithm: str) -> Digest:
    """Copy and hash in one reading; the copy is complete, and on the disk, when it has its name."""
    check_algorithm(algorithm)
    inside = os.path.join(folder, algorithm)
    hasher = new_hasher(algorithm)
    with open(path, "rb", buffering=0) as source:
        os.makedirs(inside, exist_ok=True)
        with (
            tempfile.NamedTemporaryFile(dir=inside, prefix=".", delete=False) as copy,
            progress_bar(f"store {os.path.basename(path)}", os.stat(path).st_size) as progress,
        ):
            try:
                while piece := source.read(_PIECE):
                    hasher.update(piece)
                    copy.write(piece)
                    progress(len(piece))
                copy.flush()
                os.fchmod(copy.fileno(), 0o444)
                os.fsync(copy.fileno())
                os.replace(copy.name, os.path.join(inside, hasher.hexdigest()))
            except BaseException:
                os.unlink(copy.name)
                raise
    fsync(inside)
    fsync(folder)
    return Digest(algorithm, hasher.hexdigest())
