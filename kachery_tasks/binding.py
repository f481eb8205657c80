"""Arguments by the names of parameters: however a call is written, the same arguments come out."""

from __future__ import annotations

import inspect
from types import CodeType, FunctionType
from typing import Any

Arguments = dict[str, Any]


class Parameters:
    """The parameters of a function.

    `names` are in alphabetical order, in which arguments enter the job id.
    """

    def __init__(self, function: FunctionType) -> None:
        code = function.__code__
        positional, keyword_only = code.co_argcount, code.co_kwonlyargcount
        names = code.co_varnames
        self._function = function
        self._positional = names[:positional]
        self._keyword_only = names[positional : positional + keyword_only]
        self._by_keyword = frozenset(
            self._positional[code.co_posonlyargcount :] + self._keyword_only
        )
        self._rest, self._others = _catch_alls(code)
        catch_alls = tuple(name for name in (self._rest, self._others) if name is not None)
        self.names = tuple(sorted(self._positional + self._keyword_only + catch_alls))

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """Every parameter's argument, defaults filled in; TypeError as a call would raise it.

        Keywords that `**` catches come in alphabetical order: their order cannot be relied on.
        """
        positional = self._positional
        bound = dict(zip(positional, args, strict=False))
        if self._rest is not None:
            bound[self._rest] = args[len(positional) :]
        elif len(args) > len(positional):
            self._refuse(args, kwargs)
        others: dict[str, Any] = {}
        for name, value in kwargs.items():
            if name not in self._by_keyword:
                others[name] = value
            elif name in bound:
                self._refuse(args, kwargs)
            else:
                bound[name] = value
        if self._others is not None:
            bound[self._others] = dict(sorted(others.items()))
        elif others:
            self._refuse(args, kwargs)
        if len(bound) < len(self.names):
            self._fill_defaults(bound, args, kwargs)
        return bound

    def call(self, arguments: Arguments) -> Any:
        """Call the function with bound arguments."""
        args = [arguments[name] for name in self._positional]
        if self._rest is not None:
            args.extend(arguments[self._rest])
        kwargs = {name: arguments[name] for name in self._keyword_only}
        if self._others is not None:
            kwargs.update(arguments[self._others])
        return self._function(*args, **kwargs)

    def _fill_defaults(
        self, bound: Arguments, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        defaults = self._function.__defaults__ or ()
        optional = self._positional[len(self._positional) - len(defaults) :]
        for name, value in zip(optional, defaults, strict=True):
            bound.setdefault(name, value)
        for name, value in (self._function.__kwdefaults__ or {}).items():
            bound.setdefault(name, value)
        if len(bound) < len(self.names):
            self._refuse(args, kwargs)

    def _refuse(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            inspect.signature(self._function, follow_wrapped=False).bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self._function.__qualname__}() {error}") from None
        raise TypeError(f"{self._function.__qualname__}() cannot be called like this")


def _catch_alls(code: CodeType) -> tuple[str | None, str | None]:
    """The names of `*args` and `**kwargs`."""
    position = code.co_argcount + code.co_kwonlyargcount
    rest = others = None
    if code.co_flags & inspect.CO_VARARGS:
        rest = code.co_varnames[position]
        position += 1
    if code.co_flags & inspect.CO_VARKEYWORDS:
        others = code.co_varnames[position]
    return rest, others
