"""Values and their canonical encoding (docs/formats/value.md).

encode(value) -> Encoded            the bytes, the large buffers beside them, the address
encode_result(value, job) -> ...    the same for a result, which may be opaque
decode(data, load) -> value         the way back
register(type, ...)                 an encoding for a type of your own
"""

from .attributes import cached_values
from .decoding import decode
from .encoding import SCALARS, Encoded, Encoder, Keep, encode, encode_result
from .opaque import Made, recall, remember
from .registry import Buffer, Fields, register

__all__ = [
    "SCALARS",
    "Buffer",
    "Encoded",
    "Encoder",
    "Fields",
    "Keep",
    "Made",
    "cached_values",
    "decode",
    "encode",
    "encode_result",
    "recall",
    "register",
    "remember",
]
