"""What `Memory.cache` makes of functions, and what stands for their results; as joblib has them."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, cast

from .decorators import Task
from .definition import Definition
from .errors import ResultGone
from .job import Job
from .lookup import lookup
from .origin import Origin, origin_of
from .record import Record
from .reloading import follow_autoreload
from .settings import Settings, applied

P = ParamSpec("P")
R = TypeVar("R")

IsValid = Callable[[dict[str, Any]], object]


class Place(Protocol):
    """What these need of a Memory; it can be pickled."""

    @property
    def settings(self) -> Settings:
        """The settings in force here, with the store of this Memory."""


class MemorizedFunc(Generic[P, R]):
    """A function whose results are kept in the store of a Memory. Call it as before.

    `func` is the function, `task` the task that it is: `with kachery.using(dir=...)` that has all
    that tasks have. Of an async function, what has to do with its value is awaited.
    """

    __kachery_task__ = True

    def __init__(
        self,
        memory: Place,
        task: Task[P, R],
        is_valid: IsValid | None,
        ignore: Iterable[str],
        origin: Origin | None = None,
    ) -> None:
        functools.update_wrapper(self, task.definition.function)
        follow_autoreload(MemorizedFunc)
        self.__wrapped__ = task.definition.called
        self.memory = memory
        self.task = task
        self.cache_validation_callback = is_valid
        self.ignore = list(ignore)
        self._origin = origin
        if self.definition.is_async and sys.version_info >= (3, 12):  # as Task does
            inspect.markcoroutinefunction(self)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """The value of a call: from the store, or computed and stored. Raises as a task does."""
        with self._in_force():
            if self._is_outdated(args, kwargs):
                return self.task.refresh(*args, **kwargs)
            return self.task(*args, **kwargs)

    def call(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """The value, computed again whatever is stored, which is replaced; and its metadata.

        The metadata are `{"duration": seconds, "time": start}`, or `{}` when it was not stored.
        """
        with self._in_force():
            job = self.task.job(*args, **kwargs)
            value = self.task.refresh(*args, **kwargs)
        return self._then(value, lambda value: (value, self._metadata(job)))

    def call_and_shelve(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """What stands for the result, which is computed if it is not known: small, `get` loads it.

        It is a MemorizedResult, or a NotMemorizedResult of a value that could not be stored.
        """
        with self._in_force():
            job = self.task.job(*args, **kwargs)
            record = job.stored_record()
            if record is not None and self._is_valid(record):
                reference = MemorizedResult(self.memory, record.job_id, record.task)
                return _at_once(reference) if self.definition.is_async else reference
            value = (
                self.task(*args, **kwargs) if record is None else self.task.refresh(*args, **kwargs)
            )
        return self._then(value, lambda value: self._shelved(job, value))

    def check_call_in_cache(self, /, *args: Any, **kwargs: Any) -> bool:
        """Whether a call would be served from the store; nothing runs, nothing is removed."""
        with self._in_force():
            record = self.task.job(*args, **kwargs).stored_record()
            return record is not None and self._is_valid(record)

    def clear(self, warn: bool = True) -> None:  # noqa: ARG002 - as joblib has it
        """Forget all results of the function, also those of earlier code and of the same name.

        Pinned ones stay, and what a zone has stays there. The space is free after the next collection.
        """
        from .forgetting import choose, forget

        store = self.memory.settings.store
        with self._in_force():
            forget(store, choose(store, task=self.definition.name))

    @property
    def func(self) -> Any:
        """The function, or the method, that was decorated."""
        function = self.definition.called
        return function.__get__(self.instance) if self.is_bound else function

    @property
    def definition(self) -> Definition:
        """What the task is; so does the code of kachery know a task."""
        return self.task.definition

    @property
    def is_bound(self) -> bool:
        """Whether it is a method that was taken from an instance or a class."""
        return self.task.is_bound

    @property
    def instance(self) -> Any:
        """What it was taken from."""
        return self.task.instance

    @property
    def unbound(self) -> MemorizedFunc[..., Any]:
        """What it is when it is taken from nothing."""
        return self._of(self.task.unbound)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As a method: the instance is the first argument, and counts unless it is ignored."""
        taken = self.task.__get__(instance, owner)
        return self if taken is self.task else self._of(taken)

    def _of(self, task: Task[..., Any]) -> MemorizedFunc[..., Any]:
        return MemorizedFunc(
            self.memory, task, self.cache_validation_callback, self.ignore, self._origin
        )

    def _in_force(self) -> AbstractContextManager[None]:
        """The settings of the memory, and the names of the process that it was pickled in."""
        settings, origin = self.memory.settings, self._origin
        if origin is None or not origin.is_elsewhere:
            return applied(settings)
        stack = ExitStack()
        stack.enter_context(origin.known())
        stack.enter_context(applied(settings))
        return cast("AbstractContextManager[None]", stack)

    def _is_outdated(self, args: Any, kwargs: Any) -> bool:
        if self.cache_validation_callback is None:
            return False
        record = self.task.job(*args, **kwargs).stored_record()
        return record is not None and not self._is_valid(record)

    def _is_valid(self, record: Record) -> bool:
        is_valid = self.cache_validation_callback
        return is_valid is None or bool(is_valid(_metadata_of(record)))

    def _record(self, job: Job) -> Record | None:
        """The record of a job as it is stored now, even where `refresh` is in force."""
        settings = self.memory.settings
        with self._in_force():
            return None if job.id is None else lookup(settings.store, job.id, job.task)

    def _metadata(self, job: Job) -> dict[str, Any]:
        record = self._record(job)
        return {} if record is None else _metadata_of(record)

    def _shelved(self, job: Job, value: Any) -> MemorizedResult | NotMemorizedResult:
        record = self._record(job)
        if record is None:
            return NotMemorizedResult(value)
        return MemorizedResult(self.memory, record.job_id, record.task)

    def _then(self, value: Any, use: Callable[[Any], Any]) -> Any:
        return _after(value, use) if self.definition.is_async else use(value)

    def __reduce__(self) -> Any:
        origin = self._origin or origin_of(self.definition)
        options = self.cache_validation_callback, self.ignore, origin
        return MemorizedFunc, (self.memory, self.task, *options)

    def __repr__(self) -> str:
        return f"MemorizedFunc(func={self.func}, location={self.memory.settings.root})"


