"""The decorator, and what it makes of a function."""

from __future__ import annotations

import functools
import inspect
import itertools
import sys
from collections.abc import Callable, Iterable
from functools import partial
from types import FunctionType
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from kachery_store.errors import KacheryWarning
from kachery_store.progress import progress_of
from kachery_store.saying import warn

from .awaiting import in_thread
from .cache import answer
from .definition import TASK, Definition, import_definition
from .explain import Explanation, explain_call
from .identity import addresses_of
from .job import Job
from .purity import check_allowed
from .reproduce import Reproduction, reproduce
from .session import session
from .settings import Once, Settings, applied, current
from .values import Encoder

P = ParamSpec("P")
R = TypeVar("R")


class Task(Generic[P, R]):
    """A function whose results are kept. Call it as before; `definition` has its name and options."""

    __kachery_task__ = True

    def __init__(self, definition: Definition) -> None:
        functools.update_wrapper(self, definition.function)
        self.definition = definition
        if definition.is_async and sys.version_info >= (3, 12):  # before, only functions can say so
            inspect.markcoroutinefunction(self)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The value of a call: from the store, or computed in this process and stored.

        Raises what the function raises, CannotEncode for arguments without an encoding, and
        CannotFingerprint when the code reads something that has no identity.
        """
        definition = self.definition
        if definition.kind != TASK:
            check_allowed(definition)
        arguments = definition.parameters.bind(args, kwargs)
        try:
            addresses = addresses_of(definition, arguments, _NO_JOBS)
        except _JobInside:
            return cast("R", self._of_job(self.job(*args, **kwargs)))
        settings = current()
        ask = partial(answer, settings.store, definition, arguments, addresses)
        if definition.is_async:  # by the time it runs, the arguments may have been changed
            return cast("R", _awaited(partial(ask, strict=settings.strict, waited=True)))
        value, warning = ask(strict=settings.strict)
        if warning is not None:
            warn(warning)
        return cast("R", value)

    def _of_job(self, job: Job) -> Any:
        return _job_awaited(job) if self.definition.is_async else job.result()

    def job(self, /, *args: Any, **kwargs: Any) -> Job:
        """The job of a call; nothing runs. Arguments may be jobs, also in lists, tuples and dicts."""
        if self.definition.kind != TASK:
            check_allowed(self.definition)
        return Job(self.definition, self.definition.parameters.bind(args, kwargs), session())

    def submit(self, /, *args: Any, **kwargs: Any) -> Job:
        """The job of a call, started on the Dask client at hand, or else in this process."""
        job = self.job(*args, **kwargs)
        session().start([job])
        return job

    def map(self, *iterables: Iterable[Any], progress: bool = True, **constants: Any) -> list[Job]:
        """Jobs for the items of one or several iterables, started; keywords are the same for all.

        `denoise.map(images, strength=0.1)` is one job for each image. The shortest iterable counts.
        A progress bar shows when looking the jobs up takes longer than two seconds.
        """
        if not iterables:
            raise TypeError(
                f"{self!r}.map takes at least one iterable; its items are the arguments"
            )
        calls = list(zip(*iterables, strict=False))
        jobs = []
        title = f"{self.definition.function.__name__}: jobs"
        with progress_of(title, len(calls), unit="job", wanted=progress) as bar:
            for args in calls:
                jobs.append(self.job(*args, **constants))
                bar.add()
        session().start(jobs)
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
        return explain_call(current().store, self.job(*args, **kwargs))

    def reproduce(self, /, *args: Any, **kwargs: Any) -> Reproduction:
        """Run a call again and compare its result with the stored one; true if it is the same.

        The first result stays; another one is noted, and `kachery show` tells of it. What the task
        asks of other tasks comes from the store. Arguments may be jobs. Raises what the function
        raises, NotReproducible when its result cannot be stored.
        """
        arguments = self.job(*args, **kwargs).substituted(lambda job: job.result())
        settings = current()
        return reproduce(settings.store, self.definition, arguments, strict=settings.strict)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As a method: the instance is the first argument, and counts like the others."""
        return self if instance is None else BoundTask(self, instance)

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.definition.importable:
            function = self.definition.function
            return _import_task, (type(self), function.__module__, function.__qualname__)
        return super().__reduce_ex__(protocol)

    def __repr__(self) -> str:
        return f"<{self.definition.kind} {self.definition.name}>"


