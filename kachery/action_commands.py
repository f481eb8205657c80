"""The commands about actions: what is known of them, and saying what became of one."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from kachery_store import Store
from kachery_store.saying import clean
from kachery_tasks.claims import ERROR, FINISHED, PENDING, RUNNING, UNKNOWN, Step
from kachery_tasks.resolving import actions_like, all_actions, find_action
from kachery_tasks.resolving import resolve as resolve_action
from kachery_tasks.settings import current, using

from .help_pages import Command
from .telling import Column, json_lines_option, json_option, tell_facts, tell_json, tell_table


@click.command(cls=Command)
@click.argument("job")
@click.option("--done", "outcome", flag_value=FINISHED, help="It has done what it should.")
@click.option("--failed", "outcome", flag_value=ERROR, help="It has not.")
@click.option("--zone", help="In this zone, not the one in force.")
@json_option
def resolve(job: str, outcome: str | None, zone: str | None, as_json: bool) -> None:
    """Say what became of an action whose outcome is unknown: --done or --failed.

    Look first at what it has done in the outside world. JOB is a job id, the beginning of one, or a job://
    URI. If its process was on another machine, this waits a minute and a half for a sign of life.

    Example: kachery resolve 3f9a2c --done
    """
    if outcome is None:
        raise click.UsageError("say --done or --failed")
    with _where(zone) as store:
        found = find_action(store, job)
        said = resolve_action(store, found.job_id, done=outcome == FINISHED)
    if as_json:
        tell_json(_as_json(said))
        return
    click.echo(f"{clean(said.action)} (job {said.job_id[:12]}): {said.state}, as {said.by} says")


@click.command(cls=Command)
@click.option(
    "--state",
    type=click.Choice([PENDING, RUNNING, FINISHED, ERROR, UNKNOWN]),
    help="Only those in this state.",
)
@click.option("--zone", help="In this zone, not the one in force.")
@json_lines_option
def actions(state: str | None, zone: str | None, as_json: bool) -> None:
    """List the actions that were asked for, newest first, and their states.

    Example: kachery actions --state unknown
    """
    with _where(zone) as store:
        found = [one for one in all_actions(store) if state in (None, one.state)]
    found.sort(key=lambda one: one.started, reverse=True)
    if as_json:
        tell_json(*map(_as_json, found))
        return
    tell_table(
        [Column("JOB", 12), Column("ACTION", shrinks=True), Column("STATE", 8), Column("WHEN")],
        [(one.job_id[:12], one.action, one.state, _when(one.changed)) for one in found],
    )


def show_action(store: Store, job: str, *, as_json: bool) -> bool:
    """Show an action, if a job is one; False when it is none."""
    if not actions_like(store, job):
        return False
    found = find_action(store, job)
    if as_json:
        tell_json(_as_json(found))
    else:
        tell_facts(_lines(found))
    return True


@contextmanager
def _where(zone: str | None) -> Iterator[Store]:
    if zone is None:
        yield current().store
        return
    with using(zone=zone):
        yield current().store


def _lines(step: Step) -> Iterator[tuple[str, str]]:
    yield "job", f"job://{step.job_id}"
    yield "action", step.action
    yield "state", f"{step.state}, as {step.by} says" if step.by else step.state
    for name, address, text in step.arguments:
        yield (
            "argument",
            f"{name} = {text}  ({address.hex()[:12]})" if address else f"{name} is secret",
        )
    yield "started", f"{_when(step.started)}, attempt {step.attempt}"
    yield "changed", _when(step.changed)
    yield "where", f"{step.user} on {step.host}, process {step.pid}"
    if step.failure is not None:
        yield "raised", f"{step.failure.type}: {step.failure.message}"
        for line in step.failure.traceback.splitlines():
            yield "", line.expandtabs()
    if step.state == UNKNOWN:
        yield "next", f"find out what it has done, then kachery resolve {step.job_id[:12]}"


def _as_json(step: Step) -> dict[str, Any]:
    return {
        **step._asdict(),
        "arguments": [
            {"name": name, "address": address.hex() or None, "description": text}
            for name, address, text in step.arguments
        ],
        "failure": None if step.failure is None else step.failure._asdict(),
    }


def _when(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S")
