"""The decorator, and what it makes of a function."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast, overload

from kachery_store.errors import KacheryWarning
from kachery_store.progress import progress_of
from kachery_store.saying import warn

from .awaiting import in_thread
from .binding import Arguments
from .cache import ABSENT
from .definition import TASK, Definition, import_definition
from .errors import CannotEncode
from .identity import Addresses, addresses_of, identify
from .job import Job
from .job_ids import JobIds
from .policy import checked
from .purity import check_allowed
from .reloading import follow_autoreload
from .served import answer, recalled
from .settings import Once, Settings, applied, current
from .tracebacks import shorten
from .values import Encoder

if TYPE_CHECKING:
    from .explain import Explanation
    from .reproduce import Reproduction
    from .session import Session

P = ParamSpec("P")
R = TypeVar("R")


class Task(Generic[P, R]):
    """A function whose results are kept. Call it as before; `definition` has its name and options.

    `of_class` tells a class method, whose first argument is the class that it is taken from. When
    `is_bound`, the first argument is `instance`, from which this method was taken.
    """

    __kachery_task__ = True

    def __init__(self, definition: Definition, *, of_class: bool = False) -> None:
        functools.update_wrapper(self, definition.function)
        follow_autoreload(Task)
        self.__wrapped__ = definition.called
        self.definition = definition
        self._job_ids = JobIds(definition)
        self.of_class = of_class
        self.is_bound = False
        self.instance: Any = None
        if definition.is_async and sys.version_info >= (3, 12):  # before, only functions can say so
            inspect.markcoroutinefunction(self)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The value of a call: from the store, or computed in this process and stored.

        Raises what the function raises, CannotEncode for arguments without an encoding, and
        CannotFingerprint when the code reads something that has no identity.
        """
        try:
            definition = self.definition
            if definition.kind != TASK:
                check_allowed(definition)
            arguments = self._arguments(args, kwargs)
            settings = current()
            job_id = self._job_ids.get(arguments)
            if job_id is not None and not definition.is_async:
                value = recalled(settings, definition, job_id)
                if value is not ABSENT:
                    return cast("R", value)
            return cast("R", self._answered(settings, arguments, args, kwargs))
        except BaseException as error:
            shorten(error)
            raise

    def _answered(
        self, settings: Settings, arguments: Arguments, args: Any, kwargs: dict[str, Any]
    ) -> Any:
        definition = self.definition
        try:
            addresses = addresses_of(definition, arguments, _NO_JOBS)
        except _JobInside:
            return self._of_job(self.job(*args, **kwargs))
        except CannotEncode:
            if _lifted(arguments) is None:
                raise
            return self._of_job(self.job(*args, **kwargs))
        if definition.is_async:
            return _awaited(settings, definition, arguments, addresses)
        job_id = self._job_ids.find(arguments, addresses)
        value, warning = answer(settings, job_id, definition, arguments, addresses)
        if warning is not None:
            warn(warning)
        return value

    def _of_job(self, job: Job) -> Any:
        return _job_awaited(job) if self.definition.is_async else job.result()

    def job(self, /, *args: Any, **kwargs: Any) -> Job:
        """The job of a call; nothing runs. Arguments may be jobs, also in lists, tuples and dicts."""
        try:
            if self.definition.kind != TASK:
                check_allowed(self.definition)
            return self._job_of(self._arguments(args, kwargs))
        except BaseException as error:
            shorten(error)
            raise

    def _job_of(self, arguments: Arguments) -> Job:
        try:
            return Job(self.definition, arguments, _session())
        except CannotEncode:
            with_stands = _lifted(arguments)
            if with_stands is None:
                raise
        return Job(self.definition, with_stands, _session())

    def submit(self, /, *args: Any, **kwargs: Any) -> Job:
        """The job of a call, started on the Dask client at hand, or else in this process."""
        job = self.job(*args, **kwargs)
        _session().start([job])
        return job

    def map(self, *iterables: Iterable[Any], progress: bool = True, **constants: Any) -> list[Job]:
        """Jobs for the items of one or several iterables, started; keywords are the same for all.

        `denoise.map(images, strength=0.1)` is one job for each image. The shortest iterable counts.
        A progress bar shows when looking the jobs up takes longer than two seconds.
        """
        if not iterables:
            raise TypeError(
                f"{self.definition.name}.map takes at least one iterable; its items are the arguments"
            )
        for one in iterables:
            if not isinstance(one, Iterable) and not hasattr(one, "__getitem__"):
                raise TypeError(
                    f"{self.definition.name}.map takes iterables, whose items are the arguments, not"
                    f" {type(one).__name__}; what is the same for all is a keyword: map(xs, name=value)"
                )
        calls = list(zip(*iterables, strict=False))
        jobs = []
        title = f"{self.definition.function.__name__}: jobs"
        with progress_of(title, len(calls), unit="job", wanted=progress) as bar:
            for args in calls:
                jobs.append(self.job(*args, **constants))
                bar.add()
        _session().start(jobs)
        return jobs

    def refresh(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The value of a call, computed again whatever is stored, which is replaced.

        What the function asks of other tasks comes from the store. Raises as the call does.
        """
        settings = current().changed(refresh=Once((self.definition.name,)))
        if self.definition.is_async:
            return cast("R", _under(settings, lambda: self(*args, **kwargs)))
        with applied(settings):
            return self(*args, **kwargs)

    def explain(self, /, *args: Any, **kwargs: Any) -> Explanation:
        """Why a call is a hit or a miss, and what differs from the nearest known job; nothing runs.

        Print it. Arguments may be jobs whose results are known; else KacheryError says which are not.
        """
        from .explain import explain_call

        return explain_call(current().store, self.job(*args, **kwargs))

    def reproduce(self, /, *args: Any, **kwargs: Any) -> Reproduction:
        """Run a call again and compare its result with the stored one; true if it is the same.

        The first result stays; another one is noted, and `kachery show` tells of it. What the task
        asks of other tasks comes from the store. Arguments may be jobs. Raises what the function
        raises, NotReproducible when its result cannot be stored.
        """
        from .reproduce import reproduce

        arguments = self.job(*args, **kwargs).substituted(lambda job: job.result())
        settings = current()
        return reproduce(settings.store, self.definition, arguments, strict=settings.strict)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As a method: the instance is the first argument, and counts like the others."""
        if self.of_class:
            return self._taken_from(type(instance) if owner is None else owner)
        return self if instance is None else self._taken_from(instance)

    @property
    def unbound(self) -> Task[..., Any]:
        """The task that the method is when it is taken from no instance."""
        return self._taken_from(None, is_bound=False)  # type: ignore[no-any-return]

    def _taken_from(self, instance: Any, is_bound: bool = True) -> Any:
        taken = object.__new__(type(self))
        taken.__dict__ = {**self.__dict__, "is_bound": is_bound, "instance": instance}
        return taken

    def _arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        if self.is_bound:
            args = (self.instance, *args)
        return self.definition.parameters.bind(args, kwargs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.is_bound:
            return _taken, (self.unbound, self.instance)
        if self.definition.importable:
            function = self.definition.function
            return _imported, (
                type(self),
                self.of_class,
                function.__module__,
                function.__qualname__,
            )
        return super().__reduce_ex__(protocol)

    def __repr__(self) -> str:
        from .drawing.lines import task_text

        return task_text(self.definition)

    def _repr_html_(self) -> str:
        """How notebooks show it; see drawing/tasks.py."""
        from .drawing.tasks import task_html

        return task_html(self.definition)


@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...


@overload
def task(
    *,
    name: str | None = None,
    version: str | None = None,
    ignore: str | tuple[str, ...] = (),
    depends: str | tuple[str, ...] = (),
    opaque: str | tuple[str, ...] = (),
    secret: str | tuple[str, ...] = (),
    allow: str | tuple[str, ...] = (),
    retries: int = 0,
    timeout: str | float | None = None,
    priority: int = 0,
    resources: Mapping[str, float] | None = None,
    cache_errors: type[Exception] | tuple[type[Exception], ...] = (),
) -> Callable[[Callable[P, R]], Task[P, R]]: ...


def task(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    version: str | None = None,
    ignore: str | tuple[str, ...] = (),
    depends: str | tuple[str, ...] = (),
    opaque: str | tuple[str, ...] = (),
    secret: str | tuple[str, ...] = (),
    allow: str | tuple[str, ...] = (),
    retries: int = 0,
    timeout: str | float | None = None,
    priority: int = 0,
    resources: Mapping[str, float] | None = None,
    cache_errors: type[Exception] | tuple[type[Exception], ...] = (),
) -> Task[P, R] | Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function a task: its result is determined by its arguments and its code, and kept.

    name: a name for ever, where the import path may change. version: a text that stands for the
    code; the source is not looked at then, defaults and closure still count. ignore: parameters that
    do not affect the result, such as `verbose`. depends: installed distributions whose versions
    affect the result, such as `numpy`. opaque: parameters, or "return" for the result, in which pickle
    is allowed for what has no encoding; such a result is known by the job that made it. secret:
    parameters of which no record keeps anything. allow: names of queries and actions that the
    function may ask though they are not pure; the record tells them.

    These say how it runs, and are no part of its identity. retries: how often a run that raised is
    tried again. timeout: seconds, or text as "10min", that a run may take before it counts as failed,
    with TimeoutError. priority: of those that could run, the highest run first. resources: what a
    Dask worker must offer, as {"GPU": 1}. cache_errors: exceptions that are kept like results, and
    raised again without a run.

    For a class method or static method the decorator stands above `@classmethod` or `@staticmethod`.

    Raises TypeError for what is not a function, ValueError for an unknown parameter.
    """
    return decorated(  # type: ignore[no-any-return]
        Task,
        function,
        kind=TASK,
        name=name,
        version=version,
        ignore=ignore,
        depends=depends,
        opaque=opaque,
        secret=secret,
        allow=allow,
        policy=checked(
            retries=retries,
            timeout=timeout,
            priority=priority,
            resources=resources,
            cache_errors=cache_errors,
        ),
    )


def decorated(made: type[Task[..., Any]], function: Any, **options: Any) -> Any:
    """A Task, or a subclass, of a function, class method or static method; without one, what makes it.

    The options are those of Definition, of which those that are names may be one name.
    """

    def decorate(function: Any) -> Any:
        if isinstance(function, staticmethod):
            return staticmethod(decorate(function.__func__))
        of_class = isinstance(function, classmethod)
        if of_class:
            function = function.__func__
        check_function(function)
        return made(Definition(function, **options), of_class=of_class)

    for name in _NAMES & options.keys():
        names = options[name]
        options[name] = (names,) if isinstance(names, str) else tuple(names)
    return decorate if function is None else decorate(function)


_NAMES = frozenset(("ignore", "depends", "opaque", "secret", "allow"))


def check_function(function: Any) -> None:
    """Refuse with TypeError what no task or query can be made of."""
    what = getattr(function, "__qualname__", repr(function))
    if not isinstance(function, FunctionType):
        raise TypeError(
            f"a task is made of a function defined with `def` or `lambda`; {what} is"
            f" {type(function).__name__}. Write a function that calls it"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{what} is a generator, and what it yields cannot be kept. Return a list instead"
        )


async def _awaited(
    settings: Settings, definition: Definition, arguments: Arguments, addresses: Addresses
) -> Any:
    def ask() -> tuple[Any, KacheryWarning | None]:
        # By now the arguments may have been changed.
        job_id = identify(definition, addresses)
        return answer(settings, job_id, definition, arguments, addresses, waited=True)

    try:
        value, warning = await in_thread(ask)
    except BaseException as error:
        shorten(error)
        raise
    if warning is not None:
        warn(warning)
    return value


async def _under(settings: Settings, call: Callable[[], Any]) -> Any:
    with applied(settings):
        return await call()


async def _job_awaited(job: Job) -> Any:
    return await job


# What calls that are served from the store do not need is imported by those who need it.


def _session() -> Session:
    from .session import session

    return session()


def _lifted(arguments: Arguments) -> Arguments | None:
    from .foreign import lifted

    return lifted(arguments)


class _JobInside(Exception):
    """A plain call has a job among its arguments."""


def _meet_job(_job: Job, _encoder: Encoder) -> bytes:
    raise _JobInside


_NO_JOBS: Any = {Job: _meet_job}


def _imported(
    kind: type[Task[..., Any]], of_class: bool, module: str, qualname: str
) -> Task[..., Any]:
    return kind(import_definition(module, qualname), of_class=of_class)


def _taken(task: Task[..., Any], instance: Any) -> Any:
    return task._taken_from(instance)  # noqa: SLF001 - pickled by it
