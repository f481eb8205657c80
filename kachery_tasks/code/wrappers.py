"""What stands around functions and types: partials, methods, properties, type expressions."""

from __future__ import annotations

import functools
import operator
import types
from collections.abc import Callable
from typing import Any

from ..values.typing_types import alias_of

Parts = tuple[str, list[Any]]

_MADE_OF: dict[type, Callable[[Any], list[Any]]] = {
    functools.partial: lambda p: [p.func, list(p.args), dict(p.keywords)],
    functools.partialmethod: lambda p: [p.func, list(p.args), dict(p.keywords)],
    functools.singledispatchmethod: lambda m: [m.dispatcher],
    functools.cached_property: lambda p: [p.func],
    types.MethodWrapperType: lambda w: [w.__name__, w.__self__],
    types.MethodType: lambda m: [m.__func__, m.__self__],
    staticmethod: lambda m: [m.__func__],
    classmethod: lambda m: [m.__func__],
    property: lambda p: [p.fget, p.fset, p.fdel],
    operator.attrgetter: lambda g: list(g.__reduce__()[1]),
    operator.itemgetter: lambda g: list(g.__reduce__()[1]),
    operator.methodcaller: lambda c: list(c.__reduce__()),
}


def parts_of(value: Any) -> Parts | None:
    """The name of a wrapper and the parts it is made of; None for what is none."""
    alias = alias_of(value)
    if alias is not None:
        return "alias", [alias[0], list(alias[1])]
    for kind, parts in _MADE_OF.items():
        if isinstance(value, kind):
            return kind.__name__, parts(value)
    return None
