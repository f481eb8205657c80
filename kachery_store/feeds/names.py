"""What feeds, subfeeds and their files are called. No input or output."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from ..errors import BadFeed
from ..note import Checkpoint
from ..published_json import sha1_of_dict

FOLDER = "feeds"
INBOX = "inbox"  # in the folder of a subfeed: what others submit to it

_ID = re.compile("[0-9a-f]{64}")
_SUBFEED = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}|~[0-9a-f]{40}")
_WIDTH = 16  # digits of a number in the name of a staged batch


class Place(NamedTuple):
    """One subfeed: the feed's public key as hex, and the subfeed's name."""

    feed: str
    subfeed: str

    @property
    def uri(self) -> str:
        """The URI of the subfeed."""
        return f"feed://{self.feed}/{self.subfeed}"

    @property
    def origin(self) -> str:
        """The first line of its checkpoints, and the name under which they are signed."""
        return f"kachery/feed/{self.feed}/{self.subfeed}"

    @property
    def public(self) -> bytes:
        """The key that signs."""
        return bytes.fromhex(self.feed)

    def file(self, name: str) -> str:
        """Where a file of the subfeed is under a root."""
        return f"{FOLDER}/{self.feed}/{self.subfeed}/{name}"

    @property
    def checkpoint(self) -> str:
        """Where the checkpoint is."""
        return self.file("checkpoint")

    def staged(self, start: int) -> str:
        """Where the batch is that begins with this entry."""
        return self.file(f"staged/{start:0{_WIDTH}d}")

    def head(self, size: int, root: bytes) -> Checkpoint:
        """A checkpoint of this subfeed."""
        return Checkpoint(self.origin, size, root)


def place_of(feed: str, subfeed: Any) -> Place:
    """The place of a subfeed, which is named by text or by a JSON object. BadFeed."""
    if not isinstance(feed, str) or not _ID.fullmatch(feed):
        raise BadFeed(f"{repr(feed)[:80]} is no feed: that is the 64 hex digits of its public key")
    name = f"~{sha1_of_dict(subfeed)}" if isinstance(subfeed, dict) else subfeed
    if not isinstance(name, str) or not _SUBFEED.fullmatch(name):
        raise BadFeed(
            f"{repr(name)[:80]} cannot name a subfeed: use up to 100 letters, digits, and _ - . (not"
            " first), or a JSON object, which may say anything"
        )
    return Place(feed, name)


def is_subfeed(name: str) -> bool:
    """Whether a subfeed can have that name."""
    return _SUBFEED.fullmatch(name) is not None


def parse_feed_uri(uri: str) -> tuple[str, str | None]:
    """The feed and the subfeed, if there is one, that a URI names. BadFeed."""
    feed, separator, subfeed = uri.removeprefix("feed://").partition("/")
    if not uri.startswith("feed://") or not _ID.fullmatch(feed):
        raise BadFeed(f"{uri[:100]!r} is no feed: the form is feed://<64 hex digits>/<subfeed>")
    return feed, place_of(feed, subfeed).subfeed if separator else None


def staged_start(name: str) -> int | None:
    """The entry that a staged batch begins with, by its name; None for what is no batch."""
    last = name.rpartition("/")[2]
    return int(last) if len(last) == _WIDTH and last.isdecimal() else None
