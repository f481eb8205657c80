"""The normalized syntax tree of a function: what it does, without how it is written down.

Left out: comments, formatting, positions, docstrings, decorators of the function itself (what they make
of it is looked at as an object), and annotations that nothing keeps. Annotations inside, of nested
functions and in the bodies of classes, count: dataclasses, pydantic, singledispatch and the like read
them. The result is plain data and the same on every Python; `ast.dump` is not.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DOCUMENTED = (*_FUNCTIONS, ast.ClassDef)
_NEVER = frozenset(("ctx", "type_comment", "kind"))
_IN_FUNCTION = _NEVER | {"annotation"}  # of variables: Python does not even evaluate them
_DEEP = 50  # levels; each takes up to three of nested lists, of which an encoding has 200 at most


def normalized(function: Function) -> Any:
    """The function as nested lists of strings and constants."""
    body = function.body
    content = body if isinstance(body, ast.expr) else _without_docstring(body)
    write = _flat if _is_deep([function]) else _plain
    return [_kind(function), write(function.args, _IN_FUNCTION), write(content, _IN_FUNCTION)]


def _kind(function: Function) -> str:
    if isinstance(function, ast.Lambda):
        return "lambda"
    return "async" if isinstance(function, ast.AsyncFunctionDef) else "def"


def _plain(node: Any, left_out: frozenset[str]) -> Any:
    if isinstance(node, list):
        return [_plain(item, left_out) for item in node]
    if not isinstance(node, ast.AST):
        return node  # a name, a constant, a number that tells a conversion
    if isinstance(node, ast.Constant):
        return ["Constant", node.value]
    if isinstance(node, ast.JoinedStr):
        return ["JoinedStr", _plain(_pieces(node.values), left_out)]
    plain: list[Any] = [type(node).__name__]
    for name, value, inside in _meaningful_fields(node, left_out):
        plain.append([name, _plain(value, inside)])
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


def _is_deep(level: list[Any]) -> bool:
    for _ in range(_DEEP):
        level = [child for node in level for child in _parts(node)]
    return bool(level)


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    # Versions of Python differ in constants, see _pieces.
    return (c for c in ast.iter_child_nodes(node) if not isinstance(c, ast.Constant))


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
