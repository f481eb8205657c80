"""Encodings of NumPy's arrays, scalars and dtypes; its other types are in modules of their own."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import CannotDecode
from . import numpy_subclasses  # noqa: F401  it makes its codecs known
from .numpy_arrays import decode_array, encode_array
from .numpy_dtypes import BUILT_IN, STRING, describe, dtype_of
from .registry import Codec, add_codec, add_fallback


def _encode_scalar(scalar: np.generic) -> list[Any]:
    if isinstance(scalar, np.str_ | np.bytes_):  # an array would cut off zeros at the end
        plain = str(scalar) if isinstance(scalar, np.str_) else bytes(scalar)
        return ["", plain]
    return ["item", np.asarray(scalar)]


def _decode_scalar(form: str, content: Any) -> Any:
    if form == "item" and type(content) is np.ndarray and content.ndim == 0:
        return content[()]
    if form == "" and isinstance(content, str | bytes):
        return np.str_(content) if isinstance(content, str) else np.bytes_(content)
    raise CannotDecode("a scalar of NumPy holds something else")


_SCALAR = Codec("numpy.generic", _encode_scalar, _decode_scalar)


def _codec_for_scalar(kind: type) -> Codec | None:
    ours = issubclass(kind, np.generic) and kind.__module__.partition(".")[0] == "numpy"
    return _SCALAR if ours else None


add_codec(np.ndarray, Codec("numpy.ndarray", encode_array, decode_array))
# What a memory map shows is an array; the file behind it is not part of the value.
add_codec(np.memmap, Codec("numpy.ndarray", lambda m: encode_array(np.asarray(m)), decode_array))
add_fallback(_codec_for_scalar, _SCALAR)
for _dtype_class in BUILT_IN | ({np.dtype, STRING} - {None}):
    add_codec(_dtype_class, Codec("numpy.dtype", lambda dtype: [describe(dtype)], dtype_of))
