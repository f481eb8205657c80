"""Commands that have examples in their help, and groups that know what was meant."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from typing import Any

import click

from .running import SETTINGS, colours, start_debugging
from .telling import bold

_MARK = "Example: "
_CLAUSE = re.compile("(.*)[,;:] ")
_LONGEST_SENTENCE = 1000


def examples_of(command: click.Command) -> list[str]:
    """The lines of a docstring that begin with "Example: ", without that."""
    lines = inspect.cleandoc(command.help or "").splitlines()
    return [line.removeprefix(_MARK) for line in lines if line.startswith(_MARK)]


class _Formatter(click.HelpFormatter):
    """Bold headings."""

    def write_heading(self, heading: str) -> None:
        super().write_heading(bold(heading))


class _Context(click.Context):
    formatter_class = _Formatter


class _Page(click.Command):
    """Examples, the option --debug after any command, and colours where they are wanted."""

    context_class = _Context
    names_debug = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"context_settings": SETTINGS, **options})
        self.params.append(_debug_option(hidden=not self.names_debug))

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        return super().make_context(info_name, args, parent, **{"color": colours(), **extra})

    def format_help_text(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's interface
        formatter: click.HelpFormatter,
    ) -> None:
        lines = inspect.cleandoc(self.help or "").splitlines()
        text = "\n".join(line for line in lines if not line.startswith(_MARK))
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(text.strip())

    def format_epilog(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's interface
        formatter: click.HelpFormatter,
    ) -> None:
        examples = examples_of(self)
        if not examples:
            return
        with formatter.section("Example" if len(examples) == 1 else "Examples"):
            for line in examples:  # not wrapped, so that they can be copied
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")


class Command(_Page):
    """A command whose docstring has lines `Example: kachery ...`."""


class Group(_Page, click.Group):
    """A group of such commands."""

    command_class = Command
    group_class = type

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is meant; UsageError names those that are nearly called so."""
        name = args[0]
        if not ctx.resilient_parsing and name[:1] != "-" and self.get_command(ctx, name) is None:
            raise click.UsageError(f"No such command {name!r}.{self._meant(name)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(
        self,
        ctx: click.Context,
        formatter: click.HelpFormatter,
    ) -> None:
        """One section."""
        self.format_section("Commands", self.list_commands(ctx), formatter)

    def format_section(
        self, title: str, names: Sequence[str], formatter: click.HelpFormatter
    ) -> None:
        """Some commands under a heading, each with the beginning of its help."""
        width = max(map(len, self.commands))
        room = formatter.width - width - 4
        with formatter.section(title):
            formatter.write_dl([(f"{one:{width}}", self._short(one, room)) for one in names])

    def _short(self, name: str, room: int) -> str:
        """Of the first sentence what fits into a line: whole clauses if possible."""
        text = self.commands[name].get_short_help_str(_LONGEST_SENTENCE).rstrip(".")
        while len(text) > room and (clause := _CLAUSE.match(text)):
            text = clause[1]
        return text if len(text) <= room else self.commands[name].get_short_help_str(room)

    def _meant(self, name: str) -> str:
        """Commands that have nearly this name, also those of groups."""
        from difflib import get_close_matches

        paths: dict[str, list[str]] = {}
        for path in _paths(self):
            paths.setdefault(path.rpartition(" ")[2], []).append(path)
        near = [one for one in _USUAL_NAMES.get(name, ()) if one[:2] == "--" or one in _paths(self)]
        near = near or [path for one in get_close_matches(name, paths) for path in paths[one]]
        return f" Did you mean {' or '.join(map(repr, near))}?" if near else ""


_FORGETTING = "jobs forget", "gc"
_USUAL_NAMES = {  # what other programs call it
    "help": ("--help",),
    "version": ("--version",),
    **dict.fromkeys(("list", "ls", "log", "history", "status"), ("jobs",)),
    **dict.fromkeys(("clean", "clear", "delete", "prune", "remove", "rm"), _FORGETTING),
    **dict.fromkeys(("diff", "why"), ("explain",)),
    **dict.fromkeys(("check", "fsck"), ("verify", "doctor")),
    **dict.fromkeys(("add", "put"), ("store",)),
    **dict.fromkeys(("du", "size"), ("gc",)),
    **dict.fromkeys(("get", "fetch", "download"), ("load", "pull")),
    **dict.fromkeys(("send", "upload", "share"), ("push", "bundle")),
}


def _paths(group: click.Group) -> Iterator[str]:
    for name, command in group.commands.items():
        yield name
        if isinstance(command, click.Group):
            yield from (f"{name} {path}" for path in _paths(command))


def _debug_option(*, hidden: bool) -> click.Option:
    return click.Option(
        ["--debug"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        hidden=hidden,
        callback=lambda ctx, param, on: start_debugging() if on else None,  # noqa: ARG005
        help="Show tracebacks of errors, as KACHERY_DEBUG=1 does.",
    )
