"""Commands about keys: the user's own, and those whose records count."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import click

from kachery_store.amounts import parse_span
from kachery_store.errors import BadKey, ConfigError, KacheryError, NotFound, StoreUnavailable
from kachery_store.identity import (
    Identity,
    export_identity,
    identity,
    identity_path,
    import_identity,
    is_given,
    own_identity,
)
from kachery_store.saying import clean
from kachery_store.zone_settings import default_root, zones_of
from kachery_tasks.trusted_keys import Trusted, check_key, distrust, trust, trusted_keys

from .help_pages import Group
from .telling import bold, json_lines_option, json_option, odd, tell_json

_MOST = 65_536  # characters of an exported key


@click.group("id", cls=Group, invoke_without_command=True)
@json_option
@click.pass_context
def id_commands(context: click.Context, as_json: bool) -> None:
    """Show your public key, by which others know what you have computed.

    It is made when it is first needed. Give the key to colleagues, who run `kachery trust add`.

    Example: kachery id
    """
    if context.invoked_subcommand is not None:
        if as_json:
            raise click.UsageError(f"options of {context.invoked_subcommand} stand after its name")
        return
    own = own_identity()
    where = "KACHERY_IDENTITY" if is_given() else identity_path()
    if as_json:
        tell_json({"key": own.public.hex(), "private_key_in": where})
        return
    click.echo(bold(own.public.hex()))
    click.echo(f"your private key is in {where}; others trust you with:", err=True)
    click.echo(f"  kachery trust add {own.public.hex()}", err=True)


@id_commands.command("export")
@click.argument("file", required=False)
def export_id(file: str | None) -> None:
    """Write your private key to FILE, or to standard output: for another machine of yours.

    Whoever has it can sign as you. Another machine takes it with `kachery id import FILE`, or with the
    environment variable KACHERY_IDENTITY, which is the path of the file, or its text.

    Example: kachery id export my-key
    """
    text = export_identity() + "\n"
    if file is None or file == "-":
        click.echo(text, nl=False)
        return
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as out:
            out.write(text)
    except OSError as error:
        raise StoreUnavailable(f"{file} cannot be written: {error}", error.errno) from error
    click.echo(f"{file} has your private key, and only you can read it", err=True)


@id_commands.command("import")
@click.argument("file")
@click.option("--replace", is_flag=True, help="Also if you have another key here.")
@json_option
def import_id(file: str, replace: bool, as_json: bool) -> None:
    """Make the private key in FILE (- for standard input) yours on this machine.

    Example: kachery id import my-key
    """
    try:
        if file == "-":
            text = sys.stdin.read(_MOST)
        else:
            with open(file, encoding="utf-8", errors="replace") as source:
                text = source.read(_MOST)
    except FileNotFoundError:
        raise NotFound(f"there is no {file}") from None
    earlier = _own_if_usable()
    own = import_identity(text, replace=replace)
    replaced = None if earlier is None or earlier.public == own.public else earlier.public.hex()
    if as_json:
        tell_json({"key": own.public.hex(), "earlier_key": replaced})
    else:
        click.echo(bold(own.public.hex()))
    if earlier is not None and replaced is not None:
        trust(Trusted(earlier.public.hex(), "your earlier key"))
        click.echo(
            f"your earlier key {earlier.public.hex()} is trusted from now on, but not for pickles;"
            f" if somebody else may have it: kachery trust remove {earlier.public.hex()}",
            err=True,
        )


def _own_if_usable() -> Identity | None:
    """The user's own key, if there is one; why it cannot be used is said."""
    try:
        return identity()
    except (BadKey, StoreUnavailable) as error:
        click.echo(odd(clean(f"your own key cannot be used: {error}")), err=True)
        return None


@click.group("trust", cls=Group)
def trust_commands() -> None:
    """Whose records count: what comes from a zone is used only if a trusted key signed it.

    Your own key is trusted from the start, nobody else's.

    Example: kachery trust list
    """


@trust_commands.command("add")
@click.argument("key")
@click.option("--name", default="", help="Whose key it is, for you to read.")
@click.option("--zone", help="Only for what comes from the zone of that name.")
@click.option("--task", help="Only for tasks of that name, as 'lab.filters:*'.")
@click.option("--pickle", is_flag=True, help="Also what must be unpickled, which can run any code.")
@click.option("--expires", help="For how long, as 90d.")
@json_option
def add_trust(
    key: str,
    name: str,
    zone: str | None,
    task: str | None,
    pickle: bool,
    expires: str | None,
    as_json: bool,
) -> None:
    """Trust KEY, which its owner sees with `kachery id`.

    Example: kachery trust add 5f0c... --name Ada --zone lab --expires 90d
    """
    until = None if expires is None else time.time() + parse_span(expires)
    check_key(key)
    own = _own_if_usable()
    if own is not None and own.public.hex() == key:
        raise KacheryError("that is your own key, which is trusted anyway")
    added = Trusted(key, name, zone, task, pickle, until)
    trust(added)
    if as_json:
        tell_json(_as_json(added))
    else:
        click.echo(f"trusted: {added}")
    if zone is not None:
        _say_if_unknown(zone)


def _say_if_unknown(zone: str) -> None:
    try:
        zones = zones_of(default_root())
    except ConfigError as error:
        click.echo(clean(f"whether there is a zone {zone!r} cannot be told: {error}"), err=True)
        return
    if zone not in zones:
        told = f"there are {', '.join(sorted(zones))}" if zones else "none is configured"
        click.echo(odd(clean(f"no zone is named {zone!r} so far ({told})")), err=True)


@trust_commands.command("list")
@json_lines_option
def list_trust(as_json: bool) -> None:
    """List the keys that are trusted, and for what.

    Example: kachery trust list
    """
    own = _own_if_usable()
    if as_json:
        if own is not None:
            tell_json(_as_json(Trusted(own.public.hex(), pickle=True), own=True))
        tell_json(*map(_as_json, trusted_keys()))
        return
    if own is not None:
        click.echo(f"{bold(own.public.hex())}  your own")
    for one in trusted_keys():
        click.echo(f"{bold(one.key)}{str(one).removeprefix(one.key)}")
    if own is None and not trusted_keys():
        click.echo("no key is trusted: kachery trust add KEY", err=True)


def _as_json(one: Trusted, *, own: bool = False) -> dict[str, Any]:
    return {**one._asdict(), "own": own}


@trust_commands.command("remove")
@click.argument("key")
@json_option
def remove_trust(key: str, as_json: bool) -> None:
    """Trust KEY no more, for nothing: what it signed does not count from now on, also what is here.

    Example: kachery trust remove 5f0c...
    """
    gone = distrust(key)
    if not gone:
        raise NotFound(f"key {key} is not trusted: `kachery trust list` shows those that are")
    if as_json:
        tell_json({"key": key, "removed": True})
    else:
        click.echo(f"not trusted any more: {key}")
