"""What stays and what goes in a zone: collection, pins, verification, repair."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from kachery_store.collecting import GRACE
from kachery_store.doctor import Finding
from kachery_store.errors import ConfigError, ZoneWarning
from kachery_store.pins import Pin
from kachery_store.repair import Repaired
from kachery_store.saying import warn
from kachery_store.zone import Zone
from kachery_store.zone_doctor import examine_outboxes, examine_zone
from kachery_store.zone_gc import Told, ZoneCollected, collect_zone
from kachery_store.zone_pins import ZonePins
from kachery_store.zone_plan import ZonePolicy
from kachery_store.zone_repair import repair_zone
from kachery_store.zone_settings import zone_named, zones_of
from kachery_store.zone_verify import ZoneVerification

from .holdings import check_entry, chunk_names, zone_holdings
from .settings import current
from .trust import Trust


def gc(
    name: str,
    policy: ZonePolicy,
    *,
    dry_run: bool = False,
    tell: Told = lambda name, size: None,  # noqa: ARG005
) -> ZoneCollected:
    """Collect garbage in a zone; errors as for collect_zone, ConfigError for an unknown zone."""
    zone = opened(name)
    if policy.grace < GRACE and not dry_run:
        warn(
            ZoneWarning(
                f"with a grace period below a day nobody may write to zone {name} while its garbage"
                " is collected: what is being stored may lose what it relies on"
            )
        )
    return collect_zone(zone, zone_holdings(zone.backend), policy, dry_run=dry_run, tell=tell)


def verification(name: str, *, afresh: bool = False) -> ZoneVerification:
    """A check of everything in a zone, which goes on where an interrupted one was."""
    zone = opened(name)
    local, held_by = current().store.backend, zone_holdings(zone.backend)
    return ZoneVerification(zone, local, check_entry, held_by, afresh=afresh)


def chunks_in(name: str, names: Iterable[str]) -> dict[str, str]:
    """Of the names of blobs those that are chunks of arrays in a zone, and of which."""
    return chunk_names(opened(name).backend, names)


def repair(name: str, *, discard: bool = False) -> Repaired:
    """Send again what a zone has lost, or forget it."""
    zone = opened(name)
    local = current().store.backend
    held_by = zone_holdings(zone.backend)
    return repair_zone(zone, local, held_by, check_entry, Trust(name), discard=discard)


def pin(name: str, uri: str, reason: str = "") -> str:
    """Keep something in a zone, whatever is collected there; returns its URI."""
    return zone_pins(name).add(uri, reason).uri


def unpin(name: str, uri: str) -> bool:
    """Take a pin of a zone back; False when there was none."""
    return zone_pins(name).remove(uri)


def pins(name: str) -> list[Pin]:
    """All pins of a zone, oldest first."""
    return zone_pins(name).all()


def zone_pins(name: str) -> ZonePins:
    """The pins of a zone."""
    zone = opened(name)
    return ZonePins(zone, zone_holdings(zone.backend))


def findings() -> Iterator[Finding]:
    """What is worth knowing about the zones that are configured, and about what waits for them."""
    settings = current()
    in_force = settings.zone_settings()
    zones = {**zones_of(settings.root), **({in_force.name: in_force} if in_force else {})}
    for _, zone in sorted(zones.items()):
        yield from examine_zone(zone, in_force=zone == in_force)
    yield from examine_outboxes(settings.store.backend, set(zones))


def opened(name: str) -> Zone:
    """A zone that is configured. ConfigError."""
    settings = current()
    in_force = settings.zone_settings()
    chosen = in_force if in_force and in_force.name == name else zone_named(name, settings.root)
    if chosen is None:
        raise ConfigError(f"zone {name} is the local store alone; `kachery zone list` lists others")
    return chosen.open()
