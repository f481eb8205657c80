"""What `kachery gc`, `verify`, `repair` and the pins do with --zone."""

from __future__ import annotations

import click

from kachery_store.amounts import size_text
from kachery_store.errors import NotFound
from kachery_store.pins import parse_pinned
from kachery_store.zone_gc import ZoneCollected
from kachery_store.zone_plan import ZonePolicy
from kachery_tasks import keeping, zone_keeping
from kachery_tasks.settings import current

from .telling import tell_json

_SHOWN = 20  # lines of what goes; --verbose shows all


def collect_as_json(zone: str, policy: ZonePolicy, *, dry_run: bool) -> None:
    """Collect garbage in a zone, and tell programs what went."""
    going = []

    def tell(name: str, size: int) -> None:
        going.append({"what": _uri(name), "size": size})

    done = zone_keeping.gc(zone, policy, dry_run=dry_run, tell=tell)
    tell_json({"zone": zone, "dry_run": dry_run, **done._asdict(), "going": going})


def collect(zone: str, policy: ZonePolicy, *, dry_run: bool, verbose: bool) -> None:
    """Collect garbage in a zone, and tell what went."""
    told = 0

    def tell(name: str, size: int) -> None:
        nonlocal told
        told += 1
        if verbose or told <= _SHOWN:
            click.echo(f"{size_text(size):>8}  {_uri(name)}")

    done = zone_keeping.gc(zone, policy, dry_run=dry_run, tell=tell)
    if told > _SHOWN and not verbose:
        click.echo(f"and {told - _SHOWN} more; --verbose shows all")
    click.echo(_outcome(done, dry_run))


def _uri(name: str) -> str:
    folder, own = name.partition("/")[0], name.rpartition("/")[2]
    return f"job://{own}" if folder == "jobs" else name


def _outcome(done: ZoneCollected, dry_run: bool) -> str:
    what = f"{size_text(done.freed)} with {done.records} records and {done.others} other objects"
    before = f"of {size_text(done.size)} in {done.objects} objects"
    if dry_run:
        return f"would free {what}, {before}; nothing was changed"
    spared = f"; {done.spared} stayed because they came into use meanwhile" if done.spared else ""
    return f"freed {what}, {before}{spared}"


def pin(zone: str, what: str, reason: str) -> str:
    """Pin a URI, or a job by the beginning of its id if its record is here; returns the URI."""
    return zone_keeping.pin(zone, _pinnable(what), reason)


def unpin(zone: str, what: tuple[str, ...]) -> None:
    """Take pins of a zone back."""
    missing = [one for one in what if not zone_keeping.unpin(zone, _pinnable(one))]
    if missing:
        raise NotFound(
            f"not pinned: {', '.join(missing)}; `kachery pins --zone {zone}` lists what is"
        )


def _pinnable(what: str) -> str:
    uri = what if "://" in what else keeping.uri_of(current().store, what)
    parse_pinned(uri)
    return uri
