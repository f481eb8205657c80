"""A zone: a named store that is shared.

It may be out of reach. Then work goes on in the local store, which is said once; what the zone should
have got waits in the outbox (see outbox.py), and the zone is asked again after a while.
"""

from __future__ import annotations

import json
import re
import threading
import time

from .backend import Backend, ReadOnly
from .errors import (
    ConfigError,
    DigestMismatch,
    NotFound,
    StoreTooNew,
    StoreUnavailable,
    ZoneWarning,
)
from .local_backend import LAYOUT_FILE, LAYOUT_VERSION, LocalBackend
from .saying import warn

_ASK_AGAIN_AFTER = 30.0  # seconds
_MOST_LAYOUT = 65_536  # bytes
_NAME = re.compile("[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")


class Zone:
    """A shared store.

    `read_only`: nothing is sent there. `expires`: seconds that its content lives at most, or None.
    """

    def __init__(
        self, name: str, backend: Backend, *, read_only: bool = False, expires: float | None = None
    ) -> None:
        self.name = name
        self.backend: Backend = ReadOnly(backend) if read_only else backend
        self.read_only = read_only
        self.expires = expires
        self._folder = backend if isinstance(backend, LocalBackend) else None
        self._away_until = 0.0
        self._closed_until = 0.0
        self._refusal_told = False
        self._known_layout = False
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Zone({self.name!r}, {self.backend.url!r})"

    @property
    def is_away(self) -> bool:
        """Whether it could not be reached a short while ago."""
        return time.monotonic() < self._away_until

    def went_away(self, error: StoreUnavailable) -> None:
        """Note that it cannot be reached now, and say so, once."""
        with self._lock:
            was_away, self._away_until = self._away_until, time.monotonic() + _ASK_AGAIN_AFTER
        if not was_away:
            warn(
                ZoneWarning(
                    f"zone {self.name}: {str(error).rstrip('.')}. Work goes on in the local store;"
                    " what the zone should get is kept, and sent when it is back, or by `kachery push`"
                )
            )

    @property
    def is_closed(self) -> bool:
        """Whether it let us write nothing a short while ago; reading is another matter."""
        return time.monotonic() < self._closed_until

    def refused(self, error: StoreUnavailable) -> None:
        """Note that it does not let us write, and say so, once."""
        with self._lock:
            told, self._refusal_told = self._refusal_told, True
            self._closed_until = time.monotonic() + _ASK_AGAIN_AFTER
        if not told:
            warn(
                ZoneWarning(
                    f"zone {self.name}: {str(error).rstrip('.')}. It is read all the same; what it"
                    " should get is kept for `kachery push`. If you are not to write there, say"
                    f" read_only = true in [zones.{self.name}]"
                )
            )

    def is_back(self) -> bool:
        """Note that it answered; whether it had been away, or writing there may be tried again.

        The latter is said once after each refusal.
        """
        with self._lock:
            was_away, self._away_until = self._away_until, 0.0
            was_closed = 0.0 < self._closed_until <= time.monotonic()
            if was_closed:
                self._closed_until = 0.0
        return bool(was_away) or was_closed

    def accepted(self) -> None:
        """Note that it let us write."""
        with self._lock:
            self._closed_until, self._refusal_told = 0.0, False

    @property
    def is_prepared(self) -> bool:
        """Whether its layout has been looked at, and is known."""
        return self._known_layout

    def prepare(self, *, writing: bool, seen: bool = False) -> None:
        """Look at the layout before the first use, and write it before the first writing.

        `seen`: it had a layout earlier, so a folder without one is a disk that is not mounted. Raises
        StoreTooNew when a later kachery laid the zone out, StoreUnavailable.
        """
        if self._known_layout:
            return
        try:
            version = json.loads(self.backend.read(LAYOUT_FILE, 0, _MOST_LAYOUT))["layout"]
        except NotFound:
            if seen and self._folder is not None:
                raise self._folder.vanished() from None
            if not writing:
                return
            text = json.dumps({"kachery": "store", "layout": LAYOUT_VERSION}) + "\n"
            self.backend.create(LAYOUT_FILE, text.encode(), durable=True)
            version = LAYOUT_VERSION
        except (ValueError, KeyError, TypeError, RecursionError, DigestMismatch):
            raise StoreUnavailable(
                f"{LAYOUT_FILE} of zone {self.name} ({self.backend.url}) is damaged: it should read"
                f' {{"kachery": "store", "layout": {LAYOUT_VERSION}}}'
            ) from None
        if not isinstance(version, int) or version > LAYOUT_VERSION:
            raise StoreTooNew(
                f"zone {self.name} ({self.backend.url}) has layout {repr(version)[:80]}, and this"
                f" kachery knows layouts up to {LAYOUT_VERSION}: upgrade kachery, or use another zone"
            )
        self._known_layout = True
        if self._folder is not None:
            self._folder.expect_layout()


def check_name(name: str) -> None:
    """Refuse with ConfigError what cannot name a zone; the outbox has a folder of that name."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name[:80]!r} is no name for a zone: use up to 64 letters, digits, and - _ ."
        )
