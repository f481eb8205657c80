"""Commands about bundles: a value and how it was made in one file, for others."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import click

from kachery_store.amounts import size_text
from kachery_store.identity import identity
from kachery_tasks.bundles import BundleReport, Imported, bundle, import_bundle, verify_bundle
from kachery_tasks.trusted_keys import trusted_keys

from .running import SETTINGS

_SHOWN = 20  # lines of each kind


@click.command("bundle", context_settings=SETTINGS)
@click.argument("thing")
@click.option("-o", "--output", required=True, help="The file to write.", metavar="FILE")
@click.option(
    "--with-intermediates",
    is_flag=True,
    help="Also the results of earlier jobs, and the files that they began with.",
)
def bundle_command(thing: str, output: str, with_intermediates: bool) -> None:
    """Write a value, its lineage and all records into one file.

    THING is a job, a URI, or a file on disk, as for `kachery lineage`. Others check the file without any
    store or network, `kachery verify FILE`, and bring it into their store, `kachery import FILE`.

    Example: kachery bundle 3f9a2c -o figure3.zip
    """
    done = bundle(thing, output, with_intermediates=with_intermediates)
    click.echo(f"{done.path}: {done.about}, {done.jobs} jobs, {size_text(done.bytes)}")
    _tell("not in it, --with-intermediates adds it", done.left_out)
    _tell("not to be had", done.gone)


def verify_file(path: str) -> None:
    """Check a bundle, and say what it has and who vouches for it."""
    _tell_report(verify_bundle(path))


def _tell_report(report: BundleReport) -> None:
    click.echo(f"{report.path}: intact")
    click.echo(f"about     {report.about}")
    for uri in report.asked:
        if uri != report.about:
            click.echo(f"          {uri}")
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
    own = identity()
    if own is not None and own.public.hex() == key:
        return ", your own"
    trusted = [one for one in trusted_keys() if one.key == key]
    if not trusted:
        return ", whom you do not trust so far"
    return f", whom you trust{f' as {trusted[0].name}' if trusted[0].name else ''}"


@click.command("import", context_settings=SETTINGS)
@click.argument("file")
def import_command(file: str) -> None:
    """Verify a bundle and bring it into the local store.

    Records count only if a key that you trust has signed them (`kachery trust`). The exit code is 1 when
    some did not.
    """
    done = import_bundle(file)
    _tell_report(done.report)
    _tell_imported(done)
    if done.refused:
        sys.exit(1)


def _tell_imported(done: Imported) -> None:
    click.echo(
        f"imported  {len(done.jobs)} records, {done.members} files in all; {len(done.known)} records"
        " were here already"
    )
    _tell("here with another result, which stays", done.differing)
    for why in dict.fromkeys(why for _, why in done.refused):
        refused = [uri for uri, reason in done.refused if reason == why]
        click.echo(f"refused   {len(refused)} records: {why}")
        _tell("refused", refused)


def _tell(what: str, uris: Iterable[str]) -> None:
    uris = list(uris)
    for uri in uris[:_SHOWN]:
        click.echo(f"{what}: {uri}")
    if len(uris) > _SHOWN:
        click.echo(f"{what}: {len(uris) - _SHOWN} more")
