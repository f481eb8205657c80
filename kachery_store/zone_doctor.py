"""What is wrong with a zone, or with the way there, and what to do about it."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable, Iterator
from urllib.parse import unquote

from .backend import Backend
from .collecting import LOCK_FILE, server_time
from .doctor import NOTICE, PROBLEM, SOUND, Finding
from .errors import BadURI, NotFound, StoreTooNew, StoreUnavailable, Unsupported
from .local_backend import LAYOUT_FILE, LAYOUT_VERSION, LocalBackend
from .zone import Zone
from .zone_settings import ZoneSettings

_CLOCK_SECONDS = 60.0
_LOCK_SECONDS = 86_400.0

_ERRORS = (StoreTooNew, StoreUnavailable, Unsupported, BadURI)


def examine_zone(settings: ZoneSettings, *, in_force: bool) -> Iterator[Finding]:
    """Everything worth knowing about a zone. Where it may be written, an object comes and goes."""
    severity = PROBLEM if in_force else NOTICE
    try:
        zone = settings.open()
        answer = _layout(zone.backend)
        is_sound = answer is None or _is_layout(answer)
    except _ERRORS as error:
        yield Finding(f"zone {settings.name}: {error}", severity, _what_next(settings, error))
        return
    if answer is not None and not is_sound:
        yield _damaged_layout(zone, answer)
    try:
        next(zone.backend.entries("jobs"), None)
        writing = "read_only here" if zone.read_only else "writing works"
        yield from _what_it_can(
            zone, f"zone {zone.name} at {zone.backend.url}: reading works, {writing}"
        )
        yield from _left_there(zone)
    except _ERRORS as error:
        yield Finding(f"zone {settings.name}: {error}", severity, _what_next(settings, error))


def _what_next(settings: ZoneSettings, error: Exception) -> str:
    if isinstance(error, StoreTooNew):
        return "upgrade kachery"
    return (
        f"`kachery zone check {settings.name}` tries it out; who may only read there sets"
        " read_only = true"
    )


def _layout(backend: Backend) -> bytes | None:
    try:
        return backend.read(LAYOUT_FILE)
    except NotFound:
        return None


def _is_layout(text: bytes) -> bool:
    """Whether that says what lays the zone out; StoreTooNew if that is a later kachery."""
    try:
        version = json.loads(text)["layout"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    if not isinstance(version, int) or version > LAYOUT_VERSION:
        raise StoreTooNew(f"it has layout {version}, and this kachery knows {LAYOUT_VERSION}")
    return True


def _damaged_layout(zone: Zone, found: bytes) -> Finding:
    text = (json.dumps({"kachery": "store", "layout": LAYOUT_VERSION}) + "\n").encode()
    is_ours = text.startswith(found.rstrip(b"\0"))
    fix: Callable[[], str] | None = None
    if is_ours and not zone.read_only:
        fix = lambda: _rewritten(zone)  # noqa: E731
    advice = (
        "it was cut short; written anew it is as before"
        if is_ours
        else f"if no later kachery has used this zone, delete {LAYOUT_FILE} there"
    )
    return Finding(f"{LAYOUT_FILE} of zone {zone.name} is damaged", PROBLEM, advice, fix)


def _rewritten(zone: Zone) -> str:
    zone.backend.remove(LAYOUT_FILE)
    zone.prepare(writing=True)
    return f"wrote {LAYOUT_FILE} of zone {zone.name} anew"


def _what_it_can(zone: Zone, answers: str) -> Iterator[Finding]:
    """Rights, capabilities and clock; of a zone that is only read, nothing is tried out."""
    if zone.read_only:
        yield Finding(answers, SOUND, "")
        return
    ahead = server_time(zone.backend) - time.time()
    can = zone.backend.capabilities
    told = ", ".join(f"{name} {'yes' if has else 'no'}" for name, has in can._asdict().items())
    yield Finding(f"{answers}; {told}", SOUND, "")
    if not can.create:
        yield Finding(
            f"zone {zone.name} cannot tell two that write at the same time that one was second",
            NOTICE,
            "results stay right; a job may be computed twice",
        )
    if abs(ahead) > _CLOCK_SECONDS:
        yield Finding(
            f"the clock of zone {zone.name} is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}",
            NOTICE,
            "nothing rests on it, but signatures of S3 are refused at 15 minutes: set clocks by NTP",
        )


def _left_there(zone: Zone) -> Iterator[Finding]:
    count = sum(1 for _ in zone.backend.names("quarantine"))
    if count:
        yield Finding(
            f"{count} damaged objects are in the quarantine of zone {zone.name}",
            PROBLEM,
            f"kachery repair --zone {zone.name} sends them again, or forgets them",
        )
    lock = zone.backend.status(LOCK_FILE)
    if lock is not None and not zone.read_only:
        age = server_time(zone.backend) - lock.modified
        if age > _LOCK_SECONDS:
            yield Finding(
                f"a collection of zone {zone.name} was killed {age / 3600:.0f} hours ago",
                NOTICE,
                f"the next kachery gc --zone {zone.name} takes its lock over",
            )


def examine_outboxes(local: LocalBackend, known: set[str]) -> Iterator[Finding]:
    """What waits for zones, and since when. `known`: names of the zones that are configured."""
    waiting: dict[str, list[float]] = {}
    for name, status in local.entries("outbox"):
        waiting.setdefault(unquote(name.split("/")[1]), []).append(status.modified)
    for zone, times in sorted(waiting.items()):
        since = datetime.datetime.fromtimestamp(min(times)).astimezone()
        advice = f"kachery push --zone {zone}"
        if zone not in known:
            advice = f"that zone is not configured any more: kachery zone add {zone} URL"
        yield Finding(
            f"{len(times)} things wait for zone {zone}, since {since:%Y-%m-%d %H:%M:%S}",
            NOTICE,
            advice,
        )
