"""The inbox of a subfeed: files that those leave who do not have the feed's key.

Every file has a name of its own, so no two writers are in each other's way, and there is no lock.
Whoever can write to the zone can put anything there: nothing is believed but signatures, and everything
is bounded.
"""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from ..backend import Backend
from ..errors import BadMessage, DigestMismatch, NotFound
from ..identity import Identity
from .durably import create
from .names import INBOX, Place
from .submission import (
    MOST_FILE,
    Name,
    Signed,
    in_groups,
    make_submission,
    parse_name,
    parse_submission,
)

MOST_AT_ONCE = 10_000  # submissions that are looked at, the oldest ones
_MOST_WRITERS = 1_000  # that are told apart


class Listing(NamedTuple):
    """What is in an inbox. `chosen`: the oldest submissions by the writers in question.

    `others`: how many those of other writers are, by writer; `odd`: how many files have names that no
    submission has; `is_all`: whether all that were in question are in `chosen`.
    """

    chosen: list[Name]
    others: dict[str, int]
    odd: int
    is_all: bool


def submit(backend: Backend, place: Place, identity: Identity, texts: Sequence[bytes]) -> None:
    """Put messages, given as JSON, into an inbox; they are durable there when this returns.

    Each 4,096 of them, or 16 MB, are one file. StoreUnavailable: then some files may be there.
    """
    for group in in_groups(texts):
        created = False
        while not created:  # in a place that nobody else chooses by chance
            sent, submission = time.time_ns() // 1000, os.urandom(16).hex()
            name, data = make_submission(place, identity, group, sent, submission)
            created = create(backend, [(name.file(place), data)])[0]


def listed(
    backend: Backend, place: Place, writers: Collection[str] | None, most: int = MOST_AT_ONCE
) -> Listing:
    """What is in an inbox, without looking into it. `writers`: in question; None: all."""
    others: dict[str, int] = {}
    counted = [0, 0]  # odd ones, those in question

    def in_question() -> Iterator[Name]:
        for file in backend.names(place.file(INBOX)):
            name = parse_name(file, place)
            if name is None:
                counted[0] += 1
            elif writers is None or name.writer in writers:
                counted[1] += 1
                yield name
            elif name.writer in others or len(others) < _MOST_WRITERS:
                others[name.writer] = others.get(name.writer, 0) + 1

    chosen = heapq.nsmallest(most, in_question(), key=lambda name: (name.sent, name.submission))
    return Listing(chosen, others, counted[0], counted[1] <= most)


def opened(backend: Backend, place: Place, name: Name) -> list[Signed]:
    """The messages in a submission, all signatures checked. BadMessage; NotFound when it has gone."""
    file = name.file(place)
    status = backend.status(file)
    if status is None:
        raise NotFound(f"{file} is not in the inbox any more")
    if status.size > MOST_FILE:
        raise BadMessage(f"{file} has {status.size} bytes; a submission has at most {MOST_FILE}")
    try:
        data = backend.read(file, 0, MOST_FILE + 1)
    except DigestMismatch as error:  # no file, or one that never ends
        raise BadMessage(str(error)) from None
    return parse_submission(place, name, data)
