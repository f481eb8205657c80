"""Dtypes of NumPy as plain data, the same in every version of NumPy, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from ..errors import CannotDecode, CannotEncode

Dtype = np.dtype[Any]

BUILT_IN = {type(np.dtype(char)) for char in np.typecodes["All"]}
STRING: Any = getattr(np.dtypes, "StringDType", None)  # from NumPy 2 on
# Long doubles have one name and several formats: 63 bits of mantissa on x86, 112 on other machines.
LONG_BITS = np.finfo(np.longdouble).nmant
_DOUBLE_BITS = 52


def describe(dtype: Dtype) -> Any:
    """What makes a dtype what it is: its `str` where that says all, else a list."""
    form = _form(dtype)
    # Older versions of NumPy put empty metadata into copies of dtypes of dates.
    return ["metadata", form, dict(dtype.metadata)] if dtype.metadata else form


def _form(dtype: Dtype) -> Any:
    if STRING is not None and isinstance(dtype, STRING):
        return _describe_string(dtype)
    if type(dtype) not in BUILT_IN:
        raise CannotEncode(
            f"the dtype {dtype} is not NumPy's own and has no encoding; pass the array as a dtype of"
            " NumPy, with astype() or view(), and the dtype's name"
        )
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return ["sub", describe(base), list(shape)]
    if dtype.type is np.record:
        return ["record", _members(dtype)]
    return _members(dtype)


def _describe_string(dtype: Any) -> list[Any]:
    missing = [dtype.na_object] if hasattr(dtype, "na_object") else []
    return ["string", dtype.coerce, missing]


def _members(dtype: Dtype) -> Any:
    if is_long(dtype):
        return ["long", dtype.str, LONG_BITS]
    if dtype.names is None:
        return dtype.str
    if dtype.type not in (np.void, np.record):
        raise CannotEncode(
            f"a dtype of {dtype.type.__name__} with fields has no encoding; use a structured dtype"
        )
    fields = [[name, *_field(dtype, name)] for name in dtype.names]
    return ["struct", fields, dtype.itemsize, dtype.isalignedstruct]


def _field(dtype: Dtype, name: str) -> list[Any]:
    field, offset, *title = cast(Any, dtype.fields)[name]
    return [offset, describe(field), *title]


def is_long(dtype: Dtype) -> bool:
    """Whether this is a long double, or a complex of two, that is more than a double."""
    return dtype.char in "gG" and LONG_BITS != _DOUBLE_BITS


def dtype_of(description: Any) -> Dtype:
    """The dtype that `describe` described."""
    if isinstance(description, str):
        return _named(description)
    kind, *rest = description
    if kind not in _KINDS:
        raise CannotDecode(f"{kind!r} is no kind of dtype")
    return _KINDS[kind](*rest)


def _named(name: str) -> Dtype:
    dtype: Dtype = np.dtype(name)
    if dtype.str != name:
        raise CannotDecode(f"{name!r} is not how a dtype is written")
    return dtype


def _string(coerce: bool, missing: list[Any]) -> Dtype:
    if STRING is None:
        raise CannotDecode("strings of variable width need NumPy 2: install numpy>=2")
    dtype: Dtype = STRING(coerce=coerce, **({"na_object": missing[0]} if missing else {}))
    return dtype


def _long(name: str, bits: int) -> Dtype:
    if bits != LONG_BITS:
        raise CannotDecode(f"this machine has no floats with {bits} bits of mantissa")
    return _named(name)


def _struct(fields: list[Any], itemsize: int, aligned: bool) -> Dtype:
    formats = [dtype_of(field[2]) for field in fields]
    if aligned and not all(dtype.alignment for dtype in formats):  # NumPy 1.26 divides by it
        raise CannotDecode("a field of an aligned dtype has no alignment")
    spec: dict[str, Any] = {
        "names": [field[0] for field in fields],
        "offsets": [field[1] for field in fields],
        "formats": formats,
        "itemsize": itemsize,
    }
    if any(len(field) > 3 for field in fields):
        spec["titles"] = [field[3] if len(field) > 3 else None for field in fields]
    dtype: Dtype = np.dtype(cast(Any, spec), align=aligned)
    return dtype


_KINDS: dict[str, Callable[..., Dtype]] = {
    "string": _string,
    "long": _long,
    "struct": _struct,
    "sub": lambda base, shape: np.dtype((dtype_of(base), tuple(shape))),
    "record": lambda form: np.dtype((np.record, dtype_of(form))),
    "metadata": lambda form, metadata: np.dtype(dtype_of(form), metadata=metadata),
}
