"""A lineage as a tree of text, for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from ..drawing.wording import SHORT, clean, cut, moment, span, task_title
from ..environment import here
from ..record import Record
from .model import ARGUMENT, CHILD, MUTABLE, Lineage, Link

WIDTH = 100  # columns, where nothing tells how many there are

_DEEP = 3  # a third of the width is for indentation
_LONG = 6  # jobs one after the other
_FOLD_FROM = 6  # jobs of one task, side by side
_TIMES = " \N{MULTIPLICATION SIGN}"
_NARROWEST = 24  # columns for a call, however deep in the tree
_LONGEST_ID_LIST = 2


class _Branch(NamedTuple):
    """Jobs that stand on one line: one, or several of one task. `role` of the links to them."""

    names: tuple[str, ...]
    role: str


class _Line(NamedTuple):
    """What is still to be written: what stands before it, and before what is below it."""

    before: str
    below: str
    branch: _Branch


def text_tree(
    lineage: Lineage,
    also: Mapping[str, tuple[str, ...]],
    *,
    width: int = WIDTH,
    every: bool = False,
) -> str:
    """The tree, each job once. `also`: for a job, others that made the same, which is mentioned.

    `every`: jobs of one task are not put together on one line.
    """
    return "\n".join(_Tree(lineage, also, width, every).lines())


class _Tree:
    def __init__(
        self, lineage: Lineage, also: Mapping[str, tuple[str, ...]], width: int, every: bool
    ) -> None:
        self._lineage = lineage
        self._also = also
        self._width = width
        self._every = every
        self._shown: set[str] = set()
        self._heights: dict[str, int] = {}
        self._links: dict[str, list[Link]] = {}
        self._into: dict[str, list[Link]] = {}
        for link in lineage.links:
            self._links.setdefault(link.target if lineage.up else link.source, []).append(link)
            self._into.setdefault(link.target, []).append(link)

    def lines(self) -> Iterator[str]:
        """The lines, without their ends."""
        todo = [_Line("", "", _Branch((name,), "")) for name in reversed(self._lineage.asked)]
        while todo:
            line = todo.pop()
            again = set(line.branch.names) <= self._shown
            yield line.before + self._told(line.branch, len(line.before), again=again)
            if again:
                continue
            fresh = [name for name in line.branch.names if name not in self._shown]
            self._shown.update(fresh)
            branches = self._branches(fresh)
            todo += reversed(self._below(line.below, branches))
        yield ""
        yield self._summary()

    def _below(self, before: str, branches: list[_Branch]) -> list[_Line]:
        """The lines of branches. What is alone, or long and the longest, goes straight on."""
        heights = {branch: max(map(self._height, branch.names)) for branch in branches}
        deep = len(before) > self._width // _DEEP or max(heights.values(), default=0) >= _LONG
        if deep:
            branches = sorted(branches, key=heights.__getitem__)
        lines = []
        for number, branch in enumerate(branches, start=1):
            first, side = "├─ ", "│  "
            if number == len(branches):
                straight = deep or number == 1
                arrow = "↑ " if self._lineage.up else "↓ "
                first, side = (arrow, "") if straight else ("└─ ", "   ")
            lines.append(_Line(before + first, before + side, branch))
        return lines

    def _height(self, name: str) -> int:
        """How many jobs are below one, along the longest way."""
        todo = [] if name in self._heights else [name]
        while todo:
            links = self._links.get(todo[-1], ())
            ends = [link.source if self._lineage.up else link.target for link in links]
            missing = [end for end in ends if end not in self._heights]
            if missing:
                todo += missing
            else:
                self._heights[todo.pop()] = max((self._heights[end] + 1 for end in ends), default=0)
        return self._heights[name]

    def _branches(self, names: Iterable[str]) -> list[_Branch]:
        """The lines below some jobs."""
        roles: dict[str, str] = {}
        for name in names:
            for link in self._links.get(name, ()):
                end = link.source if self._lineage.up else link.target
                if end in self._lineage.jobs:
                    roles.setdefault(end, link.role)
        alike: dict[tuple[str, str], list[str]] = {}
        for name, role in roles.items():
            alike.setdefault((self._lineage.jobs[name].task, role), []).append(name)
        branches: list[_Branch] = []
        for (_, role), same in alike.items():
            if len(same) < _FOLD_FROM or self._every:
                branches += (_Branch((name,), role) for name in same)
            else:
                branches.append(_Branch(tuple(same), role))
        return branches

    def _told(self, branch: _Branch, used: int, *, again: bool) -> str:
        if branch.names[0] in self._lineage.inputs:
            found = self._lineage.inputs[branch.names[0]]
            return cut(f"input {found.name}  {found.summary}", max(self._width - used, _NARROWEST))
        room = max(self._width - used, 2 * _NARROWEST)
        facts = self._facts(branch, again=again)
        call = self._call(branch, max(room - len(facts) - 2, room // 2))
        return f"{call}  {cut(facts, room - len(call) - 2)}"

    def _call(self, branch: _Branch, room: int) -> str:
        records = [self._lineage.jobs[name].record for name in branch.names]
        record = next((one for one in records if one is not None), None)
        if record is None:
            return "a job whose record is gone"
        count = f"{_TIMES}{len(branch.names)}" if len(branch.names) > 1 else ""
        arguments = ", ".join(self._arguments(branch, record))
        title = _title(record.task)
        title = cut(title, max(room - len(count) - 5, 1))
        return f"{title}({cut(arguments, max(room - len(title) - len(count) - 2, 1))}){count}"

    def _arguments(self, branch: _Branch, record: Record) -> Iterator[str]:
        """The arguments of a call; of several calls those that are the same, or are of one task."""
        others = [self._lineage.jobs[name].record for name in branch.names]
        for position, (name, address, summary) in enumerate(record.arguments):
            makers = self._makers(branch.names, name)
            alike = all(
                one is None
                or one.arguments[position : position + 1] == [record.arguments[position]]
                for one in others
            )
            if makers:
                yield f"{name}=<- {makers}"
            elif not alike:
                yield f"{name}=..."
            else:
                yield f"{name}={clean(summary) if address else '(secret)'}"

    def _makers(self, names: Iterable[str], parameter: str) -> str:
        """The tasks that an argument comes from."""
        tasks: dict[str, int] = {}
        for name in names:
            for link in self._into.get(name, ()):
                node = self._lineage.jobs.get(link.source)
                if node is not None and link.role == ARGUMENT and link.label == parameter:
                    title = _title(node.task) or "a job whose record is gone"
                    tasks[title] = tasks.get(title, 0) + 1
        return " + ".join(f"{task}{_TIMES}{n}" if n > 1 else task for task, n in tasks.items())

    def _facts(self, branch: _Branch, *, again: bool) -> str:
        ids = _ids(branch.names)
        if again:
            return f"{ids}  (as above)"
        found = [self._lineage.jobs[name].record for name in branch.names]
        records = [record for record in found if record is not None]
        facts = [ids]
        if records:
            first = min(records, key=lambda record: record.started)
            took = span(sum(record.seconds for record in records))
            facts += [moment(first.started)[:19], took + (" in all" if len(found) > 1 else "")]
            facts += self._people(branch, records)
            others = self._also.get(branch.names[0], ()) if len(found) == 1 else ()
            facts += [f"(also made by {_ids(others)})"] if others else []
            facts += (f"raised {record.result.type}" for record in records[:1] if record.is_error)
        read = [
            link.label
            for name in branch.names
            for link in self._into.get(name, ())
            if link.role == MUTABLE
        ]
        facts += (f"(read the mutable {clean(name)})" for name in dict.fromkeys(read))
        if branch.role == CHILD:
            facts.append("(asked for by it)" if self._lineage.up else "(asked for it)")
        return "  ".join(facts)

    def _people(self, branch: _Branch, records: list[Record]) -> Iterator[str]:
        """Who ran it, if that was somebody else, or elsewhere; and who signed it."""
        host, user = here()
        others = dict.fromkeys(
            f"{clean(one.user)}@{clean(one.host)}"
            for one in records
            if (one.host, one.user) != (host, user)
        )
        yield from list(others)[:1]
        keys = {key: None for name in branch.names for key in self._lineage.jobs[name].signers}
        if keys:
            yield f"signed by {', '.join(key[:SHORT] for key in list(keys)[:_LONGEST_ID_LIST])}"

    def _summary(self) -> str:
        jobs, inputs = self._lineage.jobs, self._lineage.inputs
        gone = sum(node.record is None for node in jobs.values())
        told = f"{_count(len(jobs), 'job')}, {_count(len(inputs), 'raw input')}"
        if gone:
            told += f"; of {_count(gone, 'job')} the record is gone: what was before is not known"
        return told


def _title(task: str) -> str:
    """The name of a task's function alone."""
    return clean(task_title(task).rpartition("<locals>.")[2])


def _ids(names: tuple[str, ...]) -> str:
    shown = ", ".join(name[:SHORT] for name in names[:_LONGEST_ID_LIST])
    return shown + (", ..." if len(names) > _LONGEST_ID_LIST else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
