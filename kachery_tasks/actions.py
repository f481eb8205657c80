"""Actions: functions that change the outside world, and are started at most once for each job id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, ParamSpec, TypeVar, overload

from kachery_store.errors import Unsupported

from .binding import Arguments
from .code import Fingerprint
from .decorators import Task, decorated
from .definition import ACTION, Definition
from .errors import NotReproducible
from .job import Job
from .policy import checked
from .resolving import state_of
from .settings import current

P = ParamSpec("P")
R = TypeVar("R")

IDEMPOTENCY = "idempotency"  # what tells apart requests that have the same arguments


class Action(Task[P, R]):
    """A function that changes the outside world: it succeeds or fails, and has no value.

    Call it as before. `idempotency="..."`, a text, tells apart calls with the same arguments, unless
    the function has a parameter of that name.
    """

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Perform the action, or, with `once`, learn what became of it; returns None.

        Raises what the function raises. Of an earlier start with `once`: ActionFailed, OutcomeUnknown.
        Nothing was started with StoreUnavailable, Unsupported, NotStored, NotPure; OutcomeNotKept says
        that it has run.
        """
        return Task.__call__(self._told_apart(kwargs), *args, **kwargs)

    def job(self, /, *args: Any, **kwargs: Any) -> Job:
        """The job of a call; nothing runs. Its `status` is the state of the action."""
        job = Task.job(self._told_apart(kwargs), *args, **kwargs)
        store = current().store
        job.state_of = lambda job_id: state_of(store, job_id)
        return job

    def refresh(self, /, *_: Any, **__: Any) -> NoReturn:
        """Refused with Unsupported: nothing is stored that could be replaced."""
        raise Unsupported(
            f"{self!r} has no stored result to refresh. Hand it another idempotency="
            '"..." to have it done once more, or write @kachery.action(once=False)'
        )

    def explain(self, /, *_: Any, **__: Any) -> NoReturn:
        """Refused with Unsupported: an action has no result that could be a hit or a miss."""
        raise Unsupported(
            f"{self!r} has no stored result, so it is neither a hit nor a miss; job.status, or"
            " `kachery show` with its job id, tells what became of it"
        )

    def reproduce(self, /, *_: Any, **__: Any) -> NoReturn:
        """Refused with NotReproducible: it would change the outside world once more."""
        raise NotReproducible(f"{self!r} changes the outside world, and has no result to compare")

    def _told_apart(self, kwargs: dict[str, Any]) -> Task[..., Any]:
        """The same with `idempotency` as one more parameter, if a call has it."""
        definition = self.definition
        if IDEMPOTENCY not in kwargs or IDEMPOTENCY in definition.parameters.names:
            return self
        if isinstance(definition, ToldApart):
            return self
        taken: Action[..., Any] = self._taken_from(self.instance, is_bound=self.is_bound)
        taken.definition = ToldApart(definition)
        return taken

    def _arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        if not isinstance(self.definition, ToldApart):
            return super()._arguments(args, kwargs)
        others = {name: value for name, value in kwargs.items() if name != IDEMPOTENCY}
        text = kwargs[IDEMPOTENCY]
        if type(text) is not str:
            raise TypeError(f"{IDEMPOTENCY}= is a text, not {type(text).__name__}: {self!r}")
        return {**super()._arguments(args, others), IDEMPOTENCY: text}


class ToldApart(Definition):
    """A definition whose calls have one more argument, which counts and is not handed on."""

    def __init__(self, base: Definition) -> None:  # what the base has checked is not checked again
        self.__dict__.update(base.__dict__)
        self._base = base
        self.identifying = tuple(sorted((*base.identifying, IDEMPOTENCY)))

    def fingerprint(self) -> Fingerprint:
        """That of the base, which remembers it."""
        return self._base.fingerprint()

    @property
    def importable(self) -> bool:
        """Whether another process can find the base."""
        return self._base.importable

    def __reduce_ex__(self, protocol: Any) -> Any:
        return ToldApart, (self._base,)


@overload
def action(function: Callable[P, R], /) -> Action[P, R]: ...


@overload
def action(
    *,
    once: bool = True,
    retry_unknown: bool = False,
    name: str | None = None,
    version: str | None = None,
    ignore: str | tuple[str, ...] = (),
    depends: str | tuple[str, ...] = (),
    opaque: str | tuple[str, ...] = (),
    secret: str | tuple[str, ...] = (),
    priority: int = 0,
    resources: Mapping[str, float] | None = None,
) -> Callable[[Callable[P, R]], Action[P, R]]: ...


def action(
    function: Callable[P, R] | None = None,
    /,
    *,
    once: bool = True,
    retry_unknown: bool = False,
    name: str | None = None,
    version: str | None = None,
    ignore: str | tuple[str, ...] = (),
    depends: str | tuple[str, ...] = (),
    opaque: str | tuple[str, ...] = (),
    secret: str | tuple[str, ...] = (),
    priority: int = 0,
    resources: Mapping[str, float] | None = None,
) -> Action[P, R] | Callable[[Callable[P, R]], Action[P, R]]:
    """Make a function an action: it changes the outside world, and succeeds or fails.

    once: it is started at most once for the same arguments and code, on all machines that share the
    zone in force, or with this store if there is none; whoever asks again gets the outcome. False: it
    runs each time. retry_unknown: when whoever ran it has gone in the middle, so that nobody knows
    what it did, it is started again; else that needs `kachery resolve`. The other options are those
    of `kachery.task`; there are no retries, and no timeout: what was done in the outside world stays.

    With `version="1"` a change of the code leaves what was done, done.

    Raises TypeError for what is not a function, ValueError for an unknown parameter.
    """
    return decorated(  # type: ignore[no-any-return]
        Action,
        function,
        kind=ACTION,
        name=name,
        version=version,
        ignore=ignore,
        depends=depends,
        opaque=opaque,
        secret=secret,
        policy=checked(
            once=once, retry_unknown=retry_unknown, priority=priority, resources=resources
        ),
    )
