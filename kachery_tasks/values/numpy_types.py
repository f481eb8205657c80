"""Encodings of NumPy's arrays, scalars, dtypes and random generators."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from ..errors import CannotDecode, CannotEncode
from .registry import Buffer, Codec, add_codec, add_fallback

_Array = np.ndarray[Any, Any]


def _describe(dtype: np.dtype[Any]) -> Any:
    """A dtype as plain data, the same in every version of NumPy."""
    if dtype.metadata:
        return ["metadata", _describe(_without_metadata(dtype)), dict(dtype.metadata)]
    if dtype.type is np.record:
        return ["record", _describe(np.dtype((np.void, dtype)))]
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return ["sub", _describe(base), list(shape)]
    if dtype.fields is not None and dtype.names is not None:
        fields = [
            [name, dtype.fields[name][1], _describe(dtype.fields[name][0]), *dtype.fields[name][2:]]
            for name in dtype.names
        ]
        return ["struct", fields, dtype.itemsize, dtype.isalignedstruct]
    if dtype.kind == "T":
        raise CannotEncode(f"arrays of dtype {dtype} have no encoding; use astype(object) or 'U'")
    return dtype.str


def _without_metadata(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.names is not None or dtype.subdtype is not None:
        raise CannotEncode("metadata on a structured dtype has no encoding; use a dtype without")
    return np.dtype(dtype.str)


def _dtype(description: Any) -> np.dtype[Any]:
    if isinstance(description, str):
        return np.dtype(description)
    kind, *rest = description
    if kind == "metadata":
        return np.dtype(_dtype(rest[0]), metadata=rest[1])
    if kind == "record":
        return np.dtype((np.record, _dtype(rest[0])))
    if kind == "sub":
        return np.dtype((_dtype(rest[0]), tuple(rest[1])))
    if kind != "struct":
        raise CannotDecode(f"{kind!r} is no kind of dtype")
    fields, itemsize, aligned = rest
    spec: dict[str, Any] = {
        "names": [field[0] for field in fields],
        "offsets": [field[1] for field in fields],
        "formats": [_dtype(field[2]) for field in fields],
        "itemsize": itemsize,
    }
    if any(len(field) > 3 for field in fields):
        spec["titles"] = [field[3] if len(field) > 3 else None for field in fields]
    dtype: np.dtype[Any] = np.dtype(cast(Any, spec), align=aligned)
    return dtype


def _encode_array(array: _Array) -> list[Any]:
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    return [_describe(array.dtype), list(array.shape), order, _content(array, order)]


def _content(array: _Array, order: str) -> Any:
    """What fills the array: memory, or a list of values where memory holds more than the values."""
    flat = array.reshape(-1, order="F" if order == "F" else "C")  # a view where it is contiguous
    if array.dtype.names is not None:
        return [np.ascontiguousarray(flat[name]) for name in array.dtype.names]  # without padding
    if array.dtype.hasobject:
        return flat.tolist()
    flat = np.ascontiguousarray(flat)
    if array.dtype.kind in "fc" and array.dtype.itemsize in (12, 16, 24, 32):
        flat = _without_padding(flat)
    if array.dtype.itemsize == 0 or array.size == 0:
        return b""
    return Buffer(memoryview(cast(Any, flat.view(np.uint8))))


def _without_padding(flat: _Array) -> _Array:
    """A copy of 80-bit floats in which the unused bytes, which are never set, are zero."""
    part = flat.dtype if flat.dtype.kind == "f" else flat.dtype.type(0).real.dtype
    if flat.dtype.char not in "gG" or np.finfo(part).nmant != 63:
        return flat  # complex128, or a platform where long doubles have no padding
    copy = np.array(flat)
    copy.view(np.uint8).reshape(-1, part.itemsize)[:, 10:] = 0
    return copy


def _decode_array(description: Any, shape: list[int], order: str, content: Any) -> _Array:
    dtype = _dtype(description)
    if dtype.names is not None:
        flat = np.zeros(_count(shape), dtype)
        for name, column in zip(dtype.names, content, strict=True):
            flat[name] = column
    elif dtype.hasobject:
        flat = np.empty(_count(shape), dtype)
        for position, item in enumerate(content):
            flat[position] = item
    elif len(content) == 0:
        flat = np.zeros(_count(shape), dtype)
    else:
        memory = bytearray(content) if isinstance(content, bytes) else content
        flat = np.frombuffer(memory, dtype)
    return flat.reshape(shape, order="F" if order == "F" else "C")


def _count(shape: list[int]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count


def _encode_scalar(scalar: np.generic) -> list[Any]:
    if isinstance(scalar, np.str_ | np.bytes_):  # an array would cut off zeros at the end
        plain = str(scalar) if isinstance(scalar, np.str_) else bytes(scalar)
        return ["", plain]
    return ["item", np.asarray(scalar)]


def _decode_scalar(form: str, content: Any) -> Any:
    if form == "item":
        return content[()]
    return np.str_(content) if isinstance(content, str) else np.bytes_(content)


_ARRAY = Codec("numpy.ndarray", _encode_array, _decode_array)


def _encode_masked(array: Any) -> list[Any]:
    if array.dtype.names is not None or array.hardmask:
        raise CannotEncode("structured and hard-masked arrays have no encoding; pass data and mask")
    mask = np.ma.getmaskarray(array)
    data = np.array(array.data, copy=True, order="K")
    data[mask] = np.zeros((), array.dtype)  # what is under the mask does not count
    return [data, None if array.mask is np.ma.nomask else mask, np.asarray(array.fill_value)]


def _decode_masked(data: _Array, mask: _Array | None, fill: _Array) -> Any:
    hidden: Any = np.ma.nomask if mask is None else mask
    return np.ma.MaskedArray(cast(Any, data), mask=hidden, fill_value=cast(Any, fill[()]))


_SCALAR = Codec("numpy.generic", _encode_scalar, _decode_scalar)

add_codec(np.ndarray, _ARRAY)
add_codec(np.ma.MaskedArray, Codec("numpy.ma.MaskedArray", _encode_masked, _decode_masked))
# What a memory map shows is an array; the file behind it is not part of the value.
add_codec(np.memmap, Codec("numpy.ndarray", lambda m: _encode_array(np.asarray(m)), _decode_array))
add_fallback(
    lambda kind: (
        _SCALAR if issubclass(kind, np.generic) and kind.__module__.startswith("numpy") else None
    ),
    _SCALAR,
)
for _dtype_class in {type(np.dtype(char)) for char in np.typecodes["All"]} | {np.dtype}:
    add_codec(_dtype_class, Codec("numpy.dtype", lambda dtype: [_describe(dtype)], _dtype))


# Random generators are their state.

_BIT_GENERATORS = {
    kind.__name__: kind
    for kind in (
        np.random.MT19937,
        np.random.PCG64,
        np.random.PCG64DXSM,
        np.random.Philox,
        np.random.SFC64,
    )
}


def _state_and_seeds(generator: Any) -> list[Any]:
    """The state, from which numbers come, and the seeds, from which children are spawned."""
    seeds = generator.seed_seq
    if type(seeds) is not np.random.SeedSequence:
        return [generator.state, None]
    children = seeds.n_children_spawned
    return [generator.state, [seeds.entropy, seeds.spawn_key, seeds.pool_size, children]]


def _bit_generator(state: dict[str, Any], seeds: list[Any] | None) -> np.random.BitGenerator:
    kind = _BIT_GENERATORS.get(state["bit_generator"])
    if kind is None:
        raise CannotDecode(f"{state['bit_generator']!r} is no bit generator of NumPy")
    if seeds is None:
        generator: Any = kind(0)
    else:
        entropy, spawn_key, pool_size, children = seeds
        generator = kind(
            np.random.SeedSequence(
                entropy, spawn_key=spawn_key, pool_size=pool_size, n_children_spawned=children
            )
        )
    generator.state = state
    return cast(np.random.BitGenerator, generator)


for _kind in _BIT_GENERATORS.values():
    add_codec(_kind, Codec("numpy.random.BitGenerator", _state_and_seeds, _bit_generator))
add_codec(
    np.random.Generator,
    Codec(
        "numpy.random.Generator",
        lambda g: _state_and_seeds(g.bit_generator),
        lambda state, seeds: np.random.Generator(_bit_generator(state, seeds)),
    ),
)


def _decode_random_state(state: dict[str, Any]) -> np.random.RandomState:
    generator = np.random.RandomState(0)
    generator.set_state(state)
    return generator


add_codec(
    np.random.RandomState,
    Codec("numpy.random.RandomState", lambda r: [r.get_state(legacy=False)], _decode_random_state),
)
