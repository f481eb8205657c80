"""The file functions of kachery, on the store in force.

As in kachery 2, the `load_*` functions return None for a file that is nowhere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from kachery_store import Store
from kachery_store.errors import NotFound, OutOfReach, Unsupported, unavailable
from kachery_store.files import Files, npy_bytes, pickle_bytes
from kachery_store.published_json import published_json
from kachery_store.store import default_root
from kachery_store.zone_settings import NO_ZONE

from .destinations import as_file, destination
from .sandbox import sandbox
from .settings import absolute, current, store_at

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Buffer

T = TypeVar("T")

_LOCAL_ZONE = ""  # what the form kachery:ZONE:... says of a file that was stored here only


def root_in_force() -> str:
    """The folder of the file functions: the one in force, or the sandbox in the default's place."""
    root, folder = current().root, sandbox()
    if folder is not None and root == absolute(default_root()):
        return absolute(folder)
    return root


def local_store() -> Store:
    """The store in that folder, without the zone behind it."""
    return store_at(root_in_force())


def store_in_force() -> Store:
    """The store in that folder, with the zone in force behind it; a sandbox has none."""
    settings = current()
    return settings.store if settings.root == root_in_force() else local_store()


def files_in_force(*, local: bool = False) -> Files:
    """The files of that store; with `local` no zone is asked or written to."""
    return (local_store() if local else store_in_force()).files


def store_file(
    filename: str | os.PathLike[str],
    *,
    label: str | None = None,
    cache_locally: bool = False,
    local: bool = False,
    uri_type: int = 1,
    digest: str = "sha1",
    manifest: bool = False,
) -> str:
    """Store a copy of a file; returns its URI, sha1://HASH?label=LABEL, once it is on the disk.

    `local` keeps the file on this machine; `cache_locally` keeps a copy here whatever else is done
    with it; `uri_type=2` gives the form kachery:ZONE:sha1:HASH:LABEL; `digest` is sha1, sha256 or
    blake3; `manifest` adds the list of parts of a large file to the store and to the URI.
    """
    path = _path_of(filename)
    elsewhere = None if local else destination(uri_type, digest, zone_in_force())
    if elsewhere is None or cache_locally:
        uri = files_in_force(local=local).store_file(
            path,
            label=label,
            uri_type=uri_type,
            digest=digest,
            manifest=manifest,
            zone=_zone(local),
        )
    return uri if elsewhere is None else elsewhere(path, label)


def store_file_local(
    filename: str | os.PathLike[str],
    *,
    label: str | None = None,
    uri_type: int = 1,
    digest: str = "sha1",
) -> str:
    """As `store_file`, on this machine only. The filename may also be the URI of a stored file."""
    return store_file(filename, label=label, local=True, uri_type=uri_type, digest=digest)


def link_file(
    filename: str | os.PathLike[str],
    *,
    label: str | None = None,
    uri_type: int = 1,
    digest: str = "sha1",
) -> str:
    """Store a file by reference, without a copy; returns its URI.

    The file stays where it is. The link counts until the file's size or time of change differ.
    """
    return files_in_force().link_file(filename, label=label, uri_type=uri_type, digest=digest)


def store_bytes(
    data: Buffer,
    *,
    label: str | None = None,
    cache_locally: bool = False,
    local: bool = False,
    uri_type: int = 1,
    digest: str = "sha1",
) -> str:
    """Store bytes; returns their URI. Options as for `store_file`."""
    elsewhere = None if local else destination(uri_type, digest, zone_in_force())
    if elsewhere is None or cache_locally:
        uri = files_in_force(local=local).store_bytes(
            data, label=label, uri_type=uri_type, digest=digest, zone=_zone(local)
        )
    return uri if elsewhere is None else as_file(bytes(data), lambda path: elsewhere(path, label))


def store_text(
    text: str,
    *,
    label: str | None = None,
    cache_locally: bool = False,
    local: bool = False,
    uri_type: int = 1,
    digest: str = "sha1",
) -> str:
    """Store text as UTF-8; returns its URI. Options as for `store_file`."""
    return store_bytes(
        text.encode("utf-8"),
        label=label,
        cache_locally=cache_locally,
        local=local,
        uri_type=uri_type,
        digest=digest,
    )


def store_json(
    x: Any,
    *,
    separators: tuple[str, str] = (",", ":"),
    indent: int | str | None = None,
    label: str | None = None,
    cache_locally: bool = False,
    local: bool = False,
    uri_type: int = 1,
    digest: str = "sha1",
) -> str:
    """Store JSON with sorted keys; returns its URI. ValueError for NaN and infinities."""
    return store_text(
        published_json(x, separators=separators, indent=indent),
        label=label,
        cache_locally=cache_locally,
        local=local,
        uri_type=uri_type,
        digest=digest,
    )


def store_npy(
    array: np.ndarray[Any, Any],
    *,
    label: str | None = None,
    cache_locally: bool = False,
    local: bool = False,
    uri_type: int = 1,
    digest: str = "sha1",
) -> str:
    """Store a NumPy array as an .npy file; returns its URI. ValueError for Python objects in it."""
    return store_bytes(
        npy_bytes(array),
        label=label,
        cache_locally=cache_locally,
        local=local,
        uri_type=uri_type,
        digest=digest,
    )


