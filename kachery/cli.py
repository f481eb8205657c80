"""The command line `kachery`. Those of kachery 2 are in file_commands."""

from __future__ import annotations

import click

from kachery_tasks._version import __version__

from .running import run_command
from .sections import SectionedGroup


@click.group(cls=SectionedGroup)
@click.version_option(__version__, prog_name="kachery")
def cli() -> None:
    """Look at what kachery has stored, share it, and keep it in order.

    The store is the folder named by KACHERY_DIR, or ~/.kachery.

    Example: kachery jobs --task denoise
    Example: kachery show 3f9a2c
    Example: kachery jobs --help
    """


# Where each command is: most of the time that one takes would be the imports of the others.
_SECTIONS = {
    "Jobs": {
        "jobs": "jobs_commands:jobs",
        "show": "show_command:show",
        "explain": "explain_command:explain",
        "stale": "again_commands:stale_command",
        "runs": "again_commands:runs_command",
        "reproduce": "again_commands:reproduce_command",
        "lineage": "lineage_commands:lineage_command",
        "actions": "action_commands:actions",
        "resolve": "action_commands:resolve",
    },
    "Sharing": {
        "zone": "zone_commands:zone_commands",
        "push": "zone_commands:push_command",
        "pull": "zone_commands:pull_command",
        "bundle": "bundle_commands:bundle_command",
        "import": "bundle_commands:import_command",
    },
    "Trust": {
        "id": "trust_commands:id_commands",
        "trust": "trust_commands:trust_commands",
    },
    "Feeds": {"feed": "feed_commands:feed_commands"},
    "Files": {
        "store": "named_file_commands:store_files",
        "link": "named_file_commands:link_files",
        "load": "named_file_commands:load_file",
        "cat": "named_file_commands:cat_file",
        "info": "info_command:info",
    },
    "Keeping": {
        "gc": "store_commands:gc",
        "pin": "store_commands:pin",
        "unpin": "store_commands:unpin",
        "pins": "store_commands:pins",
        "verify": "health_commands:verify",
        "repair": "health_commands:repair",
        "doctor": "health_commands:doctor",
    },
}
for _title, _places in _SECTIONS.items():
    cli.add_section(_title, {name: f"{__package__}.{place}" for name, place in _places.items()})


def run() -> None:
    """The command `kachery`."""
    run_command(cli)
