"""Tasks and IPython's `%autoreload`: names that were imported from a module get its new code.

After a module was edited, autoreload runs it again and gives the old functions and classes the content
of the new ones. Of anything else it knows nothing, and a name that was bound by `from module import
name` would run the old code for ever.
"""

from __future__ import annotations

import sys
from typing import Any

_AUTORELOAD = "IPython.extensions.autoreload"


def follow_autoreload(kind: type) -> None:
    """Have autoreload, if it is in use, update objects of a class, which have `is_bound`."""
    rules = getattr(sys.modules.get(_AUTORELOAD), "UPDATE_RULES", None)
    if isinstance(rules, list) and not any(
        getattr(rule[0], "kind", None) is kind for rule in rules
    ):
        rules.append((_Both(kind), _update))


class _Both:
    """Whether an object and what stands in its place now are of a class, and not taken from another."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def __call__(self, old: Any, new: Any) -> bool:
        both = isinstance(old, self.kind) and isinstance(new, self.kind)
        return both and not old.is_bound and not new.is_bound


def _update(old: Any, new: Any) -> None:
    if old is not new:
        old.__class__ = type(new)  # a task may have become a query or an action
        old.__dict__ = dict(new.__dict__)