def store_pkl(
    x: Any,
    *,
    label: str | None = None,
    cache_locally: bool = False,
    local: bool = False,
    uri_type: int = 1,
    digest: str = "sha1",
) -> str:
    """Store any Python object as a pickle; returns its URI. Equal objects may get different URIs."""
    return store_bytes(
        pickle_bytes(x),
        label=label,
        cache_locally=cache_locally,
        local=local,
        uri_type=uri_type,
        digest=digest,
    )


def store_text_local(text: str, label: str | None = None) -> str:
    """As `store_text`, on this machine only."""
    return store_text(text, label=label, local=True)


def store_json_local(
    x: Any,
    *,
    separators: tuple[str, str] = (",", ":"),
    indent: int | str | None = None,
    label: str | None = None,
) -> str:
    """As `store_json`, on this machine only."""
    return store_json(x, separators=separators, indent=indent, label=label, local=True)


def store_npy_local(array: np.ndarray[Any, Any], label: str | None = None) -> str:
    """As `store_npy`, on this machine only."""
    return store_npy(array, label=label, local=True)


def load_file(
    uri: str,
    *,
    dest: str | os.PathLike[str] | None = None,
    local_only: bool = False,
    verbose: bool = False,
    zone: str | None = None,
) -> str | None:
    """The path of a stored file, verified, or of its copy at `dest`; None if it is nowhere.

    `local_only` looks on this machine only; `verbose` shows the progress of downloads always.
    """
    check_zone(zone)
    files = files_in_force()
    return _or_none(lambda: files.load_file(uri, dest=dest, local_only=local_only, verbose=verbose))


def load_file_info(uri: str) -> dict[str, Any] | None:
    """What is known of a stored file without loading it, such as its size; None if it is nowhere."""
    return _or_none(lambda: files_in_force().load_file_info(uri))


def load_text(uri: str, *, local_only: bool = False) -> str | None:
    """A stored file as text; None if it is nowhere."""
    return _or_none(lambda: files_in_force(local=local_only).load_text(uri, local_only=local_only))


def load_json(uri: str, *, local_only: bool = False) -> Any:
    """A stored JSON file as Python data; None if it is nowhere."""
    return _or_none(lambda: files_in_force(local=local_only).load_json(uri, local_only=local_only))


def load_npy(uri: str, *, local_only: bool = False) -> np.ndarray[Any, Any] | None:
    """A stored .npy file as an array; None if it is nowhere."""
    return _or_none(lambda: files_in_force(local=local_only).load_npy(uri, local_only=local_only))


def load_pkl(uri: str, *, local_only: bool = False) -> Any:
    """A stored pickle as a Python object; None if it is nowhere. LOADING A PICKLE EXECUTES ITS CODE.

    The digest says that the bytes are those the URI names, not that they are harmless: load only what
    you, or somebody you trust, stored.
    """
    return _or_none(lambda: files_in_force(local=local_only).load_pkl(uri, local_only=local_only))


def load_bytes(
    uri: str,
    start: int | None = None,
    end: int | None = None,
    *,
    write_to_stdout: bool = False,
    local_only: bool = False,
) -> bytes | None:
    """The bytes of a stored file from `start` up to, not including, `end`; None if it is nowhere.

    With `write_to_stdout` they are written to standard output, and None is returned.
    """
    files = files_in_force(local=local_only)
    if write_to_stdout:
        return _or_none(lambda: files.cat_file(uri, sys.stdout.buffer, start=start, end=end))
    return _or_none(lambda: files.load_bytes(uri, start, end, local_only=local_only))


def cat_file(uri: str) -> None:
    """Write a stored file to standard output; nothing if it is nowhere."""
    _or_none(lambda: files_in_force().cat_file(uri))


def get_kachery_dir(*, respect_sandbox: bool = True) -> str:
    """The folder of the store in force, which is made if need be."""
    root = root_in_force() if respect_sandbox else current().root
    try:
        os.makedirs(root, exist_ok=True)
    except OSError as error:
        raise unavailable(root, error) from error
    return root


def zone_in_force() -> str:
    """The name of the zone in force; `default` without one."""
    zone = store_in_force().zone
    return NO_ZONE if zone is None else zone.name


def check_zone(zone: str | None) -> None:
    """Refuse a zone other than the one in force with Unsupported."""
    if zone is not None and zone != zone_in_force():
        raise Unsupported(
            f"the zone in force is {zone_in_force()!r}, and files cannot be loaded from {zone!r} beside"
            " it: set KACHERY_ZONE to that zone, or leave zone= out"
        )


def _zone(local: bool) -> str:
    return _LOCAL_ZONE if local else zone_in_force()


def _path_of(filename: str | os.PathLike[str]) -> str:
    path = os.fspath(filename)
    if path.startswith(("sha1://", "kachery:")):
        return files_in_force().load_file(path)
    return path


def _or_none(load: Callable[[], T]) -> T | None:
    try:
        return load()
    except OutOfReach:
        raise  # it may well be somewhere
    except NotFound:
        return None
