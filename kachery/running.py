"""Running a command: errors are one sentence on standard error."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

import click

from kachery_store.errors import KacheryError

SETTINGS = {"help_option_names": ["-h", "--help"]}


def run_command(command: Callable[[], Any]) -> None:
    """Run a command; errors are one sentence on standard error and exit code 1."""
    warnings.showwarning = lambda message, *_: click.echo(f"kachery: {message}", err=True)
    try:
        command()
    except BrokenPipeError:  # `kachery jobs | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (KacheryError, OSError) as error:
        click.echo(f"kachery: {error}", err=True)
        sys.exit(1)
