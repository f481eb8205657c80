"""The normalized syntax tree of a function: what it does, without how it is written down.

Left out: comments, formatting, positions, docstrings, annotations, decorators of the function itself
(what they make of it is looked at as an object). The result is plain data and the same on every
Python; `ast.dump` is not.
"""

from __future__ import annotations

import ast
from typing import Any

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DOCUMENTED = (*_FUNCTIONS, ast.ClassDef)


def normalized(function: Function) -> Any:
    """The function as nested lists of strings and constants."""
    kind = "async" if isinstance(function, ast.AsyncFunctionDef) else "def"
    if isinstance(function, ast.Lambda):
        return ["lambda", _plain(function.args), _plain(function.body)]
    return [kind, _plain(function.args), _plain(_without_docstring(function.body))]


def _plain(node: Any) -> Any:
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, ast.AST):
        return node  # a name, a constant, a number that tells a conversion
    if isinstance(node, ast.Constant):
        return ["Constant", node.value]
    if isinstance(node, ast.JoinedStr):
        return ["JoinedStr", _joined(node.values)]
    plain: list[Any] = [type(node).__name__]
    for name, value in _meaningful_fields(node):
        plain.append([name, _plain(value)])
    return plain


def _meaningful_fields(node: ast.AST) -> list[tuple[str, Any]]:
    left_out = {"ctx", "type_comment", "kind"}
    if isinstance(node, _FUNCTIONS):
        left_out |= {"returns"}
    elif isinstance(node, ast.arg) or (
        isinstance(node, ast.AnnAssign) and node.simple and node.value is not None
    ):
        left_out |= {"annotation"}
    fields = []
    for name, value in ast.iter_fields(node):
        documented = name == "body" and isinstance(node, _DOCUMENTED)
        content = _without_docstring(value) if documented else value
        if name in left_out or content is None or content == []:
            continue  # also skips fields that only some versions of Python have
        fields.append((name, content))
    return sorted(fields)


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        return body[1:]
    return body


def _joined(values: list[ast.expr]) -> list[Any]:
    # Versions of Python differ in how they cut the text of an f-string, and in empty pieces.
    joined: list[Any] = []
    for value in values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            if not value.value:
                continue
            if joined and joined[-1][0] == "Constant":
                joined[-1] = ["Constant", joined[-1][1] + value.value]
                continue
        joined.append(_plain(value))
    return joined
