"""The order in which jobs can be looked up and run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar


class HasInputs(Protocol):
    """A node of a graph: it needs its inputs."""

    @property
    def inputs(self) -> Sequence[Any]:
        """The nodes that come before this one."""


N = TypeVar("N", bound=HasInputs)


def inputs_first(nodes: Iterable[N]) -> list[N]:
    """The nodes and everything they need, each once, inputs before those who need them."""
    order: dict[int, N] = {}
    for wanted in nodes:
        waiting = [(wanted, iter(wanted.inputs))]
        while waiting:  # not recursive: a chain of jobs may be long
            node, inputs = waiting[-1]
            if id(node) in order:
                waiting.pop()
                continue
            following = next(inputs, None)
            if following is None:
                order[id(node)] = node
                waiting.pop()
            elif id(following) not in order:
                waiting.append((following, iter(following.inputs)))
    return list(order.values())


def levels(nodes: Iterable[N]) -> list[list[N]]:
    """The nodes and everything they need, in levels: each needs only nodes of the levels before."""
    depth: dict[int, int] = {}
    found: list[list[N]] = []
    for node in inputs_first(nodes):
        depth[id(node)] = level = 1 + max((depth[id(one)] for one in node.inputs), default=-1)
        if level == len(found):
            found.append([])
        found[level].append(node)
    return found
