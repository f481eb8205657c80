"""The commands that keep a store small and sound: gc, pin, verify, doctor, repair."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from itertools import chain
from typing import Any

import click

from kachery_store import NotFound
from kachery_store.amounts import parse_size, parse_span, size_text
from kachery_store.doctor import NOTICE, PROBLEM, SOUND, Finding, examine
from kachery_store.errors import BadAmount
from kachery_store.gc import Collected
from kachery_store.pins import parse_pinned
from kachery_store.removal import Plan
from kachery_store.repair import Repaired
from kachery_store.verify import Verification, Verified
from kachery_store.zone_plan import ZonePolicy
from kachery_store.zone_verify import ZoneVerification
from kachery_tasks import keeping, zone_keeping
from kachery_tasks.holdings import check_entry
from kachery_tasks.settings import current

from .bundle_commands import verify_file
from .help_pages import Command
from .info_command import when
from .telling import bad, bold, good, json_lines_option, json_option, odd, tell_json
from .zone_keeping_commands import collect, collect_as_json
from .zone_keeping_commands import pin as pin_in_zone
from .zone_keeping_commands import unpin as unpin_in_zone

_SHOWN = 20  # lines of a plan; --verbose shows all
_STYLE = {PROBLEM: bad, NOTICE: odd, SOUND: good}


def _amount(parse: Callable[[str], float]) -> Callable[..., float | None]:
    """What reads an option that is a size or a span of time."""

    def read(ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
        try:
            return None if text is None else parse(text)
        except BadAmount as error:
            raise click.BadParameter(str(error), ctx, param) from None

    return read


_size: dict[str, Any] = {"callback": _amount(parse_size), "metavar": "SIZE"}
_span: dict[str, Any] = {"callback": _amount(parse_span), "metavar": "SPAN"}


@click.command(cls=Command)
@click.option("--max-size", help="How much may stay: 100GB, 1.5TiB.", **_size)
@click.option("--max-items", type=click.IntRange(min=0), help="How many jobs may stay.")
@click.option("--older-than", help="Jobs not used for so long go: 90d, 12h.", **_span)
@click.option("--files", is_flag=True, help="Named files and stored arrays too, not only jobs.")
@click.option(
    "--orphans", is_flag=True, help="Also blobs by BLAKE3, and arrays, that no job holds."
)
@click.option(
    "--grace",
    help="What nothing holds and is younger stays; 1h, in a zone 1d by default.",
    **_span,
)
@click.option("--zone", help="In this zone, not here.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--verbose", "-v", is_flag=True, help="Name everything that goes.")
@json_option
def gc(dry_run: bool, verbose: bool, zone: str | None, as_json: bool, **limits: Any) -> None:
    """Make the store smaller: what is cheap to compute again and long unused goes first.

    Pins and what they reach stay, and what somebody uses now. Without a limit, maxCacheSizeGiB of
    kachery.toml counts.

    With --zone, what was written longer ago than --older-than, or than the zone's `expires`.

    Example: kachery gc --max-size 100GB --dry-run
    Example: kachery gc --zone lab --older-than 90d
    """
    limits = {name: given for name, given in limits.items() if given is not None}
    if zone is not None:
        if limits.pop("max_items", None) is not None:
            raise click.UsageError("--max-items is for the local store; a zone has --max-size")
        if as_json:
            collect_as_json(zone, ZonePolicy(**limits), dry_run=dry_run)
        else:
            collect(zone, ZonePolicy(**limits), dry_run=dry_run, verbose=verbose)
        return
    with _bar("collect", None) as bar:
        done = keeping.gc(dry_run=dry_run, progress=bar.update, **limits)
    if as_json:
        tell_json(_collected_as_json(done, dry_run))
        return
    _tell_plan(done.plan, everything=verbose)
    click.echo(_outcome(done, dry_run))


def _collected_as_json(done: Collected, dry_run: bool) -> dict[str, Any]:
    plan = done.plan
    return {
        "dry_run": dry_run,
        "size": plan.size,
        "jobs": plan.items,
        "freed": plan.freed if dry_run else done.freed,
        "spared": done.spared,
        "going": [
            {"what": one.what, "job_id": one.job_id, "size": one.size, "seconds": one.seconds}
            for one in plan.going
        ],
    }


def _tell_plan(plan: Plan, *, everything: bool) -> None:
    shown = plan.going if everything else plan.going[:_SHOWN]
    for one in shown:
        cost = "cannot be computed again" if one.seconds is None else f"{one.seconds:.3g} s"
        click.echo(f"{size_text(one.size):>8}  {cost:>9}  {one.what}")
    if len(shown) < len(plan.going):
        click.echo(f"and {len(plan.going) - len(shown)} more; --verbose shows all")


def _outcome(done: Collected, dry_run: bool) -> str:
    plan = done.plan
    before = f"of {size_text(plan.size)} with {plan.items} jobs"
    if dry_run:
        return f"would free {size_text(plan.freed)} {before}; nothing was changed"
    spared = f"; {done.spared} files stayed because they came into use meanwhile"
    return f"freed {size_text(done.freed)} {before}{spared if done.spared else ''}"


@click.command(cls=Command)
@click.argument("what", nargs=-1, required=True)
@click.option("--reason", default="", help="Why, for those who see the pin later.")
@click.option("--zone", help="In this zone, not here.")
@json_lines_option
def pin(what: tuple[str, ...], reason: str, zone: str | None, as_json: bool) -> None:
    """Keep files or jobs from garbage collection: URIs, or the beginnings of job ids.

    A job keeps its result, and the jobs that made its arguments. A pin here does not count in a zone.

    Example: kachery pin 3f9a2c --reason "figure 3"
    """
    for one in what:
        uri = keeping.pin(one, reason) if zone is None else pin_in_zone(zone, one, reason)
        if as_json:
            tell_json({"uri": uri, "reason": reason, "zone": zone})
        else:
            click.echo(uri)


@click.command(cls=Command)
@click.argument("what", nargs=-1, required=True)
@click.option("--zone", help="In this zone, not here.")
@json_option
def unpin(what: tuple[str, ...], zone: str | None, as_json: bool) -> None:
    """Take pins back.

    Example: kachery unpin 3f9a2c
    """
    if zone is not None:
        unpin_in_zone(zone, what)
    elif missing := [one for one in what if not keeping.unpin(one)]:
        raise NotFound(f"not pinned: {', '.join(missing)}; `kachery pins` lists what is")
    if as_json:
        tell_json({"unpinned": what, "zone": zone})


@click.command(cls=Command)
@click.option("--zone", help="In this zone, not here.")
@json_lines_option
def pins(zone: str | None, as_json: bool) -> None:
    """List what is pinned, when and why.

    Example: kachery pins --zone lab
    """
    for one in keeping.pins() if zone is None else zone_keeping.pins(zone):
        if as_json:
            tell_json({**one._asdict(), "zone": zone})
            continue
        moment = when(one.time) if one.time else ""
        click.echo(f"{moment:19}  {bold(one.uri)}  {one.reason}".rstrip())


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
    with _bar("verify", run.bytes) as bar:
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


def _bar(what: str, size: int | None) -> Any:
    from tqdm.auto import tqdm

    quiet = bool(os.environ.get("CI")) or not sys.stderr.isatty()
    return tqdm(total=size, unit="B", unit_scale=True, desc=what, delay=1, disable=quiet)
