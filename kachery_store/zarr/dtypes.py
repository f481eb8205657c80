"""Which dtypes chunked arrays may have, and what the bytes of their content are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from ..errors import Unsupported
from .content import STRING

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]
    Dtype = np.dtype[Any]

_KINDS = "biufcmMSU"
_NUMBERS = "biufc"
_LARGEST = 16  # bytes of a number; long doubles are other numbers on other machines


def text_of(dtype: Dtype) -> str:
    """How the content names a dtype: little-endian; STRING for texts of any length. Unsupported."""
    if dtype.kind in "TO":
        return STRING
    if dtype.kind in "mM" and "[" not in dtype.str:
        raise Unsupported(
            f"arrays of dtype {dtype} have no unit, so that their numbers say nothing: convert them,"
            f" as by .astype('{dtype.str[1:]}[ns]')"
        )
    plain = dtype.kind in _KINDS and dtype.char not in "gG" and dtype.itemsize > 0
    if not plain or dtype.names is not None or dtype.metadata:
        raise Unsupported(
            f"arrays of dtype {dtype} cannot be stored in chunks: store fields one by one, convert"
            " long doubles to float64, and pass other values as they are"
        )
    return dtype.newbyteorder("<").str


def dtype_of(text: str) -> Dtype:
    """The dtype of an array in this process."""
    import numpy as np

    if text != STRING:
        return np.dtype(text)
    strings = getattr(np.dtypes, "StringDType", None)  # from NumPy 2 on
    return np.dtype(object) if strings is None else strings()


def as_stored(chunk: Any, text: str) -> Array:
    """A chunk in memory as it is stored: C-contiguous, little-endian; texts as objects.

    TypeError as for `exact`.
    """
    import numpy as np

    return np.asarray(exact(chunk, text), order="C")


def exact(chunk: Any, text: str) -> Array:
    """A chunk with the dtype of its array; texts as objects.

    TypeError for anything but an array of NumPy, for texts that are none, and for what would be another
    value in that dtype.
    """
    import numpy as np

    if not isinstance(chunk, (np.ndarray, np.generic)) or isinstance(chunk, np.ma.MaskedArray):
        kind = f"{type(chunk).__module__}.{type(chunk).__qualname__}"
        raise TypeError(f"a chunk is a {kind}, and only arrays of NumPy can be stored in chunks")
    if text != STRING:
        return _without_loss(np.asarray(chunk), np.dtype(text))
    texts = np.asarray(chunk).astype(object, order="C")
    if not all(isinstance(one, str) for one in texts.flat):
        raise TypeError("an array of objects holds something that is no text")
    return texts


def _without_loss(chunk: Array, dtype: Dtype) -> Array:
    if chunk.dtype.newbyteorder("<").str == dtype.str:
        return chunk.astype(dtype, copy=False)
    if _may_become(chunk.dtype, dtype):
        found = chunk.astype(dtype)
        if found.astype(chunk.dtype).tobytes() == chunk.tobytes():
            return found
    raise TypeError(
        f"a chunk has dtype {chunk.dtype}, and its array says {dtype}: have the array say what its"
        " chunks are, by dtype= or meta= of what made it, or convert it by astype"
    )


def _may_become(dtype: Dtype, other: Dtype) -> bool:
    """Whether it is at most widened: to NumPy, making texts or times of numbers is safe, too."""
    import numpy as np

    same = dtype.kind == other.kind or (dtype.kind in _NUMBERS and other.kind in _NUMBERS)
    return same and np.can_cast(dtype, other, "safe")


def content_bytes(chunk: Array, text: str) -> memoryview:
    """The bytes of a chunk that is as `as_stored` gives it: its content. Unsupported for a text."""
    import numpy as np

    if text == STRING:
        try:
            return memoryview(vlen().encode(chunk.reshape(-1))).cast("B")
        except UnicodeEncodeError as error:
            raise Unsupported(
                f"a text has half of a character, which UTF-8 has not: {error}"
            ) from error
    return memoryview(cast(Any, chunk.reshape(-1).view(np.uint8)))


def from_content(data: Any, shape: tuple[int, ...], text: str) -> Array:
    """The chunk of those bytes, which is not writeable if they are not. ValueError."""
    import numpy as np

    if text == STRING:
        return np.asarray(vlen().decode(data), object).reshape(shape)
    return np.frombuffer(data, np.dtype(text)).reshape(shape)


def shown(chunk: Array, text: str) -> Array:
    """A chunk as a program gets it: texts as this NumPy has them."""
    return chunk.astype(dtype_of(text)) if text == STRING else chunk


def fill_bytes(fill: Any, text: str) -> bytes:
    """One item as bytes; nothing for None is zero, or the empty text."""
    import numpy as np

    if text == STRING:
        return str(fill or "").encode()
    dtype = np.dtype(text)
    item = np.zeros((), dtype) if fill is None else np.asarray(fill).astype(dtype)
    return item.tobytes()


def fill_of(data: bytes, text: str) -> Any:
    """The item of those bytes."""
    import numpy as np

    return data.decode() if text == STRING else np.frombuffer(data, np.dtype(text))[0]


def vlen() -> Any:
    """The codec for texts of any length, which the content is defined by."""
    from numcodecs.vlen import VLenUTF8

    return VLenUTF8()
