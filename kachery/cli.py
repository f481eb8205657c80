"""The command line `kachery`. Those of kachery 2 are in file_commands."""

from __future__ import annotations

import click

from kachery_tasks._version import __version__
from kachery_tasks.explain import explain_record
from kachery_tasks.listing import find_record
from kachery_tasks.settings import current

from .action_commands import add_action_commands
from .again_commands import reproduce_command, runs_command, stale_command
from .bundle_commands import bundle_command, import_command
from .feed_commands import feed_commands
from .jobs_commands import jobs, show
from .lineage_commands import lineage_command
from .running import SETTINGS, run_command
from .store_commands import add_store_commands
from .trust_commands import id_commands, trust_commands
from .zone_commands import pull_command, push_command, zone_commands


@click.group(context_settings=SETTINGS)
@click.version_option(__version__, prog_name="kachery")
def cli() -> None:
    """Look at what kachery has stored.

    The store is the folder named by KACHERY_DIR, or ~/.kachery.
    """


add_store_commands(cli)
for _group in (id_commands, trust_commands):
    cli.add_command(_group)
add_action_commands(cli)
for _command in (jobs, show, feed_commands, zone_commands, push_command, pull_command):
    cli.add_command(_command)
for _command in (lineage_command, bundle_command, import_command):
    cli.add_command(_command)
for _command in (runs_command, reproduce_command, stale_command):
    cli.add_command(_command)


@cli.command(context_settings=SETTINGS)
@click.argument("job")
@click.argument("other", required=False)
def explain(job: str, other: str | None) -> None:
    """Tell what differs between two stored jobs, and what the code's fingerprint covers.

    Without OTHER, JOB is compared with the nearest job of its task. In Python, f.explain(...) tells
    why a call is a hit or a miss.

    Example: kachery explain 3f9a2c 77ab12
    """
    store = current().store
    record = find_record(store, job)
    compared = None if other is None else find_record(store, other)
    click.echo(str(explain_record(store, record, compared)))


def run() -> None:
    """The command `kachery`."""
    run_command(cli)
