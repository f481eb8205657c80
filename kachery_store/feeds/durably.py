"""Creating files durably, with as few synchronizations as that takes.

LocalBackend synchronizes a file twice, and all folders above it, each time. A feed creates many files in
few folders: here each file is synchronized once, each folder once for all files together, and those
above a folder the first time that this process writes there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from .. import flusher
from ..backend import Backend
from ..errors import StoreUnavailable, unavailable
from ..local_backend import LocalBackend, TemporaryFile

_lasting: set[str] = set()  # folders whose own names are on the disk


def create(backend: Backend, files: Sequence[tuple[str, bytes]]) -> list[bool]:
    """Create files durably; for each whether its name was free. StoreUnavailable.

    What was there already is on the disk as well when this returns.
    """
    if not isinstance(backend, LocalBackend):
        return [backend.create(name, data, durable=True) for name, data in files]
    try:
        backend.ensure_layout()
        created = [_create(backend, name, data) for name, data in files]
        _sync_folders(backend, {os.path.dirname(backend.path(name)) for name, _ in files})
    except StoreUnavailable:
        raise
    except OSError as error:
        raise unavailable(backend.root, error) from error
    return created


def _create(backend: LocalBackend, name: str, data: bytes) -> bool:
    folder = os.path.dirname(backend.path(name))
    if not os.path.isdir(folder):
        _lasting.discard(folder)
    temporary = _Durable(backend)
    try:
        temporary.write(data)
        return temporary.link(name)
    finally:
        temporary.discard()


def _sync_folders(backend: LocalBackend, folders: Iterable[str]) -> None:
    done = set()
    for lowest in folders:
        folder, flushed = lowest, lowest in _lasting
        while folder not in done and len(folder) >= len(backend.root):
            flusher.fsync(folder)
            done.add(folder)
            if flushed:
                break
            folder = os.path.dirname(folder)
        _lasting.add(lowest)


class _Durable(TemporaryFile):
    """A file that is synchronized before it gets its name; its folder is not."""

    def link(self, name: str) -> bool:
        """Give the file its name; False when the name is taken."""
        self._backend.refuse_links(name)
        os.fsync(self._fd)
        created = self._link(self._backend.path(name))
        if not created:
            flusher.fsync(self._backend.path(name))
        return created
