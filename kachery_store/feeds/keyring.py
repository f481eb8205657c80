"""The user's own feeds: their private keys and local names, in the user's own folder (signing.py)."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from ..digest import blake3_bytes
from ..errors import BadFeed, BadKey, NotFound
from ..signing import Signer, read_private, signer_from, user_folder, write_private

_MOST_NAME = 200  # characters
_KEY_FORMAT = "kachery key 1"


class Owned(NamedTuple):
    """A feed whose key is here. `zone`: the zone in which it is written, or None: on this machine."""

    feed: str
    signer: Signer
    zone: str | None


class Keyring:
    """Keys by feed, and feeds by name."""

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder or user_folder()

    def create(self, name: str | None, zone: str | None) -> Owned:
        """Make the key of a new feed; durably. BadFeed when you have a feed of that name."""
        if name is not None and self.named(name) is not None:
            raise _taken(name)
        seed = os.urandom(32)
        signer = Signer(seed)
        feed = signer.public.hex()
        content = {
            "format": _KEY_FORMAT,
            "public": feed,
            "private": seed.hex(),
            "zone": zone,
            "created": time.time(),
        }
        write_private(self._key(feed), content)
        if name is not None and not self.set_name(name, feed):
            os.unlink(self._key(feed))
            raise _taken(name)
        return Owned(feed, signer, zone)

    def owned(self, feed: str) -> Owned | None:
        """A feed whose key is here, or None. BadKey."""
        path = self._key(feed)
        try:
            content = read_private(path)
        except NotFound:
            return None
        signer, zone = signer_from(content.get("private"), path), content.get("zone")
        if signer.public.hex() != feed or not (zone is None or isinstance(zone, str)):
            raise BadKey(f"{path} is damaged: it is not the key of feed {feed}. Restore it")
        return Owned(feed, signer, zone)

    def set_name(self, name: str, feed: str) -> bool:
        """Give a feed a local name; False when the name is taken."""
        return write_private(self._name(name), {"name": name, "feed": feed})

    def named(self, name: str) -> str | None:
        """The feed of that name, or None."""
        try:
            content = read_private(self._name(name))
        except NotFound:
            return None
        feed = content.get("feed")
        if content.get("name") != name or not isinstance(feed, str):
            raise BadKey(f"{self._name(name)} is damaged: it should name a feed. Delete it")
        return feed

    def names(self) -> dict[str, str]:
        """All names, and their feeds."""
        found = {}
        for path in self._files("names"):
            content = read_private(path)
            found[str(content.get("name"))] = str(content.get("feed"))
        return found

    def feeds(self) -> list[str]:
        """The feeds whose keys are here."""
        return [os.path.basename(path).removesuffix(".json") for path in self._files("keys")]

    def delete(self, feed: str) -> None:
        """Forget the key of a feed and its names."""
        for name, other in self.names().items():
            if other == feed:
                os.unlink(self._name(name))
        if os.path.exists(self._key(feed)):
            os.unlink(self._key(feed))

    def _files(self, kind: str) -> list[str]:
        folder = os.path.join(self.folder, kind)
        try:
            found = os.listdir(folder)
        except FileNotFoundError:
            return []
        return sorted(os.path.join(folder, name) for name in found if name.endswith(".json"))

    def _key(self, feed: str) -> str:
        return os.path.join(self.folder, "keys", f"{feed}.json")

    def _name(self, name: str) -> str:
        if not isinstance(name, str) or not 0 < len(name) <= _MOST_NAME or "://" in name:
            raise BadFeed(
                f"{repr(name)[:80]} cannot name a feed: use up to {_MOST_NAME} characters"
            )
        try:
            digest = blake3_bytes(name.encode()).hex()
        except UnicodeEncodeError:
            raise BadFeed(f"{name[:80]!r} cannot name a feed: it is no UTF-8") from None
        return os.path.join(self.folder, "names", f"{digest}.json")


def _taken(name: str) -> BadFeed:
    return BadFeed(
        f"you have a feed named {name!r} already: go on with it, or choose another name (`kachery feed"
        " list` shows those you have)"
    )
