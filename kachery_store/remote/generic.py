"""Any other file system that fsspec opens. Only `memory://` is known to keep the promises."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..backend import Capabilities, Status
from ..errors import BadURI, NotFound, StoreUnavailable, Unsupported, UnverifiedWarning
from ..saying import warn

if TYPE_CHECKING:
    from typing_extensions import Buffer

_VERIFIED = ("memory",)

_lock = threading.Lock()  # one for all: what memory:// holds is shared by the whole process


def _unlock_after_fork() -> None:
    # Whoever held it in the parent is not in the child.
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_unlock_after_fork)


class FsspecBackend:
    """The files below a URL of fsspec. `part_size`: what is larger travels in parts."""

    part_size: int | None = 20_000_000

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.url = url.rstrip("/")
        self._options = options
        self._scheme = url.partition("://")[0]
        self._fs: Any = None
        self._prefix = ""
        self._process = 0
        verified = self._scheme in _VERIFIED
        self.capabilities = Capabilities(create=verified, swap=False, checksum=False, presign=False)
        if not verified:
            warn(
                UnverifiedWarning(
                    f"kachery has not been tested with {self._scheme}:// and cannot tell whether two"
                    " that write at the same time see each other: every value is still verified when"
                    " it is read, but a job may be computed twice"
                )
            )

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes under a name, from `start` up to `end`; NotFound when there is nothing."""
        with self._errors(name) as (fs, path):
            data: bytes = fs.cat_file(path, start=start or None, end=end)
        return data

    def status(self, name: str) -> Status | None:
        """What is known of a name, or None when there is nothing under it."""
        try:
            with self._errors(name) as (fs, path):
                return _status(fs.info(path))
        except NotFound:
            return None

    def create(self, name: str, data: Buffer, *, durable: bool) -> bool:  # noqa: ARG002
        """Store bytes under a name that is free; False when the name is taken."""
        with _lock:
            if self.status(name) is not None:
                return False
            self.replace(name, data)
            return True

    def replace(self, name: str, data: Buffer) -> None:
        """Store bytes under a name, whatever was there."""
        with self._errors(name) as (fs, path):
            fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            fs.pipe_file(path, bytes(data))

    def swap(self, name: str, data: Buffer, expected: str | None) -> bool:  # noqa: ARG002
        """Refused: fsspec has no such operation."""
        raise Unsupported(f"{self.url} cannot exchange files conditionally")

    def remove(self, name: str) -> bool:
        """Delete what is under a name; False when there was nothing."""
        try:
            with self._errors(name) as (fs, path):
                fs.rm_file(path)
        except NotFound:
            return False
        return True

    def names(self, folder: str) -> Iterator[str]:
        """The names of everything below a folder."""
        for name, _ in self.entries(folder):
            yield name

    def entries(self, folder: str) -> Iterator[tuple[str, Status]]:
        """`names`, each with its status."""
        try:
            with self._errors(folder) as (fs, path):
                found = fs.find(path, detail=True)
        except NotFound:
            return
        for path, info in found.items():
            yield str(path)[len(self._prefix) :], _status(info)

    def quarantine(self, name: str) -> str | None:
        """Move what is damaged out of the way; returns where it is now, None if it had gone."""
        target = f"quarantine/{name.replace('/', '_')}.{os.urandom(4).hex()}"
        try:
            self.replace(target, self.read(name))
        except NotFound:
            return None
        self.remove(name)
        return f"{self.url}/{target}"

    @contextmanager
    def _errors(self, name: str) -> Iterator[tuple[Any, str]]:
        """The file system and the path of a name; its errors are kachery's."""
        try:
            fs = self._file_system()
            yield fs, self._prefix + name
        except FileNotFoundError:
            raise NotFound(f"{name} is not in the store at {self.url}") from None
        except OSError as error:
            raise StoreUnavailable(
                f"the store at {self.url} cannot be used: {error}", error.errno, self.url
            ) from error

    def _file_system(self) -> Any:
        """The file system of this process: connections do not survive a fork."""
        if self._fs is None or (self._process != os.getpid() and self._scheme != "memory"):
            import fsspec

            try:
                self._fs, root = fsspec.core.url_to_fs(self.url + "/", **self._options)
            except (ImportError, ValueError) as error:
                raise BadURI(f"fsspec cannot open {self.url}: {error}") from error
            self._prefix, self._process = f"{root.rstrip('/')}/", os.getpid()
        return self._fs


def _status(info: dict[str, Any]) -> Status:
    modified = info.get("mtime") or info.get("LastModified") or info.get("created") or 0.0
    seconds = modified.timestamp() if isinstance(modified, datetime) else float(modified)
    version = info.get("ETag") or info.get("etag") or f"{info['size']}.{seconds}"
    return Status(int(info["size"] or 0), seconds, str(version))
