"""Functions as arguments: a callback is known by its code, defaults, closure and binding.

So is a module: an installed one by its name, one of the project by all that is in it.

The encoding goes one way: there is no making a function from its fingerprint, so functions are
arguments and not results.
"""

from __future__ import annotations

import functools
import operator
import types
from typing import Any
from weakref import WeakKeyDictionary

from ..errors import CannotDecode, CannotEncode, CannotFingerprint
from ..values.registry import Codec, add_fallback
from .fingerprint import Fingerprint, finish
from .reach import Reach

_KINDS = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ModuleType,
    functools.partial,
    operator.attrgetter,
    operator.itemgetter,
    operator.methodcaller,
)

_of_functions: WeakKeyDictionary[types.FunctionType, Fingerprint] = WeakKeyDictionary()


def callable_fingerprint(value: Any) -> Fingerprint:
    """The fingerprint of a callable; CannotFingerprint when something in it has no identity."""
    known = _of_functions.get(value) if isinstance(value, types.FunctionType) else None
    if known is None or not known.guards.hold():
        reach = Reach("")
        known = finish(reach, reach.reference(value, "the function"))
        if isinstance(value, types.FunctionType):
            _of_functions[value] = known
    return known


def _encode(value: Any) -> list[Any]:
    try:
        return [callable_fingerprint(value).digest]
    except CannotFingerprint as error:
        raise CannotEncode(f"it is code whose identity is not known: {error}") from error


def _decode(digest: str) -> Any:
    raise CannotDecode(f"a function (fingerprint {digest}) cannot be made from its identity")


_CODEC = Codec("code.callable", _encode, _decode)


def _codec_for(kind: type) -> Codec | None:
    own = getattr(kind, "__kachery_task__", False)
    ufunc = kind.__module__ == "numpy" and kind.__name__ == "ufunc"
    return _CODEC if own or ufunc or kind in _KINDS else None


add_fallback(_codec_for, _CODEC)
