"""The store: blobs, records and files under one root."""

from __future__ import annotations

import os

from .blobs import Blobs
from .files import Files
from .local_backend import LocalBackend
from .refs import Refs


class Store:
    """A store in a folder of this machine. Nothing is written there before something is stored.

    Raises StoreTooNew when a later kachery laid the folder out, StoreUnavailable when it cannot be
    read. Attributes: `root` (absolute path), `blobs`, `jobs` (records by job id), `code`
    (descriptions by fingerprint), `differing` (records of runs whose result was not the stored one),
    `files`.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(os.path.expanduser(os.fspath(root)))
        self.backend = LocalBackend(self.root)
        self.blobs = Blobs(self.backend)
        self.jobs = Refs(self.backend, "jobs")
        self.code = Refs(self.backend, "code")
        self.differing = Refs(self.backend, "differing")
        self.files = Files(self.backend, self.blobs)

    def __repr__(self) -> str:
        return f"Store({self.root!r})"


def default_root() -> str:
    """The folder of the local store: KACHERY_DIR, else ~/.kachery."""
    return os.environ.get("KACHERY_DIR") or os.path.expanduser("~/.kachery")
