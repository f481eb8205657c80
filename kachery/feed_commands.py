"""Commands about feeds."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice
from typing import Any

import click

from kachery_store.errors import BadFeed, BadMessage
from kachery_store.feeds import Integrated, Keyring, Subfeed
from kachery_tasks import feeds
from kachery_tasks.trusted_keys import check_key

from .help_pages import Group
from .telling import bold, dim, json_lines_option, json_option, odd, tell_json

_BATCH = 256

_MOST_TOLD = 20  # keys

_from_option = click.option(
    "--from", "writers", multiple=True, metavar="KEY", help="Only what this key signed."
)
_again_option = click.option(
    "--again", is_flag=True, help="Also what should be there already: repairs a damaged copy."
)
_always_json_option = click.option(
    "--json", is_flag=True, expose_value=False, help="It is always one JSON object on each line."
)
_zone_option = click.option("--zone", help="In this zone, not on this machine.")


@click.group("feed", cls=Group)
def feed_commands() -> None:
    """Signed, append-only feeds.

    A feed is named by its local name or its URI, a subfeed as NAME/SUBFEED or feed://.../SUBFEED.

    Example: kachery feed append lab-notes/main '{"temperature": 21.5}'
    Example: kachery feed read lab-notes/main
    """


@feed_commands.command("create")
@click.argument("name")
@_zone_option
@json_option
def create_command(name: str, zone: str | None, as_json: bool) -> None:
    """Make a feed and print its URI. Its private key stays in your own folder.

    Example: kachery feed create lab-notes
    """
    uri = feeds.create_feed(name, zone=zone).uri
    if as_json:
        tell_json({"name": name, "uri": uri, "zone": zone})
    else:
        click.echo(uri)


@feed_commands.command("list")
@json_lines_option
def list_command(as_json: bool) -> None:
    """List the feeds that have names here, and those whose keys are here.

    Example: kachery feed list
    """
    feeds.update_job_feed()
    keyring = Keyring()
    names, keys = keyring.names(), set(keyring.feeds())
    unnamed = keys - set(names.values())
    for name, feed in sorted([*names.items(), *(("", feed) for feed in unnamed)]):
        if as_json:
            tell_json({"name": name, "uri": f"feed://{feed}", "read_only": feed not in keys})
            continue
        only_read = "" if feed in keys else dim("  (only read)")
        click.echo(f"{name:20}  {bold(f'feed://{feed}')}{only_read}")


@feed_commands.command("append")
@click.argument("subfeed")
@click.argument("messages", nargs=-1)
@click.option("--final", is_flag=True, help="End the subfeed after them.")
@json_option
def append_command(subfeed: str, messages: tuple[str, ...], final: bool, as_json: bool) -> None:
    """Append JSON objects to a subfeed of yours.

    They are the arguments, or without any the lines of standard input.

    Example: kachery feed append lab-notes/main '{"temperature": 21.5}'
    """
    target = _subfeed(subfeed)
    lines = messages or () if final or messages else (line for line in sys.stdin if line.strip())
    count = 0
    for batch in _in_batches(lines):
        target.append_messages([_message(text) for text in batch])
        count += len(batch)
    if final:
        target.finalize()
    if as_json:
        tell_json({"uri": target.uri, "appended": count, "final": final})
    else:
        click.echo(f"appended {count} to {target.uri}", err=True)


@feed_commands.command("read")
@click.argument("subfeed")
@click.option("--follow", is_flag=True, help="Go on as messages come, until the subfeed ends.")
@click.option("--from", "start", type=click.IntRange(min=0), default=0, help="The first number.")
@click.option("--signed", is_flag=True, help="With number, time and proof.")
@_zone_option
@_always_json_option
def read_command(subfeed: str, follow: bool, start: int, signed: bool, zone: str | None) -> None:
    """Print messages, one JSON object on each line.

    Example: kachery feed read lab-notes/main --follow
    """
    source = _subfeed(subfeed, zone)
    source.set_position(start)
    for message in source.message_stream(None if follow else 0, signed):
        tell_json(message)


@feed_commands.command("submit")
@click.argument("subfeed")
@click.argument("messages", nargs=-1)
@_zone_option
@json_option
def submit_command(
    subfeed: str, messages: tuple[str, ...], zone: str | None, as_json: bool
) -> None:
    """Put JSON objects into the inbox of somebody's subfeed.

    They are the arguments, or without any the lines of standard input. They are signed with your key
    (kachery id); the owner of the feed decides about them.

    Example: kachery feed submit feed://3b6a27.../main '{"temperature": 21.5}' --zone lab
    """
    target = _subfeed(subfeed, zone)
    count = 0
    for batch in _in_batches(messages or (line for line in sys.stdin if line.strip())):
        target.submit_messages([_message(text) for text in batch])
        count += len(batch)
    where = target.log.backend.url
    if as_json:
        tell_json({"uri": target.uri, "submitted": count, "url": where, "zone": zone})
    else:
        click.echo(f"submitted {count} to {target.uri} at {where}", err=True)


@feed_commands.command("inbox")
@click.argument("subfeed")
@_from_option
@_zone_option
@_always_json_option
def inbox_command(subfeed: str, writers: tuple[str, ...], zone: str | None) -> None:
    """Print what waits in the inbox of a subfeed, the writer's key with each message.

    Example: kachery feed inbox lab-notes/main
    """
    for one in _subfeed(subfeed, zone).inbox(_keys(writers)):
        for message in one.messages:
            tell_json({"writer": one.writer, "sent": one.sent, "message": message})


@feed_commands.command("integrate")
@click.argument("subfeed")
@_from_option
@click.option("--refuse", "refused", multiple=True, metavar="KEY", help="Delete what it submitted.")
@click.option("--zone", help="The inbox beside the copy of the feed in this zone.")
@json_lines_option
def integrate_command(
    subfeed: str,
    writers: tuple[str, ...],
    refused: tuple[str, ...],
    zone: str | None,
    as_json: bool,
) -> None:
    """Append what others submitted to your subfeed: those whose keys you trust, or name.

    Example: kachery feed integrate lab-notes/main --from 9c1185...
    """
    target = _subfeed(subfeed)
    source = None if zone is None else _subfeed(subfeed, zone)
    done = []
    if refused:
        done.append(target.integrate_inbox(lambda *_: False, writers=_keys(refused), source=source))
    if writers or not refused:
        done.append(target.integrate_inbox(writers=_keys(writers), source=source))
    for one in done:
        if as_json:
            tell_json({"uri": target.uri, **asdict(one)})
        else:
            _tell_integrated(one)


def _tell_integrated(done: Integrated) -> None:
    click.echo(f"appended {done.accepted} messages")
    if done.repeated:
        click.echo(f"{done.repeated} were in the feed already")
    if done.refused:
        click.echo(f"refused {done.refused}, which are gone")
    if done.damaged:
        click.echo(odd(f"{done.damaged} submissions were none, and are in quarantine"))
    for writer, count in list(done.waiting.items())[:_MOST_TOLD]:
        click.echo(
            f"{count} submissions of {writer} wait: --from {writer}, or --refuse; or trust that key"
        )
    if len(done.waiting) > _MOST_TOLD:
        click.echo(f"and those of {len(done.waiting) - _MOST_TOLD} other keys")
    if done.odd:
        click.echo(f"{done.odd} files in the inbox have names that no submission has")
    if not done.is_all:
        click.echo("there is more in the inbox: do it again")


@feed_commands.command("verify")
@click.argument("feed")
@_zone_option
@json_option
def verify_command(feed: str, zone: str | None, as_json: bool) -> None:
    """Read all of a feed, or of one subfeed, and check every file of it against its signatures.

    Example: kachery feed verify feed://3b6a27.../main --zone lab
    """
    uri = _feed_uri(feed)
    found = feeds.verify_feed(uri, zone=zone)
    if as_json:
        tell_json({"uri": uri, "zone": zone, "messages": found})
        return
    for name, count in found.items():
        click.echo(f"{name}: {count} messages, all signed and in order")


@feed_commands.command("publish")
@click.argument("feed")
@click.option("--zone", required=True, help="The zone that gets the copy.")
@_again_option
@json_option
def publish_command(feed: str, zone: str, again: bool, as_json: bool) -> None:
    """Copy a feed, or one subfeed, to a zone, or bring the copy there up to date.

    Example: kachery feed publish lab-notes --zone lab
    """
    uri = _feed_uri(feed)
    added = feeds.publish_feed(uri, zone, again=again)
    _tell(added, {"uri": uri, "zone": zone} if as_json else None)


@feed_commands.command("subscribe")
@click.argument("feed")
@click.option("--zone", help="The zone that has it; without, the one in force.")
@click.option("--name", help="A local name for it.")
@_again_option
@json_option
def subscribe_command(
    feed: str, zone: str | None, name: str | None, again: bool, as_json: bool
) -> None:
    """Copy a feed, or one subfeed, from a zone to this machine, verified; or bring it up to date.

    Example: kachery feed subscribe feed://3b6a27... --zone lab --name their-notes
    """
    uri = _feed_uri(feed)
    added = feeds.subscribe_feed(uri, zone, again=again)
    if name:
        feeds.set_feed_name(name, uri)
    _tell(added, {"uri": uri, "zone": zone, "name": name or ""} if as_json else None)


def _tell(added: dict[str, int], beside: dict[str, Any] | None) -> None:
    """Tell of new entries; in JSON beside what else is known."""
    if beside is not None:
        tell_json({**beside, "added": added})
        return
    for name, count in added.items():
        click.echo(f"{name}: {count} new entries")


def _feed_uri(text: str) -> str:
    """The URI of what is given as NAME, NAME/SUBFEED or a URI."""
    if "://" in text:
        return text
    name, separator, subfeed = text.partition("/")
    return feeds.load_feed(name).uri + separator + subfeed


def _subfeed(text: str, zone: str | None = None) -> Subfeed:
    uri = _feed_uri(text)
    if uri.count("/") < 3:
        raise BadFeed(f"{text} is a feed: add /SUBFEED")
    return feeds.load_subfeed(uri, zone=zone)


def _keys(given: tuple[str, ...]) -> tuple[str, ...] | None:
    for key in given:
        check_key(key)
    return given or None


def _in_batches(lines: Iterable[str]) -> Iterable[list[str]]:
    rest = iter(lines)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _message(text: str) -> dict[str, Any]:
    try:
        message: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise BadMessage(f"{text[:80]!r} is no JSON: {error}") from None
    return message
