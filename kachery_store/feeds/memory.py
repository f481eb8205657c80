"""The heads that this user has verified: a feed that is shorter, or another one, is refused.

They are in the user's own folder, because who can replace a feed can replace what lies beside it.
"""

from __future__ import annotations

import fcntl
import os

from ..errors import FeedDamaged, unavailable
from ..note import MOST_NOTE, Checkpoint
from ..signing import locked, make_private_folder, user_folder
from .batch import open_checkpoint
from .names import Place

_PRIVATE = 0o600


class Memory:
    """The heads that were verified, one file for each subfeed."""

    def __init__(self, folder: str | None = None) -> None:
        self._folder = os.path.join(folder or user_folder(), "heads")

    def path(self, place: Place) -> str:
        """Where the head of a subfeed is remembered."""
        return os.path.join(self._folder, place.feed, place.subfeed)

    def recall(self, place: Place) -> Checkpoint | None:
        """The last verified head of a subfeed. FeedDamaged when what is there is not signed."""
        path = self.path(place)
        if not os.path.exists(path):
            return None
        try:
            with locked(f"{path}.lock", fcntl.LOCK_SH):
                return self._recall(place, path)
        except OSError as error:
            raise unavailable(self._folder, error) from error

    def _recall(self, place: Place, path: str) -> Checkpoint | None:
        try:
            with open(path, "rb") as file:
                note = file.read(MOST_NOTE + 1)
        except FileNotFoundError:
            return None
        if not note:  # written shortly before the power failed
            return None
        try:
            return open_checkpoint(place, note, path)
        except FeedDamaged as error:
            raise FeedDamaged(
                f"{error}. Delete that file if you trust what the feed is now"
            ) from None

    def note(self, place: Place, size: int, note: bytes, *, durable: bool) -> None:
        """Remember a head, if it is later than the one that is remembered."""
        path = self.path(place)
        make_private_folder(os.path.dirname(path))
        try:
            with locked(f"{path}.lock", fcntl.LOCK_EX):
                known = self._recall(place, path)
                if known is not None and known.size >= size:
                    return
                if durable or known is None or os.path.getsize(path) > len(note):
                    _replace(path, note)
                else:
                    _overwrite(path, note)
        except OSError as error:
            raise unavailable(self._folder, error) from error


def _replace(path: str, data: bytes) -> None:
    temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE)
    try:
        os.write(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.replace(temporary, path)


def _overwrite(path: str, data: bytes) -> None:
    """Write over a shorter note, or one as long, in one call.

    File systems that care for those who rename without synchronizing make them wait for the disk.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(fd, data, 0)
    finally:
        os.close(fd)
