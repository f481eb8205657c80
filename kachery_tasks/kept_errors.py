"""Exceptions that count as results (`cache_errors=`): what is stored of one, and the way back."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, NamedTuple

from kachery_store.errors import KacheryError

from .errors import CannotDecode, CannotEncode, RunFailed
from .names import qualified_name
from .policy import errors_declared
from .values.registry import Codec, add_codec

_TEXT = "__str__"  # among the attributes that are stored, what `str` made of the exception
_NOT_TOLD = ("args", "obj")  # the first has its own place; the second is any object at all


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
    """What is to be stored of an exception; CannotEncode where that would not make it again."""
    kind, name = type(error), qualified_name(type(error))
    try:
        args = tuple(error.args)
        state = state_of(error)
        state.pop("__notes__", None)
        text = str(error)
        is_same = str(made_again(kind, args, state)) == text
    except Exception as why:
        raise CannotEncode(f"{name} cannot be made again: {type(why).__name__}: {why}") from why
    if not is_same:
        raise CannotEncode(
            f"{name}, made again of its args and attributes, would say something else"
        )
    return Raised(name, args, {**state, _TEXT: text})


def state_of(error: Exception) -> dict[str, Any]:
    """The attributes of an exception, with those that built-in classes keep outside `__dict__`.

    Of the latter those that its `args` do not tell.
    """
    plain = _made(type(error), tuple(error.args))
    found = {}
    for name, field in _fields(type(error)).items():
        value = _field(error, field)
        if value is not None and value is not _field(plain, field):
            found[name] = value
    return found | vars(error)


def made_again(kind: type[Exception], args: tuple[Any, ...], state: dict[str, Any]) -> Exception:
    """An exception of its parts, without its own `__init__`, which may take anything else."""
    error = _made(kind, args)
    fields = _fields(kind)
    for name, value in state.items():
        if name in fields and value is not None:
            fields[name].__set__(error, value)
        else:
            error.__dict__[name] = value
    return error


def _made(kind: type[Exception], args: tuple[Any, ...]) -> Exception:
    error = kind.__new__(kind, *args)
    _built_in(kind).__init__(error, *args)  # it sets what is not in `__dict__`
    error.args = args  # as it was, whatever these two make of it
    return error


def _built_in(kind: type[Exception]) -> type[Exception]:
    return next(one for one in kind.__mro__ if one.__module__ == "builtins")


def _fields(kind: type[Exception]) -> dict[str, Any]:
    """What built-in exceptions keep outside `__dict__`, by name."""
    return {
        name: field
        for one in _built_in(kind).__mro__
        for name, field in vars(one).items()
        if isinstance(field, (GetSetDescriptorType, MemberDescriptorType))
        and not name.startswith("__")
        and name not in _NOT_TOLD
    }


def _field(error: Exception, field: Any) -> Any:
    try:
        return field.__get__(error)
    except AttributeError:  # as `characters_written` of most
        return None


def raised_again(kept: Raised) -> Exception:
    """The exception that was kept, or RunFailed where its class cannot make it again.

    The class is one that some task of this program keeps, a subclass of one, or built into Python:
    stored data chooses among those, and never what is imported.
    """
    kind = _class_of(kept.name)
    if kind is None:
        return _told(kept, "no task of this program that has been imported keeps such errors")
    try:
        error = _made_as_told(kind, kept)
        is_same = repr(error.args) == repr(kept.args) and str(error) == kept.state.get(
            _TEXT, str(error)
        )
    except Exception as why:  # noqa: BLE001 - a constructor of the user's own
        return _told(kept, f"its class cannot be called with that: {type(why).__name__}: {why}")
    return error if is_same else _told(kept, "its class would make another one of that now")


def _made_as_told(kind: type[Exception], kept: Raised) -> Exception:
    if _TEXT in kept.state:
        state = {name: value for name, value in kept.state.items() if name != _TEXT}
        return made_again(kind, kept.args, state)
    error = kind(*kept.args)  # an older kachery stored it
    error.__dict__.update(kept.state)
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
