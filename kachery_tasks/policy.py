"""How jobs of one definition are run: no part of who they are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from kachery_store.amounts import parse_span

from .names import qualified_name

_NONE: Mapping[str, float] = MappingProxyType({})
_declared: WeakValueDictionary[str, type[Exception]] = WeakValueDictionary()


class Policy(NamedTuple):
    """The options that change when, where and how often a function runs, and not what it returns.

    `retries`: how often a run that raised is tried again. `timeout`: seconds that a run may take, or
    None. `priority`: of those that could run, the highest run first. `resources`: what a Dask worker
    must offer, as {"GPU": 1}. `cache_errors`: exceptions that count as results. Of a query: `max_age`,
    the seconds for which an answer is served again, or None; `fallback`, whether the last good answer
    may stand for one that fails. Of an action: `once`, whether it is started once at most;
    `retry_unknown`, whether it is started again when nobody knows what became of it.
    """

    retries: int = 0
    timeout: float | None = None
    priority: int = 0
    resources: Mapping[str, float] = _NONE
    cache_errors: tuple[type[Exception], ...] = ()
    max_age: float | None = None
    fallback: bool = True
    once: bool = True
    retry_unknown: bool = False


def checked(
    *,
    retries: int = 0,
    timeout: str | float | None = None,
    priority: int = 0,
    resources: Mapping[str, float] | None = None,
    cache_errors: type[Exception] | Iterable[type[Exception]] = (),
    max_age: str | float | None = None,
    fallback: bool = True,
    once: bool = True,
    retry_unknown: bool = False,
) -> Policy:
    """A policy of what a user wrote; spans are seconds or text as "1h".

    Raises ValueError or TypeError for what makes no sense, BadAmount for a text that is no span.
    """
    if type(retries) is not int or retries < 0:
        raise ValueError(f"retries= is how often to try again: 0, 1, 2..., not {retries!r}")
    if type(priority) is not int:
        raise TypeError(f"priority= is a whole number, not {priority!r}")
    seconds = None if timeout is None else parse_span(timeout)
    if seconds is not None and seconds <= 0:
        raise ValueError(
            f"timeout= is longer than nothing: seconds, or text as '10m', not {timeout!r}"
        )
    return Policy(
        retries,
        seconds,
        priority,
        _checked_resources({} if resources is None else resources),
        _checked_errors(cache_errors),
        None if max_age is None else parse_span(max_age),
        fallback,
        once,
        retry_unknown,
    )


def _checked_resources(resources: Mapping[str, float]) -> Mapping[str, float]:
    for name, amount in resources.items():
        if not isinstance(name, str) or not isinstance(amount, int | float) or amount <= 0:
            raise ValueError(
                f'resources= are names with amounts, as {{"GPU": 1}}, not {name!r}: {amount!r}'
            )
    return dict(resources)


def _checked_errors(errors: Any) -> tuple[type[Exception], ...]:
    given = (errors,) if isinstance(errors, type) else tuple(errors)
    for kind in given:
        if not isinstance(kind, type) or not issubclass(kind, Exception):
            raise TypeError(f"cache_errors= are classes of exceptions, not {kind!r}")
    return given


def declare_errors(errors: Iterable[type[Exception]]) -> None:
    """Remember classes of exceptions that some definition keeps; later ones of a name count."""
    for kind in errors:
        _declared[qualified_name(kind)] = kind


def errors_declared() -> dict[str, type[Exception]]:
    """The classes of exceptions that the definitions of this program keep, by name."""
    return dict(_declared)
