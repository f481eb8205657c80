"""Encodings of NumPy's random generators: their state, and the seeds that they spawn others from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import MT19937, PCG64, PCG64DXSM, SFC64, Philox, SeedSequence

from ..errors import CannotDecode, CannotEncode
from .registry import Codec, add_codec

_BIT_GENERATORS: dict[str, Any] = {
    kind.__name__: kind for kind in (MT19937, PCG64, PCG64DXSM, Philox, SFC64)
}
# Beyond these positions a generator would read memory that is not its own.
_LAST_POSITION = {"MT19937": 624, "Philox": 4}
_LARGEST_POOL = 1024  # mixing takes the square of it


def _encode_seeds(seeds: SeedSequence) -> list[Any]:
    if seeds.pool_size > _LARGEST_POOL:
        raise CannotEncode(
            f"a pool of seeds is larger than {_LARGEST_POOL}; use a smaller pool_size"
        )
    return [seeds.entropy, seeds.spawn_key, seeds.pool_size, seeds.n_children_spawned]


def _decode_seeds(entropy: Any, spawn_key: Any, pool_size: int, children: int) -> SeedSequence:
    if pool_size > _LARGEST_POOL:
        raise CannotDecode(f"a pool of {pool_size} seeds is too large")
    return SeedSequence(
        entropy, spawn_key=spawn_key, pool_size=pool_size, n_children_spawned=children
    )


def _encode_bits(generator: Any) -> list[Any]:
    """The state, from which numbers come, and the seeds, from which children are spawned."""
    if _BIT_GENERATORS.get(type(generator).__name__) is not type(generator):
        raise CannotEncode(
            f"the bit generator {type(generator).__qualname__} is not NumPy's own and has no"
            " encoding; use one of numpy.random, or pass the seed"
        )
    seeds = generator.seed_seq
    if type(seeds) is SeedSequence:
        return [generator.state, _encode_seeds(seeds)]
    if seeds is None and type(generator) is MT19937:
        return [generator.state, None]
    raise CannotEncode(
        f"a generator with seeds of type {type(seeds).__qualname__} has no encoding; seed it with"
        " an integer or a numpy.random.SeedSequence"
    )


def _decode_bits(state: dict[str, Any], seeds: list[Any] | None) -> Any:
    kind = _kind_of(state)
    generator = _unseeded() if seeds is None else kind(_decode_seeds(*seeds))
    generator.state = state
    return generator


def _unseeded() -> Any:
    return np.random.RandomState(0)._bit_generator  # noqa: SLF001  nothing else makes one


def _kind_of(state: dict[str, Any]) -> Any:
    """The class of bit generator that a state is for, once it is safe to give it that state."""
    name = state["bit_generator"]
    if name not in _BIT_GENERATORS:
        raise CannotDecode(f"{name!r} is no bit generator of NumPy")
    position = state["state"]["pos"] if name == "MT19937" else state.get("buffer_pos", 0)
    if type(position) is not int or not 0 <= position <= _LAST_POSITION.get(name, 0):
        raise CannotDecode(f"{position!r} is no position in a generator")
    return _BIT_GENERATORS[name]


def _decode_generator(state: dict[str, Any], seeds: list[Any] | None) -> np.random.Generator:
    return np.random.Generator(_decode_bits(state, seeds))


def _encode_random_state(generator: np.random.RandomState) -> list[Any]:
    state = generator.get_state(legacy=False)
    if state["bit_generator"] not in _BIT_GENERATORS:
        raise CannotEncode(
            f"a RandomState of {state['bit_generator']} has no encoding; use a generator of NumPy"
        )
    return [state]


def _decode_random_state(state: dict[str, Any]) -> np.random.RandomState:
    generator = np.random.RandomState(_kind_of(state)(0))
    generator.set_state(state)
    return generator


add_codec(SeedSequence, Codec("numpy.random.SeedSequence", _encode_seeds, _decode_seeds))
for _kind in _BIT_GENERATORS.values():
    add_codec(_kind, Codec("numpy.random.BitGenerator", _encode_bits, _decode_bits))
add_codec(
    np.random.Generator,
    Codec(
        "numpy.random.Generator",
        lambda g: _encode_bits(g.bit_generator),
        _decode_generator,
    ),
)
add_codec(
    np.random.RandomState,
    Codec("numpy.random.RandomState", _encode_random_state, _decode_random_state),
)
