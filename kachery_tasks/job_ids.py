"""The ids of earlier calls, so that a small call that is repeated is not hashed again."""

from __future__ import annotations

import marshal
from typing import Any

from .binding import Arguments
from .code import Fingerprint
from .definition import Definition
from .identity import Addresses, identified
from .values import SCALARS

_MOST = 4096  # calls that are remembered
_LARGEST = 1024  # bytes of their arguments


class JobIds:
    """The ids of calls of one definition whose arguments are numbers and short text.

    An id counts only as long as all the code is what it was, which is looked at each time.
    """

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._known: dict[bytes, tuple[Fingerprint, str, str]] = {}

    def get(self, arguments: Arguments) -> str | None:
        """The job id of a call, if it is remembered."""
        if not self._known:
            return None
        call = self._call(arguments)
        found = None if call is None else self._known.get(call)
        if found is None:
            return None
        fingerprint, name, job_id = found
        definition = self._definition
        is_same = definition.fingerprint() is fingerprint and definition.name == name
        return job_id if is_same else None

    def find(self, arguments: Arguments, addresses: Addresses) -> str:
        """The job id of a call, from the addresses of its arguments; it is remembered."""
        call = self._call(arguments)
        name = self._definition.name
        job_id, fingerprint = identified(self._definition, addresses)
        if call is None or len(call) > _LARGEST or self._definition.secret:
            return job_id
        if self._definition.name == name:  # that of what runs as a program can change
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[call] = fingerprint, name, job_id
        return job_id

    def _call(self, arguments: Arguments) -> bytes | None:
        """Plain arguments as bytes, which are others if any type or value is another one."""
        values = tuple([arguments[name] for name in self._definition.identifying])
        if not SCALARS.issuperset(map(type, values)):
            return None
        for value in values:
            if type(value) is str and len(value) > _LARGEST:
                return None  # a copy of it costs, and marshal does not take the largest
        return marshal.dumps(values, 2)

    def __reduce__(self) -> Any:
        return JobIds, (self._definition,)  # what is known here is no use elsewhere
