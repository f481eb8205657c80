"""Exceptions that count as results (`cache_errors=`): what is stored of one, and the way back."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from kachery_store.errors import KacheryError

from .errors import CannotDecode, RunFailed
from .names import qualified_name
from .policy import errors_declared
from .values.registry import Codec, add_codec


class Raised(NamedTuple):
    """What is stored of an exception: the name of its class, its `args`, its attributes."""

    name: str
    args: tuple[Any, ...]
    state: dict[str, Any]

    @property
    def text(self) -> str:
        """The exception as a program would write it."""
        arguments = ", ".join(map(repr, self.args))
        return f"{self.name.partition(':')[2]}({arguments})"


def is_kept(error: Exception, kinds: tuple[type[Exception], ...]) -> bool:
    """Whether an exception counts as a result; what kachery itself raises is about here and now."""
    return isinstance(error, kinds) and not isinstance(error, KacheryError)


def raised(error: Exception) -> Raised:
    """What is to be stored of an exception."""
    state = {name: value for name, value in vars(error).items() if name != "__notes__"}
    return Raised(qualified_name(type(error)), tuple(error.args), state)


def raised_again(kept: Raised) -> Exception:
    """The exception that was kept, or RunFailed where its class cannot make it again.

    The class is one that some task of this program keeps, a subclass of one, or built into Python:
    stored data chooses among those, and never what is imported.
    """
    kind = _class_of(kept.name)
    if kind is None:
        return _told(kept, "no task of this program that has been imported keeps such errors")
    try:
        error = kind(*kept.args)
        error.__dict__.update(kept.state)
    except Exception as why:  # noqa: BLE001 - a constructor of the user's own
        return _told(kept, f"its class cannot be called with that: {type(why).__name__}: {why}")
    return error


def _told(kept: Raised, why: str) -> RunFailed:
    return RunFailed(
        f"it raised {kept.text}, which was kept and cannot be raised again as it was: {why}",
        kept.name,
    )


def _class_of(name: str) -> type[Exception] | None:
    declared = errors_declared()
    found = declared.get(name)
    if found is not None:
        return found
    for kind in _candidates(declared.values()):
        if qualified_name(kind) == name:
            found = kind  # of several, the one that was defined last
    return found


def _candidates(declared: Iterable[type[Exception]]) -> Iterator[type[Exception]]:
    for kind in vars(builtins).values():
        if isinstance(kind, type) and issubclass(kind, Exception):
            yield kind
    waiting = list(declared)
    seen: set[type] = set()
    while waiting:
        kind = waiting.pop()
        if kind not in seen:
            seen.add(kind)
            yield kind
            waiting += reversed(type.__subclasses__(kind))


def _decode(name: Any, args: Any, state: Any) -> Raised:
    if type(name) is not str or type(args) is not tuple or type(state) is not dict:
        raise CannotDecode("this is no exception that was kept")
    return Raised(name, args, state)


# An older kachery does not know this name, and so takes no error for a value.
add_codec(Raised, Codec("kachery.raised", lambda kept: [kept.name, kept.args, kept.state], _decode))
