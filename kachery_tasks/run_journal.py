"""The journal of runs: one line for each record that this machine commits (docs/formats/runs.md).

A line costs a few microseconds and no synchronization; job_feed.py brings it into the user's feed of
jobs when somebody looks at that. A line that is lost in a crash is made again from the record then, so
nothing that goes wrong here may fail a run.
"""

from __future__ import annotations

import json
import os
import re
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple

from kachery_store import Store, StoreUnavailable
from kachery_store.local_backend import LocalBackend

from .record import Record

FOLDER = "runs"
SUFFIX = ".log"
LONGEST_LINE = 4000  # bytes

_DAY = 86_400
_OPEN_AT_ONCE = 8
_DIGEST = b"\xc4\x20"  # what msgpack has before 32 bytes
_UNSIGNED = b"\x90"  # no signatures
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
_TIMES = struct.Struct(">dd")
_ODD = re.compile("[^A-Za-z0-9_-]")
_LINE = re.compile(rb"([0-9a-f]{8}) (\{.*\})", re.DOTALL)


class _Open(NamedTuple):
    fd: int
    ends: int  # seconds: the end of its day
    seen: int  # the second in which the file was last seen under its name


_journals: dict[str, _Open] = {}
_lock = threading.Lock()


def note_run(store: Store, record: Record, data: bytes) -> None:
    """Note that a record was committed. `data` is its file."""
    _write(store.backend, record.host, record.user, _run_text(record, data[-33:-1].hex()))


def note(store: Store, host: str, user: str, message: dict[str, Any]) -> None:
    """Note something else about a job: a message as it will be in the feed."""
    _write(store.backend, host, user, json.dumps(message))


def run_message(record: Record, data: bytes) -> dict[str, Any] | None:
    """The message about a record that is in the store; None if it came from elsewhere.

    What came from elsewhere is signed; what was committed here is not.
    """
    if data[-35:-33] != _DIGEST or data[-1:] != _UNSIGNED:
        return None
    return _message(_run_text(record, data[-33:-1].hex()))


def _run_text(record: Record, digest: str) -> str:
    return _RUN % (
        record.job_id,
        digest,
        _what(record.task, record.kind, record.status),
        record.result.address.hex(),
        _TIMES.pack(
            record.started, record.seconds
        ).hex(),  # to write digits takes five times as long
        _where(record.host, record.user),
    )


_RUN = '{"type":"run","job":"%s","record":"%s",%s,"result":"%s","times":"%s",%s}'


@lru_cache(maxsize=1024)
def _what(task: str, kind: str, status: str) -> str:
    return f'"task":{json.dumps(task)},"kind":{json.dumps(kind)},"status":{json.dumps(status)}'


@lru_cache(maxsize=16)
def _where(host: str, user: str) -> str:
    return f'"host":{json.dumps(host)},"user":{json.dumps(user)}'


def _write(backend: LocalBackend, host: str, user: str, text: str) -> None:
    line = line_of(text)
    if len(line) > LONGEST_LINE:
        return  # it names a task in thousands of characters: the record will be found
    now = int(time.time())
    try:
        with _lock:
            journal = _journals.get(backend.root)
            if journal is None or journal.seen != now:
                journal = _opened(backend, journal, now, host, user)
            os.write(journal.fd, line)
    except (OSError, StoreUnavailable):
        pass  # a full disk, or one that is only read


def line_of(text: str) -> bytes:
    """The line for a message."""
    data = text.encode()
    return b"%08x %b\n" % (zlib.crc32(data), data)


def _opened(backend: LocalBackend, known: _Open | None, now: int, host: str, user: str) -> _Open:
    """The journal of today, which may have been removed since it was opened. With the lock."""
    if known is not None:
        if now < known.ends and now >= known.ends - _DAY and os.fstat(known.fd).st_nlink:
            _journals[backend.root] = found = known._replace(seen=now)
            return found
        os.close(_journals.pop(backend.root).fd)
    if len(_journals) >= _OPEN_AT_ONCE:
        _close_all()
    path = backend.path(f"{FOLDER}/{journal_name(now, host, user)}")
    try:
        fd = os.open(path, _FLAGS, 0o644)
    except FileNotFoundError:
        backend.ensure_layout()
        backend.make_folder(os.path.dirname(path))
        fd = os.open(path, _FLAGS, 0o644)
    _journals[backend.root] = opened = _Open(fd, (now // _DAY + 1) * _DAY, now)
    return opened


def _close_all() -> None:
    for journal in _journals.values():
        os.close(journal.fd)
    _journals.clear()


def journal_name(moment: float, host: str, user: str) -> str:
    """The name of the journal of a day, a host and a user."""
    return f"{day_of(moment)}.{plain(host)}.{plain(user)}{SUFFIX}"


def day_of(moment: float) -> str:
    """The day of a moment, by UTC: 2026-11-22."""
    return time.strftime("%Y-%m-%d", time.gmtime(moment))


def plain(name: str) -> str:
    """A name with nothing but letters, digits, _ and -, and not too long."""
    return _ODD.sub("_", name)[:40]


def lines_from(data: bytes) -> Iterator[dict[str, Any]]:
    """What is noted in a piece of a journal; a torn line is left out."""
    for line in data.split(b"\n"):
        # A crash may have left the beginning of a line before this one.
        for found in re.finditer(_START, line):
            message = _parsed(line[found.start() :])
            if message is not None:
                yield message


_START = re.compile(rb'[0-9a-f]{8} \{"type":')


def _parsed(line: bytes) -> dict[str, Any] | None:
    match = _LINE.fullmatch(line)
    if match is None or zlib.crc32(match[2]) != int(match[1], 16):
        return None
    return _message(match[2].decode())


def _message(text: str) -> dict[str, Any] | None:
    """The message that a line stands for."""
    with suppress(ValueError, TypeError, KeyError, RecursionError, struct.error):
        message = json.loads(text)
        if message["type"] != "run":
            return dict(message)
        started, seconds = _TIMES.unpack(bytes.fromhex(message.pop("times")))
        return {**message, "started": started, "seconds": seconds}
    return None


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # a thread that is gone may have held it; the files can be shared


os.register_at_fork(after_in_child=_after_fork)
