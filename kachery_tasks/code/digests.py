"""The digest of a function's code: of its syntax where the source can be believed, else its bytecode."""

from __future__ import annotations

import ast
import linecache
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import CodeType, FunctionType, MappingProxyType
from typing import Any, NamedTuple

from kachery_store.saying import warn

from ..errors import SourceWarning
from ..names import MAIN_NAMES
from ..values import encode
from .source import syntax_of
from .syntax import Function, normalized

_syntax_of_client: ContextVar[Mapping[str, str]] = ContextVar(
    "syntax_of_client",
    default=MappingProxyType({}),
)
_TYPED = "<stdin>", "<string>"  # what Python calls it; 3.13 keeps the source of what is typed

_warned: set[CodeType] = set()


@contextmanager
def syntax_known(digests: Mapping[str, str]) -> Iterator[None]:
    """While this lasts, take the syntax of functions of `__main__` from another process.

    Their source exists only in the client's process, but their code travels. `digests` is
    `Fingerprint.main_syntax`: digest of the bytecode -> digest of the syntax it was compiled from.
    """
    reset = _syntax_of_client.set(digests)
    try:
        yield
    finally:
        _syntax_of_client.reset(reset)


class CodeDigest(NamedTuple):
    """The digest of a function's code.

    `source`: the text it was compiled from, if that is here and can be believed. `bytecode`: for
    functions of `__main__`, the digest by which another process finds `digest`.
    """

    digest: str
    source: str | None = None
    bytecode: str | None = None


def digest_of_code(function: FunctionType) -> CodeDigest:
    """The digest of a function's code."""
    code = function.__code__
    if function.__module__ not in MAIN_NAMES:
        return _digest(code)
    bytecode = _digest_of_bytecode(code, where=(code.co_firstlineno, *_columns(code)))
    told = _syntax_of_client.get().get(bytecode)
    digest = _digest(code) if told is None else CodeDigest(told)
    return digest._replace(bytecode=bytecode)


def _digest(code: CodeType) -> CodeDigest:
    node = syntax_of(code)
    if node is not None:
        plain = ["syntax", normalized(node)]
        if any(map(_asks_for_debug, ast.walk(node))):
            plain.append(__debug__)  # `python -O` leaves such code out
        return CodeDigest(encode(plain).address.hex(), _text(node, code.co_filename))
    if code not in _warned:
        _warned.add(code)
        warn(SourceWarning(_without_source(code)))
    return CodeDigest(_digest_of_bytecode(code))


def _without_source(code: CodeType) -> str:
    if code.co_filename in _TYPED:
        what = "was typed at a prompt or given with -c, so that its source cannot be read"
        advice = "Write it into a file or a notebook"
    else:
        what = f"has a source ({code.co_filename}) that is not there, or is not what runs here"
        advice = "Reload or restart after editing a module"
    return (
        f"{code.co_qualname} {what}: its bytecode identifies it, for this version of Python only."
        f" {advice}"
    )


def _text(node: Function, filename: str) -> str:
    """The lines of a function; `syntax_of` has just made sure that they are current."""
    lines = linecache.getlines(filename)[node.lineno - 1 : node.end_lineno]
    return textwrap.dedent("".join(lines))


def _asks_for_debug(node: ast.AST) -> bool:
    return isinstance(node, ast.Assert) or (isinstance(node, ast.Name) and node.id == "__debug__")


def _digest_of_bytecode(code: CodeType, where: tuple[int, ...] = ()) -> str:
    plain = ["bytecode", *sys.version_info[:2], _plain(code), list(where)]
    return encode(plain).address.hex()


def _plain(code: CodeType) -> Any:
    """A code object as plain data, without positions."""
    return [
        code.co_qualname,
        code.co_code,
        code.co_flags,
        list(code.co_names),
        list(code.co_varnames),
        [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount],
        code.co_exceptiontable,
        [_plain(c) if isinstance(c, CodeType) else c for c in code.co_consts],
    ]


def _columns(code: CodeType) -> tuple[int, ...]:
    return tuple(column or 0 for _, _, column, _ in code.co_positions())
