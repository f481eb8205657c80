"""The commands that keep a store small, sound and known: gc, pin, verify, info, doctor, repair."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from itertools import chain
from typing import Any

import click

from kachery_store import NotFound
from kachery_store.amounts import parse_size, parse_span, size_text
from kachery_store.doctor import PROBLEM, SOUND, Finding, examine
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
from .info_command import info, when
from .running import SETTINGS
from .zone_keeping_commands import collect
from .zone_keeping_commands import pin as pin_in_zone
from .zone_keeping_commands import unpin as unpin_in_zone

_SHOWN = 20  # lines of a plan; --verbose shows all


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


@click.command(context_settings=SETTINGS)
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
def gc(dry_run: bool, verbose: bool, zone: str | None, **limits: Any) -> None:
    """Make the store smaller: what is cheap to compute again and long unused goes first.

    Pins and what they reach stay, and what somebody uses now. Without a limit, maxCacheSizeGiB of
    kachery.toml counts.

    With --zone, what was written longer ago than --older-than, or than the zone's `expires`.

    Example: kachery gc --max-size 100GB --dry-run
    """
    limits = {name: given for name, given in limits.items() if given is not None}
    if zone is not None:
        if limits.pop("max_items", None) is not None:
            raise click.UsageError("--max-items is for the local store; a zone has --max-size")
        collect(zone, ZonePolicy(**limits), dry_run=dry_run, verbose=verbose)
        return
    with _bar("collect", None) as bar:
        done = keeping.gc(dry_run=dry_run, progress=bar.update, **limits)
    _tell_plan(done.plan, everything=verbose)
    click.echo(_outcome(done, dry_run))


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


@click.command(context_settings=SETTINGS)
@click.argument("what", nargs=-1, required=True)
@click.option("--reason", default="", help="Why, for those who see the pin later.")
@click.option("--zone", help="In this zone, not here.")
def pin(what: tuple[str, ...], reason: str, zone: str | None) -> None:
    """Keep files or jobs from garbage collection: URIs, or the beginnings of job ids.

    A job keeps its result, and the jobs that made its arguments. A pin here does not count in a zone.

    Example: kachery pin 3f9a2c --reason "figure 3"
    """
    for one in what:
        click.echo(keeping.pin(one, reason) if zone is None else pin_in_zone(zone, one, reason))


@click.command(context_settings=SETTINGS)
@click.argument("what", nargs=-1, required=True)
@click.option("--zone", help="In this zone, not here.")
def unpin(what: tuple[str, ...], zone: str | None) -> None:
    """Take pins back."""
    if zone is not None:
        unpin_in_zone(zone, what)
        return
    missing = [one for one in what if not keeping.unpin(one)]
    if missing:
        raise NotFound(f"not pinned: {', '.join(missing)}; `kachery pins` lists what is")


@click.command(context_settings=SETTINGS)
@click.option("--zone", help="In this zone, not here.")
def pins(zone: str | None) -> None:
    """List what is pinned, when and why."""
    for one in keeping.pins() if zone is None else zone_keeping.pins(zone):
        click.echo(f"{when(one.time) if one.time else '':19}  {one.uri}  {one.reason}".rstrip())


@click.command(context_settings=SETTINGS)
@click.option(
    "--all", "afresh", is_flag=True, help="From the beginning, even after an interruption."
)
@click.option("--threads", type=click.IntRange(min=1), help="How many; by default one per CPU.")
@click.option("--zone", help="In this zone, not here.")
@click.argument("bundle", required=False)
def verify(afresh: bool, threads: int | None, zone: str | None, bundle: str | None) -> None:
    """Check everything that is stored against its digest; damage goes to quarantine.

    In a zone also whether all parts of large files are there. With BUNDLE, a file of `kachery bundle`,
    check that instead: what is in it, how it hangs together, and who has signed it.

    A run that was interrupted goes on where it was. The exit code is 1 when something is damaged.
    """
    if bundle is not None:
        if afresh or threads or zone is not None:
            raise click.UsageError("a bundle is checked without options")
        verify_file(bundle)
        return
    run: Verification | ZoneVerification
    if zone is None:
        run = keeping.verification(afresh=afresh)
    else:
        run = zone_keeping.verification(zone, afresh=afresh)
    if run.before.files:
        click.echo(f"going on after {run.before.files} files, {size_text(run.before.bytes)}")
    with _bar("verify", run.bytes) as bar:
        done = run.run(threads=threads, progress=bar.update)
    chunks = _chunks_in(zone, [one.name for one in done.damaged])
    _tell_verified(done, "" if zone is None else f" --zone {zone}", chunks)
    if done.damaged:
        sys.exit(1)


def _chunks_in(zone: str | None, names: list[str]) -> dict[str, str]:
    """Of the names of blobs those that are chunks of arrays, and of which."""
    return keeping.chunks_in(names) if zone is None else zone_keeping.chunks_in(zone, names)


def _tell_verified(done: Verified, where: str, chunks: dict[str, str]) -> None:
    for one in done.damaged:
        what = f"{one.name} ({chunks[one.name]})" if one.name in chunks else one.name
        click.echo(f"{what}: {one.why}; {f'moved to {one.moved}' if one.moved else 'left there'}")
    click.echo(
        f"{done.files} files, {size_text(done.bytes)} in {done.seconds:.3g} s: {done.rate:.3g} GB/s;"
        f" {len(done.damaged)} damaged"
    )
    if done.damaged:
        click.echo(
            f"`kachery repair{where}` brings back what is intact elsewhere, and forgets the rest"
        )


@click.command(context_settings=SETTINGS)
@click.option("--fix", is_flag=True, help="Do what is safe to do.")
def doctor(fix: bool) -> None:
    """Look for what is wrong with the store, or may soon be, and say what to do about it.

    The exit code is 1 when a problem is left.
    """
    problems = 0
    for finding in chain(examine(current().root, check_entry), zone_keeping.findings()):
        click.echo(f"{finding.severity}: {finding.what}")
        if finding.severity == SOUND:
            continue
        if not (fix and _fixed(finding)):
            click.echo(f"    {finding.advice}{_hint(finding, fix)}")
            problems += finding.severity == PROBLEM
    if problems:
        sys.exit(1)
    click.echo(f"{current().root}: no problem is left")


def _fixed(finding: Finding) -> bool:
    if finding.fix is None:
        return False
    try:
        click.echo(f"    {finding.fix()}")
    except OSError as error:
        click.echo(f"    could not be fixed: {error}")
        return False
    return True


def _hint(finding: Finding, fix: bool) -> str:
    return " (--fix does that)" if finding.fix is not None and not fix else ""


@click.command(context_settings=SETTINGS)
@click.option("--discard", is_flag=True, help="Also the damaged bytes of files that are lost.")
@click.option("--zone", help="In this zone, not here.")
def repair(discard: bool, zone: str | None) -> None:
    """Fetch what is damaged from the zone in force again, or forget it; say what was lost.

    With --zone, what that zone has lost is sent again from here. Jobs are computed again when they are
    next asked for. The exit code is 1 when a file is lost.
    """
    done = (
        keeping.repair(discard=discard)
        if zone is None
        else zone_keeping.repair(zone, discard=discard)
    )
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
        click.echo(f"lost: {chunk or uri}; store the {what} again if you have it elsewhere")
    for place in done.salvage:
        click.echo(f"its damaged bytes: {place}")
    click.echo(
        f"{'' if zone is None else f'zone {zone}: '}{len(done.fetched)} {again} again,"
        f" {len(done.forgotten)} jobs forgotten, {len(done.lost)} files lost, {done.cleared} damaged"
        " ones cleared from quarantine"
    )


def add_store_commands(group: click.Group) -> None:
    """Add all of these commands to a group."""
    for command in (gc, pin, unpin, pins, verify, info, doctor, repair):
        group.add_command(command)


def _bar(what: str, size: int | None) -> Any:
    from tqdm.auto import tqdm

    quiet = bool(os.environ.get("CI")) or not sys.stderr.isatty()
    return tqdm(total=size, unit="B", unit_scale=True, desc=what, delay=1, disable=quiet)
