"""The normalized syntax tree of a function: what it does, without how it is written down.

Left out: comments, formatting, positions, docstrings, decorators and defaults of the function itself
(they are looked at as objects), and annotations that nothing keeps. Annotations inside, of nested
functions and in the bodies of classes, count: dataclasses, pydantic, singledispatch and the like read
them. The result is plain data and the same on every Python; `ast.dump` is not.
"""

from __future__ import annotations

import ast
from collections.abc import Collection
from typing import Any

from .parsing import parsed

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DOCUMENTED = (*_FUNCTIONS, ast.ClassDef)
_NEVER = frozenset(("ctx", "type_comment", "kind"))
_IN_FUNCTION = _NEVER | {"annotation"}  # of variables: Python does not even evaluate them
_OF_FUNCTION = _IN_FUNCTION | {"defaults", "kw_defaults"}
_DEEP = 50  # levels; each takes up to three of nested lists, of which an encoding has 200 at most


def normalized(function: Function) -> Any:
    """The function as nested lists of strings and constants."""
    body = function.body
    content = body if isinstance(body, ast.expr) else _without_docstring(body)
    try:
        parts = _plain(function.args, _OF_FUNCTION), _plain(content, _IN_FUNCTION)
    except _TooDeepError:
        parts = _flat(function.args, _OF_FUNCTION), _flat(content, _IN_FUNCTION)
    return [_kind(function), *parts]


def _kind(function: Function) -> str:
    if isinstance(function, ast.Lambda):
        return "lambda"
    return "async" if isinstance(function, ast.AsyncFunctionDef) else "def"


class _TooDeepError(Exception):
    """A tree has more levels than nested lists can hold."""


def _plain(node: Any, left_out: frozenset[str], level: int = 0) -> Any:
    if isinstance(node, list):
        return [_plain(item, left_out, level) for item in node]
    if not isinstance(node, ast.AST):
        return node  # a name, a constant, a number that tells a conversion
    if isinstance(node, ast.Constant):
        return ["Constant", node.value]
    if level == _DEEP:
        raise _TooDeepError
    if isinstance(node, ast.JoinedStr):
        return ["JoinedStr", _plain(_pieces(node.values), left_out, level + 1)]
    plain: list[Any] = [type(node).__name__]
    for name, value, inside in _meaningful_fields(node, left_out):
        plain.append([name, _plain(value, inside, level + 1)])
    return plain


def _flat(node: Any, left_out: frozenset[str]) -> list[Any]:
    """A tree of any depth as one list: before each node its type, before its parts their number."""
    flat: list[Any] = ["flat"]
    stack = [(node, left_out)]
    while stack:
        node, left_out = stack.pop()
        if isinstance(node, ast.AST):
            fields = _meaningful_fields(node, left_out)
            flat += [type(node).__name__, [name for name, _, _ in fields]]
            stack += [(value, inside) for _, value, inside in reversed(fields)]
        elif isinstance(node, list):
            flat.append(len(node))
            stack += [(item, left_out) for item in reversed(node)]
        else:
            flat.append(node)
    return flat


def _meaningful_fields(
    node: ast.AST, left_out: frozenset[str]
) -> list[tuple[str, Any, frozenset[str]]]:
    """The fields by name, with what is left out inside of each."""
    fields = []
    for name, value in ast.iter_fields(node):
        content = value
        if name == "body" and isinstance(node, _DOCUMENTED):
            content = _without_docstring(value)
        elif isinstance(node, ast.JoinedStr):
            content = _pieces(value)
        if name in left_out or content is None or content == []:
            continue  # also skips fields that only some versions of Python have
        fields.append((name, content, _left_out_inside(node, name, left_out)))
    return sorted(fields, key=lambda field: field[0])


def _left_out_inside(node: ast.AST, field: str, left_out: frozenset[str]) -> frozenset[str]:
    if isinstance(node, _FUNCTIONS):
        return _IN_FUNCTION if field == "body" else _NEVER
    return _NEVER if isinstance(node, ast.ClassDef) else left_out


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        return body[1:]
    return body


def _pieces(values: list[ast.expr]) -> list[ast.expr]:
    """The pieces of an f-string. How its text is cut, and empty pieces, differ between Pythons."""
    pieces: list[ast.expr] = []
    for value in values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            if not value.value:
                continue
            last = pieces[-1] if pieces else None
            if isinstance(last, ast.Constant) and isinstance(last.value, str):
                pieces[-1] = ast.Constant(last.value + value.value)
                continue
        pieces.append(value)
    return pieces


def without_defaults(source: str, names: Collection[str]) -> str:
    """The text of a function without the defaults of some of its parameters."""
    try:
        function = parsed(source).body[0]
    except SyntaxError:  # a lambda in the middle of something
        return "(its source has a secret default)"
    if not isinstance(function, _FUNCTIONS):
        return "(its source has a secret default)"
    arguments = function.args
    positional = arguments.posonlyargs + arguments.args
    pairs = [
        *zip(
            positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True
        ),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    text = source
    for argument, default in sorted(
        pairs, key=lambda pair: -pair[0].lineno * 1000 - pair[0].col_offset
    ):
        segment = None if default is None else ast.get_source_segment(source, default)
        if argument.arg in names and segment:
            text = text.replace(segment, "...")
    return text
