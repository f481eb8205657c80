"""Bytes to value: the way back from the canonical encoding.

Only registered types are constructed, and classes that the program has imported already. Nothing is
imported, called or unpickled because the data says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgpack

from kachery_store.errors import KacheryError

from ..errors import CannotDecode
from . import ext
from .encoding import PREFIX
from .opaque import Made
from .registry import codec_named

LoadBlob = Callable[[bytes, int], memoryview]  # digest, size -> private writable memory
LoadOpaque = Callable[[Made], Any]


class _Loaders(NamedTuple):
    blob: LoadBlob
    opaque: LoadOpaque


def no_opaques(made: Made) -> Any:
    """Refuses opaque values, where none can be."""
    raise CannotDecode(f"an opaque value that job {made.job_id} made is not at hand")


def decode(data: bytes, load_blob: LoadBlob, load_opaque: LoadOpaque = no_opaques) -> Any:
    """The value of an encoding.

    `load_blob` gives checked memory for a digest and a size, `load_opaque` what a job made that has no
    encoding. Raises CannotDecode for bytes that are no encoding and for types that this program does
    not have, and whatever the two raise.
    """
    if not data.startswith(PREFIX):
        raise CannotDecode("these bytes are not an encoded value (or of a later format)")
    return _unpack(memoryview(data)[len(PREFIX) :], _Loaders(load_blob, load_opaque))


def _unpack(data: bytes | memoryview, load: _Loaders) -> Any:
    return unpacked(data, lambda code, payload: _extension(code, payload, load))


def unpacked(
    data: bytes | memoryview, extension: Callable[[int, bytes], Any], **hooks: Callable[[Any], Any]
) -> Any:
    """What msgpack makes of (part of) an encoding; CannotDecode for bytes that are none."""
    try:
        return msgpack.unpackb(
            data,
            ext_hook=extension,
            strict_map_key=False,
            unicode_errors="surrogatepass",
            **hooks,
        )
    except KacheryError:
        raise
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        raise CannotDecode(f"these bytes are not an encoded value: {error}") from error


def _extension(code: int, payload: bytes, load: _Loaders) -> Any:
    if code == ext.INTEGER:
        return int.from_bytes(payload, "big", signed=True)
    if code in (ext.BYTES_BLOB, ext.BUFFER_BLOB):
        memory = load.blob(payload[:32], int.from_bytes(payload[32:], "big"))
        return memory if code == ext.BUFFER_BLOB else bytes(memory)
    if code not in (ext.TUPLE, ext.SET, ext.FROZENSET, ext.TYPED):
        raise CannotDecode(f"the extension code {code} is not known to this kachery")
    items = _unpack(payload, load)
    if type(items) is not list:
        raise CannotDecode("an extension does not hold a list")
    if code == ext.TUPLE:
        return tuple(items)
    if code == ext.SET:
        return set(items)
    if code == ext.FROZENSET:
        return frozenset(items)
    return _typed(items, load)


def _typed(items: list[Any], load: _Loaders) -> Any:
    name, *parts = items
    if type(name) is not str:
        raise CannotDecode("an extension does not begin with a name")
    if name == "opaque":
        return load.opaque(Made._make(parts))
    codec = codec_named(name)
    try:
        return codec.decode(*parts)
    except KacheryError:
        raise
    except Exception as error:  # a codec that is given nonsense may raise anything
        raise CannotDecode(f"these bytes are not an encoded {name}: {error}") from error
