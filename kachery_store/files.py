"""Named files: what people store and load by URI, under the digests that are published.

The functions of kachery 2 stand on this class; `kachery.store_text(...)` is `store_text` of the
store in force.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import sys
from typing import TYPE_CHECKING, Any, BinaryIO

from .digest import Digest, check_algorithm, hash_buffer, new_hasher
from .errors import BadURI, DigestMismatch, NotFound
from .links import Links
from .local_backend import LocalBackend
from .manifest import Manifest, has_manifest, manifest_of
from .npy import load_array
from .own_files import OwnFiles
from .places import BlobSource, OwnFile, Parts, Place, PlainFile, StoredBlob, nowhere, part_not_here
from .progress import progress_bar
from .published_json import published_json
from .sweep import refresh
from .uri import FileURI, check_label, check_uri_type, format_uri, is_web, parse_uri

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Buffer

_PIECE = 16 << 20
_PICKLE_PROTOCOL = 4  # fixed, so that the URI does not depend on the version of Python


class Files:
    """The named files of one store.

    What stores returns a URI once the bytes are on the disk, and raises BadURI for a label or digest
    that cannot be, StoreUnavailable for the store. What loads raises BadURI, NotFound, DigestMismatch
    (also a lookup that failed: what was damaged is set aside), StoreUnavailable, and for files on the
    web DownloadFailed; `local_only` never leaves this machine.
    """

    def __init__(self, backend: LocalBackend, blobs: BlobSource) -> None:
        self._backend = backend
        self._blobs = blobs
        self._own_files = OwnFiles()
        self._links = Links(backend, self._own_files)

    def store_file(
        self,
        filename: str | os.PathLike[str],
        *,
        label: str | None = None,
        uri_type: int = 1,
        digest: str = "sha1",
        manifest: bool = False,
        zone: str | None = None,
    ) -> str:
        """Copy a file into the store. OSError when the file cannot be read.

        With `manifest`, a file larger than 20,000,000 bytes gets a manifest too, which the URI names.
        """
        path = os.fspath(filename)
        _check(label, uri_type, digest, manifest=manifest)
        with progress_bar(f"store {os.path.basename(path)}", os.stat(path).st_size) as progress:
            stored, size = self._blobs.put_file(path, digest, progress)
        parts = self._store_manifest(stored) if manifest and has_manifest(size) else None
        return _uri(stored, label, uri_type, zone, parts)

    def link_file(
        self,
        filename: str | os.PathLike[str],
        *,
        label: str | None = None,
        uri_type: int = 1,
        digest: str = "sha1",
    ) -> str:
        """Store a file by reference: it stays where it is, and counts until its size or time change.

        OSError when the file cannot be read, DigestMismatch when it changes meanwhile.
        """
        _check(label, uri_type, digest)
        linked = self._links.create(os.fspath(filename), digest)
        return _uri(linked, label, uri_type, "")

    def store_bytes(
        self,
        data: Buffer,
        *,
        label: str | None = None,
        uri_type: int = 1,
        digest: str = "sha1",
        zone: str | None = None,
    ) -> str:
        """Store bytes."""
        _check(label, uri_type, digest)
        name = Digest(digest, hash_buffer(digest, data))
        self._blobs.put(name, data, durable=True)
        return _uri(name, label, uri_type, zone)

    def store_text(self, text: str, **options: Any) -> str:
        """Store text as UTF-8; options as for `store_bytes`."""
        return self.store_bytes(text.encode("utf-8"), **options)

    def store_json(
        self,
        value: Any,
        *,
        separators: tuple[str, str] = (",", ":"),
        indent: int | str | None = None,
        **options: Any,
    ) -> str:
        """Store JSON with sorted keys and no spaces; ValueError for NaN and infinities."""
        text = published_json(value, separators=separators, indent=indent)
        return self.store_text(text, **options)

    def store_npy(self, array: np.ndarray[Any, Any], **options: Any) -> str:
        """Store a NumPy array as an .npy file; ValueError for arrays of Python objects."""
        return self.store_bytes(npy_bytes(array), **options)

    def store_pkl(self, value: Any, **options: Any) -> str:
        """Store any Python object as a pickle."""
        return self.store_bytes(pickle_bytes(value), **options)

    def load_file(
        self,
        uri: str,
        *,
        dest: str | os.PathLike[str] | None = None,
        local_only: bool = False,
        verbose: bool = False,
    ) -> str:
        """The path of a stored file, checked against its digest.

        The path is inside the store and read-only, or that of the user's own file if it was linked;
        with `dest` the file is copied there instead. An absolute path stands for itself. `verbose`
        shows the progress of a download also where nobody watches.
        """
        path = self._place(uri, local_only, verbose).path()
        if dest is None:
            return path
        target = os.fspath(dest)
        if not (os.path.exists(target) and os.path.samefile(path, target)):
            shutil.copyfile(path, target)
        return target

    def load_file_info(self, uri: str) -> dict[str, Any]:
        """What is known of a stored file without loading it: {found, size, hashAlg, hash}.

        BadURI for a file on the web, of which nothing is known before it is loaded.
        """
        if is_web(uri):
            raise BadURI(f"nothing is known of {uri[:200]!r} before it is loaded; use load_file")
        info: dict[str, Any] = {"found": True, "size": self._place(uri).size()}
        if not _is_path(uri):
            algorithm, hex = parse_uri(uri).digest
            info |= {"hashAlg": algorithm, "hash": hex}
        return info

    def load_bytes(
        self,
        uri: str,
        start: int | None = None,
        end: int | None = None,
        *,
        local_only: bool = False,
    ) -> bytes:
        """The bytes of a stored file from `start` up to, not including, `end`.

        Of a large file only the parts that hold them are fetched, if it was stored in parts.
        """
        place = self._place(uri, local_only)
        if start is None and end is None:
            return place.read()
        return place.read_range(*_range(uri, place.size(), start, end))

    def cat_file(
        self,
        uri: str,
        output: BinaryIO | None = None,
        *,
        start: int | None = None,
        end: int | None = None,
    ) -> None:
        """Write the bytes of a stored file, or a range, to `output`, by default standard output."""
        place = self._place(uri)
        first, last = _range(uri, place.size(), start, end)
        sink = output or sys.stdout.buffer
        for position in range(first, last, _PIECE):
            sink.write(place.read_range(position, min(position + _PIECE, last)))
        sink.flush()

    def load_text(self, uri: str, *, local_only: bool = False) -> str:
        """A stored file as UTF-8 text."""
        return self.load_bytes(uri, local_only=local_only).decode("utf-8")

    def load_json(self, uri: str, *, local_only: bool = False) -> Any:
        """A stored JSON file as Python data."""
        return json.loads(self.load_bytes(uri, local_only=local_only))

    def load_npy(self, uri: str, *, local_only: bool = False) -> np.ndarray[Any, Any]:
        """A stored .npy file as a NumPy array; BadArray when it is none, or holds Python objects."""
        return load_array(self._place(uri, local_only).path())

    def load_pkl(self, uri: str, *, local_only: bool = False) -> Any:
        """A stored pickle as a Python object. LOADING A PICKLE EXECUTES CODE that is in it.

        That the bytes match the digest says only that they are the ones the URI names: load only what
        you, or somebody you trust, stored.
        """
        return pickle.loads(self.load_bytes(uri, local_only=local_only))

    def _place(self, uri: str, local_only: bool = False, verbose: bool = False) -> Place:
        if _is_path(uri):
            return _plain_file(uri)
        if is_web(uri):
            return StoredBlob(self._blobs, self._download(uri, local_only, verbose))
        wanted = parse_uri(uri)
        if self._is_here(wanted.digest):
            return StoredBlob(self._blobs, wanted.digest)
        return self._own_file(wanted) or self._parts_or_zone(wanted, local_only)

    def _is_here(self, digest: Digest) -> bool:
        return self._backend.stat(digest.path) is not None

    def _own_file(self, wanted: FileURI) -> Place | None:
        digest, path = wanted.digest, self._links.find(wanted.digest)
        if path is None and wanted.location is not None and self._is_at(wanted.location, digest):
            path = wanted.location
        return None if path is None else OwnFile(path, self._own_files, digest)

    def _is_at(self, location: str, digest: Digest) -> bool:
        try:
            return self._own_files.matches(location, digest)
        except OSError:
            return False

    def _parts_or_zone(self, wanted: FileURI, local_only: bool) -> Place:
        manifest = self._manifest(wanted, local_only)
        if local_only and (manifest is None or part_not_here(manifest, self._backend)):
            raise nowhere(wanted.digest, self._backend.root)
        if manifest is None:
            return StoredBlob(self._blobs, wanted.digest)
        return Parts(self._backend, self._blobs, manifest, local_only=local_only)

    def _manifest(self, wanted: FileURI, local_only: bool) -> Manifest | None:
        name = wanted.manifest
        if name is None or (local_only and not self._is_here(name)):
            return None
        try:
            manifest = Manifest.from_bytes(self._blobs.read(name))
        except NotFound:
            return None
        if manifest.digest != wanted.digest:
            raise DigestMismatch(
                f"the manifest {name} lists the parts of another file, not {wanted.digest}"
            )
        return manifest

    def _store_manifest(self, digest: Digest) -> Digest:
        path = self._blobs.path(digest)
        with (
            open(path, "rb", buffering=0) as file,
            progress_bar("hash the parts", os.stat(path).st_size) as progress,
        ):
            data = manifest_of(file, digest.algorithm, progress).to_bytes()
        name = Digest(digest.algorithm, hash_buffer(digest.algorithm, data))
        self._blobs.put(name, data, durable=True)
        return name

    def _download(self, uri: str, local_only: bool, verbose: bool) -> Digest:
        if local_only:
            raise NotFound(f"{uri[:200]} is on the web, and local_only=True does not look there")
        from .web import download

        hasher = new_hasher("sha1")
        with download(uri) as source, self._backend.temporary() as temporary:
            with progress_bar("load", source.size, always=verbose) as progress:
                for piece in source.pieces():
                    hasher.update(piece)
                    temporary.write(piece)
                    progress(len(piece))
            digest = Digest("sha1", hasher.hexdigest())
            if not self._is_good(digest):
                temporary.commit(digest.path, durable=True)
        return digest

    def _is_good(self, digest: Digest) -> bool:
        try:
            return bool(
                self._is_here(digest)
                and self._blobs.path(digest)
                and refresh(self._backend, digest.path)
            )
        except (NotFound, DigestMismatch):
            return False


def npy_bytes(array: Any) -> bytes:
    """An array as the bytes of an .npy file; ValueError for arrays of Python objects."""
    import numpy as np

    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def pickle_bytes(value: Any) -> bytes:
    """A value as the bytes of a pickle, in one protocol on all versions of Python."""
    return pickle.dumps(value, protocol=_PICKLE_PROTOCOL)


def _check(label: str | None, uri_type: int, digest: str, *, manifest: bool = False) -> None:
    """Refuse, before anything is stored, what could not be named afterwards."""
    check_algorithm(digest)
    check_uri_type(uri_type, with_manifest=manifest)
    if label is not None:
        check_label(label)


def _uri(
    digest: Digest,
    label: str | None,
    uri_type: int,
    zone: str | None,
    manifest: Digest | None = None,
) -> str:
    if zone is None:
        zone = os.environ.get("KACHERY_ZONE") or "default"
    return format_uri(digest, label, uri_type=uri_type, zone=zone, manifest=manifest)


def _is_path(uri: object) -> bool:
    return isinstance(uri, str) and uri.startswith("/")


def _plain_file(path: str) -> Place:
    if "\0" in path or not os.path.exists(path):
        raise NotFound(f"there is no file {path[:200]!r}")
    return PlainFile(path)


def _range(uri: str, size: int, start: int | None, end: int | None) -> tuple[int, int]:
    first, last = (0 if start is None else start), (size if end is None else end)
    if not 0 <= first <= last <= size:
        raise ValueError(f"bytes {first} to {last} are not within the {size} bytes of {uri[:200]}")
    return first, last
