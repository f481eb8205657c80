"""What can go wrong with stored bytes.

KacheryError
├── NotFound (LookupError)         nothing is stored under that name
│   └── OutOfReach                 it is not here, and the zone that may have it cannot be asked now
├── DigestMismatch                 the bytes there are not the bytes that were stored
│   └── FeedDamaged                the files of a feed are not what its key signed
│       ├── FeedRolledBack         a feed is shorter than it was when it was last read
│       └── FeedForked             a feed tells another story than when it was last read
├── BadURI (ValueError)            that text names nothing that can be stored or loaded
├── BadAmount (ValueError)         that is no size, or no span of time
├── Busy                           somebody else is doing that to the store already
├── ConfigError (ValueError)       a configuration file says something that it cannot say
├── BadManifest (ValueError)       those bytes are not a list of parts
├── BadArray (ValueError)          that file holds no array that can be loaded
├── BadMutable (ValueError)        that cannot be the name, or the value, of a mutable
├── BadFeed (ValueError)           that text names no feed or subfeed
├── BadMessage (ValueError)        that cannot be a message of a feed
├── BadNote (ValueError)           that text is no signed note, or its signature is not the one asked for
├── BadKey                         a private key's file cannot be used
├── NotWriteable                   the feed's private key is not here
├── FeedFinalized                  nothing can be appended to that subfeed any more
├── DownloadFailed                 a file could not be fetched from the web
│   └── DownloadRefused            it leads where kachery does not go: another scheme, a private address
├── Unsupported                    that store cannot do this, or not safely
├── StoreTooNew                    a later kachery wrote this store; this one must not touch it
└── StoreUnavailable (OSError)     the store cannot be read or written: rights, space, limits

KacheryWarning (UserWarning)
├── DamagedWarning                 something stored was damaged and has been set aside
├── UnverifiedWarning              a kind of store that kachery has not been tested with
└── ZoneWarning                    the zone cannot be reached, or did not take something
"""

from __future__ import annotations

import errno
import os


class KacheryError(Exception):
    """Any error that kachery raises itself."""


class NotFound(KacheryError, LookupError):
    """Nothing is stored under that name."""


class OutOfReach(NotFound):
    """It is not in the local store, and the zone, which may have it, cannot be reached now."""


class DigestMismatch(KacheryError):
    """The bytes found are not the bytes that the digest names."""


class FeedDamaged(DigestMismatch):
    """The files of a feed are missing, damaged, or not signed by its key; nothing of them is used."""


class FeedRolledBack(FeedDamaged):
    """A feed has fewer entries than it had when it was last read here."""


class FeedForked(FeedDamaged):
    """A feed does not begin with what was read of it before, though its key signed both."""


class BadFeed(KacheryError, ValueError):
    """The text names no feed or subfeed."""


class BadMessage(KacheryError, ValueError):
    """The value cannot be a message of a feed."""


class BadNote(KacheryError, ValueError):
    """The bytes are no signed note, or not one that the key in question signed."""


class BadKey(KacheryError):
    """The file of a private key is damaged, or others can read it."""


class NotWriteable(KacheryError):
    """A feed can be appended to only where its private key is."""


class FeedFinalized(KacheryError):
    """The subfeed has ended: nothing can be appended to it."""


class BadURI(KacheryError, ValueError):
    """The text is not a URI that kachery understands."""


class BadArray(KacheryError, ValueError):
    """A file is no array in NumPy's format, or one that must not be loaded."""


class BadManifest(KacheryError, ValueError):
    """The bytes are not a manifest, or one that contradicts itself."""


class BadMutable(KacheryError, ValueError):
    """The text or value cannot be the name, or the value, of a mutable."""


class DownloadFailed(KacheryError):
    """A file could not be fetched from the web; nothing of it was stored."""


class DownloadRefused(DownloadFailed):
    """A redirection leads to another scheme or from a public to a private address."""


class BadAmount(KacheryError, ValueError):
    """The text is not a size, or not a span of time."""


class Busy(KacheryError):
    """Another process is doing the same to the store, and one at a time is enough."""


class ConfigError(KacheryError, ValueError):
    """A configuration file cannot be read, or has a wrong value; the message names file and key."""


class StoreTooNew(KacheryError):
    """The store was laid out by a later version of kachery."""


class Unsupported(KacheryError):
    """The backend lacks a capability that the operation needs."""


class StoreUnavailable(KacheryError, OSError):
    """The store cannot be read or written now; the cause is the operating system's error.

    `place`: the root or the URL of the store.
    """

    def __init__(self, message: str, errno: int | None = None, place: str = "") -> None:
        super().__init__(message)
        self.errno = errno
        self.place = place

    @property
    def is_refusal(self) -> bool:
        """Whether the answer was no, rather than that there was none."""
        return self.errno in _REFUSALS

    def __str__(self) -> str:
        return str(self.args[0])


class KacheryWarning(UserWarning):
    """Any warning that kachery issues itself."""


class ConfigWarning(KacheryWarning):
    """A configuration file has a key that this kachery does not know."""


class DamagedWarning(KacheryWarning):
    """Something in the store did not match its digest and was moved to quarantine."""


class UnverifiedWarning(KacheryWarning):
    """A file system that kachery has not been tested with."""


class ZoneWarning(KacheryWarning):
    """The zone cannot be reached: work goes on in the local store alone."""


_REFUSALS = frozenset(
    (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
)
_WHAT_NEXT = {
    errno.ENOSPC: "Free some space there, or point KACHERY_DIR at a folder with room.",
    errno.EDQUOT: "Your quota there is used up: free some space, or point KACHERY_DIR elsewhere.",
    errno.EACCES: "Ask for write permission there, or point KACHERY_DIR at a folder of your own.",
    errno.EPERM: "Ask for write permission there, or point KACHERY_DIR at a folder of your own.",
    errno.EROFS: "It is mounted read-only: point KACHERY_DIR at a folder you can write to.",
    errno.EMFILE: "This process has too many open files: close some, or raise `ulimit -n`.",
    errno.ENFILE: "This machine has too many open files: close some programs.",
    errno.ENOTSUP: "Its file system has no hard links: point KACHERY_DIR at one that has.",
    errno.ENOTDIR: "A file stands where a folder should be: point KACHERY_DIR elsewhere.",
}


def unavailable(root: str, error: OSError) -> StoreUnavailable:
    """The typed error for an operating system error at the store in `root`, with the way out."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    place = error.filename or root
    advice = _WHAT_NEXT.get(error.errno or 0, "Check that folder, or point KACHERY_DIR elsewhere.")
    return StoreUnavailable(
        f"the store at {root} cannot be used: {reason} ({place}). {advice}",
        error.errno,
        root,
    )
