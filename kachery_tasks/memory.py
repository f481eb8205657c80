"""`Memory`: joblib's interface on a store of kachery, so that a script changes one import."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from types import MethodType
from typing import Any, ParamSpec, TypeVar, overload

from kachery_store.errors import Unsupported

from .adopted import task_of
from .decorators import Task
from .memorized import IsValid, MemorizedFunc, NotMemorizedFunc
from .origin import Origin, origin_of
from .settings import Settings, absolute, applied, current
from .values import register

P = ParamSpec("P")
R = TypeVar("R")

_READ_MODES = (None, False, "r", "c")
_WRITE_MODES = ("r+", "w+")


class Memory:
    """Keeps results of functions in a folder, with the interface of joblib.Memory.

    location: the folder of a store, which is made when it is needed; None keeps nothing. backend:
    "local". mmap_mode: None, "r" or "c", which give the same: large arrays are memory maps, and what is
    written to them stays with the caller. compress: False. verbose has no effect. backend_options: none.

    What a memorized function calls of kachery goes to the same store. Raises Unsupported for what
    kachery does not do, TypeError for a location that is no path, ValueError for an unknown mmap_mode.
    """

    def __init__(
        self,
        location: str | os.PathLike[str] | None = None,
        backend: str = "local",
        mmap_mode: str | None = None,
        compress: Any = False,
        verbose: int = 1,
        backend_options: Mapping[str, Any] | None = None,
    ) -> None:
        _check_backend(backend, compress, backend_options)
        _check_mmap_mode(mmap_mode)
        if location is not None and not isinstance(location, str | os.PathLike):
            raise TypeError(f"location= is the path of a folder, or None, not {location!r}")
        self.location = None if location is None else absolute(location)
        self.backend = backend
        self.mmap_mode = mmap_mode
        self.verbose = verbose
        self._settings: tuple[Settings, Settings] | None = None
        self._origin: Origin | None = None  # when it was pickled elsewhere

    @overload
    def cache(
        self,
        func: Callable[P, R],
        ignore: Iterable[str] | None = None,
        verbose: int | None = None,
        mmap_mode: str | bool | None = False,
        cache_validation_callback: IsValid | None = None,
    ) -> MemorizedFunc[P, R]: ...

    @overload
    def cache(
        self,
        func: None = None,
        ignore: Iterable[str] | None = None,
        verbose: int | None = None,
        mmap_mode: str | bool | None = False,
        cache_validation_callback: IsValid | None = None,
    ) -> Callable[[Callable[P, R]], MemorizedFunc[P, R]]: ...

    def cache(
        self,
        func: Any = None,
        ignore: Iterable[str] | None = None,
        verbose: int | None = None,  # noqa: ARG002 - as joblib has it
        mmap_mode: str | bool | None = False,
        cache_validation_callback: IsValid | None = None,
    ) -> Any:
        """Keep the results of a function or method; without `func`, what does so, as a decorator.

        ignore: parameters that do not count. cache_validation_callback: called with the metadata of a
        stored result, `{"duration": seconds, "time": start}`; where it gives something false, the
        result is computed again and replaced.

        What has no encoding is pickled, as by `opaque=` of a task. A function that is a task, or
        memorized elsewhere, is taken as it was before. A function of a library is known by the files of
        the library; of partial objects and other callables counts what they hold.

        Raises TypeError for what is not called, ValueError for an unknown parameter, Unsupported.
        """
        _check_mmap_mode(mmap_mode)
        if cache_validation_callback is not None and not callable(cache_validation_callback):
            raise TypeError(
                "cache_validation_callback= is a function of a result's metadata, such as"
                f" expires_after(days=1), not {cache_validation_callback!r}"
            )
        names = (ignore,) if isinstance(ignore, str) else tuple(ignore or ())
        if func is None:
            return lambda func: self._cached(func, names, cache_validation_callback)
        return self._cached(func, names, cache_validation_callback)

    def eval(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """The value of one call of a function, from the store or computed and stored."""
        return self.cache(func)(*args, **kwargs)

    def clear(self, warn: bool = True) -> None:  # noqa: ARG002 - as joblib has it
        """Remove all results from the store, but pinned ones; files and feeds stay.

        Raises as `kachery.gc` does.
        """
        if self.location is not None:
            self._collect(max_items=0)

    def reduce_size(
        self,
        bytes_limit: int | str | None = None,
        items_limit: int | None = None,
        age_limit: datetime.timedelta | None = None,
    ) -> None:
        """Remove results until the store meets the limits; without limits, nothing.

        bytes_limit: bytes, or text as "2G". items_limit: how many results may stay. age_limit: what was
        not used for so long goes. What goes first, and what stays, is as for `kachery.gc`, which also
        tells what these may raise.
        """
        limits = (bytes_limit, items_limit, age_limit)
        if self.location is not None and any(limit is not None for limit in limits):
            span = None if age_limit is None else age_limit.total_seconds()
            self._collect(max_size=bytes_limit, max_items=items_limit, older_than=span)

    @property
    def settings(self) -> Settings:
        """The settings in force, with the store of this Memory."""
        base = current()
        known = self._settings
        if known is None or known[0] is not base:
            changed = base
            if self.location is not None:
                _leave_out_of_git(self.location)
                changed = base.changed(dir=self.location)
            known = self._settings = (base, changed)
        return known[1]

    def _cached(self, func: Any, ignore: tuple[str, ...], is_valid: IsValid | None) -> Any:
        func = _as_it_was(func)
        if isinstance(func, staticmethod):
            return staticmethod(self._cached(func.__func__, ignore, is_valid))
        if self.location is None:
            if isinstance(func, classmethod):
                return classmethod(NotMemorizedFunc(func.__func__))
            return NotMemorizedFunc(func)
        is_bound = isinstance(func, MethodType)
        made = task_of(func.__func__ if is_bound else func, ignore)
        memorized = MemorizedFunc(self, made, is_valid, ignore, self._origin)
        return memorized.__get__(func.__self__) if is_bound else memorized

    def _collect(self, **limits: Any) -> None:
        from .keeping import gc

        with applied(self.settings):
            gc(**limits)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_settings": None, "_origin": self._origin or origin_of()}

    def __repr__(self) -> str:
        return f"Memory(location={self.location})"


register(
    Memory,
    name="kachery.Memory",
    encode=lambda memory: [memory.location, memory.mmap_mode, memory.verbose],
    decode=lambda parts: Memory(parts[0], mmap_mode=parts[1], verbose=parts[2]),
)


def expires_after(
    days: float = 0,
    seconds: float = 0,
    microseconds: float = 0,
    milliseconds: float = 0,
    minutes: float = 0,
    hours: float = 0,
    weeks: float = 0,
) -> Callable[[Mapping[str, Any]], bool]:
    """For `cache_validation_callback=`: a result that is older than this is computed again."""
    span = datetime.timedelta(days, seconds, microseconds, milliseconds, minutes, hours, weeks)
    return partial(_is_younger, span.total_seconds())


def _is_younger(seconds: float, metadata: Mapping[str, Any]) -> bool:
    return 0 <= time.time() - float(metadata["time"]) < seconds  # a clock may have gone back


def _as_it_was(func: Any) -> Any:
    """The function that a memorized one, or a task, was made of."""
    if isinstance(func, MemorizedFunc | NotMemorizedFunc):
        return func.func
    return func.definition.called if isinstance(func, Task) else func


def _leave_out_of_git(location: str) -> None:
    """Results in the folder of a project are no part of it; whoever has a .gitignore there decides."""
    with suppress(OSError):  # it is there already, or cannot be written to
        os.makedirs(location, exist_ok=True)
        with open(os.path.join(location, ".gitignore"), "x") as file:
            file.write("# Results that kachery keeps.\n*\n")


def _check_backend(backend: str, compress: Any, options: Mapping[str, Any] | None) -> None:
    if backend != "local":
        raise Unsupported(
            f"there is no backend {backend!r}: a Memory of kachery is a folder. To share results through"
            " a bucket or a folder of the lab, put a zone behind it: `kachery zone add NAME URL`"
        )
    if compress:
        raise Unsupported(
            f"compress={compress!r}: results are stored as they are, so that they can be memory-mapped."
            " Leave compress= out; `reduce_size` keeps the folder small"
        )
    if options:
        raise Unsupported(
            f"backend_options= has {', '.join(map(repr, options))}, but a store of kachery has no such"
            " options: leave it out"
        )


def _check_mmap_mode(mode: Any) -> None:
    if mode in _WRITE_MODES:
        raise Unsupported(
            f"mmap_mode={mode!r} would let a caller change what is stored: write"
            ' mmap_mode="c", and what is written to an array stays with the caller'
        )
    if mode not in _READ_MODES:
        raise ValueError(f'mmap_mode= is None, "r" or "c", not {mode!r}')
