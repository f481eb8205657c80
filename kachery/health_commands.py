"""The commands that keep a store sound: verify, doctor, repair."""

from __future__ import annotations

import sys
from itertools import chain
from typing import Any

import click

from kachery_store.amounts import size_text
from kachery_store.doctor import NOTICE, PROBLEM, SOUND, Finding, examine
from kachery_store.pins import parse_pinned
from kachery_store.repair import Repaired
from kachery_store.verify import Verification, Verified
from kachery_store.zone_verify import ZoneVerification
from kachery_tasks import keeping, zone_keeping
from kachery_tasks.holdings import check_entry
from kachery_tasks.settings import current

from .bundle_commands import verify_file
from .help_pages import Command
from .telling import bad, bytes_bar, good, json_lines_option, json_option, odd, tell_json

_STYLE = {PROBLEM: bad, NOTICE: odd, SOUND: good}


@click.command(cls=Command)
@click.option(
    "--all", "afresh", is_flag=True, help="From the beginning, even after an interruption."
)
@click.option("--threads", type=click.IntRange(min=1), help="How many; by default one per CPU.")
@click.option("--zone", help="In this zone, not here.")
@click.argument("bundle", required=False)
@json_option
def verify(
    afresh: bool, threads: int | None, zone: str | None, bundle: str | None, as_json: bool
) -> None:
    """Check everything that is stored against its digest; damage goes to quarantine.

    In a zone also whether all parts of large files are there. With BUNDLE, a file of `kachery bundle`,
    check that instead: what is in it, how it hangs together, and who has signed it.

    A run that was interrupted goes on where it was. The exit code is 1 when something is damaged.

    Example: kachery verify
    Example: kachery verify figure3.zip
    """
    if bundle is not None:
        if afresh or threads or zone is not None:
            raise click.UsageError("a bundle is checked without options")
        verify_file(bundle, as_json=as_json)
        return
    run: Verification | ZoneVerification
    if zone is None:
        run = keeping.verification(afresh=afresh)
    else:
        run = zone_keeping.verification(zone, afresh=afresh)
    if run.before.files and not as_json:
        click.echo(f"going on after {run.before.files} files, {size_text(run.before.bytes)}")
    with bytes_bar("verify", run.bytes) as bar:
        done = run.run(threads=threads, progress=bar.update)
    chunks = _chunks_in(zone, [one.name for one in done.damaged])
    if as_json:
        tell_json(_verified_as_json(done, zone, chunks))
    else:
        _tell_verified(done, "" if zone is None else f" --zone {zone}", chunks)
    if done.damaged:
        sys.exit(1)


def _chunks_in(zone: str | None, names: list[str]) -> dict[str, str]:
    """Of the names of blobs those that are chunks of arrays, and of which."""
    return keeping.chunks_in(names) if zone is None else zone_keeping.chunks_in(zone, names)


def _verified_as_json(done: Verified, zone: str | None, chunks: dict[str, str]) -> dict[str, Any]:
    damaged = [{**one._asdict(), "chunk_of": chunks.get(one.name)} for one in done.damaged]
    return {**done._asdict(), "damaged": damaged, "zone": zone}


def _tell_verified(done: Verified, where: str, chunks: dict[str, str]) -> None:
    for one in done.damaged:
        what = f"{one.name} ({chunks[one.name]})" if one.name in chunks else one.name
        left = f"moved to {one.moved}" if one.moved else "left there"
        click.echo(f"{bad(what)}: {one.why}; {left}")
    click.echo(
        f"{done.files} files, {size_text(done.bytes)} in {done.seconds:.3g} s: {done.rate:.3g} GB/s;"
        f" {len(done.damaged)} damaged"
    )
    if done.damaged:
        click.echo(
            f"`kachery repair{where}` brings back what is intact elsewhere, and forgets the rest"
        )


@click.command(cls=Command)
@click.option("--fix", is_flag=True, help="Do what is safe to do.")
@json_lines_option
def doctor(fix: bool, as_json: bool) -> None:
    """Look for what is wrong with the store, or may soon be, and say what to do about it.

    The exit code is 1 when a problem is left.

    Example: kachery doctor --fix
    """
    problems = 0
    for finding in chain(examine(current().root, check_entry), zone_keeping.findings()):
        if not as_json:
            click.echo(f"{_STYLE[finding.severity](finding.severity)}: {finding.what}")
        fixed, outcome = _fixed(finding) if fix else (False, "")
        problems += finding.severity == PROBLEM and not fixed
        if as_json:
            tell_json(_finding_as_json(finding, fixed, outcome))
            continue
        if outcome:
            click.echo(f"    {outcome}")
        if finding.severity != SOUND and not fixed:
            click.echo(f"    {finding.advice}{_hint(finding, fix)}")
    if problems:
        sys.exit(1)
    if not as_json:
        click.echo(f"{current().root}: no problem is left")


def _finding_as_json(finding: Finding, fixed: bool, outcome: str) -> dict[str, Any]:
    can_fix = finding.fix is not None
    told = {**finding._asdict(), "can_fix": can_fix, "fixed": fixed, "outcome": outcome}
    return {name: one for name, one in told.items() if name != "fix"}


def _fixed(finding: Finding) -> tuple[bool, str]:
    """Whether something could be fixed, and how or why not."""
    if finding.fix is None or finding.severity == SOUND:
        return False, ""
    try:
        return True, finding.fix()
    except OSError as error:
        return False, f"could not be fixed: {error}"


def _hint(finding: Finding, fix: bool) -> str:
    return " (--fix does that)" if finding.fix is not None and not fix else ""


@click.command(cls=Command)
@click.option("--discard", is_flag=True, help="Also the damaged bytes of files that are lost.")
@click.option("--zone", help="In this zone, not here.")
@json_option
def repair(discard: bool, zone: str | None, as_json: bool) -> None:
    """Fetch what is damaged from the zone in force again, or forget it; say what was lost.

    With --zone, what that zone has lost is sent again from here. Jobs are computed again when they are
    next asked for. The exit code is 1 when a file is lost.

    Example: kachery repair --zone lab
    """
    done = (
        keeping.repair(discard=discard)
        if zone is None
        else zone_keeping.repair(zone, discard=discard)
    )
    if as_json:
        tell_json({**done._asdict(), "zone": zone})
    else:
        _tell_repaired(done, zone)
    if done.lost:
        sys.exit(1)


def _tell_repaired(done: Repaired, zone: str | None) -> None:
    again = "fetched" if zone is None else "sent"
    for uri in done.fetched:
        click.echo(f"{again} again: {uri}")
    for job in done.forgotten:
        click.echo(f"forgotten, computed again when asked for: {job}")
    chunks = _chunks_in(zone, [parse_pinned(uri).name for uri in done.lost])
    for uri in done.lost:
        chunk = chunks.get(parse_pinned(uri).name)
        what = "file" if chunk is None else "array"
        click.echo(
            f"{bad('lost')}: {chunk or uri}; store the {what} again if you have it elsewhere"
        )
    for place in done.salvage:
        click.echo(f"its damaged bytes: {place}")
    click.echo(
        f"{'' if zone is None else f'zone {zone}: '}{len(done.fetched)} {again} again,"
        f" {len(done.forgotten)} jobs forgotten, {len(done.lost)} files lost, {done.cleared} damaged"
        " ones cleared from quarantine"
    )
