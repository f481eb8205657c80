"""Pins in a zone: what no collection there takes. Those of the local store do not count there."""

from __future__ import annotations

import time
from collections.abc import Iterator

from .collecting import await_verdict
from .digest import Digest
from .errors import NotFound
from .inventory import HeldBy
from .pins import JOB, Pin, Pinned, Pins, parse_pinned
from .transfer import has
from .zone import Zone


class ZonePins(Pins):
    """The pins of one zone. `held_by` tells what a record of the zone holds."""

    def __init__(self, zone: Zone, held_by: HeldBy) -> None:
        super().__init__(zone.backend)
        self._zone = zone
        self._held_by = held_by

    def add(self, uri: str, reason: str = "") -> Pin:
        """As of Pins. The pin comes first: a collection that begins later honours it.

        Of one under way we wait for what it is about to delete, and then look whether all is there.
        """
        pinned = parse_pinned(uri)
        self._zone.prepare(writing=True)
        if self._backend.status(pinned.name) is None and not self._is_in_parts(pinned):
            raise self.not_there(uri)
        pin, had = Pin(uri, reason, time.time()), self.has(uri)
        self.write(pin)
        await_verdict(self._backend)
        lacking = next(self._lacking(pinned), None)
        if lacking is not None:
            if not had:
                self.remove(uri)
            raise NotFound(
                f"{uri} cannot be pinned in zone {self._zone.name}, which lacks {lacking}: send it"
                f" first, with `kachery push {uri}`"
            )
        return pin

    def _is_in_parts(self, pinned: Pinned) -> bool:
        return pinned.kind != JOB and has(self._backend, Digest(*pinned))

    def _lacking(self, pinned: Pinned) -> Iterator[str]:
        """What the zone has not of what is pinned."""
        name = pinned.name
        if pinned.kind != JOB:
            if not has(self._backend, Digest(*pinned)):
                yield pinned.uri
            name = f"arrays/{pinned.hex[:2]}/{pinned.hex}"
            if pinned.kind != "blake3" or self._backend.status(name) is None:
                return
        try:
            held = self._held_by(pinned.hex, self._backend.read(name))
        except NotFound:
            yield pinned.uri
            return
        if not held.complete:
            yield f"blake3://{held.address}"
        yield from (str(one) for one, _ in held.blobs if not has(self._backend, one))
