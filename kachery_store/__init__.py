"""Content-addressed storage: bytes by digest, small named records, files by URI.

Store(root)                        the thing users hold: .files, .blobs, .jobs
Digest, parse_uri, format_uri      names
KacheryError and below             what can go wrong (drawn in kachery_store/errors.py)
"""

from .digest import Digest
from .errors import (
    BadURI,
    DamagedWarning,
    DigestMismatch,
    KacheryError,
    KacheryWarning,
    NotFound,
    StoreTooNew,
    StoreUnavailable,
)
from .store import Store
from .uri import FileURI, format_uri, parse_uri

__all__ = [
    "BadURI",
    "DamagedWarning",
    "Digest",
    "DigestMismatch",
    "FileURI",
    "KacheryError",
    "KacheryWarning",
    "NotFound",
    "Store",
    "StoreTooNew",
    "StoreUnavailable",
    "format_uri",
    "parse_uri",
]
