"""Which types have an encoding, found by exact type.

A codec turns a value into parts, which are values themselves, and back. The codecs of a library are
in a module that is imported when the first value of that library is met, never before.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..errors import CannotDecode


class Buffer:
    """A part that is raw memory: a blob of its own when it is large."""

    __slots__ = ("memory",)

    def __init__(self, memory: memoryview) -> None:
        self.memory = memory


class Fields(dict[str, Any]):
    """A part that is the attributes of a value; an error inside says `.name`, not `['name']`."""


class Codec(NamedTuple):
    """The encoding of one kind of value: `name` stands in the encoding, so it is for ever."""

    name: str
    encode: Callable[[Any], Sequence[Any]]
    decode: Callable[..., Any]


# Where a type is, or with what a codec's name begins, and the module here that knows such types.
_LIBRARIES = {
    "numpy": "numpy_types",
    "numpy.ma": "numpy_masked",
    "numpy.polynomial": "numpy_polynomials",
    "numpy.random": "numpy_random",
    "pandas": "pandas_types",
    "polars": "polars_types",
    "pyarrow": "arrow_types",
    "scipy": "scipy_types",
    "xarray": "xarray_types",
    **dict.fromkeys(("dask", "zarr", "kachery_store"), "chunk_types"),
    **dict.fromkeys(
        (
            "builtins",
            "collections",
            "datetime",
            "decimal",
            "fractions",
            "pathlib",
            "random",
            "re",
            "uuid",
            "zoneinfo",
            "argparse",
            "array",
            "ipaddress",
            "string",
            "struct",
            "_struct",
        ),
        "standard_types",
    ),
    "class": "class_types",
    "types": "typing_types",
    "typing": "typing_types",
}

_by_type: dict[type, Codec] = {}
_by_name: dict[str, Codec] = {}
_fallbacks: list[Callable[[type], Codec | None]] = []
_loaded: set[str] = set()


def register(
    type: type,
    *,
    name: str,
    encode: Callable[[Any], Any],
    decode: Callable[[Any], Any],
) -> None:
    """Give a type an encoding, so that its instances can be arguments and results.

    `encode(value)` returns one value that kachery can encode already (a dict, say) and that holds
    everything that makes the value what it is; `decode` turns that back. `name` identifies the
    encoding for ever: choose another one when `encode` changes its meaning. The type is matched
    exactly, without its subclasses. Raises ValueError when the name is taken by another type.
    """
    codec = Codec(f"registered.{name}", lambda value: [encode(value)], decode)
    for other, known in _by_type.items():  # a cell of a notebook may register its class again
        if known.name == codec.name and _whereabouts(other) != _whereabouts(type):
            raise ValueError(f"the encoding name {name!r} belongs to {_whereabouts(other)}")
    add_codec(type, codec)


def known_in(module: str, *libraries: str) -> None:
    """Have the types of libraries be known by another module, imported when the first is met."""
    _LIBRARIES.update(dict.fromkeys(libraries, module))


def add_codec(kind: type, codec: Codec) -> None:
    """Make a codec known for one exact type."""
    _by_type[kind] = codec
    _by_name[codec.name] = codec


def add_fallback(
    codec_for: Callable[[type], Codec | None], *codecs: Codec, first: bool = False
) -> None:
    """Make a rule known for types that have no codec of their own, and the codecs it may give.

    `first`: it goes before the rules that are known, such as that for dataclasses.
    """
    _fallbacks.insert(0 if first else len(_fallbacks), codec_for)
    for codec in codecs:
        _by_name[codec.name] = codec


def codec_of(kind: type) -> Codec | None:
    """The codec of a type, or None when it has no encoding."""
    codec = _by_type.get(kind)
    if codec is not None:
        return codec
    for base in kind.__mro__[:-1]:
        _load(base.__module__)
    _load("class")
    codec = _by_type.get(kind)
    if codec is not None:
        return codec
    for codec_for in _fallbacks:
        codec = codec_for(kind)
        if codec is not None:
            return codec
    return None


def codec_named(name: str) -> Codec:
    """The codec of that name; CannotDecode when this process has none."""
    try:
        if name not in _by_name:
            _load(name)
    except ImportError as error:
        raise CannotDecode(f"{name!r} needs a library that is not installed: {error}") from error
    try:
        return _by_name[name]
    except KeyError:
        raise CannotDecode(
            f"nothing here decodes {name!r}: import the module that registers it first"
        ) from None


def _load(name: str) -> None:
    """Import what knows the types of the library, or part of one, that a name begins with."""
    library, _, below = name.partition(".")
    for one in (library, f"{library}.{below.partition('.')[0]}"):
        module = _LIBRARIES.get(one)
        if module is not None and module not in _loaded:
            importlib.import_module(module if "." in module else f"{__package__}.{module}")
            _loaded.add(module)


def _whereabouts(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
