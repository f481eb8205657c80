"""Records: the outcome of a job, as it is kept (docs/formats/record.md).

A record file is a msgpack array:

    ["kachery record", 1, body, digest, signatures]

`body` is the msgpack of the fields of a Record as an array, which may grow; `digest` is the BLAKE3
of the text `kachery record 1`, a newline and the body; `signatures` is empty until the record
enters a zone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack

from kachery_store.digest import blake3_bytes
from kachery_store.errors import DigestMismatch, StoreTooNew

MAGIC = "kachery record"
VERSION = 1
INLINE_UP_TO = 65_536  # encodings up to this size live inside the record


class Result(NamedTuple):
    """What came out of a job.

    `address`: 32 bytes. `size`: bytes of encoding and blobs. `type`: the Python type, for people.
    `classes`: names and fingerprints of the project's classes whose instances are in it. `inline`:
    the encoding, if it is small.
    """

    address: bytes
    size: int
    type: str
    classes: list[tuple[str, str]]
    inline: bytes | None


class Record(NamedTuple):
    """One finished job: `arguments` are [name, address, short description]; times are in seconds."""

    job_id: str
    kind: str
    task: str
    version: str | None
    fingerprint: str
    arguments: list[tuple[str, bytes, str]]
    result: Result
    status: str
    started: float
    seconds: float
    host: str
    user: str
    pid: int
    python: str
    kachery: str

    @property
    def uri(self) -> str:
        """job://<job id>"""
        return f"job://{self.job_id}"

    def to_bytes(self) -> bytes:
        """The record file."""
        body = msgpack.packb(self)  # tuples in a tuple
        packed: bytes = msgpack.packb([MAGIC, VERSION, body, _digest(VERSION, body), []])
        return packed

    @classmethod
    def from_bytes(cls, data: bytes, job_id: str) -> Record:
        """Read a record file that should be that job's.

        Raises DigestMismatch when it is damaged or another job's, StoreTooNew when a later kachery
        wrote it in a way that this one cannot read.
        """
        try:
            magic, version, body, digest, signatures, *_ = msgpack.unpackb(data)
            if magic != MAGIC or digest != _digest(version, body) or type(signatures) is not list:
                raise DigestMismatch(f"the record of job {job_id} is damaged")
            if version != VERSION:
                raise StoreTooNew(
                    f"the record of job {job_id} has version {version}, and this kachery reads"
                    f" {VERSION}: upgrade kachery"
                )
            fields: list[Any] = msgpack.unpackb(body)[: len(cls._fields)]
            if fields[0] != job_id:
                raise DigestMismatch(f"the record of job {job_id} is that of another job")
            fields[_RESULT] = Result._make(fields[_RESULT][: len(Result._fields)])
            return cls._make(fields)
        except (ValueError, TypeError, IndexError, msgpack.UnpackException) as error:
            raise DigestMismatch(f"the record of job {job_id} is damaged ({error})") from error


_RESULT = Record._fields.index("result")


def _digest(version: int, body: bytes) -> bytes:
    return blake3_bytes(b"%s %d\n%s" % (MAGIC.encode(), version, body))
