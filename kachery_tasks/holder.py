"""Who holds a lease, and for how long without a sign of life: what is written in the lease itself."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from functools import cache
from typing import NamedTuple

from kachery_store.errors import ConfigError

VARIABLE = "KACHERY_LEASE_SECONDS"
MOST_BYTES = 4096  # of what a lease says

_DEFAULT, _LEAST, _MOST = 30.0, 1.0, 3600.0
_MOST_NAME = 80  # characters of a host, which goes to a person's terminal


class Holder(NamedTuple):
    """The process that holds a lease.

    `token` counts who had the lease one after the other without giving it back; `nonce` tells two
    holders of the same token apart; `seconds` of silence, and it is presumed dead; `beat` counts its
    signs of life; `space` names the world in which `pid` means something.
    """

    token: int
    host: str
    pid: int
    nonce: str
    seconds: float
    beat: int = 0
    space: str = ""

    def to_bytes(self) -> bytes:
        """What the lease says."""
        return json.dumps(self._asdict()).encode() + b"\n"

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def holder_of(data: bytes) -> Holder | None:
    """Who holds a lease that says this; None for what no kachery wrote, or not yet completely."""
    try:
        told = json.loads(data[:MOST_BYTES])
        found = Holder(**{key: told[key] for key in Holder._fields})
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    kinds = (int, str, int, str, int | float, int, str)
    if not all(map(isinstance, found, kinds)):
        return None
    host = "".join(c if c.isprintable() else " " for c in found.host[:_MOST_NAME])
    return found._replace(host=host, seconds=_bounded(found.seconds))


def _bounded(seconds: float) -> float:
    """Whatever a lease asks for, nobody waits for ever (a lease in a zone may be anybody's)."""
    return float(min(max(seconds, _LEAST), _MOST)) if seconds == seconds else _DEFAULT  # noqa: PLR0124


def this_process(token: int = 1) -> Holder:
    """Our own process as the holder of a new lease. ConfigError as for `lease_seconds`."""
    nonce = os.urandom(8).hex()
    return Holder(token, _host(), os.getpid(), nonce, lease_seconds(), 0, _space())


def lease_seconds() -> float:
    """How long a holder may be silent before others presume it dead. ConfigError."""
    return _seconds_of(os.environ.get(VARIABLE))


@cache
def _seconds_of(text: str | None) -> float:
    if not text:
        return _DEFAULT
    with suppress(ValueError):
        if _LEAST <= float(text) <= _MOST:
            return float(text)
    raise ConfigError(
        f"{VARIABLE} is {text[:40]!r}: it is a number of seconds from {_LEAST:g} to {_MOST:g}, or"
        f" unset, which means {_DEFAULT:g}"
    )


def processor_time(holder: Holder) -> str | None:
    """How long a process of this machine has computed so far; None when that cannot be told."""
    if (holder.host, holder.space) != (_host(), _space()) or not holder.space:
        return None
    try:
        with open(f"/proc/{int(holder.pid)}/stat", encoding="latin1") as file:
            return " ".join(file.read().rpartition(")")[2].split()[11:13])
    except OSError:
        return None


@cache
def _host() -> str:
    return os.uname().nodename[:_MOST_NAME]


@cache
def _space() -> str:
    """The name space of process numbers: containers may have the same host name."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        return ""
