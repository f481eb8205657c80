"""Signed append-only feeds: docs/formats/feed.md.

Feed, Subfeed      what users hold
Keyring            the user's own feeds: keys and local names
verify_files       a check of all files of a subfeed
mirror             a verified copy of a subfeed on another backend
Submission, Integrated       what waits in an inbox, and what became of it
"""

from .feed import Feed
from .integrating import Integrated
from .keyring import Keyring, Owned
from .mirror import mirror
from .names import Place, parse_feed_uri
from .snapshot import load_snapshot
from .subfeed import Subfeed, wait_for_messages
from .submission import Submission
from .verifying import verify_files

__all__ = [
    "Feed",
    "Integrated",
    "Keyring",
    "Owned",
    "Place",
    "Subfeed",
    "Submission",
    "load_snapshot",
    "mirror",
    "parse_feed_uri",
    "verify_files",
    "wait_for_messages",
]
