"""Checking everything that is stored against its digest.

The run notes how far it is in `verify.json`, so that one that was stopped, or killed, goes on from
there. What is damaged goes to quarantine. Reading for this purpose does not count as use.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

from .digest import HEX_LENGTH, make_digest, new_hasher
from .errors import BadURI, DigestMismatch, NotFound, StoreTooNew
from .inventory import HeldBy, read_quietly
from .local_backend import LocalBackend
from .sweep import File, files_below, open_quietly

STATE_FILE = "verify.json"

_ENTRIES = ("arrays", "code", "differing", "jobs")  # files that can tell whether they are intact
_PIECE = 4 << 20
_BATCH = 64  # files between two looks at whether it is time to note the position
_NOTE_SECONDS = 1.0

# name and bytes of a file of one of the folders above; raises DigestMismatch
CheckEntry = Callable[[str, bytes], object]


class Damage(NamedTuple):
    """A file that is not what its name says. `moved`: where it is now, empty when it was left."""

    name: str
    why: str
    moved: str


class Verified(NamedTuple):
    """What was checked: files, bytes, the seconds it took, what was damaged.

    All of it includes the parts of the run that were made before it was interrupted.
    """

    files: int = 0
    bytes: int = 0
    seconds: float = 0.0
    damaged: tuple[Damage, ...] = ()

    @property
    def rate(self) -> float:
        """GB (10^9 bytes) per second."""
        return self.bytes / max(self.seconds, 1e-9) / 1e9


class Verification:
    """One run over a store, begun or continued.

    With `afresh` a run that was interrupted is forgotten. `held_by`: to see whether all chunks of
    arrays are here, unless they need not be. `before` is what that run had done, `bytes` what is left
    to do. StoreUnavailable.
    """

    def __init__(
        self,
        backend: LocalBackend,
        check_entry: CheckEntry,
        held_by: HeldBy | None = None,
        *,
        afresh: bool = False,
    ) -> None:
        self._backend = backend
        self._check_entry = check_entry
        self._held_by = held_by
        position, self.before = ("", Verified()) if afresh else noted(backend, STATE_FILE)
        folders = (*HEX_LENGTH, *_ENTRIES)
        files = (file for folder in folders for file in files_below(backend, folder))
        self._left = sorted(file for file in files if file.name > position)
        self.bytes = sum(file.size for file in self._left)

    def run(
        self, *, threads: int | None = None, progress: Callable[[int], object] = lambda _: None
    ) -> Verified:
        """Check what is left; `progress` is told the number of bytes after each piece."""
        done = self.before
        noted = started = time.monotonic()
        with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
            for batch in _batches(self._left):
                found = list(pool.map(lambda file: self._check(file, progress), batch))
                now = time.monotonic()
                done = Verified(
                    done.files + len(batch),
                    done.bytes + sum(file.size for file in batch),
                    self.before.seconds + now - started,
                    (*done.damaged, *(one for some in found for one in some)),
                )
                if now - noted > _NOTE_SECONDS:
                    noted = now
                    self._note(batch[-1].name, done)
        self._backend.remove(STATE_FILE)
        return done

    def _note(self, position: str, done: Verified) -> None:
        state = {"position": position, **done._asdict()}
        self._backend.replace(STATE_FILE, json.dumps(state).encode() + b"\n")

    def _check(self, file: File, progress: Callable[[int], object]) -> list[Damage]:
        try:
            why, status = self._fault(file, progress)
        except FileNotFoundError:  # somebody has deleted it, which is no damage
            return []
        except OSError as error:
            if error.errno != errno.EIO:
                return [Damage(file.name, f"cannot be read: {error.strerror}", "")]
            why, status = "the disk cannot read it", None
        if not why:
            return list(self._missing_chunks(file.name))
        moved = self._backend.quarantine(file.name, status)
        return [Damage(file.name, why, moved or "")]

    def _missing_chunks(self, name: str) -> Iterator[Damage]:
        """The blobs of a chunked array that are not here, unless somebody has deleted all of it."""
        if self._held_by is None or not name.startswith("arrays/"):
            return
        with suppress(NotFound, DigestMismatch, StoreTooNew):
            held = self._held_by(name.rpartition("/")[2], self._backend.read(name))
            gone = [one for one, _ in held.blobs if self._backend.stat(one.path) is None]
            if gone and self._backend.stat(name) is not None:
                yield from (
                    Damage(one.path, f"is missing, and {name} lists it", "") for one in gone
                )

    def _fault(
        self, file: File, progress: Callable[[int], object]
    ) -> tuple[str, os.stat_result | None]:
        """What is wrong with a file, or nothing; and its status then."""
        folder, _, rest = file.name.partition("/")
        if folder not in _ENTRIES:
            return self._fault_of_blob(folder, rest.rpartition("/")[2], file, progress)
        data, status = read_quietly(self._backend.path(file.name))
        progress(len(data))
        try:
            self._check_entry(file.name, data)
        except DigestMismatch as error:
            return str(error), status
        return "", status

    def _fault_of_blob(
        self, algorithm: str, hex: str, file: File, progress: Callable[[int], object]
    ) -> tuple[str, os.stat_result | None]:
        try:
            digest = make_digest(algorithm, hex)
        except BadURI:
            return "its name is no digest", None
        hasher = new_hasher(algorithm)
        fd = open_quietly(self._backend.path(file.name))
        try:
            status = os.fstat(fd)
            while piece := os.read(fd, _PIECE):
                hasher.update(piece)
                progress(len(piece))
        finally:
            os.close(fd)
        return ("" if hasher.hexdigest() == digest.hex else f"it is not {digest}"), status


def _batches(files: Sequence[File]) -> Iterator[Sequence[File]]:
    for start in range(0, len(files), _BATCH):
        yield files[start : start + _BATCH]


def noted(backend: LocalBackend, name: str) -> tuple[str, Verified]:
    """How far an interrupted run was, and what it had found; `name`: of the file that tells it."""
    try:
        state: dict[str, Any] = json.loads(backend.read(name))
        damaged = tuple(Damage(*map(str, one)) for one in state["damaged"])
        counts = int(state["files"]), int(state["bytes"]), float(state["seconds"])
        return str(state["position"]), Verified(*counts, damaged)
    except (NotFound, ValueError, KeyError, TypeError):
        return "", Verified()
