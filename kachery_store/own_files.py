"""Files of the user's own that are used in place: checked against a digest before they are used.

What was checked is remembered until the file system says that the file changed.
"""

from __future__ import annotations

import os
import stat
import time
from typing import NamedTuple

from .digest import Digest, new_hasher
from .errors import DigestMismatch
from .progress import progress_bar

_PIECE = 4 << 20
_SETTLED_NANOSECONDS = 50_000_000  # as in blobs.py: two changes within a tick look like one


class Seen(NamedTuple):
    """What the file system says of a file; another file, or a changed one, is told apart by it."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mtime: float


class OwnFiles:
    """Remembers which files were found to match which digests, for the life of the process."""

    def __init__(self) -> None:
        self._checked: set[tuple[Seen, Digest]] = set()

    def matches(self, path: str, digest: Digest) -> bool:
        """Whether a regular file has exactly the bytes that the digest names.

        OSError when there is none, or it cannot be read.
        """
        if (look(path), digest) in self._checked:
            return True
        try:
            seen, found = hash_file(path, digest.algorithm)
        except DigestMismatch:
            return False
        if found == digest and time.time_ns() - seen.ctime_ns > _SETTLED_NANOSECONDS:
            self._checked.add((seen, digest))
        return found == digest


def look(path: str) -> Seen:
    """What the file system says of a regular file; OSError for anything else."""
    return _seen(path, os.stat(path))


def hash_file(path: str, algorithm: str) -> tuple[Seen, Digest]:
    """A regular file's state and digest.

    OSError when it cannot be read, DigestMismatch when it changes meanwhile.
    """
    # Without O_NONBLOCK a named pipe in the place of a file would block for ever.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(fd, "rb", buffering=0) as file:
        seen = _seen(path, os.fstat(fd))
        hasher = new_hasher(algorithm)
        with progress_bar(f"hash {os.path.basename(path)}", seen.size) as progress:
            while piece := file.read(_PIECE):
                hasher.update(piece)
                progress(len(piece))
        if _seen(path, os.fstat(fd)) != seen:
            raise DigestMismatch(f"{path} changed while it was read; try again when it is complete")
    return seen, Digest(algorithm, hasher.hexdigest())


def _seen(path: str, status: os.stat_result) -> Seen:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(f"{path} is not a regular file")
    return Seen(
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_mtime,
    )
