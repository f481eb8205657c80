"""The backend on a file system of the operating system, with what a local store needs beyond it.

A file is written under a temporary name and linked to its own. What is not `durable` survives
`kill -9` at once, and power loss once the flusher has passed by.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from . import flusher
from .backend import Capabilities, Status
from .errors import (
    DigestMismatch,
    NotFound,
    StoreTooNew,
    StoreUnavailable,
    Unsupported,
    unavailable,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer

LAYOUT_VERSION = 1
LAYOUT_FILE = "layout.json"

_PIECE = 16_384
_SHARED_FOLDER = 0o2775
_BOTH_NAMES = 2  # the temporary one and the other
_READING = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # the last for a pipe in the way
_READ_ONLY = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH


class LocalBackend:
    """A folder that holds one store. Names are relative, with forward slashes.

    With `shared`, it is a zone: everybody in the group of the folder may add to it. `part_size` is
    None: blobs are whole files, which can be memory-mapped.
    """

    part_size: int | None = None

    def __init__(self, root: str, *, shared: bool = False) -> None:
        self.root = self.url = root
        self.capabilities = Capabilities(create=True, swap=False, checksum=False, presign=False)
        self.shared = shared
        self._prefix = root + "/"
        self._layout_written = False
        if not shared:  # that of a zone is looked at when the zone is first used
            self._check_layout()

    def path(self, name: str) -> str:
        """The path of the file that has this name."""
        return self._prefix + name

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes under a name, from `start` up to `end`; NotFound when there is nothing."""
        fd = self._open(name)
        try:
            return _read_all(fd) if start == 0 and end is None else _read_some(fd, start, end)
        except OSError as error:
            raise unavailable(self.root, error) from error
        finally:
            os.close(fd)

    def map(self, name: str) -> tuple[mmap.mmap, os.stat_result]:
        """A private, writable memory map of a file (writes stay in this process), and its status.

        The file must not be empty. NotFound when there is nothing under the name.
        """
        fd = self._open(name)
        try:
            return mmap.mmap(fd, 0, access=mmap.ACCESS_COPY), os.fstat(fd)
        except OSError as error:
            raise unavailable(self.root, error) from error
        finally:
            os.close(fd)

    def _open(self, name: str) -> int:
        try:
            fd = os.open(self._prefix + name, _READING)
        except FileNotFoundError:
            self._check_there(name)
            raise NotFound(f"{name} is not in the store at {self.root}") from None
        except OSError as error:
            raise unavailable(self.root, error) from error
        if self.shared and not stat.S_ISREG(os.fstat(fd).st_mode):  # somebody's pipe, or device
            os.close(fd)
            raise DigestMismatch(f"{name} in the store at {self.root} is no file")
        return fd

    def status(self, name: str) -> Status | None:
        """What is known of a name, or None when there is nothing under it."""
        found = self.stat(name)
        return None if found is None else _status(found)

    def stat(self, name: str) -> os.stat_result | None:
        """What the system knows of a file, or None when there is nothing under the name."""
        try:
            return os.stat(self._prefix + name)
        except FileNotFoundError:
            self._check_there(name)
            return None
        except OSError as error:
            raise unavailable(self.root, error) from error

    def create(self, name: str, data: Buffer, *, durable: bool) -> bool:
        """Store bytes under a name that is free; False when the name is taken (nothing changes)."""
        with self.temporary() as temporary:
            temporary.write(data)
            return temporary.commit(name, durable=durable)

    def replace(self, name: str, data: Buffer) -> None:
        """Store bytes under a name, durably, whatever was there; readers see the old or the new."""
        with self.temporary() as temporary:
            temporary.write(data)
            temporary.commit_over(name)

    def swap(self, name: str, data: Buffer, expected: str | None) -> bool:
        """As `replace`, if nobody was faster (see Backend): for new names only."""
        if expected is not None:
            raise Unsupported(
                f"files cannot be exchanged conditionally ({self.root}); hold a lock instead"
            )
        return self.create(name, data, durable=True)

    @contextmanager
    def temporary(self) -> Iterator[TemporaryFile]:
        """A new file, to be written and committed; what is not committed is gone after the block."""
        temporary = None
        try:
            self.ensure_layout()
            temporary = TemporaryFile(self)
            yield temporary
        except StoreUnavailable:
            raise
        except OSError as error:
            raise unavailable(self.root, error) from error
        finally:
            if temporary is not None:
                temporary.discard()

    def adopt(self, temporary: str, name: str) -> None:
        """Make a complete file of `tmp/` what is under a name, read-only, unless something is there."""
        own = self.path(f"tmp/{os.getpid()}.{os.urandom(8).hex()}")
        try:
            self.make_folder(os.path.dirname(self.path(name)))
            os.rename(self.path(temporary), own)  # from here on nobody else goes on writing it
            try:
                os.chmod(own, _READ_ONLY)
                with suppress(FileExistsError):
                    os.link(own, self.path(name))
                    flusher.sync_later(self.path(name), self.root)
            finally:
                os.unlink(own)
        except OSError as error:
            raise unavailable(self.root, error) from error

    def sync(self, name: str) -> None:
        """Return when the file under that name, and its folders, are on the disk."""
        try:
            flusher.sync_file(self._prefix + name, self.root)
        except OSError as error:
            raise unavailable(self.root, error) from error

    def quarantine(self, name: str, seen: os.stat_result | Status | None = None) -> str | None:
        """Move a damaged file out of the way; returns where it is now, or None if it had gone.

        `seen` is the status of the file found damaged: another that took its place since is left
        alone.
        """
        now = self.stat(name)
        if now is None or (seen is not None and not _is_same(now, seen)):
            return None
        target = f"quarantine/{name.replace('/', '_')}.{os.urandom(4).hex()}"
        self.refuse_links(name)
        self.refuse_links(target)
        try:
            self.make_folder(self.path("quarantine"))
            os.rename(self.path(name), self.path(target))
        except FileNotFoundError:
            return None
        except StoreUnavailable:
            raise
        except OSError as error:
            raise unavailable(self.root, error) from error
        return self.path(target)

    def remove(self, name: str) -> bool:
        """Delete what is under a name; False when there was nothing."""
        self.refuse_links(name)
        try:
            os.unlink(self._prefix + name)
        except FileNotFoundError:
            self._check_there(name)
            return False
        except OSError as error:
            raise unavailable(self.root, error) from error
        return True

    def names(self, folder: str) -> Iterator[str]:
        """The names of all files below a folder, in no special order; not those with a dot first."""
        try:
            entries = list(os.scandir(self._prefix + folder))
        except FileNotFoundError:
            self._check_there(folder)
            return
        except OSError as error:
            raise unavailable(self.root, error) from error
        for entry in entries:
            name = f"{folder}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from self.names(name)
            elif not entry.name.startswith("."):
                yield name

    def entries(self, folder: str) -> Iterator[tuple[str, Status]]:
        """`names`, each with its status; what goes away meanwhile is left out."""
        for name in self.names(folder):
            status = self.status(name)
            if status is not None:
                yield name, status

    def make_folder(self, folder: str) -> None:
        """Create a folder and those above it; one that is there is left as it is."""
        if os.path.isdir(folder):
            return
        if self.shared and self._layout_written and os.path.dirname(folder) == self.root:
            self._check_there(folder)
        self.make_folder(os.path.dirname(folder))
        with suppress(FileExistsError):
            os.mkdir(folder)
            if self.shared:  # whatever the umask says; what is made inside has the same group
                os.chmod(folder, _SHARED_FOLDER)

    def refuse_links(self, name: str) -> None:
        """Refuse to write below a symbolic link in a zone: whoever made it chose where that goes.

        In a store of one's own, links are one's own business. StoreUnavailable.
        """
        if not self.shared:
            return
        folder = self.root
        for part in name.split("/")[:-1]:
            folder = f"{folder}/{part}"
            if os.path.islink(folder):
                raise StoreUnavailable(
                    f"nothing is written to {name} in the zone at {self.root}: {folder} is a symbolic"
                    " link, which may lead out of it. Put a folder in its place",
                    errno.ELOOP,
                    self.root,
                )

    def _check_there(self, name: str) -> None:
        """Tell a zone that has vanished from one that lacks something.

        A disk that is not mounted leaves an empty folder, or none; a zone has a layout. Raises
        StoreUnavailable.
        """
        if not (self.shared and self._layout_written) or name == LAYOUT_FILE:
            return
        if not os.path.exists(self.path(LAYOUT_FILE)):
            raise self.vanished()

    def expect_layout(self) -> None:
        """Take it from now on that the layout is there: who looked found it."""
        self._layout_written = True

    def vanished(self) -> StoreUnavailable:
        """The error that says that a zone was there and is not."""
        return StoreUnavailable(
            f"the zone at {self.root} has gone: there is no {LAYOUT_FILE} any more. Mount its disk"
            " again; if it was deleted on purpose and shall begin anew, make it with `kachery zone"
            " check`",
            errno.ENOENT,
            self.root,
        )

    def _check_layout(self) -> None:
        try:
            text = self.read(LAYOUT_FILE)
        except NotFound:
            return
        try:
            version = json.loads(text)["layout"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise StoreUnavailable(
                f"{self.path(LAYOUT_FILE)} is damaged: it should read"
                f' {{"kachery": "store", "layout": {LAYOUT_VERSION}}}. If no later kachery has used'
                " this store, delete that file and it will be written again."
            ) from None
        if not isinstance(version, int) or version > LAYOUT_VERSION:
            raise StoreTooNew(
                f"the store at {self.root} has layout {version}, and this kachery knows layouts up"
                f" to {LAYOUT_VERSION}: upgrade kachery, or point KACHERY_DIR at another folder"
            )
        self._layout_written = True

    def _make_durable_root(self) -> None:
        """Create the root and the folders above it so that they survive power loss."""
        missing = []
        folder = self.root
        if self.shared and not os.path.isdir(os.path.dirname(folder)):
            raise StoreUnavailable(  # a disk that is not mounted has no folders
                f"there is no folder {os.path.dirname(folder)} for the zone at {folder}: mount its"
                " disk, or make that folder",
                errno.ENOENT,
                self.root,
            )
        while not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        self.make_folder(self.root)
        for made in missing:
            with suppress(PermissionError):  # a parent that we may enter but not read
                flusher.fsync(os.path.dirname(made))

    def ensure_layout(self) -> None:
        """Create the root and say what it is, before anything else is written there."""
        if self._layout_written:
            return
        self._make_durable_root()
        text = json.dumps({"kachery": "store", "layout": LAYOUT_VERSION}) + "\n"
        temporary = TemporaryFile(self)
        try:
            temporary.write(text.encode())
            if not temporary.commit(LAYOUT_FILE, durable=True):
                self._check_layout()  # another one was first, perhaps a later kachery
        finally:
            temporary.discard()
        self._layout_written = True


class TemporaryFile:
    """A file that nobody sees until it is committed under a name.

    All of them begin in one folder: creating files by turns in hundreds of folders costs many times
    more, because a file system keeps the files of a folder together (docs/adr/0008).
    """

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend
        name = f"tmp/{os.getpid()}.{os.urandom(8).hex()}"
        backend.refuse_links(name)
        self._path = backend.path(name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._fd = os.open(self._path, flags, _READ_ONLY)
        except FileNotFoundError:
            backend.make_folder(backend.path("tmp"))
            self._fd = os.open(self._path, flags, _READ_ONLY)
        if backend.shared:
            os.fchmod(self._fd, _READ_ONLY)  # whatever the umask says

    def write(self, data: Buffer) -> None:
        """Append all of a contiguous buffer."""
        view = memoryview(data).cast("B")
        while view:
            view = view[os.write(self._fd, view) :]

    def commit(self, name: str, *, durable: bool) -> bool:
        """Give the file its name; False when the name is taken (then what is there is synced)."""
        target = self._backend.path(name)
        self._backend.refuse_links(name)
        if durable:
            os.fsync(self._fd)
        created = self._link(target)
        if durable:
            flusher.sync_file(target, self._backend.root)
        elif created:
            flusher.sync_later(target, self._backend.root)
        return created

    def commit_over(self, name: str) -> None:
        """Give the file its name, in the place of what has it now; durable."""
        target = self._backend.path(name)
        self._backend.refuse_links(name)
        os.fsync(self._fd)
        try:
            os.replace(self._path, target)
        except FileNotFoundError:
            self._backend.make_folder(os.path.dirname(target))
            os.replace(self._path, target)
        flusher.sync_file(target, self._backend.root)

    def _link(self, target: str) -> bool:
        try:
            os.link(self._path, target)
        except FileExistsError:
            # Over NFS the answer to a link that was made may be lost, and it is made again.
            return os.fstat(self._fd).st_nlink == _BOTH_NAMES
        except FileNotFoundError:
            self._backend.make_folder(os.path.dirname(target))
            with suppress(FileExistsError):
                os.link(self._path, target)
                return True
            return os.fstat(self._fd).st_nlink == _BOTH_NAMES
        return True

    def discard(self) -> None:
        """Close the file and remove its temporary name; what was committed stays."""
        os.close(self._fd)
        try:
            os.unlink(self._path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EROFS):
                raise


def _is_same(now: os.stat_result, seen: os.stat_result | Status) -> bool:
    if isinstance(seen, Status):
        return _status(now).version == seen.version
    return now.st_ino == seen.st_ino


def _status(found: os.stat_result) -> Status:
    return Status(found.st_size, found.st_mtime, f"{found.st_ino}.{found.st_mtime_ns}")


def _read_some(fd: int, start: int, end: int | None) -> bytes:
    left = (os.fstat(fd).st_size if end is None else end) - start
    pieces = []
    while left > 0 and (piece := os.pread(fd, left, start)):
        pieces.append(piece)
        start += len(piece)
        left -= len(piece)
    return b"".join(pieces)


def _read_all(fd: int) -> bytes:
    data = os.read(fd, _PIECE)
    if len(data) < _PIECE:  # the usual case: a record, in one call
        return data
    pieces = [data]
    while piece := os.read(fd, 64 * _PIECE):
        pieces.append(piece)
    return b"".join(pieces)
