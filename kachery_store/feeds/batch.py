"""A staged batch: a checkpoint, signed, and the entries that it adds. No input or output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..errors import BadNote, FeedDamaged
from ..merkle import Frontier
from ..note import Checkpoint, open_note, parse_checkpoint, sign_note
from ..signing import Signer, verify
from .names import Place
from .tiles import bundle, leaf_hashes, parse_bundle

MOST_ENTRIES = 4096  # of one batch
MOST_BYTES = 16_000_000  # of one batch; S3 and this kachery read no more than 64,000,000 at once

_SEPARATOR = b"\0"  # no note has one


class Batch(NamedTuple):
    """Entries that were appended together. `frontier` is that of the tree which ends with them."""

    note: bytes
    entries: Sequence[bytes]
    hashes: Sequence[bytes]
    frontier: Frontier


def make_batch(
    place: Place, signer: Signer, frontier: Frontier, entries: Sequence[bytes]
) -> tuple[bytes, Batch]:
    """A batch that goes after the tree of this frontier, and its bytes."""
    hashes = leaf_hashes(entries)
    after = frontier.copy()
    after.extend(hashes)
    text = place.head(after.size, after.root()).text()
    note = sign_note(text, place.origin, signer.public, signer.sign)
    return note + _SEPARATOR + bundle(entries), Batch(note, entries, hashes, after)


def parse_batch(place: Place, data: bytes, frontier: Frontier) -> Batch:
    """The batch in these bytes, which goes after the tree of this frontier. FeedDamaged."""
    name = place.staged(frontier.size)
    note, _, rest = data.partition(_SEPARATOR)
    head = open_checkpoint(place, note, name)
    entries = parse_bundle(rest, name)
    after = frontier.copy()
    hashes = leaf_hashes(entries)
    after.extend(hashes)
    if not entries or (head.size, head.root) != (after.size, after.root()):
        raise FeedDamaged(
            f"{name}: its entries are not those that its checkpoint signs after the first"
            f" {frontier.size} entries of {place.uri}"
        )
    return Batch(note, entries, hashes, after)


def open_checkpoint(place: Place, note: bytes, name: str) -> Checkpoint:
    """The checkpoint in a note, signed by the feed's key for this subfeed. FeedDamaged, by `name`."""
    try:
        head = parse_checkpoint(open_note(note, place.origin, place.public, verify))
    except BadNote as error:
        raise FeedDamaged(f"{name} is not trusted: {error}") from None
    if head.origin != place.origin:
        raise FeedDamaged(f"{name} belongs to another log, {head.origin[:200]!r}")
    return head
