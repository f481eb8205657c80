"""Commands about bundles: a value and how it was made in one file, for others."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import click

from kachery_store.amounts import size_text
from kachery_store.errors import BadKey, StoreUnavailable
from kachery_store.identity import identity
from kachery_store.saying import clean
from kachery_tasks.bundles import BundleReport, Imported, bundle, import_bundle, verify_bundle
from kachery_tasks.trusted_keys import trusted_keys

from .help_pages import Command
from .telling import json_option, odd, tell_json

_SHOWN = 20  # lines of each kind


@click.command("bundle", cls=Command)
@click.argument("thing")
@click.option("-o", "--output", required=True, help="The file to write.", metavar="FILE")
@click.option(
    "--with-intermediates",
    is_flag=True,
    help="Also the results of earlier jobs, and the files that they began with.",
)
@json_option
def bundle_command(thing: str, output: str, with_intermediates: bool, as_json: bool) -> None:
    """Write a value, its lineage and all records into one file.

    THING is a job, a URI, or a file on disk, as for `kachery lineage`. Others check the file without any
    store or network, `kachery verify FILE`, and bring it into their store, `kachery import FILE`.

    Example: kachery bundle 3f9a2c -o figure3.zip
    """
    done = bundle(thing, output, with_intermediates=with_intermediates)
    if as_json:
        tell_json(done._asdict())
        return
    click.echo(f"{done.path}: {clean(done.about)}, {done.jobs} jobs, {size_text(done.bytes)}")
    _tell("not in it, --with-intermediates adds it", done.left_out)
    _tell("not to be had", done.gone)


def verify_file(path: str, *, as_json: bool) -> None:
    """Check a bundle, and say what it has and who vouches for it."""
    report = verify_bundle(path)
    if as_json:
        tell_json(report._asdict())
    else:
        _tell_report(report)


def _tell_report(report: BundleReport) -> None:
    click.echo(f"{report.path}: intact")
    click.echo(f"about     {clean(report.about)}")
    for uri in report.asked:
        if uri != report.about:
            click.echo(f"          {clean(uri)}")
    click.echo(
        f"has       {report.jobs} records, {report.members} members, {size_text(report.bytes)}"
    )
    for key, count in sorted(report.signers.items()):
        click.echo(f"signed    {count} records by key {key}{_known(key)}")
    if report.unsigned:
        click.echo(f"unsigned  {report.unsigned} records: anybody can have written those")
    for uri, count in sorted(report.in_feeds.items()):
        click.echo(f"told of   {count} records in {uri}, under a checkpoint signed by its key")
    if report.unproven:
        click.echo(
            f"unproven  {report.unproven} arguments: that a job made them is said by the record, and"
            " nothing in the file shows it"
        )
    _tell("not in it", report.left_out)
    _tell("was gone ", report.gone)


def _known(key: str) -> str:
    """What this user knows of a key."""
    with suppress(BadKey, StoreUnavailable):
        own = identity()
        if own is not None and own.public.hex() == key:
            return ", your own"
    try:
        trusted = [one for one in trusted_keys() if one.key == key]
    except BadKey as error:
        return clean(f"; whom you trust cannot be told: {error}")
    if not trusted:
        return ", whom you do not trust so far"
    return clean(f", whom you trust{f' as {trusted[0].name}' if trusted[0].name else ''}")


@click.command("import", cls=Command)
@click.argument("file")
@json_option
def import_command(file: str, as_json: bool) -> None:
    """Verify a bundle and bring it into the local store.

    Records count only if a key that you trust has signed them (`kachery trust`). The exit code is 1 when
    some did not.

    Example: kachery import figure3.zip
    """
    done = import_bundle(file)
    if as_json:
        tell_json(_as_json(done))
    else:
        _tell_report(done.report)
        _tell_imported(done)
    if done.refused:
        sys.exit(1)


def _as_json(done: Imported) -> dict[str, Any]:
    refused = [{"uri": uri, "why": why} for uri, why in done.refused]
    return {**done._asdict(), "report": done.report._asdict(), "refused": refused}


def _tell_imported(done: Imported) -> None:
    click.echo(
        f"imported  {len(done.jobs)} records, {done.members} files in all; {len(done.known)} records"
        " were here already"
    )
    _tell("here with another result, which stays", done.differing)
    for why in dict.fromkeys(why for _, why in done.refused):
        refused = [uri for uri, reason in done.refused if reason == why]
        click.echo(odd(f"refused   {len(refused)} records: {clean(why)}"))
        _tell("refused", refused)


def _tell(what: str, uris: Iterable[str]) -> None:
    uris = list(uris)
    for uri in uris[:_SHOWN]:
        click.echo(f"{what}: {clean(uri)}")
    if len(uris) > _SHOWN:
        click.echo(f"{what}: {len(uris) - _SHOWN} more")
