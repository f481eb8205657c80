"""Whose records count: the keys that this user trusts, in the user's own folder."""

from __future__ import annotations

import datetime
import fcntl
import os
import re
import time
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from kachery_store.errors import BadKey, NotFound, unavailable
from kachery_store.signing import (
    locked,
    make_private_folder,
    read_private,
    user_folder,
    write_private,
)

_FILE = "trusted-keys.json"
_FORMAT = "kachery trusted keys 1"
_KEY = re.compile("[0-9a-f]{64}")
_MOST_NAME = 200  # characters


class Trusted(NamedTuple):
    """One key, and for what it is trusted.

    `key`: 64 hex digits. `name`: whose it is, for people. `zone`: only what comes from the zone of that
    name, or None. `task`: only records of tasks whose names match, as `lab.filters:*`, or None.
    `pickle`: also what has to be unpickled, which can run any code. `until`: seconds since 1970, or
    None.
    """

    key: str
    name: str = ""
    zone: str | None = None
    task: str | None = None
    pickle: bool = False
    until: float | None = None

    def __str__(self) -> str:
        told = [self.name] if self.name else []
        told += [f"only zone {self.zone}"] if self.zone else []
        told += [f"only tasks {self.task}"] if self.task else []
        told += ["also pickles"] if self.pickle else []
        if self.until is not None:
            word = "until" if self.until > time.time() else "ENDED"
            told.append(f"{word} {date_text(self.until)}")
        return f"{self.key}  {', '.join(told)}".rstrip()

    def covers(self, task: str, zone: str | None, *, pickle: bool) -> bool:
        """Whether it is trusted for a record of a task that comes from a zone; None: it came earlier."""
        return (
            (self.until is None or time.time() < self.until)
            and (self.zone is None or zone is None or self.zone == zone)
            and (self.task is None or fnmatchcase(task, self.task))
            and (self.pickle or not pickle)
        )


def date_text(moment: float) -> str:
    """A day, as people write it."""
    return f"{datetime.datetime.fromtimestamp(moment).astimezone():%Y-%m-%d %H:%M}"


def trusted_keys() -> tuple[Trusted, ...]:
    """The keys that are trusted, beside the user's own. BadKey when the list cannot be read."""
    global _known
    path = _path()
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise BadKey(f"{path} cannot be read, so nobody is trusted: {error}") from error
    state = (path, status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode)
    if _known is None or _known[0] != state:
        _known = state, _read(path)
    return _known[1]


_known: tuple[tuple[Any, ...], tuple[Trusted, ...]] | None = None


def trust(new: Trusted) -> None:
    """Trust a key, also for this. BadKey for what is none, StoreUnavailable."""
    check_key(new.key)
    if len(new.name) > _MOST_NAME:
        raise BadKey(f"a name for a key has at most {_MOST_NAME} characters")

    def added(now: tuple[Trusted, ...]) -> list[Trusted]:
        same = [one for one in now if one.key == new.key and _scope(one) == _scope(new)]
        return [*(one for one in now if one not in same), new]

    _change(added)


def distrust(key: str) -> int:
    """Trust a key no more, for nothing; returns how many entries went. BadKey, StoreUnavailable."""
    check_key(key)
    gone: list[Trusted] = []

    def without(now: tuple[Trusted, ...]) -> list[Trusted]:
        gone.extend(one for one in now if one.key == key)
        return [one for one in now if one.key != key]

    _change(without)
    return len(gone)


def check_key(key: str) -> None:
    """Refuse with BadKey what cannot be a public key."""
    if not _KEY.fullmatch(key):
        raise BadKey(f"{key[:80]!r} is no key: that has 64 digits of 0-9 and a-f; see `kachery id`")


def _scope(one: Trusted) -> tuple[str | None, str | None]:
    return one.zone, one.task


def _path() -> str:
    return os.path.join(user_folder(), _FILE)


def _change(changed: Any) -> None:
    path = _path()
    make_private_folder(os.path.dirname(path))
    try:
        with locked(f"{path}.lock", fcntl.LOCK_EX):
            now = _read(path) if os.path.exists(path) else ()
            entries = [one._asdict() for one in changed(now)]
            write_private(path, {"format": _FORMAT, "keys": entries}, replace=True)
    except OSError as error:
        raise unavailable(os.path.dirname(path), error) from error


def _read(path: str) -> tuple[Trusted, ...]:
    try:
        content = read_private(path)
    except NotFound:
        return ()
    if content.get("format") != _FORMAT or not isinstance(content.get("keys"), list):
        raise BadKey(
            f"{path} is no list of trusted keys of this kachery; move it away, or restore it"
        )
    return tuple(_entry(path, one) for one in content["keys"])


def _entry(path: str, given: Any) -> Trusted:
    try:
        one = Trusted(**given)
    except TypeError:
        one = Trusted("")
    right = (
        isinstance(one.key, str)
        and _KEY.fullmatch(one.key)
        and isinstance(one.name, str)
        and isinstance(one.zone, str | None)
        and isinstance(one.task, str | None)
        and isinstance(one.pickle, bool)
        and (one.until is None or type(one.until) in (int, float))
    )
    if not right:
        raise BadKey(f"{path} has an entry that is none, so nobody is trusted: {str(given)[:200]}")
    return one
