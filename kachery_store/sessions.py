"""Sessions in which arrays of chunks are written: what they hold until they are committed.

A session has a note for each key that was set, under `sessions/<session>/`. What the notes name is
held. A session that nobody went on with for long is closed first (`sessions/<session>.closed`), and
then its notes go: a chunk without its note would be taken for one that nobody wrote.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

import msgpack

from .digest import Digest
from .errors import NotFound
from .local_backend import LocalBackend
from .sweep import File, files_below, open_quietly

FOLDER = "sessions"
_CLOSED = ".closed"


class Note(NamedTuple):
    """What a session has under a key: bytes, or a blob.

    Of a chunk also the digest of its content, and what the array was then: it may be resized.
    """

    key: str
    data: bytes | None
    blob: bytes
    size: int
    content: bytes | None = None
    made_as: bytes | None = None

    def to_bytes(self) -> bytes:
        """The file."""
        packed: bytes = msgpack.packb(tuple(self))
        return packed

    @staticmethod
    def from_bytes(data: bytes) -> Note:
        """The note in a file."""
        return Note(*msgpack.unpackb(data))


class Session(NamedTuple):
    """A session as it was found: its notes, names of the blobs that these name, `closed` if it is."""

    notes: list[File]
    blobs: set[str]
    closed: File | None = None


def sessions_of(backend: LocalBackend) -> dict[str, Session]:
    """The sessions of a store, by name."""
    found: dict[str, Session] = {}
    for file in files_below(backend, FOLDER):
        name = file.name.split("/")[1]
        if name.endswith(_CLOSED):
            name = name.removesuffix(_CLOSED)
            found[name] = found.get(name, Session([], set()))._replace(closed=file)
            continue
        session = found.setdefault(name, Session([], set()))
        session.notes.append(file)
        session.blobs.update(_blob_in(backend, file))
    return found


def _blob_in(backend: LocalBackend, file: File) -> Iterable[str]:
    try:
        with open(open_quietly(backend.path(file.name)), "rb") as opened:
            note = Note.from_bytes(opened.read())
        return [] if note.data is not None else [Digest("blake3", note.blob.hex()).path]
    except (OSError, ValueError, TypeError):  # it has gone, or is damaged: a commit tells
        return []


def close(backend: LocalBackend, session: str, notes: Iterable[File]) -> bool:
    """Have nobody go on with a session; False when somebody has, since its notes were looked at."""
    if not backend.create(_closed(session), b"", durable=True):
        return True  # somebody began to take it away
    known = {note.name: note for note in notes}
    for file in files_below(backend, f"{FOLDER}/{session}"):
        if file.name not in known or known[file.name].changed != file.changed:
            backend.remove(_closed(session))
            return False
    return True


def first_written(backend: LocalBackend, session: str) -> float:
    """When the oldest note of a session was written: seconds since 1970, or 0."""
    notes = files_below(backend, f"{FOLDER}/{session}")
    return min((note.changed for note in notes), default=0) / 1e9


def forget(backend: LocalBackend, session: str) -> None:
    """Remove the notes of a session, and the folders that they were in."""
    folder = f"{FOLDER}/{session}"
    for file in list(files_below(backend, folder)):
        backend.remove(file.name)
    with suppress(OSError):  # somebody may write there again
        for path, *_ in os.walk(backend.path(folder), topdown=False):
            os.rmdir(path)


def check_open(backend: LocalBackend, session: str) -> None:
    """NotFound for a session that is closed. Who wrote a note asks afterwards."""
    if backend.stat(_closed(session)) is not None:
        raise NotFound(
            f"the session of writing {session} was collected, because nothing was written in it for a"
            " week: begin a new one, and write everything again"
        )


def _closed(session: str) -> str:
    return f"{FOLDER}/{session}{_CLOSED}"
