"""Subfeeds as users hold them: with a position, and waiting for what is new."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ..backend import Backend
from ..errors import BadFeed, FeedFinalized, NotWriteable
from ..identity import own_identity
from ..local_backend import LocalBackend
from ..merkle import inclusion_proof
from ..signing import Signer
from . import looking, writing
from .blobs import get_blob, put_blob
from .entries import (
    MOST_INLINE,
    Entry,
    blob_entry,
    final_entry,
    message_entry,
    message_text,
    parse_entry,
    parse_message,
)
from .integrating import Integrated, Integration, Policy
from .log import Log
from .submission import Submission
from .waiting import Pauses

T = TypeVar("T")

_BEFORE = 1  # entries before the first message
_PIECE = 256  # messages of a stream that are read at once


class Subfeed:
    """One append-only sequence of messages. Not for several threads at the same time.

    `position`: the number of the message that is read next; the first one is 0. `trusted` tells the
    keys whose submissions are accepted when nothing else is said.
    """

    def __init__(
        self,
        log: Log,
        signer: Signer | None = None,
        trusted: Callable[[], Collection[str]] = frozenset,
    ) -> None:
        self._log = log
        self._signer = signer
        self._trusted = trusted
        self._position = 0

    @property
    def uri(self) -> str:
        """feed://<64 hex digits>/<name>."""
        return self._log.place.uri

    @property
    def feed_id(self) -> str:
        """The public key, 64 hex digits."""
        return self._log.place.feed

    @property
    def subfeed_name(self) -> str:
        """The name."""
        return self._log.place.subfeed

    @property
    def is_writeable(self) -> bool:
        """Whether the private key is here."""
        return self._signer is not None

    @property
    def is_finalized(self) -> bool:
        """Whether it has ended, as far as it has been read."""
        self._opened()
        return self._log.is_final()

    @property
    def position(self) -> int:
        """The number of the message that is read next."""
        return self._position

    def set_position(self, position: int) -> None:
        """Read on from this message."""
        if type(position) is not int or position < 0:
            raise ValueError(f"a position is a number from 0 on, not {position!r}")
        self._position = position

    @property
    def checkpoint(self) -> str:
        """The verified head: a signed note, or no text for an empty subfeed."""
        self._opened()
        return self._log.note.decode()

    @property
    def log(self) -> Log:
        """The log itself."""
        return self._log

    def get_num_local_messages(self) -> int:
        """How many messages there are, where this subfeed is read."""
        self._log.refresh()
        return self._count()

    def get_next_messages(
        self,
        wait_msec: float | None = 10,
        signed: bool = False,
        max_num_messages: int = 0,
        advance_position: bool = True,
    ) -> list[dict[str, Any]]:
        """The messages from the position on; waits a while for the first, for ever with None.

        With `max_num_messages` not more than so many. With `signed` each is {"body": {"message",
        "messageNumber", "timestamp"}, "entry", "proof", "checkpoint"}: the proof shows that the entry
        is in the tree whose head the checkpoint signs (docs/formats/feed.md). If it came through the
        inbox, the body has "writer" too, the key that signed it.
        """
        found = wait_for(self._backends(), lambda: self._next(max_num_messages, signed), wait_msec)
        if advance_position:
            self._position += len(found)
        return found

    def get_next_message(
        self, wait_msec: float | None = 10, signed: bool = False, advance_position: bool = True
    ) -> dict[str, Any] | None:
        """The message at the position, or None if there is none, also after waiting."""
        found = self.get_next_messages(wait_msec, signed, 1, advance_position)
        return found[0] if found else None

    def message_stream(
        self, wait_msec: float | None = None, signed: bool = False
    ) -> Iterator[dict[str, Any]]:
        """The messages from the position on, as they come; ends with the subfeed.

        With `wait_msec` it also ends when none came for so long.
        """
        while found := self.get_next_messages(wait_msec, signed, _PIECE, advance_position=False):
            for message in found:
                self._position += 1
                yield message

    def append_message(self, message: dict[str, Any]) -> None:
        """Append a JSON object; when this returns it is on the disk, or in the bucket, for good.

        NotWriteable, BadMessage, FeedFinalized, Busy, StoreUnavailable.
        """
        self.append_messages([message])

    def append_messages(self, messages: Sequence[dict[str, Any]]) -> None:
        """Append JSON objects, in this order and with nothing between 4,096 of them; else as above."""
        signer = self._writer()
        now = time.time()
        texts = [message_text(message) for message in messages]
        entries = [self._entry(text, now) for text in texts]
        writing.append(self._log, signer, entries)

    def finalize(self) -> None:
        """End the subfeed: nothing can be appended from now on, by anybody."""
        writing.append(self._log, self._writer(), [final_entry(time.time())], final=True)
        writing.integrate(self._log)

    def integrate(self) -> bool:
        """Bring what is staged into tiles and checkpoint, for readers other than kachery.

        It happens by itself now and then. Returns whether there was something.
        """
        return writing.integrate(self._log)

    def submit_message(self, message: dict[str, Any]) -> None:
        """Put a JSON object into the inbox, for the owner to integrate; it takes no key of the feed.

        When this returns it is durable there. It is signed with your own key. Raises as
        `append_message`; NotWriteable where no owner looks, in a copy on this machine.
        """
        self.submit_messages([message])

    def submit_messages(self, messages: Sequence[dict[str, Any]]) -> None:
        """Put JSON objects into the inbox, in this order; up to 4,096 come in one file."""
        texts = [message_text(message) for message in messages]
        self._opened()
        if self._log.is_final():
            raise FeedFinalized(f"{self.uri} has ended: nothing can be submitted to it")
        writing.check_capabilities(self._log.backend)
        looking.submit(self._log, own_identity(), texts)

    def inbox(self, writers: Iterable[str] | None = None) -> Iterator[Submission]:
        """What waits in the inbox, the oldest first, whoever signed it; or of these keys only.

        Nothing is changed. Of more than 10,000 submissions the oldest are told; what is damaged is left
        out, with a warning.
        """
        return looking.submissions(self._log, None if writers is None else frozenset(writers))

    def integrate_inbox(
        self,
        policy: Policy | None = None,
        *,
        writers: Iterable[str] | None = None,
        source: Subfeed | None = None,
    ) -> Integrated:
        """Append what others submitted, each message once, and remove it from the inbox.

        Without anything else from the keys that you trust, and your own; with `writers` from those keys
        only; with `policy` from everybody, or `writers`: it gets (message, writer's key) and returns
        True, False, or another message. `source`: the same subfeed where it is read from elsewhere, with
        another inbox. NotWriteable, FeedFinalized, Busy, StoreUnavailable.
        """
        signer = self._writer()
        if source is not None and source.uri != self.uri:
            raise BadFeed(f"{source.uri} has no inbox for {self.uri}")
        other = source or self
        accepted = None if writers is None else frozenset(writers)
        if accepted is None and policy is None:
            accepted = other.trusted_writers()
        return Integration(self._log, signer, other.log.backend, policy).run(accepted)

    def trusted_writers(self) -> frozenset[str]:
        """The keys whose submissions are accepted when nothing else is said."""
        return frozenset(self._trusted())

    def print_messages(self) -> None:
        """Print all messages, one JSON object on each line."""
        self._log.refresh()
        for message in self._messages(0, self._count(), signed=False):
            print(json.dumps(message))  # noqa: T201 - what it is for

    def _entry(self, text: bytes, now: float) -> bytes:
        if len(text) <= MOST_INLINE:
            return message_entry(text, now)
        entry, digest = blob_entry(text, now)
        put_blob(self._log.backend, self._log.place, digest, text)
        return entry

    def _writer(self) -> Signer:
        if self._signer is None:
            raise NotWriteable(
                f"{self.uri} cannot be written here: the private key of its feed is elsewhere. Submit it"
                " to the inbox, which the owner integrates: submit_messages, or kachery feed submit"
            )
        return self._signer

    def _opened(self) -> None:
        if not self._log.is_opened:
            self._log.refresh()

    def _backends(self) -> list[Backend]:
        return [self._log.backend]

    def _count(self) -> int:
        return max(self._log.size - _BEFORE - self._log.is_final(), 0)

    def _next(self, most: int, signed: bool) -> list[dict[str, Any]] | None:
        """What is there from the position on; nothing at the end of all, None if some may come."""
        known = self._count() - self._position if self._log.is_opened else 0
        if known <= 0 or not 0 < most <= known:
            self._log.refresh()
        count = self._count()
        if self._position >= count:
            return [] if self._log.is_final() else None
        end = min(count, self._position + most) if most > 0 else count
        return list(self._messages(self._position, end, signed))

    def _messages(self, start: int, end: int, signed: bool) -> Iterator[dict[str, Any]]:
        place, first = self._log.place, start + _BEFORE
        for index, data in enumerate(self._log.entries(first, end + _BEFORE), first):
            entry = parse_entry(data, place, index)
            message = entry.message
            if message is None and entry.blob is not None:
                text = get_blob(self._log.backend, place, entry.blob)
                message = parse_message(text, place, index)
            if message is not None:
                yield self._signed(message, entry, index) if signed else message

    def _signed(self, message: dict[str, Any], entry: Entry, index: int) -> dict[str, Any]:
        log = self._log
        data = next(log.entries(index, index + 1))
        body = {"message": message, "messageNumber": index - _BEFORE, "timestamp": entry.time}
        if entry.source is not None:
            body["writer"] = looking.writer_of(entry, data, log.place, index)
        return {
            "body": body,
            "entry": data.decode(),
            "proof": [one.hex() for one in inclusion_proof(index, log.size, log.hash_of)],
            "checkpoint": log.note.decode(),
        }

    def __repr__(self) -> str:
        return f"Subfeed({self.uri!r})"


def wait_for(
    backends: Sequence[Backend], look: Callable[[], list[T] | None], wait_msec: float | None
) -> list[T]:
    """What `look` finds, as soon as it is not None; nothing when the time is over."""
    pauses = Pauses(all(isinstance(one, LocalBackend) for one in backends), wait_msec)
    while True:
        found = look()
        if found is not None:
            return found
        if not pauses.wait():
            return []


def wait_for_messages(
    subfeeds: Mapping[Any, Subfeed], wait_msec: float | None
) -> dict[Any, list[dict[str, Any]]]:
    """The messages of all subfeeds that have some after their positions; waits for the first."""

    def look() -> list[tuple[Any, list[dict[str, Any]]]] | None:
        found = [(key, one.get_next_messages(wait_msec=0)) for key, one in subfeeds.items()]
        return [(key, messages) for key, messages in found if messages] or None

    backends = [one.log.backend for one in subfeeds.values()]
    return dict(wait_for(backends, look, wait_msec))
