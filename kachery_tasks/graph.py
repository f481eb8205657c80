"""The order in which jobs can be looked up and run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar


class HasInputs(Protocol):
    """A node of a graph: it needs its inputs."""

    @property
    def inputs(self) -> Sequence[Any]:
        """The nodes that come before this one."""


N = TypeVar("N", bound=HasInputs)


def _none(_: Any) -> bool:
    return False


def inputs_first(nodes: Iterable[N], *, without: Callable[[N], bool] = _none) -> list[N]:
    """The nodes and everything they need, each once, inputs before those who need them.

    Nodes that are `without` are left out, and so is what only they need: nothing behind them is
    looked at.
    """
    order: dict[int, N] = {}
    for wanted in nodes:
        if without(wanted):
            continue
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
            elif id(following) not in order and not without(following):
                waiting.append((following, iter(following.inputs)))
    return list(order.values())


def levels(nodes: Iterable[N], *, without: Callable[[N], bool] = _none) -> list[list[N]]:
    """The nodes and everything they need, in levels: each needs only nodes of the levels before.

    `without` is as for `inputs_first`.
    """
    depth: dict[int, int] = {}
    found: list[list[N]] = []
    for node in inputs_first(nodes, without=without):
        depth[id(node)] = level = 1 + max(
            (depth.get(id(one), -1) for one in node.inputs), default=-1
        )
        if level == len(found):
            found.append([])
        found[level].append(node)
    return found
