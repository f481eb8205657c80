"""Reading a log: what is handed out has been verified against a head that the feed's key signed.

The head is that of the last staged batch, or of the checkpoint. A staged batch counts only if the
checkpoint, read after it, does not reach beyond its beginning: so long it has not been taken away, and
nobody can have put another one in its place (docs/adr/0017).
"""

from __future__ import annotations

from collections.abc import Iterator

from ..backend import Backend
from ..errors import Busy, NotFound
from ..merkle import EMPTY_ROOT, Frontier, fold, node_hash, root_of
from ..note import MOST_NOTE, Checkpoint
from . import tiles, wording
from .batch import Batch, open_checkpoint, parse_batch
from .entries import check_first, is_final
from .memory import Memory
from .names import Place
from .tiles import LEVELS, NO_EDGE, WIDTH, Edge

_ATTEMPTS = 20  # against others who integrate while this one reads
_MOST_TILES = 1024  # of 256 hashes, kept in memory


class Log:
    """One subfeed on one backend.

    `head`: the verified head. `note`: the bytes that sign it. `edge`: that of what is integrated into
    tiles; `tail`: the entries after that, which are staged. `checkpoint`: the bytes of the checkpoint.
    """

    def __init__(self, backend: Backend, place: Place, memory: Memory | None = None) -> None:
        self.backend = backend
        self.place = place
        self._memory = memory
        self.forget()

    def forget(self) -> None:
        """Begin anew, with nothing verified."""
        self.head = self.place.head(0, EMPTY_ROOT)
        self.note = b""
        self.checkpoint: bytes | None = None
        self.edge: Edge = NO_EDGE
        self.tail: list[bytes] = []
        self.frontier = Frontier()
        self.batches = 0
        self._hashes: list[bytes] = []  # of the tail
        self._tiles: dict[tuple[int, int], tuple[bytes, ...]] = {}
        self._bundle: tuple[int, list[bytes]] = (-1, [])
        self._final = 0, False  # at which size it was looked whether that is the end
        self._opened = False

    @property
    def is_opened(self) -> bool:
        """Whether it has been read, and compared with what is remembered."""
        return self._opened

    @property
    def size(self) -> int:
        """The number of entries, entry zero among them."""
        return self.head.size

    def refresh(self) -> bool:
        """Look for what is new; whether there is something.

        Raises FeedDamaged, FeedRolledBack, FeedForked; then nothing is handed out that was not known
        before. NotFound is no error: a log without files is empty.
        """
        before = self.size
        known = self._recalled()  # first: what others append and remember meanwhile is no rollback
        for _ in range(_ATTEMPTS):
            if self._refresh():
                break
        else:
            raise Busy(f"{self.place.uri} changes too fast to be read at {self.backend.url}")
        if not self._opened:
            self._compare(known)
            self._opened = True
        if self.size > before:
            self.remember(durable=True)
        return self.size > before

    def _refresh(self) -> bool:
        """Read once; False when others integrated meanwhile, so that it has to be read again."""
        if not self._opened and self.checkpoint is None:
            self._look_at_checkpoint()
        found = list(self._staged())
        start = self.size
        if self._look_at_checkpoint() and self.edge.size > start:
            return False  # more may be staged after it
        for batch in found:
            self.accept(batch)
        return True

    def _staged(self) -> Iterator[Batch]:
        frontier = self.frontier
        while True:
            try:
                data = self.backend.read(self.place.staged(frontier.size))
            except NotFound:
                return
            batch = parse_batch(self.place, data, frontier)
            frontier = batch.frontier
            yield batch

    def accept(self, batch: Batch) -> None:
        """Take in a batch that follows the head and is known to be staged."""
        if self.size == 0:
            check_first(batch.entries[0], self.place)
        self.frontier = batch.frontier
        self.head = self.place.head(batch.frontier.size, batch.frontier.root())
        self.note = batch.note
        self.tail += batch.entries
        self._hashes += batch.hashes
        self.batches += 1

    def _look_at_checkpoint(self) -> bool:
        """Whether there is another checkpoint than before, which has been taken in then."""
        try:
            note = self.backend.read(self.place.checkpoint, 0, MOST_NOTE + 1)
        except NotFound:
            if self.checkpoint is None:
                return False
            raise wording.shorter(self.place, self.backend, 0, self.edge.size) from None
        if note == self.checkpoint:
            return False
        head = open_checkpoint(self.place, note, self.place.checkpoint)
        if head.size < self.edge.size:
            raise wording.shorter(self.place, self.backend, head.size, self.edge.size)
        edge = self._read_edge(head)
        if head.size > self.size:
            self._jump(head, note, edge)
        else:
            self._move_edge(head, edge)
        self.checkpoint = note
        return True

    def _jump(self, head: Checkpoint, note: bytes, edge: Edge) -> None:
        """Take in a checkpoint beyond the head, if that is its beginning."""
        newer = Log(self.backend, self.place)
        newer.head, newer.edge = head, edge
        if self.size and newer.root_at(self.size) != self.head.root:
            raise wording.forked(self.place, self.backend, self.size)
        if self.size == 0 and head.size:
            check_first(next(newer.entries(0, 1)), self.place)
        self.head, self.note, self.edge, self.frontier = head, note, edge, edge.frontier()
        self.tail, self._hashes, self.batches = [], [], 0
        self._tiles = newer._tiles

    def _move_edge(self, head: Checkpoint, edge: Edge) -> None:
        """Take in a checkpoint of what is known already."""
        if self.root_at(head.size) != head.root:
            raise wording.forked(self.place, self.backend, head.size)
        count = head.size - self.edge.size
        del self.tail[:count], self._hashes[:count]
        self.edge, self._tiles = edge, {}
        if not self.tail:
            self.batches = 0

    @property
    def tail_hashes(self) -> list[bytes]:
        """The leaf hashes of the tail."""
        return self._hashes

    def is_passed(self, start: int) -> bool:
        """Whether the checkpoint covers more than `start` entries, so that no batch begins there."""
        try:
            note = self.backend.read(self.place.checkpoint, 0, MOST_NOTE + 1)
        except NotFound:
            return False
        if note == self.checkpoint:
            return False
        return open_checkpoint(self.place, note, self.place.checkpoint).size > start

    def integrated(self, note: bytes, edge: Edge) -> None:
        """Note that all that is staged is in tiles, and the head's note is the checkpoint."""
        self.checkpoint, self.edge = note, edge
        self.tail, self._hashes, self.batches = [], [], 0
        self._tiles = {}
        self.remember(durable=True)

    def remember(self, *, durable: bool) -> None:
        """Have the head remembered as the least that may be there from now on."""
        if self._memory is not None:
            self._memory.note(self.place, self.size, self.note, durable=durable)

    def _read_edge(self, head: Checkpoint) -> Edge:
        rows: list[tuple[bytes, ...]] = []
        entries: list[bytes] = []
        for level, name, width in tiles.partial_files(head.size):
            rows += [()] * (level - len(rows))
            if level:
                rows.append(tiles.parse_tile(self._read(name), width, self.place.file(name)))
                continue
            last = tiles.entries_path(head.size // WIDTH, width)
            entries = tiles.parse_bundle(self._read(last), self.place.file(last))
            rows.append(tuple(tiles.leaf_hashes(entries)))
        edge = Edge(head.size, tuple(entries), tuple(rows))
        if edge.frontier().root() != head.root:
            raise wording.wrong_edge(self.place, self.backend, head.size)
        return edge

    def _read(self, name: str) -> bytes:
        try:
            return self.backend.read(self.place.file(name))
        except NotFound:
            raise wording.missing(self.place, self.backend, name) from None

    def root_at(self, size: int) -> bytes:
        """The root that the log had when it had so many entries."""
        return EMPTY_ROOT if size == 0 else root_of(size, self.hash_of)

    def hash_of(self, level: int, index: int) -> bytes:
        """The root of a perfect subtree of the log, verified."""
        if (index + 1) << level <= self.edge.size:
            row, inside = divmod(level, LEVELS)
            number, at = divmod(index << inside, WIDTH)
            return fold(self._tile(row, number)[at : at + (1 << inside)])
        if level == 0:
            return self._hashes[index - self.edge.size]
        return node_hash(self.hash_of(level - 1, 2 * index), self.hash_of(level - 1, 2 * index + 1))

    def _tile(self, level: int, index: int) -> tuple[bytes, ...]:
        partial = self.edge.tile(level, index)
        if partial is not None:
            return partial
        known = self._tiles.get((level, index))
        if known is None:
            name = tiles.tile_path(level, index)
            known = tiles.parse_tile(self._read(name), WIDTH, self.place.file(name))
            if fold(known) != self._tile(level + 1, index // WIDTH)[index % WIDTH]:
                raise wording.does_not_fit(self.place, self.backend, name)
            if len(self._tiles) >= _MOST_TILES:
                self._tiles.clear()
            self._tiles[level, index] = known
        return known

    def entries(self, start: int, end: int) -> Iterator[bytes]:
        """The entries from `start` up to, not including, `end`, all of them verified."""
        end = min(end, self.size)
        while start < min(end, self.edge.size):
            index, at = divmod(start, WIDTH)
            some = self._entries_of(index)[at : at + end - start]
            yield from some
            start += len(some)
        yield from self.tail[max(start - self.edge.size, 0) : max(end - self.edge.size, 0)]

    def _entries_of(self, index: int) -> list[bytes] | tuple[bytes, ...]:
        if index == self.edge.size // WIDTH:
            return self.edge.entries
        if self._bundle[0] != index:
            name = tiles.entries_path(index)
            found = tiles.parse_bundle(self._read(name), self.place.file(name))
            if len(found) != WIDTH or fold(tiles.leaf_hashes(found)) != self._hash_of_bundle(index):
                raise wording.does_not_fit(self.place, self.backend, name)
            self._bundle = index, found
        return self._bundle[1]

    def _hash_of_bundle(self, index: int) -> bytes:
        return self._tile(1, index // WIDTH)[index % WIDTH]

    def is_final(self) -> bool:
        """Whether the last entry ends the subfeed."""
        if self._final[0] != self.size:
            last = next(self.entries(self.size - 1, self.size))
            self._final = self.size, is_final(last)
        return self._final[1]

    def _recalled(self) -> Checkpoint | None:
        if self._opened or self._memory is None:
            return None
        return self._memory.recall(self.place)

    def _compare(self, known: Checkpoint | None) -> None:
        if known is None:
            return
        if known.size > self.size:
            size = self.size
            self.forget()
            raise wording.shorter(self.place, self.backend, size, known.size)
        if self.root_at(known.size) != known.root:
            self.forget()
            raise wording.forked(self.place, self.backend, known.size)
