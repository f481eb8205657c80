"""Where a function was pickled: what `__main__` is there, which a process that gets it cannot know.

joblib, multiprocessing and others run what they are given in processes whose `__main__` is another one,
or none. A job must have the same id there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from .code import syntax_known
from .definition import Definition
from .errors import CannotFingerprint
from .names import main_known_as, main_name
from .project import Rule, rule, rule_known

_PROCESS = os.urandom(16)


class Origin(NamedTuple):
    """The name of `__main__`, what counts as the project, and the syntax of code of `__main__`.

    `process`: the same in the process that it is from, and in those that were forked from there.
    """

    process: bytes
    main: str
    rule: Rule
    syntax: dict[str, str]

    @property
    def is_elsewhere(self) -> bool:
        """Whether this is another process, whose `__main__` is another one even if it has that name."""
        return self.process != _PROCESS

    @contextmanager
    def known(self) -> Iterator[None]:
        """While this lasts, names and code mean what they mean there."""
        with main_known_as(self.main), rule_known(self.rule), syntax_known(self.syntax):
            yield


def origin_of(definition: Definition | None = None) -> Origin:
    """What another process has to know of this one, to run a function if there is one."""
    syntax: dict[str, str] = {}
    if definition is not None:
        with suppress(CannotFingerprint):  # calling it will tell
            syntax = definition.fingerprint().main_syntax
    return Origin(_PROCESS, main_name(), rule(), syntax)
