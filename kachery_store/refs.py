"""Small named things that are written once: the bytes under `<folder>/<name>`.

Names are hex. What the bytes mean, and whether they are intact, is known to those who wrote them.
"""

from __future__ import annotations

from collections.abc import Iterator

from .blobs import set_aside
from .local_backend import LocalBackend


class Refs:
    """All refs of one folder of a store."""

    def __init__(self, backend: LocalBackend, folder: str) -> None:
        self._backend = backend
        self._folder = folder

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name[:2]}/{name}"

    def read(self, name: str) -> bytes:
        """The bytes under a name; NotFound when there are none."""
        return self._backend.read(self._path(name))

    def has(self, name: str) -> bool:
        """Whether there is something under a name."""
        return self._backend.status(self._path(name)) is not None

    def create(self, name: str, data: bytes) -> bool:
        """Write bytes under a name that is free; False when the name is taken."""
        return self._backend.create(self._path(name), data, durable=False)

    def replace(self, name: str, data: bytes) -> None:
        """Write bytes under a name, durably, in the place of what is there."""
        self._backend.replace(self._path(name), data)

    def set_aside(self, name: str, why: str = "is damaged") -> None:
        """Move what is under a name to quarantine, and say so."""
        what = f"{self._folder}/{name} {why}"
        set_aside(self._backend, self._path(name), what)

    def remove(self, name: str) -> bool:
        """Forget a name; False when there was nothing under it."""
        return self._backend.remove(self._path(name))

    def drop(self, name: str) -> None:
        """Forget a name here: what a zone has stays there."""
        self._backend.remove(self._path(name))

    def spurn(self, name: str) -> None:
        """Forget a name here; nor does this process take what a zone has."""
        self.drop(name)

    def names(self, start: str = "") -> Iterator[str]:
        """All names, in no special order; with `start`, at least those that begin with it."""
        folder = f"{self._folder}/{start[:2]}" if len(start) >= 2 else self._folder
        for path in self._backend.names(folder):
            yield path.rpartition("/")[2]
