"""The codec that zarr decodes with in the place of others: it makes no more than it should."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from .bounded import BOUNDED, decompressed
from .library import zarr


@dataclass(frozen=True)
class BoundedCodec(zarr.abc.codec.BytesBytesCodec):
    """Decodes what another codec has encoded: `name` and `configuration`, to at most `most` bytes."""

    name: str
    configuration: dict[str, Any]
    most: int
    is_fixed_size = False

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """As of zarr's codecs."""
        return cls(**data["configuration"])

    def to_dict(self) -> Any:
        """As of zarr's codecs."""
        told = {"name": self.name, "configuration": self.configuration, "most": self.most}
        return {"name": BOUNDED, "configuration": told}

    async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
        data = chunk_bytes.as_numpy_array().tobytes()
        found = await asyncio.to_thread(
            decompressed, self.name, self.configuration, data, self.most
        )
        make = chunk_spec.prototype.buffer
        return make.from_array_like(np.frombuffer(found, "B"))

    def compute_encoded_size(self, _size: int, _spec: Any) -> int:
        """As of zarr's codecs: nothing is known of it."""
        raise NotImplementedError


zarr.registry.register_codec(BOUNDED, BoundedCodec)
