"""Queries: functions that ask the outside world, run on each request, and remember their answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, ParamSpec, TypeVar, overload

from .answers import answers
from .cache import load
from .decorators import Task, decorated
from .definition import QUERY
from .errors import NotReproducible
from .policy import checked
from .record import Record
from .reproduce import Reproduction
from .settings import current

P = ParamSpec("P")
R = TypeVar("R")


class Answer(NamedTuple):
    """One answer of a query: `record` says when it was asked for, where and by whom."""

    record: Record

    @property
    def value(self) -> Any:
        """What was answered, from the store. DigestMismatch when it is lost, CannotDecode."""
        return load(current().store, self.record)


class Query(Task[P, R]):
    """A function that asks the outside world. Call it as before; `history` has its answers."""

    def reproduce(self, /, *args: Any, **kwargs: Any) -> Reproduction:  # noqa: ARG002
        """Refused with NotReproducible: the next answer may well be another one."""
        raise NotReproducible(f"{self!r} asks the outside world, whose answers change")

    def history(self, /, *args: P.args, **kwargs: P.kwargs) -> list[Answer]:
        """The answers that a call has had on this machine and are still stored, oldest first."""
        job = self.job(*args, **kwargs)
        name = job.definition.name
        found = [] if job.id is None else list(answers(current().store, job.id, name))
        return [Answer(record) for record in reversed(found)]


@overload
def query(function: Callable[P, R], /) -> Query[P, R]: ...


@overload
def query(
    *,
    max_age: str | float | None = None,
    fallback: bool = True,
    name: str | None = None,
    version: str | None = None,
    ignore: str | tuple[str, ...] = (),
    depends: str | tuple[str, ...] = (),
    opaque: str | tuple[str, ...] = (),
    secret: str | tuple[str, ...] = (),
    retries: int = 0,
    timeout: str | float | None = None,
    priority: int = 0,
    resources: Mapping[str, float] | None = None,
) -> Callable[[Callable[P, R]], Query[P, R]]: ...


def query(
    function: Callable[P, R] | None = None,
    /,
    *,
    max_age: str | float | None = None,
    fallback: bool = True,
    name: str | None = None,
    version: str | None = None,
    ignore: str | tuple[str, ...] = (),
    depends: str | tuple[str, ...] = (),
    opaque: str | tuple[str, ...] = (),
    secret: str | tuple[str, ...] = (),
    retries: int = 0,
    timeout: str | float | None = None,
    priority: int = 0,
    resources: Mapping[str, float] | None = None,
) -> Query[P, R] | Callable[[Callable[P, R]], Query[P, R]]:
    """Make a function a query: it depends on the outside world, and runs on each request.

    max_age: an answer that is not older is served again: seconds, or text as "1h". fallback: when
    the function fails, the last good answer comes back with a StaleResultWarning that says how old
    it is; False raises what the function raised, and so does a query that has had no answer. The
    other options are those of `kachery.task`.

    Raises TypeError for what is not a function, ValueError for an unknown parameter, BadAmount.
    """
    return decorated(  # type: ignore[no-any-return]
        Query,
        function,
        kind=QUERY,
        name=name,
        version=version,
        ignore=ignore,
        depends=depends,
        opaque=opaque,
        secret=secret,
        policy=checked(
            max_age=max_age,
            fallback=fallback,
            retries=retries,
            timeout=timeout,
            priority=priority,
            resources=resources,
        ),
    )
