"""A bucket, through s3fs.

Every PUT is conditional or meant to replace, and carries a SHA-256 that the server checks, and a
number of its own, by which it is known when its answer is lost. Requests are asked again here, with a
bound on time and number.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from ..backend import Capabilities, Status
from ..errors import BadURI, DigestMismatch, NotFound, StoreUnavailable, Unsupported
from .answers import Refusal, Temporary, advice_of, classified

if TYPE_CHECKING:
    from typing_extensions import Buffer

_CONNECT_SECONDS = 5
_READ_SECONDS = 20
_GIVE_UP_AFTER = 90  # seconds, whatever the number of attempts
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 5.0
_WRITER = "kachery-writer"  # metadata that tells one PUT from another
_LARGEST = 64_000_000  # bytes; nothing that kachery puts under one name is larger
_PIECE = 1 << 20
_MOST_PREFIX = 800  # bytes; S3's names have 1,024 at most
_BUCKET = re.compile(r"(?!.*\.\.)[A-Za-z0-9._-]{1,255}|arn:[A-Za-z0-9:._-]{1,500}")


class S3Backend:
    """The objects below `s3://bucket/prefix`. `part_size`: what is larger travels in parts."""

    part_size: int | None = 20_000_000

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        bucket, _, prefix = url.partition("://")[2].rstrip("/").partition("/")
        if not bucket:
            raise BadURI(f"{url!r} names no bucket; the form is s3://bucket/prefix")
        if not _BUCKET.fullmatch(bucket):
            raise BadURI(f"{bucket[:80]!r} cannot be the name of a bucket")
        if len(prefix.encode()) > _MOST_PREFIX:
            raise BadURI(f"a prefix in a bucket has at most {_MOST_PREFIX} bytes here")
        self.url = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._options = options
        self._fs: Any = None
        self._process = 0

    @cached_property
    def capabilities(self) -> Capabilities:
        """What the server really does, tried out once with an object that is removed again."""
        name = f"tmp/probe.{os.urandom(8).hex()}"
        try:
            exclusive = self.create(name, b"1", durable=True) and not self.create(
                name, b"2", durable=True
            )
            swaps = self._put_refused(name, IfMatch='"0"')
            checks = self._put_refused(name, ChecksumSHA256=_sha256(b"other bytes"))
        finally:
            self.remove(name)
        return Capabilities(create=exclusive, swap=swaps, checksum=checks, presign=True)

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes under a name, from `start` up to `end`; NotFound when there is nothing.

        DigestMismatch when more bytes come than were asked for, or than anything has that kachery
        stores: what a bucket answers may be anybody's, and must not fill the memory.
        """
        if end is not None and end <= start:
            return b""
        most = _LARGEST if end is None else end - start
        whole = start == 0 and end is None
        given = {} if whole else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        try:
            found: bytes = self._attempt(lambda: self._get(name, most, **given))
        except Refusal as refusal:
            if refusal.code in ("InvalidRange", "416"):
                return b""
            raise self._error(name, refusal) from refusal.__cause__
        return found

    def status(self, name: str) -> Status | None:
        """What is known of a name, or None when there is nothing under it."""
        try:
            head = self._request("head_object", name)
        except NotFound:
            return None
        return self._status(head, "ContentLength")

    def create(self, name: str, data: Buffer, *, durable: bool) -> bool:  # noqa: ARG002 - always
        """Store bytes under a name that is free; False when the name is taken."""
        return self._put(name, bytes(data), IfNoneMatch="*")

    def replace(self, name: str, data: Buffer) -> None:
        """Store bytes under a name, whatever was there."""
        self._put(name, bytes(data))

    def swap(self, name: str, data: Buffer, expected: str | None) -> bool:
        """As `replace`, if the version there is `expected`; see Backend."""
        if not self.capabilities.swap:
            raise Unsupported(f"the server of {self.url} does not exchange objects conditionally")
        condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected}
        return self._put(name, bytes(data), **condition)

    def remove(self, name: str) -> bool:
        """Delete what is under a name; False when there was nothing."""
        there = self.status(name) is not None
        if there:
            self._request("delete_object", name)
        return there

    def names(self, folder: str) -> Iterator[str]:
        """The names of everything below a folder, page by page."""
        for name, _ in self.entries(folder):
            yield name

    def entries(self, folder: str) -> Iterator[tuple[str, Status]]:
        """`names`, each with its status, without holding more than a page of them."""
        page: dict[str, Any] = {}
        prefix = f"{self._prefix}{folder}/" if folder else self._prefix
        while True:
            page = self._request("list_objects_v2", None, Prefix=prefix, **page)
            for one in page.get("Contents", ()):
                key = str(one.get("Key", ""))
                if key.startswith(prefix):  # what was not asked for is not ours
                    yield key[len(self._prefix) :], self._status(one, "Size")
            if not page.get("IsTruncated"):
                return
            given, page = page, {"ContinuationToken": page.get("NextContinuationToken")}
            if page["ContinuationToken"] in (None, given.get("ContinuationToken")):
                raise self._strange("a listing that does not go on")

    def quarantine(self, name: str, seen: Status | None = None) -> str | None:
        """Move what is damaged out of the way; returns where it is now, None if it had gone.

        What is no longer as `seen` stays. Few servers delete on a condition, so it is looked at
        before it is copied and before it is deleted.
        """
        if not self._is_still(name, seen):
            return None
        target = f"quarantine/{name.replace('/', '_')}.{os.urandom(4).hex()}"
        source = {"Bucket": self._bucket, "Key": self._prefix + name}
        try:
            self._request("copy_object", target, CopySource=source)
        except NotFound:
            return None
        if not self._is_still(name, seen):
            self._request("delete_object", target)
            return None
        self._request("delete_object", name)
        return f"{self.url}/{target}"

    def _is_still(self, name: str, seen: Status | None) -> bool:
        now = self.status(name) if seen is not None else None
        return seen is None or (now is not None and now.version == seen.version)

    def _put(self, name: str, body: bytes, **condition: str) -> bool:
        """One PUT; False when its condition does not hold."""
        writer = os.urandom(8).hex()
        given = {"Metadata": {_WRITER: writer}, "ChecksumSHA256": _sha256(body), **condition}
        try:
            self._request("put_object", name, Body=body, **given)
        except _ConditionFailed:
            if not condition:
                raise self._strange("that a condition fails where there was none") from None
            return self._wrote(name, writer)
        except NotFound:
            raise self._strange("that what is to be stored is not there") from None
        return True

    def _wrote(self, name: str, writer: str) -> bool:
        """Whether what is under a name came with this PUT of ours.

        When its answer is lost, the next attempt finds the name taken. That may not even be one of
        our attempts: aiohttp sends a PUT again on its own when a connection that was kept is closed.
        """
        try:
            head = self._request("head_object", name)
        except NotFound:
            return False
        return bool(head.get("Metadata", {}).get(_WRITER) == writer)

    def _put_refused(self, name: str, **given: str) -> bool:
        try:
            self._attempt(lambda: self._call("put_object", name, Body=b"probe", **given), once=True)
        except (Refusal, StoreUnavailable):
            return True
        return False

    def _request(self, method: str, name: str | None, **given: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = self._attempt(lambda: self._call(method, name, **given))
        except Refusal as refusal:
            if refusal.status == 412 and method == "put_object":
                raise _ConditionFailed from refusal.__cause__
            raise self._error(name or "", refusal) from refusal.__cause__
        return answer

    def _status(self, told: dict[str, Any], size: str) -> Status:
        try:
            return Status(int(told[size]), told["LastModified"].timestamp(), str(told["ETag"]))
        except (KeyError, ValueError, TypeError, AttributeError):
            raise self._strange("without a size, a time or an ETag") from None

    def _strange(self, what: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"the store at {self.url} answers what S3 does not: {what}. Check the zone's endpoint_url",
            place=self.url,
        )

    def _error(self, name: str, refusal: Refusal) -> Exception:
        if refusal.status == 404 and refusal.code != "NoSuchBucket":
            return NotFound(f"{name} is not in the store at {self.url}")
        return StoreUnavailable(
            f"the store at {self.url} refuses: {refusal} ({name or 'a listing'})."
            f" {advice_of(refusal, self._bucket)}",
            errno.EACCES if refusal.status else None,  # it did answer
            self.url,
        )

    def _attempt(self, request: Callable[[], Any], *, once: bool = False) -> Any:
        """What a request answers, asked again while that may help. Raises Refusal, StoreUnavailable."""
        give_up = time.monotonic() + _GIVE_UP_AFTER
        pause = _FIRST_PAUSE
        for attempt in count(1):
            try:
                return request()
            except Exception as error:  # of s3fs, botocore, aiohttp or asyncio
                failure = classified(error)
                if not isinstance(failure, Temporary):
                    raise failure from error
                if once or attempt >= failure.tries or time.monotonic() + pause > give_up:
                    raise StoreUnavailable(
                        f"the store at {self.url} cannot be reached: {failure} (asked {attempt}"
                        " times). Check the network and the zone's endpoint_url",
                        place=self.url,
                    ) from error
            time.sleep(pause * random.uniform(0.5, 1.5))
            pause = min(3 * pause, _LONGEST_PAUSE)
        raise AssertionError("unreachable")

    def _call(self, method: str, name: str | None, **given: Any) -> Any:
        if name is not None:
            given["Key"] = self._prefix + name
        return self._sync("_call_s3", method, Bucket=self._bucket, **given)

    def _get(self, name: str, most: int, **given: Any) -> bytes:
        from fsspec.asyn import sync

        async def body() -> bytes:
            answer = await self._file_system()._call_s3(  # noqa: SLF001 - as s3fs's own call_s3
                "get_object", Bucket=self._bucket, Key=self._prefix + name, **given
            )
            async with answer["Body"] as stream:
                promised = answer.get("ContentLength")
                if promised is not None and promised <= most:  # no more than that is read
                    data: bytes = await stream.read()
                else:
                    data = await self._bounded(name, stream, most)
            if promised is not None and len(data) != promised:
                raise Temporary(f"{len(data)} of {promised} bytes came")
            return data

        found: bytes = sync(self._file_system().loop, body, timeout=_GIVE_UP_AFTER)
        return found

    async def _bounded(self, name: str, stream: Any, most: int) -> bytes:
        pieces, size = [], 0
        while piece := await stream.read(_PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > most:
                raise DigestMismatch(
                    f"{name} in the store at {self.url} is not what was stored there: it has more"
                    f" than {most} bytes"
                )
        return b"".join(pieces)

    def _sync(self, method: str, *args: Any, **given: Any) -> Any:
        from fsspec.asyn import sync

        fs = self._file_system()
        return sync(fs.loop, getattr(fs, method), *args, timeout=_GIVE_UP_AFTER, **given)

    def _file_system(self) -> Any:
        """The file system of this process: connections do not survive a fork."""
        if self._fs is None or self._process != os.getpid():
            self._fs, self._process = _opened(self._options), os.getpid()
        return self._fs


_of_this_process: WeakValueDictionary[int, Any] = WeakValueDictionary()  # equal ones, too
_inherited: list[Any] = []


def _keep_what_was_inherited() -> None:
    # A file system that is finalized in a forked child takes the parent's connections along.
    _inherited.extend(_of_this_process.values())


os.register_at_fork(after_in_child=_keep_what_was_inherited)


class _ConditionFailed(Exception):
    """The condition of a PUT does not hold."""


def _opened(options: dict[str, Any]) -> Any:
    try:
        import s3fs
    except ImportError as error:
        raise Unsupported(
            "zones at s3:// need the package s3fs: pip install 'kachery[s3]'"
        ) from error
    from .bounded import bounded_session

    config = {
        "connect_timeout": _CONNECT_SECONDS,
        "read_timeout": _READ_SECONDS,
        "retries": {"total_max_attempts": 1},
        "max_pool_connections": 32,
        **bounded_session(),
    }
    fs = s3fs.S3FileSystem(
        config_kwargs=config, skip_instance_cache=True, use_listings_cache=False, **options
    )
    fs.retries = 1
    _of_this_process[id(fs)] = fs
    return fs


def _sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()
