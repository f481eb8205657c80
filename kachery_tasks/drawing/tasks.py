"""How a task shows itself in a notebook: what it takes, who it is, where it is written, how it runs."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from kachery_store.errors import KacheryError

from ..definition import QUERY, Definition
from ..policy import Policy
from .card import card, html_text, short, strong
from .lines import parameter_words, place, task_text
from .wording import cut, span, task_title

_DIGITS = 16
_WIDTH = 160


def task_html(definition: Definition) -> str:
    """A task as HTML. Whatever goes wrong, this is not the place to say so."""
    try:
        return _shown(definition)
    except Exception:  # noqa: BLE001 - a name or a default of the user's own type
        return f"<code>{html_text(task_text(definition))}</code>"


def _shown(definition: Definition) -> str:
    facts = [
        (definition.kind, html_text(definition.name)),
        _identity(definition),
        ("in", f"<code>{html_text(place(definition))}</code>"),
        *((name, html_text(told)) for name, told in _options(definition)),
    ]
    said = (inspect.getdoc(definition.function) or "").partition("\n")[0]
    below = f'<div style="opacity:.7">{html_text(cut(said, _WIDTH))}</div>' if said else ""
    words = f"({parameter_words(definition, _WIDTH)})"
    return card(task_title(definition.name), definition.name, words, facts, below)


def _identity(definition: Definition) -> tuple[str, str]:
    if definition.version is not None:
        return "version", html_text(cut(definition.version, _DIGITS))
    try:
        return "code", short(definition.fingerprint().digest, _DIGITS)
    except KacheryError as error:  # a call says more
        return "code", strong(f"has no fingerprint ({type(error).__name__})", alarming=True)


def _options(definition: Definition) -> Iterator[tuple[str, str]]:
    """What was said of it that is not usual."""
    for name in ("ignore", "depends", "opaque", "secret", "allow"):
        if names := getattr(definition, name):
            yield name, ", ".join(names)
    usual = Policy()
    for name, value in definition.policy._asdict().items():
        if value != getattr(usual, name):
            yield name, _told(name, value)
    if definition.kind == QUERY and definition.policy.max_age is None:
        yield "runs", "on each request"


def _told(name: str, value: Any) -> str:
    if name in {"timeout", "max_age"}:
        return span(value)
    if name == "cache_errors":
        return ", ".join(kind.__name__ for kind in value)
    if name == "resources":
        return ", ".join(f"{amount:g} {what}" for what, amount in value.items())
    return str(value)
