"""Planning a collection: what leaves the store, and in which order.

A plan is made from an inventory, what is pinned, and a policy. Making it changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .inventory import Entry, Held, Inventory, Reached, named_by, reached
from .pins import Pinned
from .sweep import File

FAILURES_STAY = 90 * 86_400.0  # seconds; what is noted of failures is for people, and grows old
SESSIONS_STAY = 7 * 86_400.0  # seconds since something was last written in one
GRACE = 3600.0  # seconds; what nothing holds may be about to be named by whoever stores it

_CALL_SECONDS = 1e-3  # what any recomputation costs at least
_RECENT_SECONDS = 3600.0  # differences in last use below this do not matter


class Policy(NamedTuple):
    """What is to be collected.

    `max_size`: bytes that may stay; `max_items`: jobs that may stay; `older_than`: jobs not used for so
    many seconds go. Named files go for `max_size` when no job is left to go, for the other two only with
    `files`. `orphans`: also blobs by BLAKE3 that no job holds. What is younger than `grace` seconds and
    held by nothing stays in any case.
    """

    max_size: int | None = None
    max_items: int | None = None
    older_than: float | None = None
    files: bool = False
    orphans: bool = False
    grace: float = GRACE


class Going(NamedTuple):
    """Something that goes: a job (`job_id`) or files. `files` are in the order of their removal.

    `what`: for people. `seconds`: what it takes to compute it again, None where that is impossible.
    `session`: of writing, which is closed before its notes go.
    """

    what: str
    files: list[File]
    job_id: str | None = None
    seconds: float | None = None
    session: str | None = None

    @property
    def size(self) -> int:
        """Bytes that become free."""
        return sum(file.size for file in self.files)


class Plan(NamedTuple):
    """What goes, and how many bytes and jobs were found."""

    going: list[Going]
    size: int
    items: int

    @property
    def freed(self) -> int:
        """Bytes that become free."""
        return sum(one.size for one in self.going)


def plan_removal(found: Inventory, pinned: Iterable[Pinned], policy: Policy, now: int) -> Plan:
    """What a policy would take from what was found, and what pins and running jobs leave of that.

    `now`: nanoseconds, by the file system's clock, before the inventory was taken.
    """
    planner = _Planner(found, reached(found, pinned, found.running), policy, now)
    planner.choose_failures()
    planner.choose_sessions()
    planner.choose_jobs()
    planner.choose_arrays()
    planner.choose_files()
    planner.choose_leftovers()
    return Plan(planner.going, found.size, len(found.records))


class _Planner:
    def __init__(self, found: Inventory, kept: Reached, policy: Policy, now: int) -> None:
        self.going: list[Going] = []
        self._found = found
        self._kept = kept
        self._policy = policy
        self._now = now / 1e9
        # A blob that was stored, or counted on, since the first of the running jobs began may belong
        # to a result whose record is still to come.
        self._settled = min([now, *found.running.values()])
        self._old = now - int(policy.grace * 1e9)
        self._size = found.size
        self._jobs = dict(found.records)
        self._gone: set[str] = set()
        # By how many of the jobs that stay a blob is held, or named by its URI.
        self._holders = Counter(name for one in found.records.values() for name in one.blobs)
        for array in found.arrays.values():
            self._holders.update(array.blobs)
        for session in found.sessions.values():
            self._holders.update(session.blobs)
        self._arrays = dict(found.arrays)
        self._using = Counter(
            address for one in found.records.values() if one.held for address in one.held.arrays
        )
        self._named = Counter(name for one in found.records.values() for name in named_by(one))
        self._differing: dict[str, list[File]] = {}
        for one in found.differing.values():
            self._differing.setdefault(one.job_id, []).append(one.file)

    def choose_jobs(self) -> None:
        """The jobs that go: the cheapest to compute again per byte, and longest unused, first."""
        policy = self._policy
        may_go = [
            entry
            for entry in self._found.records.values()
            if entry.held is not None and entry.job_id not in self._kept.jobs
        ]
        if policy.older_than is not None:
            oldest = self._now - policy.older_than
            for entry in [one for one in may_go if one.file.used < oldest]:
                self._drop(entry)
        left = [entry for entry in may_go if entry.job_id in self._jobs]
        for entry in sorted(left, key=self._worth):
            if self._is_enough():
                break
            self._drop(entry)

    def _is_enough(self) -> bool:
        policy = self._policy
        return (policy.max_size is None or self._size <= policy.max_size) and (
            policy.max_items is None or len(self._jobs) <= policy.max_items
        )

    def _worth(self, entry: Entry) -> float:
        """Seconds of computing per byte and per second without use."""
        assert entry.held is not None  # noqa: S101 - others are not asked about
        size = entry.file.size + sum(
            self._found.blobs[name].size / self._holders[name]
            for name in entry.blobs
            if name in self._found.blobs
        )
        unused = max(0.0, self._now - entry.file.used) + _RECENT_SECONDS
        return (entry.held.seconds + _CALL_SECONDS) / size / unused

    def _drop(self, entry: Entry) -> None:
        assert entry.held is not None  # noqa: S101 - others stay
        del self._jobs[entry.job_id]
        self._holders.subtract(entry.blobs)
        self._named.subtract(named_by(entry))
        arrays = [array.file for array in self._arrays_of(entry.held)]
        blobs = self._loose_of(entry)
        files = [entry.file, *self._differing.pop(entry.job_id, ()), *arrays, *blobs]
        what = f"job://{entry.job_id} ({entry.held.task})"
        self._go(Going(what, files, entry.job_id, entry.held.seconds))

    def _loose_of(self, entry: Entry) -> list[File]:
        """The blobs of an entry that goes and that nothing else holds."""
        return [
            self._found.blobs[name]
            for name in sorted(entry.blobs)
            if name in self._found.blobs
            and self._is_loose(name)
            and self._found.blobs[name].changed < self._settled
        ]

    def _arrays_of(self, held: Held) -> Iterator[Entry]:
        """The chunked arrays of a record that goes which go with it; they hold nothing any more."""
        self._using.subtract(held.arrays)
        for address in held.arrays:
            if address in self._arrays and self._is_unused(address, self._settled):
                array = self._arrays.pop(address)
                self._holders.subtract(array.blobs)
                yield array

    def _is_unused(self, address: str, before: float) -> bool:
        """Whether no record that stays, no pin and no user has a chunked array."""
        array = self._arrays[address]
        if array.held is None or array.held.named or self._using[address] > 0:
            return False
        return array.file.name not in self._kept.blobs and array.file.changed < before

    def choose_arrays(self) -> None:
        """Chunked arrays that no record has: as files, if a user named them, else as orphans."""
        for address, array in sorted(self._arrays.items(), key=lambda one: one[1].file.used):
            named = array.held is not None and array.held.named
            if array.held is None or self._using[address] > 0:
                continue
            if array.file.name in self._kept.blobs or (self._found.too_new and not named):
                continue
            if array.file.changed >= min(self._old, self._settled):
                continue
            policy = self._policy
            oldest = None if policy.older_than is None else self._now - policy.older_than
            too_old = policy.files and oldest is not None and array.file.used < oldest
            too_large = policy.max_size is not None and self._size > policy.max_size
            if too_old or too_large or (policy.orphans and not named):
                del self._arrays[address]
                self._holders.subtract(array.blobs)
                self._go(Going(f"blake3://{address}", [array.file, *self._loose_of(array)]))

    def _go(self, going: Going) -> None:
        self.going.append(going)
        self._gone.update(file.name for file in going.files)
        self._size -= going.size

    def _is_loose(self, name: str) -> bool:
        """Whether nothing that stays holds a blob."""
        held = self._holders[name] or self._named[name]
        return not held and name not in self._kept.blobs and name not in self._gone

    def choose_files(self) -> None:
        """The files that go though they cannot be computed again: old and large ones first."""
        policy = self._policy
        loose = sorted(self._loose(), key=self._order)
        oldest = None if policy.older_than is None else self._now - policy.older_than
        items = len(self._jobs) + len(loose)
        for file in loose:
            too_large = policy.max_size is not None and self._size > policy.max_size
            too_old = policy.files and oldest is not None and file.used < oldest
            too_many = policy.files and policy.max_items is not None and items > policy.max_items
            orphan = policy.orphans and _is_native(file)
            if too_large or too_old or too_many or orphan:
                self._go(Going(_uri(file), [file]))
                items -= 1

    def _loose(self) -> Iterator[File]:
        for file in self._found.blobs.values():
            if file.changed >= min(self._old, self._settled) or not self._is_loose(file.name):
                continue
            if self._found.too_new and _is_native(file):
                continue  # a record that only a later kachery can read may hold it
            yield file

    def _order(self, file: File) -> tuple[bool, float]:
        unused = max(0.0, self._now - file.used) + _RECENT_SECONDS
        return not _is_native(file), -file.size * unused

    def choose_failures(self) -> None:
        """Old notes of what failed: of longer ago than a limit of age, or than 90 days."""
        limit = self._policy.older_than
        stay = FAILURES_STAY if limit is None else limit
        old = [one for one in self._found.failures if one.changed < (self._now - stay) * 1e9]
        if old:
            self._go(Going("notes of jobs that failed long ago", old))

    def choose_sessions(self) -> None:
        """Sessions of writing that nobody went on with; what they stored is held by nothing then."""
        for name, session in self._found.sessions.items():
            oldest = (self._now - SESSIONS_STAY) * 1e9
            if session.closed is not None and not session.notes:
                if session.closed.changed < (self._now - FAILURES_STAY) * 1e9:
                    self._go(Going("the mark of a session that was collected", [session.closed]))
            elif session.closed or all(note.changed < oldest for note in session.notes):
                self._holders.subtract(session.blobs)
                what = f"session of writing {name}, which was not committed"
                self._go(Going(what, session.notes, session=name))

    def choose_leftovers(self) -> None:
        """What belongs to nothing that stays: other results of jobs, descriptions of code."""
        for job_id, files in self._differing.items():
            old = [file for file in files if file.changed < self._old]
            if old and job_id not in self._found.records:
                self._go(Going(f"other results of job://{job_id}", old))
        if self._found.too_new or self._found.damaged:
            return  # such a record may name any code
        needed = self._needed_code()
        code = [
            file
            for file in self._found.code.values()
            if file.changed < self._old and file.name not in needed
        ]
        if code:
            self._go(Going("descriptions of code that no job has any more", code))

    def _needed_code(self) -> set[str]:
        others = self._found.differing.values()
        staying = [
            *self._jobs.values(),
            *(one for one in others if one.file.name not in self._gone),
        ]
        codes = {code for one in staying if one.held is not None for code in one.held.codes}
        return {f"code/{code[:2]}/{code}" for code in codes}


def _is_native(file: File) -> bool:
    return file.name.startswith("blake3/")


def _uri(file: File) -> str:
    return f"{file.name.partition('/')[0]}://{file.name.rpartition('/')[2]}"
