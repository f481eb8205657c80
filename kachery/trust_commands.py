"""Commands about keys: the user's own, and those whose records count."""

from __future__ import annotations

import os
import sys
import time

import click

from kachery_store.amounts import parse_span
from kachery_store.errors import KacheryError, NotFound, StoreUnavailable
from kachery_store.identity import (
    export_identity,
    identity,
    identity_path,
    import_identity,
    is_given,
    own_identity,
)
from kachery_tasks.trusted_keys import Trusted, check_key, distrust, trust, trusted_keys

from .running import SETTINGS

_MOST = 65_536  # characters of an exported key


@click.group("id", context_settings=SETTINGS, invoke_without_command=True)
@click.pass_context
def id_commands(context: click.Context) -> None:
    """Show your public key, by which others know what you have computed.

    It is made when it is first needed. Give the key to colleagues, who run `kachery trust add`.
    """
    if context.invoked_subcommand is not None:
        return
    own = own_identity()
    click.echo(own.public.hex())
    where = "KACHERY_IDENTITY" if is_given() else identity_path()
    click.echo(f"your private key is in {where}; others trust you with:", err=True)
    click.echo(f"  kachery trust add {own.public.hex()}", err=True)


@id_commands.command("export", context_settings=SETTINGS)
@click.argument("file", required=False)
def export_id(file: str | None) -> None:
    """Write your private key to FILE, or to standard output: for another machine of yours.

    Whoever has it can sign as you. Another machine takes it with `kachery id import FILE`, or with the
    environment variable KACHERY_IDENTITY, which is the path of the file, or its text.
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


@id_commands.command("import", context_settings=SETTINGS)
@click.argument("file")
@click.option("--replace", is_flag=True, help="Also if you have another key here.")
def import_id(file: str, replace: bool) -> None:
    """Make the private key in FILE (- for standard input) yours on this machine."""
    try:
        if file == "-":
            text = sys.stdin.read(_MOST)
        else:
            with open(file, encoding="utf-8", errors="replace") as source:
                text = source.read(_MOST)
    except FileNotFoundError:
        raise NotFound(f"there is no {file}") from None
    earlier = identity()
    own = import_identity(text, replace=replace)
    click.echo(own.public.hex())
    if earlier is not None and earlier.public != own.public:
        trust(Trusted(earlier.public.hex(), "your earlier key", pickle=True))
        click.echo(f"your earlier key {earlier.public.hex()} is trusted from now on", err=True)


@click.group("trust", context_settings=SETTINGS)
def trust_commands() -> None:
    """Whose records count: what comes from a zone is used only if a trusted key signed it.

    Your own key is trusted from the start, nobody else's.
    """


@trust_commands.command("add", context_settings=SETTINGS)
@click.argument("key")
@click.option("--name", default="", help="Whose key it is, for you to read.")
@click.option("--zone", help="Only for what comes from the zone of that name.")
@click.option("--task", help="Only for tasks of that name, as 'lab.filters:*'.")
@click.option("--pickle", is_flag=True, help="Also what must be unpickled, which can run any code.")
@click.option("--expires", help="For how long, as 90d.")
def add_trust(
    key: str, name: str, zone: str | None, task: str | None, pickle: bool, expires: str | None
) -> None:
    """Trust KEY, which its owner sees with `kachery id`.

    Example: kachery trust add 5f0c... --name Ada --zone lab --expires 90d
    """
    until = None if expires is None else time.time() + parse_span(expires)
    check_key(key)
    own = identity()
    if own is not None and own.public.hex() == key:
        raise KacheryError("that is your own key, which is trusted anyway")
    added = Trusted(key, name, zone, task, pickle, until)
    trust(added)
    click.echo(f"trusted: {added}")


@trust_commands.command("list", context_settings=SETTINGS)
def list_trust() -> None:
    """List the keys that are trusted, and for what."""
    own = identity()
    if own is not None:
        click.echo(f"{own.public.hex()}  your own")
    for one in trusted_keys():
        click.echo(str(one))
    if own is None and not trusted_keys():
        click.echo("no key is trusted: kachery trust add KEY", err=True)


@trust_commands.command("remove", context_settings=SETTINGS)
@click.argument("key")
def remove_trust(key: str) -> None:
    """Trust KEY no more, for nothing: what it signed does not count from now on, also what is here."""
    gone = distrust(key)
    if not gone:
        raise NotFound(f"key {key} is not trusted: `kachery trust list` shows those that are")
    click.echo(f"not trusted any more: {key}")
