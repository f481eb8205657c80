"""The store: blobs, records and files under one root, with a zone behind it or not."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

from .blobs import Blobs
from .border import Border
from .limit import watch
from .local_backend import LocalBackend
from .refs import Refs
from .zone_settings import default_root

# What only a store with a zone needs, or only some who use one, is imported when it is needed.
if TYPE_CHECKING:
    from .files import Files
    from .pins import Pins
    from .uplink import Uplink
    from .zone import Zone

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
        self.uplink = None if zone is None else self._uplink_to(zone, border or Border())
        self.blobs = self._blobs()
        self.jobs = self._refs("jobs")
        self.code = self._refs("code")
        self.differing = self._refs("differing")
        self.arrays = self._refs("arrays")
        self.failures = Refs(self.backend, "failures")  # what failed here is no zone's business
        watch(self.root)

    @cached_property
    def files(self) -> Files:
        """Named files."""
        from .files import Files

        return Files(self.backend, self.blobs)

    @cached_property
    def pins(self) -> Pins:
        """What is protected from garbage collection."""
        from .pins import Pins

        return Pins(self.backend)

    def _uplink_to(self, zone: Zone, border: Border) -> Uplink:
        from .uplink import Uplink

        return Uplink(zone, self.backend, border)

    def _blobs(self) -> Blobs:
        if self.uplink is None:
            return Blobs(self.backend)
        from .zoned import ZonedBlobs

        return ZonedBlobs(self.backend, self.uplink)

    def _refs(self, folder: str) -> Refs:
        if self.uplink is None:
            return Refs(self.backend, folder)
        from .zoned import ZonedRefs

        return ZonedRefs(self.backend, folder, self.uplink)

    def __repr__(self) -> str:
        behind = "" if self.zone is None else f", {self.zone!r}"
        return f"Store({self.root!r}{behind})"
