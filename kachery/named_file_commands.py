"""The commands about named files: store, link, load, cat."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from kachery_tasks.files import files_in_force, link_file, store_file

from .help_pages import Command
from .telling import bold, json_lines_option, json_option, tell_json

_files = click.argument(
    "files",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE...",
)
_label = click.option("--label", help="The name in the URI; by default the file's own.")


@click.command("store", cls=Command)
@_files
@_label
@click.option("--local", is_flag=True, help="On this machine only.")
@click.option("--cache-locally", is_flag=True, help="Keep a copy here wherever the file is stored.")
@json_lines_option
def store_files(files: tuple[str, ...], label: str | None, as_json: bool, **options: bool) -> None:
    """Store copies of files and print their URIs.

    Example: kachery store recording.dat
    """
    _tell_uris(store_file, files, label, as_json=as_json, **options)


@click.command("link", cls=Command)
@_files
@_label
@json_lines_option
def link_files(files: tuple[str, ...], label: str | None, as_json: bool) -> None:
    """Store files without copies and print their URIs.

    A file stays where it is; its URI leads to it until its size or time of change differ.

    Example: kachery link recording.dat
    """
    _tell_uris(link_file, files, label, as_json=as_json)


@click.command("load", cls=Command)
@click.argument("uri")
@click.option("--dest", type=click.Path(), help="Copy the file there.")
@json_option
def load_file(uri: str, dest: str | None, as_json: bool) -> None:
    """Print the path of a stored file, verified.

    Example: kachery load sha1://b971c6... --dest recording.dat
    """
    path = files_in_force().load_file(uri, dest=dest or None)
    if as_json:
        tell_json({"uri": uri, "path": path})
    else:
        click.echo(path)


@click.command("cat", cls=Command)
@click.argument("uri")
def cat_file(uri: str) -> None:
    """Write a stored file to standard output, verified.

    Example: kachery cat sha1://b971c6... | head
    """
    files_in_force().cat_file(uri)


def _tell_uris(
    store: Callable[..., str],
    files: tuple[str, ...],
    label: str | None,
    *,
    as_json: bool,
    **options: Any,
) -> None:
    if label is not None and len(files) > 1:
        raise click.UsageError("--label is for one file")
    for file in files:
        uri = store(file, label=label or os.path.basename(file), **options)
        if as_json:
            tell_json({"uri": uri, "path": os.path.abspath(file)})
        else:
            click.echo(bold(uri))
