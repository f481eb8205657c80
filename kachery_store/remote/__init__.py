"""Backends that are not a folder of this machine: the only place that knows fsspec.

open_backend(url, options)     the backend of a URL
check_url(url)                 refuse what no store can be at, and credentials
"""

from __future__ import annotations

import re
from typing import Any

from ..backend import Backend
from ..errors import BadURI
from ..local_backend import LocalBackend

__all__ = ["check_url", "open_backend"]

_MOST_CHARACTERS = 2_000
_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


def open_backend(
    url: str, options: dict[str, Any] | None = None, *, shared: bool = True
) -> Backend:
    """The backend at an absolute path, a `file://`, `s3://`, `memory://` or another fsspec URL.

    `options` are the keyword arguments of the fsspec file system, such as `endpoint_url`. A folder is
    `shared`: others of its group may write there too. Nothing is read or written yet in a bucket; a
    folder's layout is read. Raises BadURI for what is no such URL, StoreTooNew, StoreUnavailable.
    """
    check_url(url)
    scheme, separator, rest = url.partition("://")
    if url.startswith("/"):
        return LocalBackend(url, shared=shared)
    if not separator or not rest:
        raise BadURI(
            f"{shown(url)} is no place for a store: those look like s3://bucket/prefix or /a/folder"
        )
    if scheme in ("file", "local"):
        return LocalBackend(rest if rest.startswith("/") else f"/{rest}", shared=shared)
    if scheme in ("s3", "s3a"):
        from .s3 import S3Backend

        return S3Backend(url, options or {})
    from .generic import FsspecBackend

    return FsspecBackend(url, options or {})


def check_url(url: str) -> None:
    """Refuse with BadURI what no store can be at, and a URL with credentials in it.

    What such a URL says is not repeated, because messages are seen by others.
    """
    _, separator, rest = url.partition("://")
    if has_credentials(url):
        raise BadURI(
            "the URL of a store holds no credentials: name a `profile`, or set the environment"
            f" variables of the service (AWS_ACCESS_KEY_ID and the like) ({shown(url)})"
        )
    if len(url) > _MOST_CHARACTERS or _CONTROL.search(url):
        raise BadURI(
            f"{shown(url)} is no place for a store: it has more than {_MOST_CHARACTERS} characters,"
            " or such as nobody can see"
        )
    if ".." in (rest if separator else url).split("/"):
        raise BadURI(f"{shown(url)} is no place for a store: `..` leads out of it")


def has_credentials(url: str) -> bool:
    """Whether a URL, or what was meant to be one, holds a password or the like."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        mistyped = re.search("(?:^|/)[a-z0-9]+:/*[^/]*@", url)
        return mistyped is not None or (not url.startswith("/") and "@" in url)
    if scheme in ("file", "local"):
        return False
    # A secret may itself have slashes in it.
    has_password = re.match("[^/@]*:[^@]*@", rest) is not None
    has_user = "@" in rest and scheme in ("s3", "s3a", "http", "https")
    return has_password or has_user or "?" in rest or "#" in rest


def shown(url: str) -> str:
    """What a message may say of a URL that is refused."""
    return repr(url.rpartition("@")[2].partition("?")[0].partition("#")[0][:80])
