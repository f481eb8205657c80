"""Commands about zones: which there are, adding one, trying one out; push and pull."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import click

from kachery_store.config import read_table
from kachery_store.errors import ConfigError, KacheryError, StoreUnavailable
from kachery_store.progress import progress_bar
from kachery_store.remote import check_url
from kachery_store.zone_settings import ZoneSettings, zone_named, zones_of
from kachery_tasks.carrying import Carried, pull, push
from kachery_tasks.settings import current, using

from .help_pages import Command, Group
from .telling import bad, bold, json_lines_option, json_option, odd, tell_facts, tell_json

_NAME = re.compile("[A-Za-z0-9_-]{1,64}")
_SKEW = 60.0  # seconds


@click.group("zone", cls=Group)
def zone_commands() -> None:
    """Shared stores: a bucket, or a folder of the lab.

    Zones are tables of kachery.toml in the store's folder (KACHERY_CONFIG names another file).
    KACHERY_ZONE names the one in force.

    Example: kachery zone add lab s3://our-bucket/kachery --profile lab
    Example: kachery zone check lab
    """


@zone_commands.command("list")
@json_lines_option
def list_zones(as_json: bool) -> None:
    """List the zones that are configured; a star marks the one in force.

    Example: kachery zone list
    """
    settings = current()
    in_force = settings.zone_settings()
    zones = zones_of(settings.root)
    if not zones:
        click.echo(odd("no zones are configured: kachery zone add NAME URL"), err=True)
    for name, zone in sorted(zones.items()):
        if as_json:
            tell_json({**_as_json(zone), "in_force": zone == in_force})
            continue
        click.echo(
            f"{'*' if zone == in_force else ' '} {bold(f'{name:16}')} {zone.url}{_told(zone)}"
        )


def _as_json(zone: ZoneSettings) -> dict[str, Any]:
    return {**zone._asdict(), "options": dict(zone.options)}


@zone_commands.command("add")
@click.argument("name")
@click.argument("url")
@click.option("--endpoint-url", help="Of a server other than Amazon's.")
@click.option("--region")
@click.option("--profile", help="Of ~/.aws/credentials.")
@click.option("--anon", is_flag=True, help="Without credentials.")
@click.option("--read-only", is_flag=True, help="Never send anything there.")
@click.option("--expires", help="How long its content lives, as 30d.")
@json_option
def add_zone(name: str, url: str, as_json: bool, **given: Any) -> None:
    """Add a zone to kachery.toml.

    URL is s3://bucket/prefix, a folder, or another URL of fsspec. Credentials come from the profile or
    the environment and are never written down.

    Example: kachery zone add lab s3://our-bucket/kachery --profile lab
    """
    root = current().root
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name for a zone: use letters, digits, - and _")
    if name in zones_of(root):
        raise ConfigError(f"zone {name} is there already; change it in {read_table(root).path}")
    for one in (url, given["endpoint_url"]):
        check_url(one or "")  # before anything is written down
    url = os.path.abspath(os.path.expanduser(url)) if "://" not in url else url
    lines = [f"[zones.{name}]", f"url = {json.dumps(url)}"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in given.items() if value]
    path = _appended(root, "\n".join(lines) + "\n")
    try:
        zone_named(name, root)
    except ConfigError:
        _without(path, "\n".join(lines) + "\n")
        raise
    if as_json:
        tell_json({**_as_json(zones_of(root)[name]), "path": path})
        return
    click.echo(f"added to {path}; try it with: kachery zone check {name}")


@zone_commands.command("check")
@click.argument("name", required=False)
@json_option
def check_zone(name: str | None, as_json: bool) -> None:
    """Try out a zone, by default the one in force: rights, capabilities, clock, speed.

    Example: kachery zone check lab
    """
    settings = current()
    chosen = settings.zone_settings() if name is None else zone_named(name, settings.root)
    if chosen is None:
        raise ConfigError("no zone is in force; name one: kachery zone check NAME")
    told: dict[str, Any] = _as_json(chosen)
    for fact in _tried(chosen):
        told |= fact.told
        if fact.text and not as_json:
            tell_facts([(fact.name, fact.text)])
    if as_json:
        tell_json(told)


class _Fact(NamedTuple):
    """Something about a zone: for people, if they need it, and for programs."""

    name: str
    text: str
    told: dict[str, Any]


def _tried(chosen: ZoneSettings) -> Iterator[_Fact]:
    zone = chosen.open()
    url = zone.backend.url
    yield _Fact("zone", f"{chosen.name} at {url}{_told(chosen)}", {"url": url})
    began = time.perf_counter()
    zone.prepare(writing=False)
    took = time.perf_counter() - began
    yield _Fact("reading", f"works, {1000 * took:.0f} ms", {"reading_seconds": took})
    if not chosen.read_only:
        yield from _tried_writing(zone.backend)


def _tried_writing(backend: Any) -> Iterator[_Fact]:
    name = f"tmp/check.{os.urandom(8).hex()}"
    began = time.perf_counter()
    backend.create(name, b"kachery zone check", durable=True)
    took = time.perf_counter() - began
    status = backend.status(name)
    backend.remove(name)
    yield _Fact("writing", f"works, {1000 * took:.0f} ms", {"writing_seconds": took})
    for capability, has in backend.capabilities._asdict().items():
        text = f"{'yes' if has else 'no'}: {_MEANING[capability]}"
        yield _Fact(capability, text, {capability: bool(has)})
    skew = 0.0 if status is None else status.modified - time.time()
    text = f"differs by {skew:.0f} s from this machine's: set one of them right"
    yield _Fact("clock", text if abs(skew) > _SKEW else "", {"clock_skew": skew})


_MEANING = {
    "create": "of two that write under one name, one is told that it was second",
    "swap": "something is replaced only if nobody was faster",
    "checksum": "bytes that arrive damaged are refused",
    "presign": "there are URLs that need no credentials",
}


@click.command("push", cls=Command)
@click.argument("things", nargs=-1)
@click.option("--zone", help="Instead of the one in force.")
@json_option
def push_command(things: tuple[str, ...], zone: str | None, as_json: bool) -> None:
    """Send files (URIs) and jobs (ids) to the zone, with all that they need.

    Without arguments: what waits because the zone could not be reached.

    Example: kachery push 3f9a2c --zone lab
    Example: kachery push
    """
    with _zone(zone), progress_bar("push", None, unit="things") as add:
        _report("sent", push(*things, progress=add), as_json=as_json)


@click.command("pull", cls=Command)
@click.argument("things", nargs=-1, required=True)
@click.option("--zone", help="Instead of the one in force.")
@json_option
def pull_command(things: tuple[str, ...], zone: str | None, as_json: bool) -> None:
    """Bring files (URIs) and jobs (ids) here from the zone, with all that they need.

    Example: kachery pull sha1://b971c6... --zone lab
    """
    with _zone(zone), progress_bar("pull", None, unit="things") as add:
        _report("here now", pull(*things, progress=add), as_json=as_json)


@contextmanager
def _zone(name: str | None) -> Iterator[None]:
    if name is None:
        yield
        return
    with using(zone=name):
        yield


def _report(what: str, carried: Carried, *, as_json: bool) -> None:
    for one in carried.lost:
        click.echo(f"kachery: {bad('lost')}: {one}", err=True)
    if as_json:
        tell_json(carried._asdict())
    else:
        click.echo(f"{carried.things} things {what}")
    if carried.lost:
        raise KacheryError(f"{len(carried.lost)} things could not be sent")


def _told(zone: ZoneSettings) -> str:
    told = [key for key, value in zone.options if value is True]
    told += ["read-only"] if zone.read_only else []
    told += [f"expires after {zone.expires / 86_400:g} days"] if zone.expires else []
    return f" ({', '.join(told)})" if told else ""


def _appended(root: str, text: str) -> str:
    path = os.environ.get("KACHERY_CONFIG") or os.path.join(root, "kachery.toml")
    path = os.path.abspath(os.path.expanduser(path))
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "a+", encoding="utf-8") as file:
            file.seek(0)
            before = file.read()
            file.write("" if not before else "\n" if before.endswith("\n") else "\n\n")
            file.write(text)
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be written: {error}", error.errno) from error
    return path


def _without(path: str, text: str) -> None:
    with open(path, encoding="utf-8") as file:
        whole = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(whole.removesuffix(text))
