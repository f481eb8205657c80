"""The library zarr. Importing this raises Unsupported where it is not installed, or is too old."""

from __future__ import annotations

from ..errors import Unsupported

try:
    import zarr
    import zarr.abc.codec
    import zarr.abc.store
    import zarr.core.array
    import zarr.core.buffer
    import zarr.registry
    import zarr.storage
except ImportError as error:
    raise Unsupported(
        "arrays of chunks need the package zarr, 3.0.8 or later: pip install 'kachery[zarr]'"
    ) from error

__all__ = ["zarr"]
