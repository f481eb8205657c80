"""The few operations that a root must offer, wherever it is, and what they promise.

Names are relative, with forward slashes. Everything above rests on these promises; the suite in
`kachery_store.testing` holds every backend to them:

- `create` is atomic and exclusive: under a name there is nothing, or all the bytes of one writer; the
  first writer wins, and what it wrote is not overwritten.
- what `create` and `replace` acknowledged is read by everybody from then on; with `durable` it
  survives power loss.
- `swap` is `replace` that happens only if nobody was faster.
- reading writes nothing, and returns bytes that were written under that name, never a mixture.
- what goes wrong outside arrives as StoreUnavailable, within a bounded time.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from .errors import StoreUnavailable

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Status(NamedTuple):
    """What is known of the bytes under a name without reading them.

    `size`: bytes. `modified`: seconds since 1970, by the clock of whoever keeps them. `version`
    changes whenever the bytes do.
    """

    size: int
    modified: float
    version: str


class Capabilities(NamedTuple):
    """What a backend can do beyond reading and writing.

    `create`: `create` is atomic and exclusive. `swap`: `swap` works. `checksum`: the other side
    checks the bytes on arrival. `presign`: it can hand out URLs that need no credentials.
    """

    create: bool
    swap: bool
    checksum: bool
    presign: bool


class Backend(Protocol):
    """A root. `url` is what messages call it; it holds no credentials.

    `part_size`: larger blobs are kept in parts of so many bytes; None: they are kept whole.
    """

    url: str
    part_size: int | None

    @property
    def capabilities(self) -> Capabilities:
        """What this backend can do."""

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes under a name, from `start` up to, not including, `end`; NotFound without any."""

    def status(self, name: str) -> Status | None:
        """What is known of a name, or None when there is nothing under it."""

    def create(self, name: str, data: Buffer, *, durable: bool) -> bool:
        """Store bytes under a name that is free; False when the name is taken (nothing changes)."""

    def replace(self, name: str, data: Buffer) -> None:
        """Store bytes under a name, durably, whatever was there; readers see the old or the new."""

    def swap(self, name: str, data: Buffer, expected: str | None) -> bool:
        """`replace`, if the version there is `expected` (None: nothing is there); else False.

        Raises Unsupported where two writers could both succeed.
        """

    def remove(self, name: str) -> bool:
        """Delete what is under a name; False when there was nothing."""

    def names(self, folder: str) -> Iterator[str]:
        """The names of everything below a folder, in no special order."""

    def entries(self, folder: str) -> Iterator[tuple[str, Status]]:
        """`names`, each with its status."""

    def quarantine(self, name: str, seen: Status | None = None) -> str | None:
        """Move what is damaged out of the way; returns where it is now, None if it had gone.

        `seen` is its status when it was found damaged: what has another version by now was repaired
        by somebody else, and stays.
        """


class ReadOnly:
    """A backend that is only read: whatever would write is refused with StoreUnavailable."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.url = backend.url
        self.part_size = backend.part_size
        self.capabilities = Capabilities(create=False, swap=False, checksum=False, presign=False)
        self.read = backend.read
        self.status = backend.status
        self.names = backend.names
        self.entries = backend.entries

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise StoreUnavailable(
            f"the store at {self.url} is only read (read_only = true)", errno.EROFS, self.url
        )

    create = replace = swap = remove = quarantine = _refuse
