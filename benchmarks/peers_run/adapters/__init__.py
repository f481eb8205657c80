"""One module for each library; each is imported in that library's environment only.

A module here has a class `Peer`, and imports what a program that uses the library would import.
"""

from __future__ import annotations

from importlib import import_module

from .adapter import Adapter, NotOffered

__all__ = ["Adapter", "NotOffered", "adapter"]


def adapter(name: str, folder: str) -> Adapter:
    """A library, with an empty or used folder."""
    made: Adapter = import_module(f"{__name__}.{name}").Peer(name, folder)
    return made
