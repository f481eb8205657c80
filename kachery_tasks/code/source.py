"""From a function that runs to the syntax tree that it was compiled from.

A source file may have changed since the program read it. So the text is compiled, and believed only
if that gives the code that runs.
"""

from __future__ import annotations
import __future__

import ast
import dis
import inspect
import itertools
import linecache
import sys
import warnings
from collections.abc import Iterator
from types import CodeType
from typing import Any

from .parsing import parsed
from .syntax import Function

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_APART = 1_000_000  # lines; more than any file has
# What a class made by attrs was compiled in: annotations are not looked at anyway.
_INCIDENTAL_FLAGS = inspect.CO_NESTED | __future__.annotations.compiler_flag


class _File:
    """A source text, compiled: its functions as code and as syntax."""

    def __init__(self, text: str, filename: str) -> None:
        self._text = text
        self._filename = filename
        tree = parsed(text, filename)
        self._tree = tree
        self._nodes = _by_line(tree)
        self._codes = _compiled(tree, filename)
        self._apart: dict[str, list[CodeType]] = {}

    def find(self, live: CodeType) -> Function | None:
        """The syntax tree of the code that runs, if this text has it."""
        same = [c for c in self._codes.get(live.co_qualname, ()) if same_code(c, live)]
        same = same or [c for c in self._statement_by_statement(live) if same_code(c, live)]
        here = [c for c in same if c.co_firstlineno == live.co_firstlineno]
        for code in here or same:
            nodes = self._nodes.get((code.co_name, code.co_firstlineno), [])
            return nodes[0] if len(nodes) == 1 else self._among(nodes, code)
        return None

    def _statement_by_statement(self, live: CodeType) -> Iterator[CodeType]:
        """Code of that name as IPython compiles a cell: each statement without the others.

        It may be other code, because Python calls `np.abs` otherwise where it sees it imported.
        """
        for statement in self._tree.body:
            alone = ast.Module([statement], [])
            yield from _compiled(alone, self._filename).get(live.co_qualname, ())

    def _among(self, nodes: list[Function], code: CodeType) -> Function | None:
        """Which of the lambdas on one line the code is; the first of those that do the same.

        Positions do not tell on every Python: `lambda: 1` has none on 3.12.
        """
        if not self._apart:
            self._apart = _compiled(_with_lambdas_apart(self._text), self._filename)
        candidates = self._apart.get(code.co_qualname, ())
        lines = {c.co_firstlineno for c in candidates if same_code(c, code)}
        for number, node in enumerate(nodes):
            if code.co_firstlineno + number * _APART in lines:
                return node
        return None


def _by_line(tree: ast.Module) -> dict[tuple[str, int], list[Function]]:
    nodes: dict[tuple[str, int], list[Function]] = {}
    for node in ast.walk(tree):
        if isinstance(node, _FUNCTIONS):
            nodes.setdefault((_code_name(node), _first_line(node)), []).append(node)
    return nodes


def _with_lambdas_apart(text: str) -> ast.Module:
    """The tree, with the second lambda of each line far below its line, and so on."""
    tree = parsed(text)
    for (_, line), nodes in _by_line(tree).items():
        if len(nodes) > 1:
            for number, node in enumerate(nodes):  # an inner one comes after those around it
                _move(node, number * _APART - (node.lineno - line))
    return tree


def _move(node: ast.AST, lines: int) -> None:
    for part in ast.walk(node):
        if isinstance(part, ast.expr | ast.arg | ast.keyword):
            part.lineno += lines
            part.end_lineno = (part.end_lineno or 0) + lines


def _compiled(tree: ast.Module, filename: str) -> dict[str, list[CodeType]]:
    codes: dict[str, list[CodeType]] = {}
    for code in _all_codes(compile(tree, filename, "exec", dont_inherit=True)):
        codes.setdefault(code.co_qualname, []).append(code)
    return codes


_files: dict[str, tuple[list[str], _File | None]] = {}


def syntax_of(code: CodeType) -> Function | None:
    """The syntax tree that compiles to this code, or None when no source can be believed."""
    filename = code.co_filename
    lines = _lines_of(filename)
    if not lines:
        return None
    known, file = _files.get(filename, ([], None))
    if known is not lines and known != lines:
        file = _read("".join(lines), filename)
    _files[filename] = lines, file
    return None if file is None else file.find(code)


def _lines_of(filename: str) -> list[str]:
    linecache.checkcache(filename)
    lines = linecache.getlines(filename)
    if not lines:  # perhaps a module in a zip file: its loader has the text
        for module in list(sys.modules.values()):
            namespace = getattr(module, "__dict__", {})
            if namespace.get("__file__") == filename:
                lines = linecache.getlines(filename, namespace)
    return lines


def _read(text: str, filename: str) -> _File | None:
    try:
        return _File(text, filename)
    except SyntaxError:  # or a warning about "\d", which Python's settings turn into an error
        pass
    except (ValueError, RecursionError):
        return None
    with warnings.catch_warnings():  # not at once: in threads, it can lose the program's settings
        warnings.simplefilter("ignore")
        try:
            return _File(text, filename)
        except SyntaxError:
            return None


def same_code(a: CodeType, b: CodeType) -> bool:
    """Whether two code objects do the same, wherever they stand in a file."""
    return (
        a.co_code == b.co_code
        and (a.co_flags ^ b.co_flags) & ~_INCIDENTAL_FLAGS == 0
        and a.co_names == b.co_names
        and a.co_varnames == b.co_varnames
        and a.co_freevars == b.co_freevars
        and a.co_cellvars == b.co_cellvars
        and a.co_argcount == b.co_argcount
        and a.co_posonlyargcount == b.co_posonlyargcount
        and a.co_kwonlyargcount == b.co_kwonlyargcount
        and a.co_exceptiontable == b.co_exceptiontable
        and len(a.co_consts) == len(b.co_consts)
        and all(map(_same_constant, _constants(a), _constants(b)))
    )


def _constants(code: CodeType) -> list[Any]:
    """The constants, without the line that Python 3.13 has in the body of a class."""
    constants: list[Any] = list(code.co_consts)
    if "__firstlineno__" in code.co_names:
        steps = [i for i in dis.get_instructions(code) if i.opname != "EXTENDED_ARG"]
        loaded = [step.arg for step in steps if step.opcode in dis.hasconst]
        for load, store in itertools.pairwise(steps):
            if store.argval == "__firstlineno__" and loaded.count(load.arg) == 1:
                constants[load.arg or 0] = None
    return constants


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
