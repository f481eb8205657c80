"""The table of jobs as a feed tells it: what ran, where and when, and whether it gave the same again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from kachery_store.feeds import Feed, parse_feed_uri

from .drawing.wording import clean, moment, span
from .feeds import load_feed
from .job_feed import JOBS

_HEX = re.compile("[0-9a-f]{64}")
_TEXTS = ("task", "kind", "status", "host", "user")
_LAST = 1e11  # seconds; dates have an end


class Verdict(NamedTuple):
    """What came of running a job again.

    `verdict`: `same`, `different` or `cannot`. `why`: what differs, or is in the way, in lines of text.
    """

    verdict: str
    why: list[str]
    time: float
    host: str
    user: str


class Run(NamedTuple):
    """One run of a job, as a feed tells it.

    `record`: the digest of the job's record, `result`: the address of the result, both in hex. `started`
    and `seconds` are the word of who ran it. `verdicts`: what came of running it again, oldest first.
    """

    job_id: str
    record: str
    task: str
    kind: str
    status: str
    result: str
    started: float
    seconds: float
    host: str
    user: str
    verdicts: list[Verdict]

    @property
    def uri(self) -> str:
        """job://<job id>"""
        return f"job://{self.job_id}"

    def __repr__(self) -> str:
        verdicts = "".join(f", {one.verdict}" for one in self.verdicts)
        return clean(
            f"<Run {self.task} {self.job_id[:12]} {self.status}{verdicts},"
            f" {moment(self.started)[:19]}, {span(self.seconds)}, {self.user} on {self.host}>"
        )


def runs(
    feed: str = JOBS, *, zone: str | None = None, task: str | None = None, every: bool = False
) -> list[Run]:
    """What a feed of jobs tells, newest first: the last run of each job, or with `every` all of them.

    feed: yours, or the name or URI of anybody's, of which each message is verified; no records are
    needed. zone: read it there. task: only this one, its name or the part after the colon. Raises as
    `load_feed` and reading do.
    """
    found: dict[tuple[str, str], Run] = {}
    verdicts: list[tuple[str, Verdict]] = []
    for message in _messages(feed, zone):
        run, verdict = _run(message), _verdict(message)
        if run is not None and (task is None or task in (run.task, run.task.rpartition(":")[2])):
            found.setdefault((run.job_id, run.record), run)
        if verdict is not None:
            verdicts.append(verdict)
    newest = sorted(found.values(), key=lambda run: run.started, reverse=True)
    if not every:
        newest = list({run.job_id: run for run in reversed(newest)}.values())[::-1]
        newest.sort(key=lambda run: run.started, reverse=True)
    return _with_verdicts(newest, sorted(verdicts, key=lambda one: one[1].time))


def _with_verdicts(found: list[Run], verdicts: Iterable[tuple[str, Verdict]]) -> list[Run]:
    """Verdicts are about a job: they stand at its newest run."""
    of: dict[str, Run] = {run.job_id: run for run in reversed(found)}
    for job_id, verdict in verdicts:
        if job_id in of:
            of[job_id].verdicts.append(verdict)
    return found


def _messages(feed: str, zone: str | None) -> Iterator[dict[str, Any]]:
    if feed.startswith("feed://"):
        owner, subfeed = parse_feed_uri(feed)
        loaded = load_feed(f"feed://{owner}", zone=zone)
    else:
        loaded, subfeed = load_feed(feed, zone=zone), None
    yield from _of(loaded, [subfeed] if subfeed is not None else loaded.subfeed_names())


def _of(feed: Feed, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    for name in names:
        yield from feed.load_subfeed(name).message_stream(0)


def _run(message: dict[str, Any]) -> Run | None:
    """The run that a message tells of; None for one that is about something else, or malformed."""
    get = message.get
    is_one = (
        get("type") == "run"
        and all(_is_digest(get(name)) for name in ("job", "record", "result"))
        and all(isinstance(get(name), str) for name in _TEXTS)
        and all(_is_time(get(name)) for name in ("started", "seconds"))
    )
    if not is_one:
        return None
    digests = message["job"], message["record"]
    texts = message["task"], message["kind"], message["status"], message["result"]
    times = message["started"], message["seconds"]
    return Run(*digests, *texts, *times, message["host"], message["user"], [])


def _verdict(message: dict[str, Any]) -> tuple[str, Verdict] | None:
    get = message.get
    why = get("why")
    is_one = (
        get("type") == "verdict"
        and _is_digest(get("job"))
        and all(isinstance(get(name), str) for name in ("verdict", "host", "user"))
        and isinstance(why, list)
        and all(isinstance(line, str) for line in why)
        and _is_time(get("time"))
    )
    if not is_one:
        return None
    told = Verdict(
        message["verdict"], message["why"], message["time"], message["host"], message["user"]
    )
    return message["job"], told


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _HEX.fullmatch(value) is not None


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < _LAST
