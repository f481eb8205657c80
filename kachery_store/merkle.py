"""Merkle trees as of RFC 6962 (SHA-256): hashes in, verdicts out, no input or output.

leaf_hash, node_hash      what is hashed, prefixed with its kind
Frontier                  a tree that is appended to: its size, and the roots of its perfect subtrees
fold                      the root of a perfect subtree
inclusion_proof, root_of_inclusion      that an entry is in a tree
consistency_proof, is_consistent        that one tree begins with another
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

EMPTY_ROOT = sha256(b"").digest()
HASH_SIZE = 32

HashOf = Callable[[int, int], bytes]  # of the perfect subtree of 2**level leaves, by its index


def leaf_hash(entry: bytes) -> bytes:
    """The hash of an entry."""
    return sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees side by side."""
    return sha256(b"\1" + left + right).digest()


def fold(hashes: Sequence[bytes]) -> bytes:
    """The root of a perfect subtree, from the 2**n hashes of one of its levels."""
    while len(hashes) > 1:
        hashes = [
            sha256(b"\1" + hashes[at] + hashes[at + 1]).digest() for at in range(0, len(hashes), 2)
        ]
    return hashes[0]


class Frontier:
    """A tree that grows: its size, and the roots of the perfect subtrees it consists of."""

    __slots__ = ("_parts", "size")

    def __init__(self) -> None:
        self.size = 0
        self._parts: list[tuple[int, bytes]] = []  # levels fall from left to right

    def copy(self) -> Frontier:
        """Another one of the same state."""
        other = Frontier()
        other.size = self.size
        other._parts = self._parts[:]
        return other

    def push(self, level: int, hash: bytes) -> None:
        """Append a perfect subtree of 2**level leaves, which is not larger than the last one is."""
        if self.size % (1 << level):
            raise ValueError(f"a subtree of level {level} cannot begin at leaf {self.size}")
        self.size += 1 << level
        parts = self._parts
        while parts and parts[-1][0] == level:
            hash = sha256(b"\1" + parts.pop()[1] + hash).digest()
            level += 1
        parts.append((level, hash))

    def extend(self, leaf_hashes: Iterable[bytes]) -> None:
        """Append leaves, by their hashes."""
        for one in leaf_hashes:
            self.push(0, one)

    def root(self) -> bytes:
        """The root of the tree."""
        if not self._parts:
            return EMPTY_ROOT
        hash = self._parts[-1][1]
        for _, left in reversed(self._parts[:-1]):
            hash = node_hash(left, hash)
        return hash


def subtrees(start: int, end: int) -> list[tuple[int, int]]:
    """The largest perfect subtrees, (level, index), that cover the leaves from `start` to `end`."""
    found = []
    while start < end:
        level = (end - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        found.append((level, start >> level))
        start += 1 << level
    return found


def root_of(size: int, hash_of: HashOf) -> bytes:
    """The root of the tree of the first `size` leaves."""
    frontier = Frontier()
    for level, index in subtrees(0, size):
        frontier.push(level, hash_of(level, index))
    return frontier.root()


def inclusion_proof(index: int, size: int, hash_of: HashOf) -> list[bytes]:
    """What shows that leaf `index` is in the tree of `size` leaves."""
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    return _path(index, 0, size, hash_of)


def _path(index: int, start: int, end: int, hash_of: HashOf) -> list[bytes]:
    if end - start == 1:
        return []
    middle = start + _split(end - start)
    if index < middle:
        return [*_path(index, start, middle, hash_of), _range_root(middle, end, hash_of)]
    return [*_path(index, middle, end, hash_of), _range_root(start, middle, hash_of)]


def root_of_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """The root that a tree has if the proof is right. ValueError when it has the wrong length."""
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    hash, last = leaf, size - 1
    at = 0
    while last:
        if index & 1 or index < last:
            if at == len(proof):
                raise ValueError("the proof is too short")
            hash = node_hash(proof[at], hash) if index & 1 else node_hash(hash, proof[at])
            at += 1
        index >>= 1
        last >>= 1
    if at != len(proof):
        raise ValueError("the proof is too long")
    return hash


def consistency_proof(old: int, new: int, hash_of: HashOf) -> list[bytes]:
    """What shows that the tree of `new` leaves begins with that of `old` leaves."""
    if not 0 < old <= new:
        raise ValueError(f"no tree of {new} begins with one of {old}")
    return _subproof(old, 0, new, hash_of, whole=True)


def _subproof(old: int, start: int, end: int, hash_of: HashOf, *, whole: bool) -> list[bytes]:
    if old == end:
        return [] if whole else [_range_root(start, end, hash_of)]
    middle = start + _split(end - start)
    if old <= middle:
        left = _subproof(old, start, middle, hash_of, whole=whole)
        return [*left, _range_root(middle, end, hash_of)]
    return [
        *_subproof(old, middle, end, hash_of, whole=False),
        _range_root(start, middle, hash_of),
    ]


def is_consistent(
    old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the proof shows that the new tree begins with the old one."""
    if not 0 < old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    steps = list(proof)
    if old & (old - 1) == 0:
        steps.insert(0, old_root)
    if not steps:
        return False
    index, last = old - 1, new - 1
    while index & 1:
        index, last = index >> 1, last >> 1
    first = second = steps.pop(0)
    for step in steps:
        if not last:
            return False
        if index & 1 or index == last:
            first, second = node_hash(step, first), node_hash(step, second)
            while index and not index & 1:
                index, last = index >> 1, last >> 1
        else:
            second = node_hash(second, step)
        index, last = index >> 1, last >> 1
    return not last and first == old_root and second == new_root


def _range_root(start: int, end: int, hash_of: HashOf) -> bytes:
    """The root of the subtree from `start` to `end`, where `start` is a multiple of its size."""
    parts = [hash_of(level, index) for level, index in subtrees(start, end)]
    hash = parts.pop()
    while parts:
        hash = node_hash(parts.pop(), hash)
    return hash


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)
