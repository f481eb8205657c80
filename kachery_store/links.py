"""Links: files that are stored by reference, and stay where the user has them.

A link is the file `linked_files/<path of the digest>`, a JSON object {path, size, mtime, sha1}. It
counts as long as the file there has that size and time, and the bytes that the digest names.
"""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from typing import Any, NamedTuple

from .blobs import set_aside
from .digest import Digest
from .errors import DigestMismatch, NotFound
from .local_backend import LocalBackend
from .own_files import OwnFiles, hash_file, look

_MAX_LINK = 65_536  # bytes
_MAX_PATH = 4_096
_WRITABLE = 0o644  # kachery 2 writes into its link files, instead of replacing them


class _Link(NamedTuple):
    path: str
    size: int
    mtime: float


class Links:
    """The links of one store."""

    def __init__(self, backend: LocalBackend, own_files: OwnFiles) -> None:
        self._backend = backend
        self._own_files = own_files

    def create(self, filename: str, algorithm: str) -> Digest:
        """Link a file; returns its digest once the link is on the disk.

        Raises OSError for the file, DigestMismatch when it changes meanwhile, StoreUnavailable.
        """
        path = os.path.abspath(filename)
        seen, digest = hash_file(path, algorithm)
        record = {"path": path, "size": seen.size, "mtime": seen.mtime, algorithm: digest.hex}
        name = _name(digest)
        self._backend.replace(name, json.dumps(record).encode())
        with suppress(OSError):  # it is there, if perhaps not for kachery 2
            os.chmod(self._backend.path(name), _WRITABLE)
        return digest

    def find(self, digest: Digest) -> str | None:
        """The path of the linked file, checked; None without a link that is still valid.

        Raises DigestMismatch when the link, or what it leads to, is not what was linked; the link
        is set aside then.
        """
        link = self._read(digest)
        if link is None or not _is_unchanged(link):
            return None
        try:
            matches = self._own_files.matches(link.path, digest)
        except OSError:
            return None  # it may not be read; the link is not to blame
        if matches:
            return link.path
        if not _is_unchanged(link):
            return None
        raise self._bad(digest, f"leads to {link.path}, whose bytes are not those of {digest}")

    def _read(self, digest: Digest) -> _Link | None:
        name = _name(digest)
        status = self._backend.status(name)
        if status is None:
            return None
        if status.size > _MAX_LINK:
            raise self._bad(digest, f"has {status.size} bytes")
        try:
            link = _parse(self._backend.read(name), digest)
        except NotFound:
            return None
        if link is None:
            raise self._bad(digest, "is damaged")
        return link

    def _bad(self, digest: Digest, why: str) -> DigestMismatch:
        name = _name(digest)
        return DigestMismatch(set_aside(self._backend, name, f"the link {name} {why}"))


def _name(digest: Digest) -> str:
    return f"linked_files/{digest.path}"


def _is_unchanged(link: _Link) -> bool:
    try:
        seen = look(link.path)
    except OSError:
        return False
    return (seen.size, seen.mtime) == (link.size, link.mtime)


def _parse(data: bytes, digest: Digest) -> _Link | None:
    """The link in these bytes, which anybody may have written; None when there is none."""
    try:
        found: Any = json.loads(data)
        link = _Link(found["path"], found["size"], found["mtime"])
        same = found[digest.algorithm] == digest.hex
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    good = same and _is_path(link.path) and type(link.size) is int and _is_time(link.mtime)
    return link if good else None


def _is_path(path: Any) -> bool:
    return (
        isinstance(path, str)
        and path.startswith("/")
        and len(path) <= _MAX_PATH
        and "\0" not in path
        and ".." not in path.split("/")
        and _can_be_encoded(path)
    )


def _can_be_encoded(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True


def _is_time(mtime: Any) -> bool:
    if type(mtime) is int:
        return abs(mtime) < 1 << 63
    return type(mtime) is float and math.isfinite(mtime)
