"""The store: blobs, records and files under one root, with a zone behind it or not."""

from __future__ import annotations

import os

from .blobs import Blobs
from .border import Border
from .files import Files
from .limit import watch
from .local_backend import LocalBackend
from .pins import Pins
from .refs import Refs
from .uplink import Uplink
from .zone import Zone
from .zone_settings import default_root
from .zoned import ZonedBlobs, ZonedRefs

__all__ = ["Store", "default_root"]


class Store:
    """A store in a folder of this machine. Nothing is written there before something is stored.

    With a zone it is the cache in front of that: what is missing here is fetched, what is stored goes
    to both; `border` says what refs are there, and what speaks against one that comes from there. Raises
    StoreTooNew when a later kachery laid the folder out, StoreUnavailable when it cannot be read,
    ConfigError when its configuration is wrong.

    Attributes: `root` (absolute path), `zone` (or None), `uplink` (the way to the zone, or None),
    `blobs`, `jobs` (records by job id), `code` (descriptions by fingerprint), `differing` (records of
    runs whose result was not the stored one), `arrays` (manifests of chunked arrays), `failures` (the
    last failure, by job id), `files`, `pins`.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        zone: Zone | None = None,
        border: Border | None = None,
    ) -> None:
        self.root = os.path.abspath(os.path.expanduser(os.fspath(root)))
        self.zone = zone
        self.backend = LocalBackend(self.root)
        self.uplink = None if zone is None else Uplink(zone, self.backend, border or Border())
        self.blobs = self._blobs()
        self.jobs = self._refs("jobs")
        self.code = self._refs("code")
        self.differing = self._refs("differing")
        self.arrays = self._refs("arrays")
        self.failures = Refs(self.backend, "failures")  # what failed here is no zone's business
        self.files = Files(self.backend, self.blobs)
        self.pins = Pins(self.backend)
        watch(self.root)

    def _blobs(self) -> Blobs:
        return Blobs(self.backend) if self.uplink is None else ZonedBlobs(self.backend, self.uplink)

    def _refs(self, folder: str) -> Refs:
        if self.uplink is None:
            return Refs(self.backend, folder)
        return ZonedRefs(self.backend, folder, self.uplink)

    def __repr__(self) -> str:
        behind = "" if self.zone is None else f", {self.zone!r}"
        return f"Store({self.root!r}{behind})"
