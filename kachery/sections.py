"""The group of all commands: they stand under headings, and are imported when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any

import click

from .help_pages import Group
from .running import EXIT_CODES


class _Places(MutableMapping[str, click.Command]):
    """Commands that are imported when they are looked at; of the others the names are known."""

    def __init__(self) -> None:
        self.places: dict[str, str] = {}
        self._there: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._there:
            module, _, attribute = self.places[name].partition(":")
            self._there[name] = getattr(import_module(module), attribute)
        return self._there[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self.places.setdefault(name, "")
        self._there[name] = command

    def __delitem__(self, name: str) -> None:
        del self.places[name]
        self._there.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


class SectionedGroup(Group):
    """The group of all commands, listed under headings, with the exit codes."""

    names_debug = True

    def __init__(self, *args: Any, **options: Any) -> None:
        self._places = _Places()
        super().__init__(*args, commands=self._places, **options)
        self._sections: dict[str, list[str]] = {}

    def add_section(self, title: str, places: Mapping[str, str]) -> None:
        """Add commands under a heading, in this order: by name where each is, as MODULE:ATTRIBUTE."""
        self._places.places.update(places)
        self._sections[title] = list(places)

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's interface
        formatter: click.HelpFormatter,
    ) -> None:
        """Each section with its commands."""
        for title, names in self._sections.items():
            self.format_section(title, names, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples and exit codes."""
        super().format_epilog(ctx, formatter)
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES.items()])
