"""The directive `command-help`: a section with the help of a command, and those of its commands."""

import importlib

import click
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

_WIDTH = 88


class CommandHelp(SphinxDirective):
    """`{command-help} module:command name`: the text is what `name --help` prints."""

    required_arguments = 2

    def run(self):
        """The sections."""
        module, _, name = self.arguments[0].partition(":")
        command = getattr(importlib.import_module(module), name)
        return [self._section(command, self.arguments[1])]

    def _section(self, command, path):
        section = nodes.section(ids=[nodes.make_id(path)], names=[path])
        section += nodes.title(path, "", nodes.literal(path, path))
        with click.Context(command, info_name=path, max_content_width=_WIDTH) as context:
            context.terminal_width = _WIDTH
            text = command.get_help(context)
        section += nodes.literal_block(text, text, language="none")
        if isinstance(command, click.Group):
            section += [
                self._section(one, f"{path} {name}") for name, one in command.commands.items()
            ]
        return section


def setup(app):
    """Make the directive known."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}
