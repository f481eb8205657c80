"""Any other file system that fsspec opens. Only `memory://` is known to keep the promises."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..backend import Capabilities, Status
from ..errors import (
    BadURI,
    DigestMismatch,
    KacheryError,
    NotFound,
    StoreUnavailable,
    Unsupported,
    UnverifiedWarning,
)
from ..saying import warn

if TYPE_CHECKING:
    from typing_extensions import Buffer

_VERIFIED = ("memory",)
_LARGEST = 64_000_000  # bytes; nothing that kachery puts under one name is larger
_PIECE = 1 << 20
_MOST_WORDS = 300  # characters of what a file system says, which goes to a person's terminal
# Without blocks fsspec reads as much as is asked for; with them, all that the server sends.
_STREAMED: dict[str, dict[str, Any]] = {"http": {"block_size": 0}, "https": {"block_size": 0}}

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
        if end is not None and end <= start:
            return b""
        with self._errors(name) as (fs, path):
            if self._scheme in _VERIFIED:
                data: bytes = fs.cat_file(path, start=start or None, end=end)
            else:
                with fs.open(path, "rb", **_STREAMED.get(self._scheme, {})) as file:
                    data = self._bounded(name, file, start, end)
        return data

    def _bounded(self, name: str, file: Any, start: int, end: int | None) -> bytes:
        """Bytes of an open file; DigestMismatch for more than anything has that kachery stores."""
        for _ in _pieces(file, start):
            pass
        most = _LARGEST + 1 if end is None else end - start
        data = b"".join(_pieces(file, most))
        if end is None and len(data) == most:
            raise DigestMismatch(
                f"{name} in the store at {self.url} is not what was stored there: it has more than"
                f" {_LARGEST} bytes"
            )
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
                listed = [(str(one), _status(info)) for one, info in found.items()]
        except NotFound:
            return
        for found_path, status in listed:
            yield found_path[len(self._prefix) :], status

    def quarantine(self, name: str, seen: Status | None = None) -> str | None:
        """Move what is damaged out of the way; returns where it is now, None if it had gone.

        What is no longer as `seen` stays.
        """
        now = self.status(name)
        if now is None or (seen is not None and now.version != seen.version):
            return None
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
        except KacheryError:
            raise
        except Exception as error:
            # Each file system of fsspec has errors of its own (aiohttp.ClientError, those of
            # google.auth and of azure) without a common base. They must not end a task that has been
            # computed, so this one door takes all of them.
            told = f"{type(error).__name__}: {error}"[:_MOST_WORDS]
            raise StoreUnavailable(
                f"the store at {self.url} cannot be used: {told}. Check the network, the zone's url"
                " and your credentials",
                error.errno if isinstance(error, OSError) else None,
                self.url,
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


def _pieces(file: Any, count: int) -> Iterator[bytes]:
    """So many bytes of an open file, or all that there are."""
    while count > 0 and (piece := file.read(min(count, _PIECE))):
        yield piece
        count -= len(piece)


def _status(info: dict[str, Any]) -> Status:
    modified = info.get("mtime") or info.get("LastModified") or info.get("created") or 0.0
    seconds = modified.timestamp() if isinstance(modified, datetime) else float(modified)
    version = info.get("ETag") or info.get("etag") or f"{info['size']}.{seconds}"
    return Status(int(info["size"] or 0), seconds, str(version))
