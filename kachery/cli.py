"""The command line `kachery`. Those of kachery 2 are in file_commands."""

from __future__ import annotations

import click

from kachery_tasks._version import __version__

from .action_commands import actions, resolve
from .again_commands import reproduce_command, runs_command, stale_command
from .bundle_commands import bundle_command, import_command
from .explain_command import explain
from .feed_commands import feed_commands
from .help_pages import SectionedGroup
from .info_command import info
from .jobs_commands import jobs, show
from .lineage_commands import lineage_command
from .named_file_commands import cat_file, link_files, load_file, store_files
from .running import run_command
from .store_commands import doctor, gc, pin, pins, repair, unpin, verify
from .trust_commands import id_commands, trust_commands
from .zone_commands import pull_command, push_command, zone_commands


@click.group(cls=SectionedGroup)
@click.version_option(__version__, prog_name="kachery")
def cli() -> None:
    """Look at what kachery has stored, share it, and keep it in order.

    The store is the folder named by KACHERY_DIR, or ~/.kachery.

    Example: kachery jobs --task denoise
    Example: kachery show 3f9a2c
    Example: kachery jobs --help
    """


_WHY = (explain, stale_command, runs_command, reproduce_command, lineage_command)
_SECTIONS: dict[str, tuple[click.Command, ...]] = {
    "Jobs": (jobs, show, *_WHY, actions, resolve),
    "Sharing": (zone_commands, push_command, pull_command, bundle_command, import_command),
    "Trust": (id_commands, trust_commands),
    "Feeds": (feed_commands,),
    "Files": (store_files, link_files, load_file, cat_file, info),
    "Keeping": (gc, pin, unpin, pins, verify, repair, doctor),
}
for _title, _commands in _SECTIONS.items():
    cli.add_section(_title, _commands)


def run() -> None:
    """The command `kachery`."""
    run_command(cli)
