"""Backends that are not a folder of this machine: the only place that knows fsspec.

open_backend(url, options)     the backend of a URL
"""

from __future__ import annotations

from typing import Any

from ..backend import Backend
from ..errors import BadURI
from ..local_backend import LocalBackend

__all__ = ["open_backend"]


def open_backend(
    url: str, options: dict[str, Any] | None = None, *, shared: bool = True
) -> Backend:
    """The backend at an absolute path, a `file://`, `s3://`, `memory://` or another fsspec URL.

    `options` are the keyword arguments of the fsspec file system, such as `endpoint_url`. A folder is
    `shared`: others of its group may write there too. Nothing is read or written yet in a bucket; a
    folder's layout is read. Raises BadURI for what is no such URL, StoreTooNew, StoreUnavailable.
    """
    scheme, separator, rest = url.partition("://")
    if url.startswith("/"):
        return LocalBackend(url, shared=shared)
    if not separator or not rest:
        raise BadURI(
            f"{url!r} is no place for a store: those look like s3://bucket/prefix or /a/folder"
        )
    if scheme in ("file", "local"):
        return LocalBackend(rest if rest.startswith("/") else f"/{rest}", shared=shared)
    if scheme in ("s3", "s3a"):
        from .s3 import S3Backend

        return S3Backend(url, options or {})
    from .generic import FsspecBackend

    return FsspecBackend(url, options or {})
