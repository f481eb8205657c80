"""The commands that keep a store small: gc, pin, unpin, pins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from kachery_store import NotFound
from kachery_store.amounts import parse_size, parse_span, size_text
from kachery_store.errors import BadAmount
from kachery_store.gc import Collected
from kachery_store.removal import Plan
from kachery_store.zone_plan import ZonePolicy
from kachery_tasks import keeping, zone_keeping

from .help_pages import Command
from .info_command import when
from .telling import bold, bytes_bar, json_lines_option, json_option, tell_json
from .zone_keeping_commands import collect, collect_as_json
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
    with bytes_bar("collect", None) as bar:
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
    """Keep files or jobs from garbage collection.

    WHAT: URIs, or the beginnings of job ids. A job keeps its result, and the jobs that made its
    arguments. A pin here does not count in a zone.

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
