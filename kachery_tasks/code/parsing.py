"""Reading Python text into a syntax tree, by many threads of one process."""

from __future__ import annotations

import ast
import threading

_TRIES = 20
_turn = threading.Lock()


def parsed(text: str, filename: str = "<unknown>") -> ast.Module:
    """The syntax tree of a text. Raises what `ast.parse` raises for a text that is no Python.

    Python 3.11 counts the depth of the tree in one place for all threads: two that parse at the
    same time can each be told that the count is wrong, though the text is fine
    (https://github.com/python/cpython/issues/106905). So ours take turns; and as others parse too
    (Python itself, when it prints a traceback), what fails that way is read again.
    """
    with _turn:
        for _ in range(_TRIES):
            try:
                return ast.parse(text, filename)
            except SystemError:
                continue
    return ast.parse(text, filename)