class MemorizedResult:
    """Stands for a result in the store of a Memory; small, can be pickled and sent elsewhere."""

    def __init__(self, memory: Place, job_id: str, task: str) -> None:
        self.memory = memory
        self.job_id = job_id
        self.task = task

    def get(self) -> Any:
        """The value. ResultGone when it has been removed, DigestMismatch when it was damaged."""
        from .cache import load

        settings = self.memory.settings
        with applied(settings):
            record = lookup(settings.store, self.job_id, self.task)
            if record is None:
                raise ResultGone(
                    f"the result of job {self.job_id} ({self.task}) is not stored at {settings.root}"
                    " any more: call the function again"
                )
            return load(settings.store, record)

    def clear(self) -> None:
        """Remove the result from the store."""
        from .session import session

        with applied(self.memory.settings):
            session().remove(self.job_id)

    def __repr__(self) -> str:
        return (
            f'MemorizedResult(location="{self.memory.settings.root}", func="{self.task}",'
            f' job_id="{self.job_id}")'
        )


class NotMemorizedResult:
    """Stands for a value that is in no store."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.valid = True

    def get(self) -> Any:
        """The value. ResultGone after `clear`."""
        if not self.valid:
            raise ResultGone("this result has been cleared: call the function again")
        return self.value

    def clear(self) -> None:
        """Let go of the value."""
        self.value, self.valid = None, False

    def __repr__(self) -> str:
        return f"NotMemorizedResult({self.value!r})" if self.valid else "NotMemorizedResult()"


class NotMemorizedFunc(Generic[P, R]):
    """A function of a Memory without a store: it runs on each call."""

    def __init__(self, func: Callable[P, R]) -> None:
        functools.update_wrapper(self, func)
        self.func = func
        if inspect.iscoroutinefunction(func) and sys.version_info >= (3, 12):
            inspect.markcoroutinefunction(self)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """What the function returns."""
        return self.func(*args, **kwargs)

    def call(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """What the function returns, and `{}`."""
        return self._then(self.func(*args, **kwargs), lambda value: (value, {}))

    def call_and_shelve(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """A NotMemorizedResult of what the function returns."""
        return self._then(self.func(*args, **kwargs), NotMemorizedResult)

    def check_call_in_cache(self, /, *_args: Any, **_kwargs: Any) -> bool:
        """False: there is no store."""
        return False

    def clear(self, warn: bool = True) -> None:
        """Nothing: there is no store."""

    def _then(self, value: Any, use: Callable[[Any], Any]) -> Any:
        return _after(value, use) if inspect.iscoroutinefunction(self.func) else use(value)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As a method."""
        taken = self.func.__get__(instance, owner)
        return self if taken is self.func else NotMemorizedFunc(taken)

    def __reduce__(self) -> Any:
        return NotMemorizedFunc, (self.func,)

    def __repr__(self) -> str:
        return f"NotMemorizedFunc(func={self.func})"


def _metadata_of(record: Record) -> dict[str, Any]:
    return {"duration": record.seconds, "time": record.started}


async def _after(value: Awaitable[Any], use: Callable[[Any], Any]) -> Any:
    return use(await value)


async def _at_once(value: Any) -> Any:
    return value
