"""Values and their canonical encoding (docs/formats/value.md).

encode(value) -> Encoded        the bytes, the large buffers beside them, the address
decode(data, load) -> value     the way back
register(type, ...)             an encoding for a type of your own
"""

from .decoding import decode
from .encoding import Encoded, Encoder, encode
from .registry import Buffer, Fields, register

__all__ = ["Buffer", "Encoded", "Encoder", "Fields", "decode", "encode", "register"]
