"""Named files: what people store and load by URI, under the digests that are published.

The functions of kachery 2 stand on this class; `kachery.store_text(...)` is `store_text` of the
store in force.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

from .blobs import Blobs
from .digest import Digest, check_algorithm, hash_buffer
from .errors import NotFound
from .local_backend import LocalBackend
from .uri import format_uri, parse_uri

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Buffer

_PROGRESS_FROM = 500_000_000  # bytes; less is stored within two seconds


class Files:
    """The named files of one store."""

    def __init__(self, backend: LocalBackend, blobs: Blobs) -> None:
        self._root = backend.root
        self._blobs = blobs

    def store_file(
        self,
        filename: str | os.PathLike[str],
        *,
        label: str | None = None,
        uri_type: int = 1,
        digest: str = "sha1",
    ) -> str:
        """Copy a file into the store; returns its URI once the copy is on the disk.

        Raises FileNotFoundError and its like for the file, StoreUnavailable for the store.
        """
        from tqdm.auto import tqdm

        path = os.fspath(filename)
        check_algorithm(digest)
        size = os.stat(path).st_size
        with tqdm(
            total=size,
            unit="B",
            unit_scale=True,
            desc=f"store {os.path.basename(path)}",
            disable=True if size < _PROGRESS_FROM else None,
        ) as bar:
            stored, _ = self._blobs.put_file(path, digest, bar.update)
        return _uri(stored, label, uri_type)

    def store_bytes(
        self, data: Buffer, *, label: str | None = None, uri_type: int = 1, digest: str = "sha1"
    ) -> str:
        """Store bytes; returns their URI once they are on the disk."""
        check_algorithm(digest)
        name = Digest(digest, hash_buffer(digest, data))
        self._blobs.put(name, data, durable=True)
        return _uri(name, label, uri_type)

    def store_text(self, text: str, *, label: str | None = None, uri_type: int = 1) -> str:
        """Store text as UTF-8."""
        return self.store_bytes(text.encode("utf-8"), label=label, uri_type=uri_type)

    def store_json(
        self,
        value: Any,
        *,
        separators: tuple[str, str] = (",", ":"),
        indent: int | str | None = None,
        label: str | None = None,
        uri_type: int = 1,
    ) -> str:
        """Store JSON with sorted keys and no spaces; ValueError for NaN and infinities."""
        text = json.dumps(
            value, separators=separators, indent=indent, allow_nan=False, sort_keys=True
        )
        return self.store_text(text, label=label, uri_type=uri_type)

    def store_npy(
        self, array: np.ndarray[Any, Any], *, label: str | None = None, uri_type: int = 1
    ) -> str:
        """Store a NumPy array as an .npy file; ValueError for arrays of Python objects."""
        import numpy as np

        file = io.BytesIO()
        np.save(file, array, allow_pickle=False)
        return self.store_bytes(file.getvalue(), label=label, uri_type=uri_type)

    def load_file(self, uri: str, *, dest: str | os.PathLike[str] | None = None) -> str:
        """The path of a stored file, checked against its digest.

        The path is inside the store and read-only; with `dest` the file is copied there instead.
        An absolute path stands for itself. Raises BadURI, NotFound, DigestMismatch (also a lookup
        that failed: the damaged file was set aside), StoreUnavailable.
        """
        path = self._path(uri)
        if dest is None:
            return path
        target = os.fspath(dest)
        if not (os.path.exists(target) and os.path.samefile(path, target)):
            shutil.copyfile(path, target)
        return target

    def load_bytes(self, uri: str, start: int | None = None, end: int | None = None) -> bytes:
        """The bytes of a stored file from `start` up to, not including, `end`."""
        path = self._path(uri)
        size = os.stat(path).st_size
        first, last = (0 if start is None else start), (size if end is None else end)
        if not 0 <= first <= last <= size:
            raise ValueError(f"bytes {first} to {last} are not within the {size} bytes of {uri}")
        with open(path, "rb") as file:
            file.seek(first)
            return file.read(last - first)

    def load_text(self, uri: str) -> str:
        """A stored file as UTF-8 text."""
        return self.load_bytes(uri).decode("utf-8")

    def load_json(self, uri: str) -> Any:
        """A stored JSON file as Python data."""
        return json.loads(self.load_bytes(uri))

    def load_npy(self, uri: str) -> np.ndarray[Any, Any]:
        """A stored .npy file as a NumPy array; ValueError when it holds Python objects."""
        import numpy as np

        array: np.ndarray[Any, Any] = np.load(self._path(uri), allow_pickle=False)
        return array

    def cat_file(self, uri: str, output: BinaryIO | None = None) -> None:
        """Write the bytes of a stored file to `output`, by default standard output."""
        with open(self._path(uri), "rb") as file:
            shutil.copyfileobj(file, output or sys.stdout.buffer)

    def _path(self, uri: str) -> str:
        if isinstance(uri, str) and uri.startswith("/"):
            if os.path.exists(uri):
                return uri
            raise NotFound(f"there is no file {uri}")
        digest = parse_uri(uri).digest
        try:
            return self._blobs.path(digest)
        except NotFound:
            raise NotFound(
                f"{digest} is not in the store at {self._root}: store the file here first, or"
                " point KACHERY_DIR at the store that has it"
            ) from None


def _uri(digest: Digest, label: str | None, uri_type: int) -> str:
    zone = os.environ.get("KACHERY_ZONE") or "default"
    return format_uri(digest, label, uri_type=uri_type, zone=zone)
