"""What is wrong with a store, or may soon be, and what to do about it."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from .amounts import size_text
from .config import read_config
from .errors import Busy, ConfigError, DigestMismatch, StoreTooNew, StoreUnavailable
from .gc import clear_leftovers, stored_bytes
from .inventory import read_quietly
from .local_backend import LAYOUT_FILE, LAYOUT_VERSION, LocalBackend
from .running import remove_lease, stale_leases
from .sweep import File, file_time, files_below
from .verify import STATE_FILE, CheckEntry

PROBLEM = "problem"  # something does not work, or will not for long
NOTICE = "notice"  # good to know, or to clean up
SOUND = "sound"  # works, which is worth saying of what others run

STALE_SECONDS = 3600.0  # a temporary file that nobody has written to for so long may be abandoned
_ABANDONED_SECONDS = 86_400.0  # and after so long it is, whoever seems to be writing it
_LITTLE_SPACE = 5 << 30
_LITTLE_SHARE = 0.05
_FEW_INODES = 100_000
_CLOCK_SECONDS = 5.0

_FOLDERS = (
    *("actions", "blake3", "code", "differing", "failures", "jobs", "leases", "pins", "quarantine"),
    *("sha1", "sha256", "feeds", "linked_files", "mutables", "outbox", "queries", "runs", "tmp"),
    *("arrays", "lost", "made", "partial", "sessions"),
)


class Finding(NamedTuple):
    """Something worth knowing. `severity`: `problem`, `notice` or `sound`. `advice`: what to do.

    `fix()` does what is safe, and returns what it did; None where a person has to decide.
    """

    what: str
    severity: str
    advice: str
    fix: Callable[[], str] | None = None


def examine(
    root: str, check_entry: CheckEntry, *, stale_after: float = STALE_SECONDS
) -> Iterator[Finding]:
    """Everything worth knowing about the store in a folder.

    `check_entry` as for a verification; `stale_after`: seconds after which a temporary file of a
    process that is gone counts as abandoned. Nothing is changed, but for a file that comes and goes.
    """
    if not os.path.isdir(root):
        yield Finding(f"there is no store at {root} yet", NOTICE, "it is made when it is needed")
        return
    yield from _layout(root)
    yield from _configuration(root)
    try:
        backend = LocalBackend(root)
    except (StoreUnavailable, StoreTooNew):
        return  # said above
    yield from _rights(backend)
    yield from _space(backend)
    for check in (_clock, _leases, _quarantine, _unfinished, _limit):
        yield from _where_readable(backend, check(backend))
    yield from _where_readable(backend, _temporary_files(backend, stale_after))
    yield from _where_readable(backend, _entries(backend, check_entry))


def _where_readable(backend: LocalBackend, findings: Iterable[Finding]) -> Iterator[Finding]:
    try:
        yield from findings
    except StoreUnavailable as error:
        yield Finding(str(error), PROBLEM, f"look at the rights of {backend.root}")


def _layout(root: str) -> Iterator[Finding]:
    try:
        LocalBackend(root)
    except StoreTooNew as error:
        yield Finding(str(error), PROBLEM, "upgrade kachery")
    except StoreUnavailable as error:
        path = os.path.join(root, LAYOUT_FILE)
        is_ours = _is_cut_short(path)
        advice = "it was cut short; written anew it is as before" if is_ours else "see above"
        yield Finding(str(error), PROBLEM, advice, (lambda: _rewrite(path)) if is_ours else None)


def _is_cut_short(path: str) -> bool:
    """Whether the file is the beginning of what this version writes, which no later one would."""
    text = json.dumps({"kachery": "store", "layout": LAYOUT_VERSION}) + "\n"
    try:
        with open(path, "rb") as file:
            return text.encode().startswith(file.read().rstrip(b"\0"))
    except OSError:
        return False


def _rewrite(path: str) -> str:
    os.unlink(path)
    LocalBackend(os.path.dirname(path)).ensure_layout()
    return f"wrote {path} anew"


def _configuration(root: str) -> Iterator[Finding]:
    try:
        read_config(root)
    except ConfigError as error:
        yield Finding(str(error), PROBLEM, "correct that line")


def _rights(backend: LocalBackend) -> Iterator[Finding]:
    status = os.stat(backend.root)
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        yield Finding(
            f"everybody on this machine may write to {backend.root}",
            PROBLEM,
            f"chmod o-w {backend.root}",
        )
    for folder in (backend.root, *(backend.path(name) for name in _FOLDERS)):
        if os.path.isdir(folder):
            yield from _rights_of(backend, folder, status.st_dev)


def _rights_of(backend: LocalBackend, folder: str, device: int) -> Iterator[Finding]:
    status = os.stat(folder)
    if status.st_dev != device:
        yield Finding(
            f"{folder} is on another file system than {backend.root}",
            PROBLEM,
            "files are linked from tmp/ to their names, which needs one file system: move it",
        )
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        mine = status.st_uid == os.geteuid()
        yield Finding(
            f"you may not read and write {folder}",
            PROBLEM,
            f"chmod u+rwx {folder}" if mine else "ask its owner, or use another store",
            (lambda: _allow(folder)) if mine else None,
        )


def _allow(folder: str) -> str:
    os.chmod(folder, stat.S_IMODE(os.stat(folder).st_mode) | stat.S_IRWXU)
    return f"gave you the rights to {folder}"


def _space(backend: LocalBackend) -> Iterator[Finding]:
    disk = os.statvfs(backend.root)
    free = disk.f_bavail * disk.f_frsize
    if free < min(_LITTLE_SPACE, _LITTLE_SHARE * disk.f_blocks * disk.f_frsize):
        yield Finding(
            f"{size_text(free)} are left on the disk of {backend.root}",
            PROBLEM,
            "make room: kachery gc --max-size SIZE; --dry-run shows first what would go",
        )
    if disk.f_files and disk.f_favail < min(_FEW_INODES, _LITTLE_SHARE * disk.f_files):
        yield Finding(
            f"{disk.f_favail} more files fit on the disk of {backend.root} (inodes)",
            PROBLEM,
            "have fewer: kachery gc --max-items N; --dry-run shows first what would go",
        )


def _clock(backend: LocalBackend) -> Iterator[Finding]:
    if not os.access(backend.root, os.W_OK):
        return
    ahead = (file_time(backend) - time.time_ns()) / 1e9
    if abs(ahead) > _CLOCK_SECONDS:
        yield Finding(
            f"the clock of the file system is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}",
            NOTICE,
            "results stay right; what was last used when is told wrongly: set both clocks by NTP",
        )


def _leases(backend: LocalBackend) -> Iterator[Finding]:
    stale = list(stale_leases(backend))
    if stale:
        yield Finding(
            f"{len(stale)} leases were left behind by processes that were killed",
            NOTICE,
            "they keep nobody from computing, and can go",
            lambda: f"removed {sum(remove_lease(backend, one.name) for one in stale)} leases",
        )


def _quarantine(backend: LocalBackend) -> Iterator[Finding]:
    files = list(files_below(backend, "quarantine"))
    if files:
        size = size_text(sum(file.size for file in files))
        yield Finding(
            f"{len(files)} damaged files ({size}) are in {backend.path('quarantine')}",
            PROBLEM,
            "kachery repair forgets them, or fetches them again, and says what is lost",
        )


def _unfinished(backend: LocalBackend) -> Iterator[Finding]:
    if backend.status(STATE_FILE) is not None:
        yield Finding("a verification was interrupted", NOTICE, "kachery verify goes on with it")


def _limit(backend: LocalBackend) -> Iterator[Finding]:
    try:
        limit = read_config(backend.root).max_size
    except ConfigError:
        return  # said above
    if limit is not None and (size := stored_bytes(backend)) > limit:
        yield Finding(
            f"the store has {size_text(size)}, and its limit is {size_text(limit)}",
            NOTICE,
            "kachery gc brings it below, except for what is pinned or just being written",
        )


def _temporary_files(backend: LocalBackend, stale_after: float) -> Iterator[Finding]:
    now = time.time()
    leftovers = [one for one in files_below(backend, "tmp") if one.name.startswith("tmp/gc.")]
    if leftovers:
        yield Finding(
            f"{len(leftovers)} files are on their way out, of a collection that runs or was killed",
            NOTICE,
            "the next kachery gc removes them",
            lambda: _clear(backend),
        )
    others = [one for one in files_below(backend, "tmp") if not one.name.startswith("tmp/gc.")]
    stale = [one for one in others if _is_abandoned(one, now, stale_after)]
    if stale:
        size = size_text(sum(file.size for file in stale))
        yield Finding(
            f"{len(stale)} temporary files ({size}) were left behind by processes that were killed",
            NOTICE,
            "nobody needs them",
            lambda: f"removed {sum(backend.remove(one.name) for one in stale)} temporary files",
        )


def _is_abandoned(file: File, now: float, stale_after: float) -> bool:
    """Whether the writer of a temporary file has died.

    On a shared folder it may be on another machine, so that its number alone does not tell.
    """
    age = now - file.changed / 1e9
    pid = file.name.rpartition("/")[2].partition(".")[0]
    return age >= stale_after and (age >= _ABANDONED_SECONDS or not _is_alive(pid))


def _is_alive(pid: str) -> bool:
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def _clear(backend: LocalBackend) -> str:
    try:
        return f"removed {clear_leftovers(backend)} files that were on their way out"
    except Busy:
        return "a collection is under way and removes them itself"


def _entries(backend: LocalBackend, check_entry: CheckEntry) -> Iterator[Finding]:
    damaged = [
        file.name
        for folder in ("jobs", "code", "differing")
        for file in files_below(backend, folder)
        if _is_damaged(backend, file, check_entry)
    ]
    if damaged:
        yield Finding(
            f"{len(damaged)} records or descriptions of code are damaged, the first is {damaged[0]}",
            PROBLEM,
            "set aside, their jobs are computed again when they are asked for",
            lambda: (
                f"moved {len([one for one in damaged if backend.quarantine(one)])} to quarantine"
            ),
        )


def _is_damaged(backend: LocalBackend, file: File, check_entry: CheckEntry) -> bool:
    try:
        check_entry(file.name, read_quietly(backend.path(file.name))[0])
    except DigestMismatch:
        return True
    except OSError:
        return False  # gone, or not readable for us, which the rights tell
    return False
