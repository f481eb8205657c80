"""Running a command: errors are one sentence on standard error."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import click

from kachery_store.errors import KacheryError
from kachery_store.saying import clean_lines

SETTINGS = {"help_option_names": ["-h", "--help"]}


def run_command(command: Callable[[], Any]) -> None:
    """Run a command; errors are one sentence on standard error and exit code 1."""
    warnings.showwarning = lambda message, *_: _say(message)
    try:
        command()
    except BrokenPipeError:  # `kachery jobs | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (KacheryError, OSError) as error:
        _say(error)
        sys.exit(1)


def _say(what: object) -> None:
    click.echo(f"kachery: {clean_lines(str(what))}", err=True)
