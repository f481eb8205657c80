"""Value to bytes: the canonical encoding of docs/formats/value.md.

Plain nested data goes through msgpack in one call; everything else is walked here, so that large
buffers become blobs of their own and an error can name the place.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Sequence, ValuesView
from contextvars import ContextVar
from io import IOBase
from itertools import chain
from types import MethodType
from typing import Any, NamedTuple

import msgpack

from kachery_store.digest import blake3_bytes

from ..errors import CannotEncode
from . import ext
from .opaque import Made, Opaque, pickled_with_code, recall
from .registry import Buffer, Codec, Fields, codec_of

PREFIX = (
    b"\xc1kv1"  # 0xc1 never occurs in msgpack, so an encoding cannot be taken for anything else
)
BLOB_FROM = 65_536  # buffers of this size and more are blobs of their own; part of the format
# So large a buffer of a result is stored while it is hashed; for less, threads cost more than they save.
KEPT_FROM = 32 << 20
MAX_DEPTH = 200
MAX_SIZE = 1 << 30  # of the encoding without its blobs

SCALARS = frozenset((type(None), bool, int, float, str))
_NESTED = frozenset((list, dict, tuple))
_PLAIN = SCALARS | _NESTED | {bytes}
_MAX_PLAIN_NODES = 20_000_000
_MAX_CONTAINERS = 1_000_000

# What is being encoded around a function, whose code may lead back to it.
_around: ContextVar[frozenset[int]] = ContextVar("kachery_around", default=frozenset())


class Blob(NamedTuple):
    """A large buffer of a value: its BLAKE3 digest, the memory that has it, whether it is stored."""

    digest: bytes
    memory: memoryview
    is_stored: bool = False


Keep = Callable[
    [memoryview], bytes | None
]  # stores a buffer; its digest, or None when it could not


class Encoded(NamedTuple):
    """An encoded value.

    `address` is the 32-byte digest of the encoding: the number that names the value everywhere.
    `classes` are the classes of the program whose instances are in it, `callables` the functions and
    the like, which cannot be decoded, `opaques` what is known by the job that made it, `named` the
    functions that pickles in it name.
    """

    data: bytes
    address: bytes
    blobs: list[Blob]
    classes: list[type]
    callables: list[Any]
    opaques: list[Opaque]
    named: list[Any]

    @property
    def size(self) -> int:
        """Bytes of the encoding, of its blobs and pickles."""
        if not self.blobs and not self.opaques:
            return len(self.data)
        blobs = sum(blob.memory.nbytes for blob in self.blobs)
        return len(self.data) + blobs + sum(len(one.pickled) for one in self.opaques)


def encode(value: Any) -> Encoded:
    """The canonical encoding of a value; CannotEncode names the place of what has none."""
    return Encoder().encode(value)


def encode_result(value: Any, maker: str, *, pickling: bool, keep: Keep | None = None) -> Encoded:
    """The encoding of the result of a job; `pickling` allows pickle for what has no encoding.

    What is pickled is known by the job's id, `maker`, from now on. `keep` is given the largest buffers,
    to be hashed and stored at the same time. CannotEncode also for functions, which cannot be decoded.
    """
    return Encoder(maker=maker, keep=keep).encode(value, pickling=pickling)


class Encoder:
    """Encodes one value after the other.

    `special` gives, for exact types, functions from (value, encoder) to the bytes that stand for the
    value; this is how a job stands for its result. `maker` is the id of the job whose result is
    encoded; `keep` as for `encode_result`.
    """

    def __init__(
        self,
        special: dict[type, Callable[[Any, Encoder], bytes]] | None = None,
        maker: str | None = None,
        keep: Keep | None = None,
    ) -> None:
        self.special = special or {}
        self._maker = maker
        self._keep = keep
        self._pickling = False
        self._opaques: dict[int, Opaque] = {}
        self._blobs: list[Blob] = []
        # By identity: what a metaclass says of equality does not count.
        self._classes: dict[int, type] = {}
        self._callables: list[Any] = []
        self._opaque_code: list[Any] = []  # functions that pickles name
        # The containers that the walk is inside of, and those around the whole value.
        self._open: dict[int, None] = {}
        self._around = _around.get()
        self._containers = 0  # how many were packed one by one
        # By identity, once sharing is suspected; the values are kept so that no identity recurs.
        self._packed: dict[int, tuple[Any, bytes]] | None = None
        self._packer = _packer()

    def encode(self, value: Any, *, pickling: bool = False) -> Encoded:
        """Encode one value; with `pickling`, also what only pickle can represent."""
        if type(value) in SCALARS:
            return _encoded(PREFIX + self._msgpack(value), [], [], [], [], [])
        self._blobs, self._classes, self._callables = [], {}, []
        self._opaques, self._opaque_code, self._pickling = {}, [], pickling
        self._packed, self._containers = None, 0
        try:
            data = PREFIX + self.pack(value)
        except RecursionError:
            raise CannotEncode("it is nested too deeply for this Python's stack") from None
        except CannotEncode:
            raise
        except TypeError as error:  # a metaclass can make its classes unhashable
            raise CannotEncode(
                f"the class of something in it is no ordinary one: {error}"
            ) from error
        opaques = list(self._opaques.values())
        classes = list(self._classes.values())
        return _encoded(data, self._blobs, classes, self._callables, opaques, self._opaque_code)

    def pack(self, value: Any) -> bytes:
        """The encoding of a value inside another one (without the prefix)."""
        kind = type(value)
        if kind in SCALARS:
            return self._msgpack(value)
        if kind is bytes:
            return self._pack_buffer(memoryview(value), ext.BYTES_BLOB)
        if kind is Buffer:
            return self._pack_buffer(value.memory, ext.BUFFER_BLOB)
        if kind in _NESTED and self._packed is None and self._is_plain(value):
            return self._msgpack(value)
        if kind in self.special:
            return self.special[kind](value, self)
        return self._pack_container(value, kind)

    def _pack_container(self, value: Any, kind: type) -> bytes:
        identity = id(value)
        if self._packed is not None and identity in self._packed:
            return self._packed[identity][1]
        if identity in self._open or identity in self._around:
            raise CannotEncode("it contains itself, and a value must end somewhere", final=True)
        if len(self._open) >= MAX_DEPTH:
            raise CannotEncode(f"it is nested more than {MAX_DEPTH} levels deep", final=True)
        self._containers += 1
        if self._packed is None and self._containers > _MAX_CONTAINERS:
            self._packed = {}
        self._open[identity] = None
        try:
            data = self._pack_members(value, kind)
        finally:
            del self._open[identity]
        if len(data) > MAX_SIZE:
            raise _too_large()
        if self._packed is not None:
            self._packed[identity] = (value, data)
        return data

    def _pack_members(self, value: Any, kind: type) -> bytes:
        if kind is list:
            return self._pack_list(value)
        if kind is dict or kind is Fields:
            return self._pack_dict(value, attributes=kind is Fields)
        if kind is tuple:
            return self.extension(ext.TUPLE, self._pack_list(value))
        if kind is set:
            return self.extension(ext.SET, self._pack_unordered(value))
        if kind is frozenset:
            return self.extension(ext.FROZENSET, self._pack_unordered(value))
        codec = codec_of(kind)
        if codec is None:
            return self._pack_opaque(value)
        if self._maker is not None and codec.name.startswith("code."):
            if not self._pickling:
                raise CannotEncode(
                    "functions can be arguments, but not results (opaque='return' allows pickle)"
                )
            if id(_taken_apart(value)[0]) in self._open:
                raise CannotEncode(
                    "it is a method of what holds it, and would come back as the method of a copy",
                    final=True,
                )
            return self._pack_opaque(value)
        return self._pack_typed(value, codec)

    def _pack_opaque(self, value: Any) -> bytes:
        """What stands for a value that has no encoding, if anything may."""
        opaque = self._opaques.get(id(value)) or recall(value)
        if opaque is None:
            if not self._pickling:
                raise CannotEncode(_no_encoding(type(value)))
            data, classes, functions = pickled_with_code(value)
            if self._maker is None:
                self._add_code(value, classes, functions)
                return self._typed("pickled", [data])
            made = Made(self._maker, len(self._opaques), blake3_bytes(data))
            opaque = Opaque(value, made, data, tuple(classes), tuple(functions))
        self._opaques[id(value)] = opaque
        self._add_code(value, opaque.classes, opaque.functions)
        return self._typed("opaque", opaque.made)

    def _add_code(self, value: Any, classes: Iterable[type], functions: Iterable[Any]) -> None:
        """What a pickle names: the code of an argument counts, whatever is done with it."""
        for one in (type(value), *classes):
            self._add_class(one)
        if self._maker is None:
            self._opaque_code += functions

    def _pack_list(self, items: Any) -> bytes:
        pieces = [self._array(len(items))]
        for position, item in enumerate(items):
            try:
                pieces.append(self.pack(item))
            except CannotEncode as error:
                raise error.inside(f"[{position}]") from error.__cause__
        return b"".join(pieces)

    def _pack_dict(self, items: dict[Any, Any], *, attributes: bool) -> bytes:
        pieces = [self._packer.pack_map_header(len(items))]
        for name, item in items.items():
            try:
                pieces.append(self.pack(name))
                pieces.append(self.pack(item))
            except CannotEncode as error:
                place = f".{name}" if attributes else f"[{_short(name)}]"
                raise error.inside(place) from error.__cause__
        return b"".join(pieces)

    def _pack_unordered(self, items: Any) -> bytes:
        try:
            packed = sorted(self.pack(item) for item in items)
        except CannotEncode as error:
            raise error.inside("{...}") from error.__cause__
        return self._array(len(packed)) + b"".join(packed)

    def _pack_typed(self, value: Any, codec: Codec) -> bytes:
        if codec.name.startswith(("class.", "registered.")):
            self._add_class(value if issubclass(type(value), type) else type(value))
        elif codec.name.startswith("code."):
            self._callables.append(value)
            return self._pack_code(value, codec)
        return self._typed(codec.name, self._parts(value, codec))

    def _add_class(self, cls: type) -> None:
        # Of a generic model of pydantic with its arguments, what it is made of is added by itself.
        made = cls.__dict__.get("__pydantic_generic_metadata__") or {}
        if made.get("origin") is None or made.get("parameters"):
            self._classes[id(cls)] = cls

    def _pack_code(self, value: Any, codec: Codec) -> bytes:
        """A function, which may refer to what we are inside of: `self.update = self._fast`."""
        inside = self._open.keys() - {id(value)}
        reset = _around.set(self._around | inside)
        try:
            instance, function = _taken_apart(value)
            if function is not None and id(instance) in inside:
                level = list(reversed(self._open)).index(id(instance))
                return self._typed("code.method", [level, *self._parts(function, codec)])
            return self._typed(codec.name, self._parts(value, codec))
        finally:
            _around.reset(reset)

    def _parts(self, value: Any, codec: Codec) -> Sequence[Any]:
        try:
            return codec.encode(value)
        except (CannotEncode, RecursionError):
            raise
        except Exception as error:  # a method of the user's own type, or too little memory
            raise CannotEncode(
                f"taking apart a {type(value).__qualname__} raised {type(error).__name__}: {error}"
            ) from error

    def _typed(self, name: str, parts: Sequence[Any]) -> bytes:
        pieces = [self._array(len(parts) + 1), self._msgpack(name)]
        pieces.extend(self.pack(part) for part in parts)
        return self.extension(ext.TYPED, b"".join(pieces))

    def _pack_buffer(self, memory: memoryview, code: int) -> bytes:
        if memory.nbytes < BLOB_FROM:
            return self._msgpack(bytes(memory))
        keep = self._keep if memory.nbytes >= KEPT_FROM else None
        stored = None if keep is None else keep(memory)
        digest = stored or blake3_bytes(memory)
        self._blobs.append(Blob(digest, memory, is_stored=stored is not None))
        return self.extension(code, digest + memory.nbytes.to_bytes(8, "big"))

    def _msgpack(self, value: Any) -> bytes:
        try:
            packed: bytes = self._packer.pack(value)
        except (ValueError, OverflowError, MemoryError) as error:
            raise CannotEncode(f"it is too large for one encoding ({error})") from error
        return packed

    def _array(self, length: int) -> bytes:
        header: bytes = self._packer.pack_array_header(length)
        return header

    def extension(self, code: int, payload: bytes) -> bytes:
        """An extension value of msgpack, as the format uses them (see ext)."""
        return self._msgpack(msgpack.ExtType(code, payload))

    def _is_plain(self, value: Any) -> bool:
        """Whether a container holds nothing but what msgpack encodes exactly as the format says.

        All objects of one level of nesting are looked at together, which is fast.
        """
        level = [value]
        nodes = 0
        for _ in range(MAX_DEPTH - len(self._open)):
            kinds = set(map(type, level))
            nodes += len(level)
            if not kinds <= _PLAIN:
                return False
            if nodes > _MAX_PLAIN_NODES:
                self._packed = {}
                return False
            if bytes in kinds and any(type(x) is bytes and len(x) >= BLOB_FROM for x in level):
                return False
            level = _members(level, kinds)
            if not level:
                return True
        return False


def _members(level: list[Any], kinds: set[type]) -> list[Any]:
    members: list[Any] = []
    for kind in (list, tuple):
        if kind in kinds:
            members.extend(chain.from_iterable([x for x in level if type(x) is kind]))
    if dict in kinds:
        dicts = [x for x in level if type(x) is dict]
        members.extend(chain.from_iterable(dicts))
        members.extend(chain.from_iterable(map(dict.values, dicts)))
    return members


class _Extensions:
    """What msgpack is to take in the place of values that it does not know: tuples, large integers."""

    __slots__ = ("_inner",)

    def __init__(self) -> None:
        self._inner: Any = None  # another packer: one that packs cannot be used inside

    def __call__(self, value: Any) -> msgpack.ExtType:
        if type(value) is tuple:
            if self._inner is None:
                self._inner = _packer()
            return msgpack.ExtType(ext.TUPLE, self._inner.pack(list(value)))
        if type(value) is not int:  # something changed it after it was looked at
            raise CannotEncode(f"a {type(value).__name__} came in while it was encoded")
        size = value.bit_length() // 8 + 1
        return msgpack.ExtType(ext.INTEGER, value.to_bytes(size, "big", signed=True))


def _packer() -> Any:
    return msgpack.Packer(strict_types=True, unicode_errors="surrogatepass", default=_Extensions())


def _encoded(data: bytes, blobs: list[Blob], *found: Any) -> Encoded:
    if len(data) > MAX_SIZE:
        raise _too_large()
    return Encoded(data, blake3_bytes(data), blobs, *found)


def _no_encoding(kind: type) -> str:
    what = f"values of type {kind.__module__}.{kind.__qualname__} have no encoding"
    if issubclass(kind, IOBase):
        return (
            f"{what}, because an open file is no value. Use what is in it, or the URI that"
            " kachery.store_file(path) gives, which names the content"
        )
    if issubclass(kind, Iterator | KeysView | ValuesView | ItemsView):
        return f"{what}. Make a list of it: list(...)"
    return (
        f"{what}. Use what it is made of instead, give the type an encoding with kachery.register, or"
        " allow pickle for it with opaque=(...)"
    )


def _short(name: Any) -> str:
    text = repr(name) if type(name) in SCALARS else type(name).__name__
    return text if len(text) <= 40 else text[:37] + "..."


def _too_large() -> CannotEncode:
    return CannotEncode(
        f"its encoding is larger than {MAX_SIZE >> 30} GiB (arrays and bytes not counted)",
        final=True,
    )


def _taken_apart(method: Any) -> tuple[Any, Any]:
    """The instance that a method, or the task of one, was taken from, and the function."""
    if type(method) is MethodType:
        return method.__self__, method.__func__
    if getattr(method, "is_bound", False):
        return method.instance, method.unbound
    return None, None
