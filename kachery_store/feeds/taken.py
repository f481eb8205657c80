"""Which submissions are in a log already: what its entries say of their sources.

That is the truth; a file in the user's own folder, which saves reading all of the log each time, is
compared with the log's root, and made again when it does not fit.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import Any

from ..errors import StoreUnavailable
from ..signing import user_folder, write_private
from .entries import may_have_source, parse_entry
from .log import Log
from .source import source_of

_FORMAT = "kachery integrated submissions 1"
_SAVED_EACH = 1024  # entries; fewer are read faster than the file is written
_MOST_FILE = 500_000_000  # bytes


class Taken:
    """The submissions of which messages are in a log. A message goes in after those before it."""

    def __init__(self, log: Log, folder: str | None = None) -> None:
        self._log = log
        place = log.place
        self._path = os.path.join(
            folder or user_folder(), "integrated", place.feed, f"{place.subfeed}.json"
        )
        self._size: int | None = None  # entries that were looked at
        self._saved = 0
        self._next: dict[str, dict[str, int]] = {}  # by writer and submission

    def next_number(self, writer: str, submission: str) -> int:
        """The number of the first message of a submission that is not in the log."""
        return self._next.get(writer, {}).get(submission, 0)

    def update(self) -> None:
        """Look at what the log has by now. FeedDamaged."""
        if self._size is None:
            self._size = self._saved = self._load()
        for index, data in enumerate(self._log.entries(self._size, self._log.size), self._size):
            if may_have_source(data):
                self._note(data, index)
        self._size = self._log.size

    def _note(self, data: bytes, index: int) -> None:
        try:
            source, _ = source_of(parse_entry(data, self._log.place, index).source)
        except ValueError:  # a message that looks like it
            return
        of_writer = self._next.setdefault(source.writer, {})
        of_writer[source.submission] = max(source.number + 1, of_writer.get(source.submission, 0))

    def save(self) -> None:
        """Keep what was found for the next time, when it is much."""
        size = self._size or 0
        if size - self._saved < _SAVED_EACH:
            return
        content = {
            "format": _FORMAT,
            "size": size,
            "root": self._log.root_at(size).hex(),
            "next": self._next,
        }
        with suppress(StoreUnavailable):  # it only saves time
            write_private(self._path, content, replace=True)
            self._saved = size

    def _load(self) -> int:
        """How many entries the file tells of; 0 without one, or when it does not fit the log."""
        try:
            with open(self._path, "rb") as file:
                content = json.loads(file.read(_MOST_FILE))
            if not self._fits(content):
                return 0
            self._next = content["next"]
            return int(content["size"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return 0

    def _fits(self, content: dict[str, Any]) -> bool:
        size = int(content["size"])
        return bool(
            content["format"] == _FORMAT
            and 0 < size <= self._log.size
            and self._log.root_at(size).hex() == content["root"]
        )
