"""`kachery.lineage`: how something was made, and what was made from it."""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from kachery_store import Store

from ..settings import current
from . import model
from .dot import dot
from .graph import trace
from .index_file import with_index
from .json_format import to_json
from .resolve import asked_about, asked_value
from .text import WIDTH, text_tree

_NOTHING: Any = object()

TEXT, DOT, HTML, JSON, PROV, CRATE = "text", "dot", "html", "json", "prov", "ro-crate"
FORMATS = (TEXT, DOT, HTML, JSON, PROV, CRATE)

_BY_SUFFIX = {
    ".txt": TEXT,
    ".dot": DOT,
    ".gv": DOT,
    ".html": HTML,
    ".htm": HTML,
    ".prov.json": PROV,
    ".json": JSON,
}


class Lineage(model.Lineage):
    """What led to something, or what was made from it; printed, it is a tree.

    `about`: what was asked for, in words; `up`: whether it leads to the inputs; `asked`: ids of jobs and
    names of inputs; `jobs` by id, each with its `record` (None when that is gone); `inputs` by name;
    `links`, each with `source`, `target`, `role` and `label`; `also`: for a job, others that made the
    same; `store`: where it was looked for.
    """

    also: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    store: Store

    def __str__(self) -> str:
        return text_tree(self, self.also)

    def __repr__(self) -> str:
        return text_tree(self, self.also)

    def _repr_html_(self) -> str:
        try:
            from .picture import picture

            return picture(self)
        except Exception:  # noqa: BLE001 - a notebook shall show something
            return f"<pre>{html.escape(text_tree(self, self.also))}</pre>"

    def to_text(self, *, width: int = WIDTH, every: bool = False) -> str:
        """The tree; `every`: also where many jobs of one task stand side by side, each on its line."""
        return text_tree(self, self.also, width=width, every=every)

    def to_json(self) -> str:
        """As JSON (docs/formats/lineage.md)."""
        return to_json(self, self.also)

    def to_dot(self) -> str:
        """As a graph for Graphviz."""
        return dot(self)

    def to_html(self) -> str:
        """As a page of its own, to be opened in a browser."""
        from .page import page

        return page(self)

    def to_prov(self) -> str:
        """As W3C PROV, in JSON. Unsupported without the package `prov`."""
        from .prov import prov

        return prov(self.store, self)

    def save(self, path: str | os.PathLike[str], format: str | None = None) -> None:
        """Write it to a file, in one of FORMATS, by default by the end of the name.

        That is .txt, .dot, .html, .json or .prov.json; a path without such an end is the folder of an
        RO-Crate. Unsupported when a library for it is missing, OSError.
        """
        path = os.fspath(path)
        format = format or _format_of(path)
        if format == CRATE:
            from .ro_crate import ro_crate

            ro_crate(self.store, self, path)
            return
        text = self.told(format)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def told(self, format: str) -> str:
        """The text in one of FORMATS but ro-crate, which is a folder. ValueError."""
        tellers: dict[str, Callable[[], str]] = {
            TEXT: lambda: f"{text_tree(self, self.also, every=True)}\n",
            DOT: self.to_dot,
            HTML: self.to_html,
            JSON: self.to_json,
            PROV: self.to_prov,
        }
        if format not in tellers:
            raise ValueError(f"format is one of {', '.join(tellers)}, not {format!r}")
        return tellers[format]()


def lineage(x: Any = _NOTHING, *, value: Any = _NOTHING, down: bool = False) -> Lineage:
    """How something was made, back to the raw inputs; with `down`, what was made from it.

    x: a Job or Record; a job:// URI, a job id, or at least 6 digits of one; a sha1://, sha256:// or
    blake3:// URI; the path of a file; or any value in hand that is not text or a path. `value` is
    always taken as a value. The first time in a large store takes some seconds, to index the records.
    Raises NotFound when nothing is known of it, BadURI, CannotEncode, StoreUnavailable.
    """
    if (x is _NOTHING) == (value is _NOTHING):
        raise TypeError("give one thing: kachery.lineage(x), or kachery.lineage(value=...)")
    store = current().store
    asked = asked_about(store, x) if value is _NOTHING else asked_value(value)
    traced = with_index(store, lambda index: trace(store, index, asked, up=not down))
    found = Lineage(*traced.lineage)
    found.also, found.store = traced.also, store
    return found


def _format_of(path: str) -> str:
    for end, format in _BY_SUFFIX.items():
        if path.lower().endswith(end):
            return format
    if os.path.splitext(path)[1]:
        raise ValueError(f"what format is {path} to have? say format=, one of {', '.join(FORMATS)}")
    return CRATE
