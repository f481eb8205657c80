"""What stands around functions and types: partials, methods, properties, type expressions."""

from __future__ import annotations

import contextvars
import functools
import operator
import types
import weakref
from collections.abc import Callable
from typing import Any

from ..values.class_types import state_of
from ..values.typing_types import alias_of

Parts = tuple[str, list[Any]]

_MADE_OF: dict[type, Callable[[Any], list[Any]]] = {
    functools.partial: lambda p: [p.func, list(p.args), dict(p.keywords)],
    functools.partialmethod: lambda p: [p.func, list(p.args), dict(p.keywords)],
    functools.singledispatchmethod: lambda m: [m.dispatcher],
    functools.cached_property: lambda p: [p.func],
    types.MethodWrapperType: lambda w: [w.__name__, w.__self__],
    types.MethodType: lambda m: [m.__func__, m.__self__],
    types.DynamicClassAttribute: lambda p: [p.fget, p.fset, p.fdel],
    staticmethod: lambda m: [m.__func__],
    classmethod: lambda m: [m.__func__],
    property: lambda p: [p.fget, p.fset, p.fdel],
    operator.attrgetter: lambda g: list(g.__reduce__()[1]),
    operator.itemgetter: lambda g: list(g.__reduce__()[1]),
    operator.methodcaller: lambda c: list(c.__reduce__()),
}

# Known by name, so that nothing is imported for them.
_NAMED: dict[str, Callable[[Any], list[Any] | None]] = {
    "functools._lru_cache_wrapper": lambda c: [
        c.__wrapped__,
        *([{"typed": True}] if c.cache_parameters()["typed"] else []),
    ],
    "numpy.vectorize": lambda v: [
        v.pyfunc,
        {name: getattr(v, name, None) for name in ("otypes", "signature", "excluded", "cache")},
    ],
    "numpy.errstate": lambda e: [_options_of_errstate(e)],
    "contextlib._GeneratorContextManager": lambda c: [c.func, list(c.args), dict(c.kwds)],
    "contextlib._AsyncGeneratorContextManager": lambda c: [c.func, list(c.args), dict(c.kwds)],
    "kachery_tasks.memorized.NotMemorizedFunc": lambda m: [m.func],
    "_contextvars.ContextVar": lambda v: _default_of(v),  # noqa: PLW0108 - defined below
    "weakref.ReferenceType": lambda r: _referent_of(r),  # noqa: PLW0108
    "weakref.WeakMethod": lambda r: _referent_of(r),  # noqa: PLW0108
}

_OF_BASES = frozenset(
    ("func", "args", "keywords", "attrname", "lock", "dispatcher", "fget", "fset", "fdel")
    + ("overwrite_doc",)
)


def parts_of(value: Any) -> Parts | None:
    """The name of a wrapper and the parts it is made of; None for what is none."""
    alias = alias_of(value)
    if alias is not None:
        return "alias", [alias[0], list(alias[1])]
    kind = type(value)
    named = _NAMED.get(f"{kind.__module__}.{kind.__qualname__}")
    if named is not None:
        parts = named(value)
        return None if parts is None else (kind.__name__, parts)
    for base, parts_of_base in _MADE_OF.items():
        if kind is base:
            own = _state(value, _OF_BASES) if base is functools.partial else {}
            return base.__name__, [*parts_of_base(value), *([own] if own else [])]
        if isinstance(value, base):  # the subclass may do more than the base
            own = {} if kind.__module__ == "enum" else _state(value, _OF_BASES)
            return "instance of", [kind, own, *parts_of_base(value)]
    return None


def _state(value: Any, without: Any) -> dict[str, Any]:
    """The attributes that someone gave a wrapper."""
    return {
        name: member
        for name, member in state_of(value).items()
        if name not in without and not (name.startswith("__") and name.endswith("__"))
    }


def _options_of_errstate(errstate: Any) -> dict[str, Any]:
    """What is done about which error; what was not given is None, or an object that says so."""
    options = _state(errstate, ("_token", "oldstate"))
    return {
        name: option
        for name, option in options.items()
        if isinstance(option, str | dict | types.FunctionType)
    }


def _default_of(variable: contextvars.ContextVar[Any]) -> list[Any]:
    """The default of a context variable: what it is in a context where nobody has set it."""
    try:
        return [contextvars.Context().run(variable.get)]
    except LookupError:
        return []


def _referent_of(reference: weakref.ReferenceType[Any]) -> list[Any] | None:
    """The function, method or class that is referred to weakly; other things do not count."""
    referent = reference()
    counts = isinstance(referent, type | types.FunctionType | types.MethodType)
    return [referent] if counts else None
