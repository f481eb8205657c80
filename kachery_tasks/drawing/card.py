"""What a notebook shows of one thing: its name, facts about it in a row, and what stands below them.

HTML that stands by itself, light or dark: no script, no style but its own. Whatever is told is escaped.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

from .wording import clean

_RED = "#d1493f"  # to be seen on white and on black
_QUIET = "opacity:.7"
_FACT = "display:inline-block;margin-right:1.4em"


def card(name: str, full_name: str, rest: str, facts: Iterable[tuple[str, str]], below: str) -> str:
    """A card. `rest` is text that follows the name; the second of each fact, and `below`, are HTML."""
    row = " ".join(
        f'<span style="{_FACT}"><span style="{_QUIET}">{html_text(title)}</span> {told}</span>'
        for title, told in facts
    )
    title = f'<b title="{html_text(full_name)}">{html_text(name)}</b>'
    return (
        f'<div style="line-height:1.6">{title}<span style="{_QUIET}">{html_text(rest)}</span>'
        f"<br/>{row}{below}</div>"
    )


def html_text(text: str) -> str:
    """Text of anybody, as HTML."""
    return html.escape(clean(text))


def strong(text: str, *, alarming: bool = False) -> str:
    """What is to be seen first."""
    colour = f' style="color:{_RED}"' if alarming else ""
    return f"<b{colour}>{html_text(text)}</b>"


def short(text: str, digits: int) -> str:
    """The first digits of a long number, which shows itself under the mouse."""
    return f'<code title="{html_text(text)}">{html_text(text[:digits])}</code>'
