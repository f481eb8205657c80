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

from ..errors import CannotDecode, CannotEncode, CannotFingerprint
from ..values.registry import Codec, add_fallback
from .fingerprint import Fingerprint, finish
from .reach import Reach
from .recent import Recent

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

# Types of functions that are known by what they wrap, or by the name they are found under.
_OF_LIBRARIES = frozenset(
    (
        "functools._lru_cache_wrapper",
        "numba.core.registry.CPUDispatcher",
        "numpy._ArrayFunctionDispatcher",
        "numpy.ufunc",
        "numpy.vectorize",
    )
)
_of_functions: Recent[types.FunctionType, Fingerprint] = Recent()


def callable_fingerprint(value: Any) -> Fingerprint:
    """The fingerprint of a callable; CannotFingerprint when something in it has no identity."""
    known = _of_functions.get(value) if isinstance(value, types.FunctionType) else None
    if known is None or not known.guards.hold():
        reach = Reach("")
        known = finish(reach, reach.reference(value, "the function"))
        if isinstance(value, types.FunctionType):
            _of_functions.put(value, known)
    return known


def _encode(value: Any) -> list[Any]:
    try:
        return [callable_fingerprint(value).digest]
    except CannotFingerprint as error:
        raise CannotEncode(
            f"it is code whose identity is not known: {error}", final=error.final
        ) from error


def _decode(digest: str) -> Any:
    raise CannotDecode(f"a function (fingerprint {digest}) cannot be made from its identity")


_CODEC = Codec("code.callable", _encode, _decode)


def _codec_for(kind: type) -> Codec | None:
    own = any("__kachery_task__" in base.__dict__ for base in kind.__mro__)
    return _CODEC if own or kind in _KINDS or _whereabouts(kind) in _OF_LIBRARIES else None


def _whereabouts(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


add_fallback(_codec_for, _CODEC)
