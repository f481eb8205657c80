"""The command `kachery show`: all about one job."""

from __future__ import annotations

import shlex
from typing import Any

import click

from kachery_store import NotFound, Store
from kachery_store.saying import clean_lines
from kachery_tasks.cache import load
from kachery_tasks.drawing.wording import span
from kachery_tasks.environment import environment_at
from kachery_tasks.failures import Failure
from kachery_tasks.listing import find_job, other_results
from kachery_tasks.record import QUERY_READ, Record
from kachery_tasks.settings import current
from kachery_tasks.trust import signers
from kachery_tasks.trusted_keys import trusted_keys

from .action_commands import show_action
from .help_pages import Command
from .job_wording import as_json as told_as_json
from .job_wording import error_of, size_of, when
from .telling import json_option, tell_facts, tell_json

_MOST_LINES = 20  # of the jobs that one has asked for, and the like


@click.command(cls=Command)
@click.argument("job")
@json_option
def show(job: str, as_json: bool) -> None:
    """Show one job, also one that failed.

    JOB: a job id, the beginning of one, or a job:// URI.

    Example: kachery show 3f9a2c
    """
    store = current().store
    try:
        record, failure = find_job(store, job)
    except NotFound:
        if show_action(store, job, as_json=as_json):
            return
        raise
    others = [] if record is None else other_results(store, record)
    if as_json:
        told = _all_as_json(record, failure, others)
        if record is not None:
            told["environment"] = environment_at(store, record.environment)
            told["signers"] = signers(record)
        tell_json(told)
        return
    lines = [] if record is None else [*_lines(store, record), *_lines_of_others(others)]
    if record is not None and failure is not None:
        lines.append(("failed", f"{when(failure)}, after this result: {error_of(failure)}"))
    tell_facts(lines or _lines_of_failure(failure))
    if failure is not None:
        click.echo(f"\n{clean_lines(failure.traceback)}".rstrip())


def _lines(store: Store, record: Record) -> list[tuple[str, str]]:
    return [
        ("job", record.uri),
        ("task", f"{record.task} ({record.kind})"),
        ("status", record.status),
        *_arguments(record),
        ("result", _kept(store, record) or f"{record.result.type}, {size_of(record.result.size)}"),
        ("address", record.result.address.hex()),
        ("code", f"version {record.version}" if record.version else record.fingerprint),
        ("started", when(record)),
        ("took", _took(record)),
        *_listed("signed by", _signed_by(record)),
        ("where", f"{record.user} on {record.host}, process {record.pid}"),
        *([("worker", record.worker)] if record.worker else []),
        ("with", f"Python {record.python}, kachery {record.kachery}"),
        *_lines_of_environment(environment_at(store, record.environment) or {}),
        *([("asked by", f"job://{record.parent}")] if record.parent else []),
        *_listed("input", [f"{name} = job://{job_id}" for name, job_id in record.inputs]),
        *_listed("asked for", [f"job://{job_id}" for job_id in record.children]),
        *_listed("read", [_read_text(*one) for one in record.reads]),
    ]


def _signed_by(record: Record) -> list[str]:
    """Of what came from a zone, whose key vouches for it, by the name that the user gave it."""
    keys = signers(record)
    names = {one.key: one.name for one in trusted_keys()} if keys else {}
    return [f"{key} {names.get(key, '')}".rstrip() for key in keys]


def _took(record: Record) -> str:
    parts = [span(record.seconds)]
    if record.attempt:  # an older record tells nothing of this
        parts.append(f"{span(record.cpu_seconds)} of CPU time")
        parts.append(f"peak memory {size_of(record.peak_memory)}")
    if record.attempt > 1:
        parts.append(f"attempts: {record.attempt}")
    return ", ".join(parts)


def _lines_of_environment(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What is told of where a job ran; what is not as kachery writes it is left out."""
    lines = []
    if isinstance(platform := facts.get("platform"), str):
        lines.append(("on", platform))
    if isinstance(packages := facts.get("packages"), dict) and packages:
        told = [f"{name} {version or '?'}" for name, version in packages.items()]
        lines.append(("packages", ", ".join(told)))
    if isinstance(git := facts.get("git"), dict) and isinstance(git.get("commit"), str):
        lines.append(("git", git["commit"] + (" (dirty)" if git.get("dirty") else "")))
    if isinstance(command := facts.get("command"), list) and command:
        lines.append(("command", shlex.join(map(str, command))))
    return lines


def _read_text(kind: str, name: str, address: bytes) -> str:
    if kind == QUERY_READ:
        return f"an answer, job://{name}"
    return f"the mutable {name}" + ("" if address else ", which was not set")


def _listed(title: str, texts: list[str]) -> list[tuple[str, str]]:
    """Lines of which the first has the title; of many only the first ones."""
    shown = texts[:_MOST_LINES]
    if len(texts) > len(shown):
        shown.append(f"and {len(texts) - len(shown)} more; --json tells all")
    return [(title if position == 0 else "", text) for position, text in enumerate(shown)]


def _arguments(one: Record | Failure) -> list[tuple[str, str]]:
    return [
        (
            "argument" if position == 0 else "",
            f"{name} = {text}  ({address.hex()[:12]})" if address else f"{name} is secret",
        )
        for position, (name, address, text) in enumerate(one.arguments)
    ]


def _kept(store: Store, record: Record) -> str | None:
    """The exception that was kept as the result, if one was."""
    if not record.is_error:
        return None
    try:
        load(store, record)
    except Exception as error:  # noqa: BLE001 - the one that was kept, or why it cannot be told
        return f"it raises {type(error).__name__}: {error}"
    return f"it raises {record.result.type}"


def _lines_of_failure(failure: Failure | None) -> list[tuple[str, str]]:
    if failure is None:
        return []
    return [
        ("job", failure.uri),
        ("task", f"{failure.task} ({failure.kind})"),
        ("status", "failed; it runs again when it is next asked for"),
        *_arguments(failure),
        ("error", error_of(failure)),
        ("code", failure.fingerprint),
        ("started", when(failure)),
        ("took", f"{span(failure.seconds)}, attempts: {failure.attempts}"),
        ("where", f"{failure.user} on {failure.host}, process {failure.pid}"),
        ("with", f"Python {failure.python}"),
    ]


def _lines_of_others(others: list[Record]) -> list[tuple[str, str]]:
    """What is known of runs that gave another result."""
    return [
        (
            "not the same" if position == 0 else "",
            f"{when(other)}, {other.user} on {other.host}: {other.result.address.hex()}",
        )
        for position, other in enumerate(others)
    ]


def _all_as_json(
    record: Record | None, failure: Failure | None, others: list[Record]
) -> dict[str, Any]:
    failed = {} if failure is None else {"failure": told_as_json(failure)}
    if record is None:
        return {} if failure is None else told_as_json(failure)
    addresses = [other.result.address.hex() for other in others]
    return {**told_as_json(record), "other_results": addresses, **failed}
