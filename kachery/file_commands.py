"""The commands of kachery 2: kachery-store, -store-local, -link, -load, -load-info and -cat."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import click

from kachery_tasks.files import files_in_force, link_file, store_file, store_file_local

from .running import SETTINGS, run_command

_filename = click.argument("filename", type=click.Path(exists=True, dir_okay=False))
_label = click.option("--label", help="The name in the URI; by default the file's own.")


@click.command(context_settings=SETTINGS)
@_filename
@_label
@click.option("--cache-locally", is_flag=True, help="Keep a copy here wherever the file is stored.")
def store_command(filename: str, label: str | None, cache_locally: bool) -> None:
    """Store a copy of FILENAME and print its URI."""
    _print_uri(store_file, filename, label, cache_locally=cache_locally)


@click.command(context_settings=SETTINGS)
@_filename
@_label
def store_local_command(filename: str, label: str | None) -> None:
    """Store a copy of FILENAME on this machine only and print its URI."""
    _print_uri(store_file_local, filename, label)


@click.command(context_settings=SETTINGS)
@_filename
@_label
def link_command(filename: str, label: str | None) -> None:
    """Store FILENAME without a copy and print its URI.

    The file stays where it is; the URI leads to it until its size or time of change differ.
    """
    _print_uri(link_file, filename, label)


@click.command(context_settings=SETTINGS)
@click.argument("uri")
@click.option("--dest", type=click.Path(), help="Copy the file there.")
def load_command(uri: str, dest: str | None) -> None:
    """Print the path of a stored file, verified."""
    click.echo(files_in_force().load_file(uri, dest=dest or None))


@click.command(context_settings=SETTINGS)
@click.argument("uri")
def load_info_command(uri: str) -> None:
    """Print what is known of a stored file, as JSON, without loading it."""
    click.echo(json.dumps(files_in_force().load_file_info(uri), indent=4))


@click.command(context_settings=SETTINGS)
@click.argument("uri")
def cat_command(uri: str) -> None:
    """Write a stored file to standard output, verified."""
    files_in_force().cat_file(uri)


def run_store() -> None:
    """The command `kachery-store`."""
    run_command(store_command)


def run_store_local() -> None:
    """The command `kachery-store-local`."""
    run_command(store_local_command)


def run_link() -> None:
    """The command `kachery-link`."""
    run_command(link_command)


def run_load() -> None:
    """The command `kachery-load`."""
    run_command(load_command)


def run_load_info() -> None:
    """The command `kachery-load-info`."""
    run_command(load_info_command)


def run_cat() -> None:
    """The command `kachery-cat`."""
    run_command(cat_command)


def _print_uri(store: Callable[..., str], filename: str, label: str | None, **options: Any) -> None:
    click.echo(store(filename, label=label or os.path.basename(filename), **options))
