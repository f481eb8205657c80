"""Tasks of what is no function of the project: functions of libraries, partials, callable instances.

A walk through a library would reach too much, and a partial has no source. So a function of a library is
known by its name and by which files of the library are installed; anything else by what it holds, as a
closure is.
"""

from __future__ import annotations

import copy
import functools
import inspect
import sys
from collections.abc import Callable, Collection
from types import FunctionType
from typing import TYPE_CHECKING, Any, cast

from kachery_store.digest import blake3_bytes

from .binding import Arguments, Parameters
from .code.things import module_of
from .decorators import Task, check_function, task
from .definition import RETURN, TASK, Definition
from .names import callable_name
from .project import is_project_module
from .values.registry import codec_of

if TYPE_CHECKING:
    from importlib.metadata import Distribution

_HELD = "what is called, and what it holds"


def task_of(func: Any, ignore: tuple[str, ...]) -> Task[..., Any]:
    """A task of a function, a class method or anything else that is called, with pickle allowed.

    TypeError for what is not called, or is a generator; ValueError for an unknown parameter.
    """
    of_class = isinstance(func, classmethod)
    called = func.__func__ if of_class else func
    if not callable(called):
        raise TypeError(f"a Memory keeps the results of functions, and {called!r} is none")
    opaque = (*Parameters(_bindable(called)).names, RETURN)
    if isinstance(called, FunctionType) and edition_of(called) is None:
        return task(ignore=ignore, opaque=opaque)(func)
    return Task(Adopted(called, ignore=ignore, opaque=opaque), of_class=of_class)


class Adopted(Definition):
    """The definition of a task that calls `called`, for which `function` stands.

    A function of a library, but no method, works on copies of arguments that are instances of classes,
    such as models: what it changes there, the caller does not see, whether it runs or its result is
    served. scikit-learn fits the steps of a pipeline in this way.
    """

    def __init__(
        self, called: Callable[..., Any], *, ignore: tuple[str, ...], opaque: tuple[str, ...]
    ) -> None:
        self._called = called
        self.edition = edition_of(called)
        super().__init__(
            _held(called) if self.edition is None else _named(called),
            kind=TASK,
            version=self.edition or _HELD,
            ignore=ignore,
            opaque=opaque,
        )

    @property
    def called(self) -> Callable[..., Any]:
        """What the task calls."""
        return self._called

    def _prepare(self) -> None:
        super()._prepare()
        self.is_async = inspect.iscoroutinefunction(self.called)
        if self.edition is not None:
            self.package = ""  # of the arguments' classes only those of the project count

    def _parameters(self) -> Parameters:
        if self.edition is None:
            return Parameters(self.function)
        function = _bindable(self.called)
        if function is self.called and "." not in function.__qualname__:
            return _OnCopies(function, self.ignore)
        return Parameters(function)

    def __reduce_ex__(self, protocol: Any) -> Any:
        options = {"ignore": self.ignore, "opaque": self.opaque}
        return _again, (self.called, options)


def _bindable(called: Callable[..., Any]) -> FunctionType:
    """A function with the parameters of what is called; of what is none, `*args` and `**kwargs`."""
    if not isinstance(called, FunctionType):
        return _held(called)
    check_function(called)
    return called


class _OnCopies(Parameters):
    """Parameters of a function that gets copies of instances of classes, unless they are ignored.

    Arrays, lists and the like are given as they are: whether they were changed is seen after the run.
    """

    def __init__(self, function: FunctionType, ignore: Collection[str]) -> None:
        super().__init__(function)
        self._ignore = ignore

    def call(self, arguments: Arguments) -> Any:
        """Call the function with bound arguments."""
        instances = {
            name: one
            for name, one in arguments.items()
            if name not in self._ignore and _is_of_class(type(one))
        }
        return super().call({**arguments, **_copied(instances)})


def _is_of_class(kind: type) -> bool:
    """Whether instances are encoded by their attributes, or pickled."""
    codec = codec_of(kind)
    return kind.__module__ != "builtins" and (codec is None or codec.name.startswith("class."))


def _copied(arguments: Arguments) -> Arguments:
    try:
        return copy.deepcopy(arguments)  # at once: they may share parts
    except Exception:  # noqa: BLE001 - of the user's types; a change will be told after the run
        return arguments


def _again(called: Callable[..., Any], options: dict[str, tuple[str, ...]]) -> Adopted:
    return Adopted(called, ignore=options["ignore"], opaque=options["opaque"])


def _held(called: Callable[..., Any]) -> FunctionType:
    """A function that calls something, which is in its closure."""

    def calls(*args: Any, **kwargs: Any) -> Any:
        return called(*args, **kwargs)

    function = _as(called, cast("FunctionType", calls))
    function.__qualname__ += ".<held>"  # a partial of a function is not the function
    return function


def _named(called: Callable[..., Any]) -> FunctionType:
    def stands_for(*_args: Any, **_kwargs: Any) -> Any:
        """It is never called: the parameters of `called` do that."""

    return _as(called, cast("FunctionType", stands_for))


def _as(called: Callable[..., Any], function: FunctionType) -> FunctionType:
    """A function with the name of what is called; without `__wrapped__`, which would count as code."""
    of: Any = called
    while isinstance(of, functools.partial):
        of = of.func
    if not isinstance(getattr(of, "__name__", None), str):
        of = type(of)
    function.__module__ = getattr(of, "__module__", None) or _module_of(of)
    function.__name__ = of.__name__
    function.__qualname__ = getattr(of, "__qualname__", of.__name__)
    function.__doc__ = of.__doc__
    return function


def _module_of(called: Callable[..., Any]) -> str:
    """Where a function made in C is found, which does not tell."""
    name = callable_name(called) or "builtins:"
    return name.partition(":")[0]


def edition_of(called: Any) -> str | None:
    """What is installed of the library that has a function; None for what is in no library.

    A function is of a library if it can be imported from there, and the library was installed from a
    wheel: what is in the working folder, or installed as editable, is the project's. A library of which
    nobody has listed the files is like the project, too.
    """
    name = callable_name(called)
    if name is None or is_project_module(module := name.partition(":")[0]):
        return None
    if _is_put_there(called):
        return None
    return _edition(module.partition(".")[0])


def _is_put_there(called: Any) -> bool:
    """Whether a function of the project has the name, and the place, of one of a library.

    Libraries make functions in modules of their own that nobody can import; those are theirs.
    """
    written_in = module_of(called) if isinstance(called, FunctionType) else ""
    return written_in in sys.modules and is_project_module(written_in)


@functools.cache
def _edition(package: str) -> str | None:
    """Which release of Python, or which distributions with which files, a package is from."""
    if package in sys.stdlib_module_names:
        return f"Python {sys.version_info.major}.{sys.version_info.minor}"
    from importlib.metadata import distributions

    found = sorted(filter(None, (_files_of(package, one) for one in distributions())))
    return "; ".join(found) or None


def _files_of(package: str, distribution: Distribution) -> str | None:
    """The version of a distribution and a digest of its files, if it has the package."""
    listed = (distribution.read_text("RECORD") or "").splitlines()
    if not any(line.startswith((f"{package}/", f"{package}.")) for line in listed):
        return None
    files = sorted(line for line in listed if ",sha256=" in line and not _is_of_installation(line))
    digest = blake3_bytes("\n".join(files).encode()).hex()[:32]
    return f"{distribution.metadata['Name']} {distribution.version} {digest}" if files else None


def _is_of_installation(line: str) -> bool:
    """Whether a file differs between places where the same wheel was installed."""
    return line.startswith("..") or ".dist-info/" in line
