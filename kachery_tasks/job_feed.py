"""From the journal of runs to the user's feed of jobs (docs/formats/runs.md, docs/adr/0021).

Runs are noted in the store without a key; when somebody looks at the feed `jobs`, what is new is
appended to it. Records that the journal does not tell of, after a crash, are found by comparing.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from kachery_store import DigestMismatch, Store, StoreTooNew
from kachery_store.digest import blake3_bytes
from kachery_store.errors import Busy, DamagedWarning, FeedDamaged, FeedFinalized
from kachery_store.feeds import Feed, Keyring, Owned
from kachery_store.inventory import read_quietly
from kachery_store.local_backend import LocalBackend
from kachery_store.saying import warn
from kachery_store.sweep import file_time

from .environment import here
from .record import Record
from .run_journal import FOLDER, SUFFIX, day_of, lines_from, plain, run_message

JOBS = "jobs"  # the name of the feed

_FORMAT = "kachery runs 1"
_KEPT_SECONDS = 2 * 86_400  # for which a journal stays, though all of it is in the feed
_WAIT_SECONDS = 60.0
_PIECE = 8 << 20  # bytes of a journal that are read at once; no line is so long
_PAUSE_SECONDS = 0.01

_LAST = 1e11  # seconds; dates have an end

Message = dict[str, Any]


def integrate_runs(store: Store, keyring: Keyring, opened: Callable[[Owned], Feed]) -> int:
    """Bring the runs of this user that are not in the feed of jobs there; returns how many.

    `opened` makes a Feed of a key. The key is made when there is something to append. A store that
    cannot be written is left alone, and so is a feed of somebody else that has this name. Busy,
    StoreUnavailable, and what appending raises.
    """
    if not os.path.isdir(store.backend.path("jobs")):
        return 0
    user = here()[1]
    with _only_one(store.backend, user) as alone:
        known = keyring.named(JOBS)
        own = None if known is None else keyring.owned(known)
        if not alone or (known is not None and own is None):
            return 0
        return _Integration(
            store, user, known, lambda: opened(own or keyring.create(JOBS, None))
        ).run()


@contextmanager
def _only_one(backend: LocalBackend, user: str) -> Iterator[bool]:
    """One process at a time; False where nothing can be written."""
    path = backend.path(f"{FOLDER}/{plain(user)}.lock")
    try:
        backend.make_folder(os.path.dirname(path))
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        yield False
        return
    try:
        _wait_for(fd, path)
        yield True
    finally:
        os.close(fd)


def _wait_for(fd: int, path: str) -> None:
    give_up = time.monotonic() + _WAIT_SECONDS
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() > give_up:
            raise Busy(
                f"another process has been writing the feed of jobs for {_WAIT_SECONDS:.0f} s: see who"
                f" holds {path}, or try again"
            )
        time.sleep(_PAUSE_SECONDS)


class _Marks(NamedTuple):
    """How far it has come with a feed. `salt`: makes the names of this store's subfeeds its own.

    `looked`: until when, by the clock of the file system, all records were compared. `journals`: how
    many bytes of each have been read. `subfeeds`: how many messages each had then; what it has beyond
    that was appended before a crash. `ahead`: what was found in records before the journal told it.
    """

    feed: str | None
    salt: str
    looked: int
    journals: dict[str, int]
    subfeeds: dict[str, int]
    ahead: dict[str, float]


class _Integration:
    def __init__(
        self, store: Store, user: str, known: str | None, opened: Callable[[], Feed]
    ) -> None:
        self._backend = store.backend
        self._user = plain(user)
        self._opened = opened
        self._feed: Feed | None = None
        self._before: set[str] | None = None
        self._file = f"{FOLDER}/{self._user}.json"
        marks = self._read_marks(known)
        self._is_first = marks is None
        self._marks = marks or _Marks(known, os.urandom(16).hex(), 0, {}, {}, {})

    def run(self) -> int:
        now = file_time(self._backend)
        told: set[str] = set()
        count = 0
        for messages in self._new_lines():
            told.update(messages)
            new = {
                one: message for one, message in messages.items() if one not in self._marks.ahead
            }
            count += self._append(new, doubtful=set())
        found = {_identity(one): one for one in self._untold(told | self._marks.ahead.keys())}
        count += self._append(found, doubtful=set(found))
        if told or found:
            self._note_progress(now, found)
        self._remove_old()
        return count

    def _note_progress(self, now: int, found: Iterable[str]) -> None:
        clock = time.time()
        ahead = {one: at for one, at in self._marks.ahead.items() if at > clock - _KEPT_SECONDS}
        ahead.update(dict.fromkeys(found, clock))
        feed = self._feed.feed_id if self._feed is not None else self._marks.feed
        self._write_marks(self._marks._replace(feed=feed, looked=now, ahead=ahead))

    # The journals

    def _journals(self) -> list[str]:
        """The journals of this user, which nobody else can have written: their lines get signed."""
        names = [name.rpartition("/")[2] for name in self._backend.names(FOLDER)]
        mine = [one for one in names if one.split(".")[2:] == [self._user, SUFFIX[1:]]]
        found = {one: self._backend.stat(f"{FOLDER}/{one}") for one in mine}
        return sorted(one for one, status in found.items() if _is_own(status))

    def _new_lines(self) -> Iterator[dict[str, Message]]:
        """What the journals tell beyond what has been read of them, in pieces, by identity."""
        for name in self._journals():
            path, at = f"{FOLDER}/{name}", self._marks.journals.get(name, 0)
            while complete := self._complete_lines(path, at):
                self._marks.journals[name] = at = at + len(complete)
                messages = filter(_is_told, lines_from(complete))
                yield {_identity(one): one for one in messages}

    def _complete_lines(self, path: str, start: int) -> bytes:
        data = self._backend.read(path, start, start + _PIECE)
        end = data.rfind(b"\n") + 1
        return data if end == 0 and len(data) == _PIECE else data[:end]  # a hole that a crash left

    def _remove_old(self) -> None:
        """Remove journals that are in the feed, and that nobody writes any more."""
        oldest = day_of(time.time() - _KEPT_SECONDS)
        for name in self._journals():
            if name.partition(".")[0] < oldest:
                status = self._backend.status(f"{FOLDER}/{name}")
                if status is not None and status.size == self._marks.journals.get(name):
                    self._backend.remove(f"{FOLDER}/{name}")

    # Records that no journal tells of

    def _untold(self, told: Collection[str]) -> Iterator[Message]:
        """Runs of here whose records have come since the last look, and that are not told."""
        host, user = here()
        for path, job_id in self._recent():
            with suppress(OSError, DigestMismatch, StoreTooNew):
                data, status = read_quietly(path)
                if not _is_own(status) or f"{job_id} {data[-33:-1].hex()}" in told:
                    continue
                record = Record.from_bytes(data, job_id)
                message = run_message(record, data)
                if message is None or (record.host, record.user) != (host, user):
                    continue
                if _identity(message) not in told:
                    yield message

    def _recent(self) -> Iterator[tuple[str, str]]:
        """The files of records that may have come since the last look."""
        since = self._marks.looked
        with suppress(OSError), os.scandir(self._backend.path("jobs")) as folders:
            for folder in folders:
                if folder.stat().st_mtime_ns < since or not folder.is_dir():
                    continue
                with os.scandir(folder.path) as files:
                    for file in files:
                        with suppress(FileNotFoundError):
                            if file.stat().st_ctime_ns >= since:
                                yield file.path, file.name

    # The feed

    def _append(self, messages: dict[str, Message], doubtful: set[str]) -> int:
        """Append what is not there; `doubtful` is what any earlier message may have told."""
        everywhere = self._told_before() if messages else set()
        days: dict[tuple[str, str], list[str]] = {}
        for identity, message in messages.items():
            if identity not in everywhere:
                days.setdefault(_day_and_host(message), []).append(identity)
        return sum(
            self._append_day(day, {one: messages[one] for one in identities}, doubtful)
            for day, identities in days.items()
        )

    def _append_day(
        self, day: tuple[str, str], messages: dict[str, Message], doubtful: set[str]
    ) -> int:
        try:
            return self._append_to(self._subfeed(day), messages, doubtful)
        except (FeedDamaged, FeedFinalized) as error:
            warn(DamagedWarning(f"{error}; what runs from now on is told in another subfeed"))
            self._marks = self._marks._replace(salt=os.urandom(16).hex())
            return self._append_to(self._subfeed(day), messages, doubtful)

    def _append_to(self, name: str, messages: dict[str, Message], doubtful: set[str]) -> int:
        self._feed = self._feed or self._opened()
        subfeed = self._feed.load_subfeed(name)
        known = self._marks.subfeeds.get(name, 0)
        start = 0 if doubtful & messages.keys() else known
        there: set[str] = set()
        if subfeed.get_num_local_messages() > start:
            subfeed.set_position(start)
            there = {_identity(one) for one in subfeed.message_stream(0)}
        new = [message for one, message in messages.items() if one not in there]
        if new:
            subfeed.append_messages(new)
        self._marks.subfeeds[name] = subfeed.get_num_local_messages()
        return len(new)

    def _told_before(self) -> set[str]:
        """What the feed tells already, if how far that went is not known any more."""
        if self._before is not None:
            return self._before
        self._before = set()
        if not self._is_first:
            return self._before
        self._feed = self._feed or self._opened()
        for name in self._feed.subfeed_names():
            with suppress(FeedDamaged):
                told = self._feed.load_subfeed(name).message_stream(0)
                self._before.update(map(_identity, told))
        return self._before

    def _subfeed(self, day: tuple[str, str]) -> str:
        """The subfeed of a day, a host and this store, which a copy of it elsewhere does not write."""
        text = f"{self._marks.salt} {self._backend.root}"
        return f"{day[0]}.{day[1]}.{blake3_bytes(text.encode()).hex()[:8]}"

    # How far it has come

    def _read_marks(self, feed: str | None) -> _Marks | None:
        try:
            content = json.loads(self._backend.read(self._file))
            if content.pop("format") == _FORMAT and content["feed"] == feed:
                return _Marks(**content)
        except (KeyError, LookupError, TypeError, ValueError):  # none, or damaged
            pass
        return None

    def _write_marks(self, marks: _Marks) -> None:
        there = set(self._journals())
        journals = {name: at for name, at in marks.journals.items() if name in there}
        content = {"format": _FORMAT, **marks._replace(journals=journals)._asdict()}
        self._backend.replace(self._file, json.dumps(content).encode())


def _is_own(status: os.stat_result | None) -> bool:
    return status is not None and status.st_uid == os.getuid()


def _identity(message: Message) -> str:
    """What is the same for two messages about one thing."""
    if message.get("type") == "run":
        return f"{message.get('job')} {message.get('record')}"
    return json.dumps(message, sort_keys=True)


def _day_and_host(message: Message) -> tuple[str, str]:
    """Whose subfeed a message goes to: always the same, wherever it was found."""
    ended = message.get("time") or message["started"] + message["seconds"]
    return day_of(ended), plain(str(message.get("host")))


def _is_told(message: Message) -> bool:
    """Whether a line is one that this kachery writes."""
    names = ("time",) if "time" in message else ("started", "seconds")
    times = [message.get(name) for name in names]
    return all(isinstance(one, int | float) and 0 <= one < _LAST for one in times)
