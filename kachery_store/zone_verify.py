"""Checking everything in a zone: blobs, records and descriptions against their digests, manifests and
the presence of their parts, of arrays the presence of their chunks.

How far the run is, is noted in the local store, so that one that was stopped, or killed, goes on there.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import quote

from .backend import Backend, Status
from .digest import HEX_LENGTH, Digest, new_hasher
from .errors import DigestMismatch, NotFound, StoreTooNew, StoreUnavailable
from .inventory import HeldBy
from .local_backend import LocalBackend
from .manifest import PART_SIZE
from .survey import at_once, chunks, digest_of, manifest_in
from .verify import CheckEntry, Damage, Verified, noted
from .zone import Zone

_FOLDERS = (*HEX_LENGTH, "arrays", "code", "differing", "jobs", "manifests")
_BATCH = 64  # objects between two looks at whether it is time to note the position
_NOTE_SECONDS = 5.0
_AT_ONCE = 16  # at most; with objects of 20 MB that is what is in memory


class ZoneVerification:
    """One run over a zone, begun or continued; as Verification. Raises StoreTooNew, StoreUnavailable."""

    def __init__(
        self,
        zone: Zone,
        local: LocalBackend,
        check_entry: CheckEntry,
        held_by: HeldBy | None = None,
        *,
        afresh: bool = False,
    ) -> None:
        zone.prepare(writing=False)
        self._zone = zone
        self._backend: Backend = zone.backend
        self._local = local
        self._check_entry = check_entry
        self._held_by = held_by
        self._state = f"verify-{quote(zone.name, safe='')}.json"
        position, self.before = ("", Verified()) if afresh else noted(local, self._state)
        self._db = sqlite3.connect("", isolation_level=None)
        self._list(position)
        self.bytes = int(self._db.execute("SELECT total(size) FROM object").fetchone()[0])

    def _list(self, position: str) -> None:
        """The names that are left, in order: a listing may come in any."""
        self._db.execute("CREATE TABLE object (name TEXT PRIMARY KEY, size INTEGER) WITHOUT ROWID")
        for folder in _FOLDERS:
            entries = self._backend.entries(folder)
            left = ((name, one.size) for name, one in entries if name > position)
            self._db.executemany("INSERT OR IGNORE INTO object VALUES (?, ?)", left)

    def run(
        self, *, threads: int | None = None, progress: Callable[[int], object] = lambda _: None
    ) -> Verified:
        """Check what is left; `progress` is told the number of bytes after each piece."""
        done = self.before
        noted_at = started = time.monotonic()
        at_once = threads or min(_AT_ONCE, 4 * (os.cpu_count() or 1))
        rows = self._db.execute("SELECT name, size FROM object ORDER BY name")
        with ThreadPoolExecutor(at_once, thread_name_prefix="kachery-verify") as pool:
            for batch in chunks(rows, _BATCH):
                found = list(pool.map(lambda row: self._check(row[0], progress), batch))
                now = time.monotonic()
                done = Verified(
                    done.files + len(batch),
                    done.bytes + sum(size for _, size in batch),
                    self.before.seconds + now - started,
                    (*done.damaged, *(one for some in found for one in some)),
                )
                if now - noted_at > _NOTE_SECONDS:
                    noted_at = now
                    self._note(batch[-1][0], done)
        self._local.remove(self._state)
        self._db.close()
        return done

    def _note(self, position: str, done: Verified) -> None:
        state = {"position": position, **done._asdict()}
        self._local.replace(self._state, json.dumps(state).encode() + b"\n")

    def _check(self, name: str, progress: Callable[[int], object]) -> list[Damage]:
        """What is wrong with an object, or with what it lists. StoreUnavailable."""
        if not self._wrong_with(name, progress):
            return []
        seen = self._backend.status(name)
        found = self._wrong_with(name, _silent)  # it may have been repaired since
        if found is None:
            return []
        return [self._damage(name, found, seen)] if isinstance(found, str) else found

    def _wrong_with(
        self, name: str, progress: Callable[[int], object]
    ) -> str | list[Damage] | None:
        try:
            if name.startswith("manifests/"):
                return self._check_parts(name, progress) or None
            if digest_of(name) is not None:
                self._check_blob(name, progress)
            elif name.partition("/")[0] in HEX_LENGTH:
                return "its name is no digest"
            else:
                data = self._backend.read(name)
                progress(len(data))
                self._check_entry(name, data)
                if name.startswith("arrays/"):
                    return self._missing_chunks(name, data) or None
        except NotFound:  # somebody has deleted it, which is no damage
            return None
        except DigestMismatch as error:
            return str(error)
        except StoreTooNew:
            return None
        return None

    def _check_blob(self, name: str, progress: Callable[[int], object]) -> None:
        digest = digest_of(name)
        assert digest is not None  # noqa: S101 - asked before
        hasher = new_hasher(digest.algorithm)
        for piece in self._pieces(name):
            hasher.update(piece)
            progress(len(piece))
        if hasher.hexdigest() != digest.hex:
            raise DigestMismatch(f"it is not {digest}")

    def _pieces(self, name: str) -> Iterator[bytes]:
        """The bytes of an object; where large blobs are kept whole, a part at a time."""
        if self._backend.part_size is not None:
            yield self._backend.read(name)
            return
        start = 0
        while piece := self._backend.read(name, start, start + PART_SIZE):
            yield piece
            start += len(piece)

    def _check_parts(self, name: str, progress: Callable[[int], object]) -> list[Damage]:
        data = self._backend.read(name)
        progress(len(data))
        lacking = []
        for part in manifest_in(name, data).parts:
            why = _lack(self._backend.status(part.digest.path), part.end - part.start)
            if why:
                lacking.append(Damage(name, f"its part {part.digest} {why}", ""))
        # Unless somebody has deleted all of it meanwhile.
        return lacking if self._backend.status(name) is not None else []

    def _missing_chunks(self, name: str, data: bytes) -> list[Damage]:
        if self._held_by is None:
            return []
        blobs = [one for one, _ in self._held_by(name.rpartition("/")[2], data).blobs]
        gone = [
            one for one, there in zip(blobs, at_once(self._has, blobs), strict=True) if not there
        ]
        if gone and self._backend.status(name) is None:  # somebody has deleted all of it
            return []
        return [Damage(one.path, f"is missing, and {name} lists it", "") for one in gone]

    def _has(self, digest: Digest) -> bool:
        in_parts = f"manifests/{digest.algorithm}/{digest.hex[:2]}/{digest.hex}"
        names = (digest.path,) if self._backend.part_size is None else (digest.path, in_parts)
        return any(self._backend.status(name) is not None for name in names)

    def _damage(self, name: str, why: str, seen: Status | None) -> Damage:
        moved = None
        if not self._zone.read_only:
            with suppress(StoreUnavailable):  # we may not, which is told
                moved = self._backend.quarantine(name, seen)
        return Damage(name, why, moved or "")


def _silent(_: int) -> None:
    """Tell nobody."""


def _lack(found: Status | None, size: int) -> str:
    if found is None:
        return "is missing"
    return f"has {found.size} bytes instead of {size}" if found.size != size else ""
