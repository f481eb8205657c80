"""The static files of a log, as C2SP tlog-tiles has them. No input or output.

A tile has up to 256 hashes of one level in eight, an entry bundle up to 256 entries. Those at the right
edge are partial; the edge is all that is needed to go on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..errors import FeedDamaged
from ..merkle import HASH_SIZE, Frontier, fold, leaf_hash

WIDTH = 256
LEVELS = 8  # of a tree, in one tile

COPY_AGAIN = (
    "Fetch it again (kachery feed subscribe --again), or have its owner publish it again (kachery feed"
    " publish --again)"
)

_ENTRIES = "entries"


class Edge(NamedTuple):
    """The right edge of a log: entries and hashes that are not in a full bundle or tile.

    `rows[n]` are hashes of level 8n; no row is longer than 255.
    """

    size: int
    entries: tuple[bytes, ...]
    rows: tuple[tuple[bytes, ...], ...]

    def frontier(self) -> Frontier:
        """The tree that has this edge."""
        frontier = Frontier()
        for level in range(len(self.rows) - 1, -1, -1):
            for hash in self.rows[level]:
                frontier.push(LEVELS * level, hash)
        return frontier

    def tile(self, level: int, index: int) -> tuple[bytes, ...] | None:
        """The partial tile of that level, if it has this index."""
        if level < len(self.rows) and index == (self.size >> LEVELS * (level + 1)):
            return self.rows[level]
        return None


NO_EDGE = Edge(0, (), ())


def grow(
    edge: Edge, entries: Sequence[bytes], hashes: Sequence[bytes], *, partial: bool = True
) -> tuple[list[tuple[str, bytes]], Edge]:
    """The files to write when entries, with these leaf hashes, are appended; and the new edge.

    Without `partial` only those that will never change: `edge_files` gives the others in the end, also
    those that this last piece does not touch.
    """
    files, rest = _bundles(edge, entries, partial)
    rows = list(edge.rows)
    new, level = list(hashes), 0
    while new:
        if level == len(rows):
            rows.append(())
        index = edge.size >> LEVELS * (level + 1)
        row, new = [*rows[level], *new], []
        while len(row) >= WIDTH:
            files.append((tile_path(level, index), b"".join(row[:WIDTH])))
            new.append(fold(row[:WIDTH]))
            del row[:WIDTH]
            index += 1
        if row and partial:
            files.append((tile_path(level, index, len(row)), b"".join(row)))
        rows[level] = tuple(row)
        level += 1
    return files, Edge(edge.size + len(entries), rest, tuple(rows))


def _bundles(
    edge: Edge, entries: Sequence[bytes], partial: bool
) -> tuple[list[tuple[str, bytes]], tuple[bytes, ...]]:
    files = []
    everything = [*edge.entries, *entries]
    index, at = edge.size // WIDTH, 0
    while len(everything) - at >= WIDTH:
        files.append((tile_path(_ENTRIES, index), bundle(everything[at : at + WIDTH])))
        index, at = index + 1, at + WIDTH
    rest = tuple(everything[at:])
    if rest and partial and entries:
        files.append((tile_path(_ENTRIES, index, len(rest)), bundle(rest)))
    return files, rest


def edge_files(edge: Edge) -> list[tuple[str, bytes]]:
    """The files that have the edge: all partial tiles, and the partial bundle."""
    files = []
    for level, name, width in partial_files(edge.size):
        files.append((name, b"".join(edge.rows[level])))
        if level == 0:
            last = tile_path(_ENTRIES, edge.size // WIDTH, width)
            files.append((last, bundle(edge.entries)))
    return files


def partial_files(size: int) -> Iterator[tuple[int, str, int]]:
    """The level, name and width of each partial tile of a log of that size."""
    level = 0
    while size >> LEVELS * level:
        width = (size >> LEVELS * level) % WIDTH
        if width:
            yield level, tile_path(level, size >> LEVELS * (level + 1), width), width
        level += 1


def tile_path(level: int | str, index: int, width: int = WIDTH) -> str:
    """The name of a tile, or with level "entries" of a bundle."""
    groups = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        groups.append(f"x{index % 1000:03d}")
    path = f"tile/{level}/{'/'.join(reversed(groups))}"
    return path if width == WIDTH else f"{path}.p/{width}"


def entries_path(index: int, width: int = WIDTH) -> str:
    """The name of an entry bundle."""
    return tile_path(_ENTRIES, index, width)


def bundle(entries: Sequence[bytes]) -> bytes:
    """Entries as one text: each with its length, in two bytes, before it."""
    return b"".join([part for one in entries for part in (len(one).to_bytes(2, "big"), one)])


def parse_bundle(data: bytes, name: str) -> list[bytes]:
    """The entries of a bundle. FeedDamaged, by `name`, when it is cut short."""
    found, at, size = [], 0, len(data)
    while at + 2 <= size:
        end = at + 2 + (data[at] << 8 | data[at + 1])
        found.append(data[at + 2 : end])
        at = end
    if at != size:
        raise FeedDamaged(f"{name} is cut short. {COPY_AGAIN}")
    return found


def parse_tile(data: bytes, width: int, name: str) -> tuple[bytes, ...]:
    """The hashes of a tile. FeedDamaged, by `name`, when it has another length."""
    if len(data) != width * HASH_SIZE:
        raise FeedDamaged(f"{name} does not have {width} hashes. {COPY_AGAIN}")
    return tuple(data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE))


def leaf_hashes(entries: Sequence[bytes]) -> list[bytes]:
    """The hashes of entries."""
    return [leaf_hash(entry) for entry in entries]
