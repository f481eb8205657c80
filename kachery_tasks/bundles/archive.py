"""The zip of a bundle: members stored as they are, under names of a store (docs/formats/bundle.md).

Whoever sends a bundle may have written anything: nothing is taken of it that was not measured first.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

from kachery_store.digest import HEX_LENGTH, Digest, make_digest, new_hasher
from kachery_store.errors import BadURI, DigestMismatch, NotFound
from kachery_store.uplink import ref_name

from ..errors import BadBundle

SHEET = "kachery-bundle.json"  # the first member, which tells what is in the bundle
REFS = ("arrays", "code", "jobs")
MOST_MEMBERS = 1_000_000
MOST_DIRECTORY = 1 << 28  # bytes of the zip's list of members

_PIECE = 4 << 20
_REF = re.compile("[0-9a-f]{64}")
_FEED = re.compile(r"feeds/[0-9a-f]{64}/[A-Za-z0-9_~.-]{1,100}/[A-Za-z0-9_./-]{1,100}")
_WHEN = (1980, 1, 1, 0, 0, 0)  # equal content is equal files
_ON_UNIX, _MODE = 3, 0o644
_ENCRYPTED = 1
_END, _END_64, _LOCATOR = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_FIRST = b"PK\x03\x04"
_BROKEN = (
    *(zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, OverflowError),
    *(struct.error, zlib.error, ValueError),
)


class Source(NamedTuple):
    """What becomes a member. `digest`: of its bytes. `path`: of the file that has them, or `data`."""

    name: str
    size: int
    digest: Digest
    path: str = ""
    data: bytes = b""


def is_member(name: str) -> bool:
    """Whether a member may have that name: that of something in a store, and no other."""
    folder, _, rest = name.partition("/")
    own = rest.rpartition("/")[2]
    if folder in HEX_LENGTH:
        try:
            return make_digest(folder, own).path == name
        except BadURI:
            return False
    if folder in REFS:
        return _REF.fullmatch(own) is not None and ref_name(folder, own) == name
    parts = name.split("/")
    return _FEED.fullmatch(name) is not None and not {"", ".", ".."} & set(parts)


def write_archive(
    path: str, sheet: bytes, sources: Iterable[Source], progress: Callable[[int], object]
) -> None:
    """Write a bundle, durably; nothing is under the name before all of it is.

    Raises OSError, DigestMismatch when a file changes meanwhile.
    """
    temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    try:
        with open(temporary, "xb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
                with archive.open(_info(SHEET, len(sheet)), "w") as member:
                    member.write(sheet)
                for source in sources:
                    _write_member(archive, source, progress)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename == temporary:  # the user knows of the other name
            error.filename = path
        raise
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def _info(name: str, size: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _WHEN)
    info.create_system = _ON_UNIX
    info.external_attr = (stat.S_IFREG | _MODE) << 16
    info.file_size = size
    return info


def _write_member(
    archive: zipfile.ZipFile, source: Source, progress: Callable[[int], object]
) -> None:
    hasher = new_hasher(source.digest.algorithm)
    with archive.open(_info(source.name, source.size), "w") as member:
        for piece in _pieces_of(source):
            hasher.update(piece)
            member.write(piece)
            progress(len(piece))
    if hasher.hexdigest() != source.digest.hex:
        raise DigestMismatch(f"{source.name} changed while it was read; try again")


def _pieces_of(source: Source) -> Iterator[bytes]:
    if not source.path:
        yield source.data
        return
    with open(source.path, "rb", buffering=0) as file:
        while piece := file.read(_PIECE):
            yield piece


class Archive:
    """A bundle that is read. `sizes`: of all members, by name. BadBundle, NotFound, OSError."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = _opened(path)
        try:
            _check_ends(self._file, path)
            with self._told("it is no zip that can be read"):
                self._zip = zipfile.ZipFile(self._file)
            self._members = self._checked(self._zip.infolist())
        except BaseException:
            self._file.close()
            raise
        self.sizes = {name: info.file_size for name, info in self._members.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()
        self._file.close()

    def _checked(self, infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
        members: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            name = info.filename
            shown = repr(info.orig_filename[:100])
            if info.orig_filename != name or not (name == SHEET or is_member(name)):
                raise self.bad(f"it has a member {shown}, and bundles have none of such a name")
            if name in members:
                raise self.bad(f"it has two members {shown}")
            if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                raise self.bad(f"its member {shown} is compressed, and those of bundles are not")
            if info.flag_bits & _ENCRYPTED:
                raise self.bad(f"its member {shown} is encrypted")
            members[name] = info
        if sum(info.file_size for info in infos) > os.fstat(self._file.fileno()).st_size:
            raise self.bad("its members overlap: it says that they have more bytes than it has")
        if SHEET not in members:
            raise self.bad(f"it has no {SHEET}: it is some other zip")
        return members

    def bad(self, why: str) -> BadBundle:
        """The error that says what is wrong with it."""
        return BadBundle(f"{self.path} cannot be used: {why}. Ask whoever made it for another copy")

    def read(self, name: str, most: int) -> bytes:
        """All bytes of a member. NotFound; BadBundle when it has more than `most`, or is damaged."""
        size = self.sizes.get(name)
        if size is None:
            raise NotFound(f"{name} is not in {self.path}")
        if size > most:
            raise self.bad(f"its member {name} has {size} bytes, and such have at most {most}")
        return b"".join(self.pieces(name))

    def pieces(self, name: str) -> Iterator[bytes]:
        """The bytes of a member, some at a time. BadBundle when it is damaged."""
        with (
            self._told(f"its member {name} is damaged"),
            self._zip.open(self._members[name]) as member,
        ):
            while piece := member.read(_PIECE):
                yield piece

    def _told(self, what: str) -> _Told:
        return _Told(self, what)


class _Told:
    """Turns what a zip can go wrong with into the typed error."""

    def __init__(self, archive: Archive, what: str) -> None:
        self._archive = archive
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        if isinstance(error, BadBundle):
            return
        if isinstance(error, _BROKEN):
            raise self._archive.bad(f"{self._what} ({error})") from error


def _opened(path: str) -> BinaryIO:
    # Without O_NONBLOCK a named pipe in the place of a file would block for ever.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BadBundle(f"{path} is no bundle of kachery: it is no file")
    return open(descriptor, "rb")


def _check_ends(file: BinaryIO, path: str) -> None:
    """Measure the list of members before it is read; the file begins and ends as a bundle does."""
    size = os.fstat(file.fileno()).st_size
    tail_size = min(size, 22 + 20 + 56)
    file.seek(size - tail_size)
    tail = file.read(tail_size)
    file.seek(0)
    end = tail[-22:]
    if file.read(4) != _FIRST or len(end) != 22 or end[:4] != _END or end[-2:] != b"\0\0":
        raise BadBundle(f"{path} is no bundle of kachery, or it is cut short: it is no whole zip")
    count, directory, start = struct.unpack("<HLL", end[10:20])
    last = size - 22
    locator = tail[-42:-22]
    if locator[:4] == _LOCATOR:
        last = size - 42 - 56
        record = tail[:56] if len(tail) == tail_size == 98 else b""
        if record[:4] != _END_64 or struct.unpack("<Q", locator[8:16])[0] != last:
            raise BadBundle(f"{path} is no bundle of kachery: its end is not that of one")
        count, directory, start = struct.unpack("<QQQ", record[32:56])
    if start + directory != last or directory > MOST_DIRECTORY or count > MOST_MEMBERS:
        raise BadBundle(
            f"{path} is no bundle of kachery: its list of members is too long, or in the wrong place"
        )
