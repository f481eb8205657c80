"""What can go wrong with stored bytes.

KacheryError
├── NotFound (LookupError)         nothing is stored under that name
├── DigestMismatch                 the bytes there are not the bytes that were stored
├── BadURI (ValueError)            that text names nothing that can be stored or loaded
├── Unsupported                    that store cannot do this, or not safely
├── StoreTooNew                    a later kachery wrote this store; this one must not touch it
└── StoreUnavailable (OSError)     the store cannot be read or written: rights, space, limits

KacheryWarning (UserWarning)
└── DamagedWarning                 something stored was damaged and has been set aside
"""

from __future__ import annotations

import errno
import os


class KacheryError(Exception):
    """Any error that kachery raises itself."""


class NotFound(KacheryError, LookupError):
    """Nothing is stored under that name."""


class DigestMismatch(KacheryError):
    """The bytes found are not the bytes that the digest names."""


class BadURI(KacheryError, ValueError):
    """The text is not a URI that kachery understands."""


class StoreTooNew(KacheryError):
    """The store was laid out by a later version of kachery."""


class Unsupported(KacheryError):
    """The backend lacks a capability that the operation needs."""


class StoreUnavailable(KacheryError, OSError):
    """The store cannot be read or written now; the cause is the operating system's error."""

    def __init__(self, message: str, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno

    def __str__(self) -> str:
        return str(self.args[0])


class KacheryWarning(UserWarning):
    """Any warning that kachery issues itself."""


class DamagedWarning(KacheryWarning):
    """Something in the store did not match its digest and was moved to quarantine."""


_WHAT_NEXT = {
    errno.ENOSPC: "Free some space there, or point KACHERY_DIR at a folder with room.",
    errno.EDQUOT: "Your quota there is used up: free some space, or point KACHERY_DIR elsewhere.",
    errno.EACCES: "Ask for write permission there, or point KACHERY_DIR at a folder of your own.",
    errno.EPERM: "Ask for write permission there, or point KACHERY_DIR at a folder of your own.",
    errno.EROFS: "It is mounted read-only: point KACHERY_DIR at a folder you can write to.",
    errno.EMFILE: "This process has too many open files: close some, or raise `ulimit -n`.",
    errno.ENFILE: "This machine has too many open files: close some programs.",
    errno.ENOTDIR: "A file stands where a folder should be: point KACHERY_DIR elsewhere.",
}


def unavailable(root: str, error: OSError) -> StoreUnavailable:
    """The typed error for an operating system error at the store in `root`, with the way out."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    place = error.filename or root
    advice = _WHAT_NEXT.get(error.errno or 0, "Check that folder, or point KACHERY_DIR elsewhere.")
    return StoreUnavailable(
        f"the store at {root} cannot be used: {reason} ({place}). {advice}", error.errno
    )