class BoundTask:
    """A task that was taken from an instance, whose method it is."""

    __kachery_task__ = True

    def __init__(self, task: Task[..., Any], instance: Any) -> None:
        functools.update_wrapper(self, task)
        self._task = task
        self.definition = task.definition
        self.instance = instance

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """As Task.__call__."""
        return self._task(self.instance, *args, **kwargs)

    def job(self, /, *args: Any, **kwargs: Any) -> Job:
        """As Task.job."""
        return self._task.job(self.instance, *args, **kwargs)

    def submit(self, /, *args: Any, **kwargs: Any) -> Job:
        """As Task.submit."""
        return self._task.submit(self.instance, *args, **kwargs)

    def map(self, *iterables: Iterable[Any], **constants: Any) -> list[Job]:
        """As Task.map."""
        if not iterables:
            raise TypeError(f"{self._task!r}.map takes at least one iterable")
        return self._task.map(itertools.repeat(self.instance), *iterables, **constants)

    def refresh(self, /, *args: Any, **kwargs: Any) -> Any:
        """As Task.refresh."""
        return self._task.refresh(self.instance, *args, **kwargs)

    def explain(self, /, *args: Any, **kwargs: Any) -> Explanation:
        """As Task.explain."""
        return self._task.explain(self.instance, *args, **kwargs)

    def reproduce(self, /, *args: Any, **kwargs: Any) -> Reproduction:
        """As Task.reproduce."""
        return self._task.reproduce(self.instance, *args, **kwargs)


class ClassTask(Task[P, R]):
    """A task that is a class method: the class that it is taken from is the first argument."""

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """The task with its class."""
        return BoundTask(self, type(instance) if owner is None else owner)


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
) -> Task[P, R] | Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function a task: its result is determined by its arguments and its code, and kept.

    name: a name for ever, where the import path may change. version: a text that stands for the
    code; the source is not looked at then, defaults and closure still count. ignore: parameters that
    do not affect the result, such as `verbose`. depends: installed distributions whose versions
    affect the result, such as `numpy`. opaque: parameters, or "return" for the result, in which pickle
    is allowed for what has no encoding; such a result is known by the job that made it. secret:
    parameters of which no record keeps anything. allow: names of queries that the function may ask
    though their answers change; the record tells them.

    For a class method or static method the decorator stands above `@classmethod` or `@staticmethod`.

    Raises TypeError for what is not a function, ValueError for an unknown parameter.
    """

    def decorate(function: Callable[P, R]) -> Task[P, R]:
        kind: Any = Task
        if isinstance(function, staticmethod):
            return cast("Task[P, R]", staticmethod(decorate(function.__func__)))
        if isinstance(function, classmethod):
            kind, function = ClassTask, function.__func__
        check_function(function)
        definition = Definition(
            cast("FunctionType", function),
            kind=TASK,
            name=name,
            version=version,
            ignore=names_of(ignore),
            depends=names_of(depends),
            opaque=names_of(opaque),
            secret=names_of(secret),
            allow=names_of(allow),
        )
        return cast("Task[P, R]", kind(definition))

    return decorate if function is None else decorate(function)


def names_of(names: str | tuple[str, ...]) -> tuple[str, ...]:
    """Names that were given as one or as several."""
    return (names,) if isinstance(names, str) else tuple(names)


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


async def _awaited(ask: Callable[[], tuple[Any, KacheryWarning | None]]) -> Any:
    value, warning = await in_thread(ask)
    if warning is not None:
        warn(warning)
    return value


async def _under(settings: Settings, call: Callable[[], Any]) -> Any:
    with applied(settings):
        return await call()


async def _job_awaited(job: Job) -> Any:
    return await job


class _JobInside(Exception):
    """A plain call has a job among its arguments."""


def _meet_job(_job: Job, _encoder: Encoder) -> bytes:
    raise _JobInside


_NO_JOBS: Any = {Job: _meet_job}


def _import_task(kind: type[Task[..., Any]], module: str, qualname: str) -> Task[..., Any]:
    return kind(import_definition(module, qualname))
