"""What those see of an inbox who do not integrate it: writers, and readers of its subfeed."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence

from ..errors import BadMessage, DamagedWarning, FeedDamaged, NotFound, NotWriteable
from ..identity import Identity
from ..local_backend import LocalBackend
from ..saying import warn
from . import inbox
from .entries import Entry, message_in
from .log import Log
from .names import Place
from .source import source_of
from .submission import Submission, digest_of


def submit(log: Log, identity: Identity, texts: Sequence[bytes]) -> None:
    """Put messages into the inbox beside an opened log. NotWriteable beside a copy on this machine."""
    backend, place = log.backend, log.place
    if _is_copy(log):
        raise NotWriteable(
            f"{place.uri} at {backend.url} is your own copy, and its owner does not look there: say in"
            " which zone it is (zone=, or --zone)"
        )
    inbox.submit(backend, place, identity, texts)


def _is_copy(log: Log) -> bool:
    """Whether it was copied to a store that is no zone: then nothing was ever staged there."""
    backend = log.backend
    if not isinstance(backend, LocalBackend) or backend.shared or not log.size:
        return False
    return not os.path.isdir(os.path.dirname(backend.path(log.place.staged(0))))


def submissions(log: Log, writers: Collection[str] | None) -> Iterator[Submission]:
    """What is in the inbox beside a log, the oldest first; what is damaged is said, and left out."""
    for name in inbox.listed(log.backend, log.place, writers).chosen:
        try:
            found = inbox.opened(log.backend, log.place, name)
        except NotFound:
            continue
        except BadMessage as error:
            warn(DamagedWarning(str(error)))
            continue
        messages = [one.message for one in found]
        yield Submission(name.writer, name.sent / 1_000_000, messages)


def writer_of(entry: Entry, data: bytes, place: Place, index: int) -> str:
    """The key of who submitted the message in an entry, which says so. FeedDamaged when it did not.

    The owner may have accepted another message than what was submitted; then the entry says what was.
    """
    try:
        source, submitted = source_of(entry.source)
        if submitted is None:
            submitted = entry.blob.hex if entry.blob else digest_of(message_in(data))
    except ValueError as error:
        wrong = str(error)
    else:
        if source.is_signed(place, submitted):
            return source.writer
        wrong = f"{source.writer} has not signed it"
    raise FeedDamaged(
        f"entry {index} of {place.uri} does not come from whom it names: {wrong}. Ask the feed's owner"
    )
