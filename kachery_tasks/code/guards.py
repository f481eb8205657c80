"""Noticing that code has changed since its fingerprint was taken.

A guard remembers where something was found and what was there. Checking all of them is one identity
comparison each, so that it can be done at every call.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from types import CellType, FunctionType
from typing import Any

from ..errors import CannotEncode
from ..project import rule

MISSING: Any = object()


class Guards:
    """All that has to be as it was for a fingerprint to hold."""

    __slots__ = ("_cells", "_classes", "_contents", "_functions", "_names", "_rule")

    def __init__(self) -> None:
        self._rule = rule()
        self._names: list[tuple[Mapping[str, Any], str, Any]] = []
        self._cells: list[tuple[CellType, Any]] = []
        self._functions: list[tuple[FunctionType, Any, Any, Any, dict[str, Any]]] = []
        self._classes: list[tuple[type, tuple[Any, ...], tuple[Any, ...]]] = []
        self._contents: list[tuple[Any, Callable[[Any], bytes], bytes]] = []

    def name(self, namespace: Mapping[str, Any], name: str) -> Any:
        """Guard a name in a namespace; returns what is there, or MISSING."""
        found = namespace.get(name, MISSING)
        self._names.append((namespace, name, found))
        return found

    def cell(self, cell: CellType) -> Any:
        """Guard a closure's variable; returns its value, or MISSING while it is empty."""
        found = _content(cell)
        self._cells.append((cell, found))
        return found

    def function(self, function: FunctionType) -> None:
        """Guard a function's code, defaults and attributes."""
        attributes = function.__dict__.copy()
        self._functions.append(
            (
                function,
                function.__code__,
                function.__defaults__,
                function.__kwdefaults__,
                attributes,
            )
        )

    def type(self, cls: type) -> None:
        """Guard the attributes, the bases and the metaclass of a class."""
        around = (*cls.__dict__, *cls.__bases__, type(cls))
        self._classes.append((cls, tuple(cls.__dict__.values()), around))

    def content(self, value: Any, now: bytes, content_of: Callable[[Any], bytes]) -> None:
        """Guard the content of something that can change in place, which is `now`."""
        self._contents.append((value, content_of, now))

    def hold(self) -> bool:
        """Whether everything is as it was."""
        return rule() == self._rule and self._names_hold() and self._contents_hold()

    def _names_hold(self) -> bool:
        for namespace, name, found in self._names:
            if namespace.get(name, MISSING) is not found:
                return False
        for cell, found in self._cells:
            if _content(cell) is not found:
                return False
        for function, code, defaults, kwdefaults, attributes in self._functions:
            if (
                function.__code__ is not code
                or function.__defaults__ is not defaults
                or function.__kwdefaults__ is not kwdefaults
                or not _alike(function.__dict__, attributes)
            ):
                return False
        for cls, inside, around in self._classes:
            if not _same(tuple(cls.__dict__.values()), inside):
                return False
            if not _same((*cls.__dict__, *cls.__bases__, type(cls)), around):
                return False
        return True

    def _contents_hold(self) -> bool:
        try:
            for value, content_of, was in self._contents:
                if content_of(value) != was:
                    return False
        except CannotEncode:
            return False  # taking the fingerprint again will say of what
        return True


def _same(now: tuple[Any, ...], then: tuple[Any, ...]) -> bool:
    return len(now) == len(then) and all(map(operator.is_, now, then))


def _alike(now: dict[str, Any], then: dict[str, Any]) -> bool:
    if not now and not then:
        return True
    return now.keys() == then.keys() and _same(tuple(now.values()), tuple(then.values()))


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING
