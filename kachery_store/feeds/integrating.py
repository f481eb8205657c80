"""From the inbox into the log: each submitted message that the owner accepts once, and only once.

What was accepted is appended with the writer's signature, and removed from the inbox after that. Whether
it has been appended is told by the log alone: a submission that was left behind by a crash, or is put
back by somebody, is removed without effect.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ..backend import Backend
from ..errors import BadMessage, DamagedWarning, FeedFinalized, NotFound
from ..saying import warn
from ..signing import Signer
from . import inbox
from .blobs import put_blob
from .entries import MOST_INLINE, blob_entry, message_entry, message_text
from .log import Log
from .submission import Name, Signed, digest_of
from .taken import Taken
from .writing import append_remaining

Policy: TypeAlias = Callable[[dict[str, Any], str], "bool | dict[str, Any]"]

_TOGETHER = 1024  # messages, or
_TOGETHER_BYTES = 8_000_000  # of entries: more wait in memory only within one submission
_MOST_SAID = 5  # warnings about single files


@dataclass
class Integrated:
    """What became of an inbox; numbers of messages, if nothing else is said.

    `accepted`: appended now. `repeated`: in the feed already. `refused`: by the policy; they are gone.
    `damaged`: submissions that were none, or not signed; they are in quarantine. `waiting`: submissions
    of other writers, by key; they stay. `odd`: files with names that no submission has; they stay too.
    `is_all`: False when there are more, for another time.
    """

    accepted: int = 0
    repeated: int = 0
    refused: int = 0
    damaged: int = 0
    waiting: dict[str, int] = field(default_factory=dict)
    odd: int = 0
    is_all: bool = True


@dataclass
class _Decided:
    """Submissions whose messages are decided, and the entries of those that are accepted."""

    names: list[Name] = field(default_factory=list)
    entries: list[tuple[Signed, bytes]] = field(default_factory=list)
    count: int = 0
    size: int = 0


class Integration:
    """One pass over an inbox. `backend`: where the inbox is, which may be beside a copy of the log."""

    def __init__(self, log: Log, signer: Signer, backend: Backend, policy: Policy | None) -> None:
        self._log = log
        self._signer = signer
        self._backend = backend
        self._policy = policy
        self._taken = Taken(log)
        self._result = Integrated()

    def run(self, writers: Collection[str] | None) -> Integrated:
        """Integrate what these writers, or with None all, submitted."""
        listing = inbox.listed(self._backend, self._log.place, writers)
        self._result = Integrated(waiting=listing.others, odd=listing.odd, is_all=listing.is_all)
        if not listing.chosen:
            return self._result
        self._log.refresh()
        if self._log.is_final():
            raise FeedFinalized(
                f"{self._log.place.uri} has ended: what was submitted to it stays in its inbox"
            )
        self._taken.update()
        decided = _Decided()
        for name in listing.chosen:
            self._decide(name, decided)
            if decided.count >= _TOGETHER or decided.size >= _TOGETHER_BYTES:
                self._finish(decided)
                decided = _Decided()
        self._finish(decided)
        self._taken.save()
        if self._result.damaged > _MOST_SAID:
            more = self._result.damaged - _MOST_SAID
            warn(
                DamagedWarning(f"{more} more files in the inbox of {self._log.place.uri} like that")
            )
        return self._result

    def _decide(self, name: Name, decided: _Decided) -> None:
        try:
            messages = inbox.opened(self._backend, self._log.place, name)
        except NotFound:  # somebody else has integrated it
            return
        except BadMessage as error:
            self._set_aside(name, error)
            return
        start = self._taken.next_number(name.writer, name.submission)
        self._result.repeated += min(start, len(messages))
        for one in messages[start:]:
            entry = self._entry(one)
            if entry is None:
                self._result.refused += 1
            else:
                decided.entries.append((one, entry))
                decided.size += len(entry)
        decided.names.append(name)
        decided.count += len(messages)

    def _entry(self, one: Signed) -> bytes | None:
        """The entry of a message, or None when it is refused."""
        answer = True if self._policy is None else self._policy(one.message, one.source.writer)
        if not isinstance(answer, bool | dict):
            raise TypeError(
                f"a policy answers True, False or another message, not {type(answer).__name__}"
            )
        if answer is False:
            return None
        text = one.text if answer is True else message_text(answer)
        source = one.source.json(one.digest if digest_of(text) != one.digest else None)
        if len(text) <= MOST_INLINE:
            return message_entry(text, time.time(), source)
        entry, digest = blob_entry(text, time.time(), source)
        put_blob(self._log.backend, self._log.place, digest, text)
        return entry

    def _finish(self, decided: _Decided) -> None:
        """Append what is accepted, if it is not in the log by now; then remove the submissions."""
        added = append_remaining(self._log, self._signer, lambda: self._remaining(decided))
        self._result.accepted += added
        self._result.repeated += len(decided.entries) - added
        for name in decided.names:
            self._backend.remove(name.file(self._log.place))

    def _remaining(self, decided: _Decided) -> Sequence[bytes]:
        self._taken.update()
        return [
            entry
            for one, entry in decided.entries
            if one.source.number
            >= self._taken.next_number(one.source.writer, one.source.submission)
        ]

    def _set_aside(self, name: Name, error: BadMessage) -> None:
        where = self._backend.quarantine(name.file(self._log.place))
        self._result.damaged += 1
        if self._result.damaged <= _MOST_SAID:
            warn(DamagedWarning(f"{error}. It is set aside ({where})"))
