"""Records: the outcome of a job, as it is kept (docs/formats/record.md).

A record is a sealed file whose body is the msgpack of the fields of a Record as an array, which may
grow.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack

from kachery_store.errors import DigestMismatch

from .sealed import seal, unseal

MAGIC = "kachery record"
VERSION = 1
INLINE_UP_TO = 65_536  # encodings up to this size live inside the record


class Result(NamedTuple):
    """What came out of a job.

    `address`: 32 bytes. `size`: bytes of encoding and blobs. `type`: the Python type, for people.
    `classes`: names and fingerprints of the project's classes whose instances are in it. `inline`:
    the encoding, if it is small. `pickles`: for each opaque value in it who it is (values.Made) and
    the digest and size of the blob with its pickle.
    """

    address: bytes
    size: int
    type: str
    classes: list[tuple[str, str]]
    inline: bytes | None
    pickles: list[tuple[str, int, bytes, bytes, int]]


class Record(NamedTuple):
    """One finished job.

    `arguments` are [name, address, summary]; the address of a secret one is empty. `codes` are names
    and fingerprints of the classes and functions among the arguments. `asks` are the queries that the
    task may ask, if any. Times are in seconds.
    """

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
    codes: list[tuple[str, str]]
    asks: list[str] = []  # noqa: RUF012 - never changed

    @property
    def uri(self) -> str:
        """job://<job id>"""
        return f"job://{self.job_id}"

    def to_bytes(self) -> bytes:
        """The record file."""
        return seal(MAGIC, VERSION, msgpack.packb(self if self.asks else self[:_ASKS]))

    @classmethod
    def from_bytes(cls, data: bytes, job_id: str) -> Record:
        """Read a record file that should be that job's.

        Raises DigestMismatch when it is damaged or another job's, StoreTooNew when a later kachery
        wrote it in a way that this one cannot read.
        """
        body = unseal(data, MAGIC, VERSION, f"the record of job {job_id}")
        try:
            fields: list[Any] = msgpack.unpackb(body)[: len(cls._fields)]
            if fields[0] != job_id:
                raise DigestMismatch(f"the record of job {job_id} is that of another job")
            fields[_RESULT] = Result._make(fields[_RESULT][: len(Result._fields)])
            return cls(*fields)  # an older record has fewer
        except (ValueError, TypeError, IndexError, msgpack.UnpackException) as error:
            raise DigestMismatch(f"the record of job {job_id} is damaged ({error})") from error


_RESULT = Record._fields.index("result")
_ASKS = Record._fields.index("asks")
