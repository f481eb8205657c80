"""From a function that runs to the syntax tree that it was compiled from.

A source file may have changed since the program read it. So the text is compiled, and believed only
if that gives the code that runs.
"""

from __future__ import annotations

import ast
import inspect
import linecache
from collections.abc import Iterator
from types import CodeType
from typing import Any

from .syntax import Function

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)

_Position = tuple[int | None, int | None, int | None, int | None]


class _File:
    """A source text, compiled: its functions as code and as syntax."""

    def __init__(self, text: str, filename: str) -> None:
        self.text = text
        tree = ast.parse(text)
        self._nodes: dict[tuple[str, int], list[Function]] = {}
        for node in ast.walk(tree):
            if isinstance(node, _FUNCTIONS):
                self._nodes.setdefault((_code_name(node), _first_line(node)), []).append(node)
        module = compile(tree, filename, "exec", dont_inherit=True)
        self._codes: dict[str, list[CodeType]] = {}
        for code in _all_codes(module):
            self._codes.setdefault(code.co_qualname, []).append(code)

    def find(self, live: CodeType) -> Function | None:
        """The syntax tree of the code that runs, if this text has it."""
        same = [c for c in self._codes.get(live.co_qualname, ()) if same_code(c, live)]
        exact = [c for c in same if list(c.co_positions()) == list(live.co_positions())]
        for code in exact or same:
            return self._node_of(code)
        return None

    def _node_of(self, code: CodeType) -> Function | None:
        nodes = self._nodes.get((code.co_name, code.co_firstlineno), [])
        if len(nodes) <= 1:
            return nodes[0] if nodes else None
        around = [node for node in nodes if _spans(node, code)]
        if len(around) > 1:  # code without positions of its own, such as that of `lambda: 1`
            around = [node for node in around if _compiles_to(node, code)]
        return min(around, key=_extent) if around else None


_files: dict[str, _File | None] = {}


def syntax_of(code: CodeType) -> Function | None:
    """The syntax tree that compiles to this code, or None when no source can be believed."""
    filename = code.co_filename
    linecache.checkcache(filename)
    text = "".join(linecache.getlines(filename))
    if not text:
        return None
    known = _files.get(filename)
    if known is None or known.text != text:
        try:
            known = _File(text, filename)
        except (SyntaxError, ValueError):
            return None
        _files[filename] = known
    return known.find(code)


def same_code(a: CodeType, b: CodeType) -> bool:
    """Whether two code objects do the same, wherever they stand in a file."""
    return (
        a.co_code == b.co_code
        and (a.co_flags ^ b.co_flags) & ~inspect.CO_NESTED == 0
        and a.co_names == b.co_names
        and a.co_varnames == b.co_varnames
        and a.co_freevars == b.co_freevars
        and a.co_cellvars == b.co_cellvars
        and a.co_argcount == b.co_argcount
        and a.co_posonlyargcount == b.co_posonlyargcount
        and a.co_kwonlyargcount == b.co_kwonlyargcount
        and a.co_exceptiontable == b.co_exceptiontable
        and len(a.co_consts) == len(b.co_consts)
        and all(map(_same_constant, a.co_consts, b.co_consts))
    )


def _same_constant(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, CodeType):
        return same_code(a, b)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(_same_constant, a, b))
    if isinstance(a, frozenset):
        return sorted(map(_typed, a)) == sorted(map(_typed, b))
    return _typed(a) == _typed(b)


def _typed(constant: Any) -> str:
    return f"{type(constant).__name__} {constant!r}"  # tells 0.0 from -0.0, and 1 from True


def _code_name(node: Function) -> str:
    return "<lambda>" if isinstance(node, ast.Lambda) else node.name


def _first_line(node: Function) -> int:
    if isinstance(node, ast.Lambda) or not node.decorator_list:
        return node.lineno
    return node.decorator_list[0].lineno


def _all_codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _all_codes(constant)


def _spans(node: Function, code: CodeType) -> bool:
    """Whether all of the code's instructions come from inside the node's body."""
    body = [node.body] if isinstance(node, ast.Lambda) else node.body
    start = (body[0].lineno, body[0].col_offset)
    end = (body[-1].end_lineno or 0, body[-1].end_col_offset or 0)
    for line, end_line, column, end_column in code.co_positions():
        if line is None or end_line is None or not column or not end_column:
            continue  # instructions of the function as such have no column, or column 0
        if (line, column) < start or (end_line, end_column) > end:
            return False
    return True


def _compiles_to(node: Function, code: CodeType) -> bool:
    """Whether a lambda that uses no variables around it gives this code."""
    if not isinstance(node, ast.Lambda):
        return False
    alone = compile(ast.Expression(node), "", "eval", dont_inherit=True)
    return any(isinstance(c, CodeType) and same_code(c, code) for c in alone.co_consts)


def _extent(node: Function) -> tuple[int, int]:
    lines = (node.end_lineno or 0) - node.lineno
    return lines, (node.end_col_offset or 0) - node.col_offset
