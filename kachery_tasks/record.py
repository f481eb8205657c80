"""Records: the outcome of a job, as it is kept (docs/formats/record.md).

A record is a sealed file whose body is the msgpack of the fields of a Record as an array, which may
grow.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import msgpack

from kachery_store.errors import DigestMismatch

from .sealed import seal, unseal

MAGIC = "kachery record"
VERSION = 1
INLINE_UP_TO = 65_536  # encodings up to this size live inside the record
MOST_CHILDREN = MOST_READS = 10_000  # that a record tells of
QUERY_READ, MUTABLE_READ = "query", "mutable"  # kinds of `reads`
FINISHED, ERROR = "finished", "error"  # of a status; with the latter the result is an exception


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
    task may ask, if any. `parent` is the id of the job whose function asked for this one when it ran, or
    empty. Times are in seconds.

    `inputs` are [parameter, job id] of the jobs among the arguments. `children` are the ids of the jobs
    that the function asked for, `reads` what else it read: ["query", id of the record of the answer,
    address of the answer] and ["mutable", name, address of the value or empty]. `peak_memory` is in
    bytes, of the process. `attempt` counts from 1; 0 is not known. `worker` is the address of the Dask
    worker, or empty. `environment` is the address of what environment.py tells, or empty. `values` are
    [name, encoding] of small arguments. Older records lack all of these.
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
    parent: str = ""
    inputs: list[tuple[str, str]] = []  # noqa: RUF012
    children: list[str] = []  # noqa: RUF012
    reads: list[tuple[str, str, bytes]] = []  # noqa: RUF012
    cpu_seconds: float = 0.0
    peak_memory: int = 0
    attempt: int = 0
    worker: str = ""
    environment: bytes = b""
    values: list[tuple[str, bytes]] = []  # noqa: RUF012

    @property
    def uri(self) -> str:
        """job://<job id>"""
        return f"job://{self.job_id}"

    @property
    def is_error(self) -> bool:
        """Whether the result is an exception that the task keeps (`cache_errors=`)."""
        return self.status == ERROR

    def to_bytes(self) -> bytes:
        """The record file."""
        return seal(MAGIC, VERSION, msgpack.packb(self))

    @classmethod
    def from_bytes(cls, data: bytes, job_id: str) -> Record:
        """Read a record file that should be that job's.

        Raises DigestMismatch when it is damaged or another job's, StoreTooNew when a later kachery
        wrote it in a way that this one cannot read.
        """
        record = cls.of_this_store(data, job_id)
        wrong = wrong_field(record)
        if wrong is not None:
            raise DigestMismatch(f"the record of job {job_id} is damaged (its {wrong} is not one)")
        return record

    @classmethod
    def of_this_store(cls, data: bytes, job_id: str) -> Record:
        """The same, for what came into the store through that: its fields need no second look."""
        body = unseal(data, MAGIC, VERSION, f"the record of job {job_id}")
        try:
            fields: list[Any] = msgpack.unpackb(body)[: len(cls._fields)]
            if fields[0] != job_id:
                raise DigestMismatch(f"the record of job {job_id} is that of another job")
            fields[_RESULT] = Result._make(fields[_RESULT][: len(Result._fields)])
            return cls(*fields)  # an older record has fewer
        except (ValueError, TypeError, IndexError, KeyError, msgpack.UnpackException) as error:
            raise DigestMismatch(f"the record of job {job_id} is damaged ({error})") from error


_RESULT = Record._fields.index("result")


def wrong_field(record: Record) -> str | None:
    """The field of a record that is not what it should be, or None.

    A seal tells only that a record is as somebody wrote it, and in a zone anybody may have.
    """
    for field, is_right, value in zip(Record._fields, _RECORD_IS, record, strict=True):
        if not is_right(value):
            return field
    return None


Is = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_name(value: Any) -> bool:
    """Whether it can be the name of a file: others lead out of the store."""
    return type(value) is str and _NAME.fullmatch(value) is not None


def _is_bytes(value: Any) -> bool:
    return type(value) is bytes


def _is_digest(value: Any) -> bool:
    return type(value) is bytes and len(value) == _DIGEST_BYTES


def _is_address(value: Any) -> bool:
    return value == b"" or _is_digest(value)  # of a secret argument


def _is_parent(value: Any) -> bool:
    return value == "" or _is_name(value)


def _is_read(value: Any) -> bool:
    if not _READ(value):
        return False
    if value[0] == QUERY_READ:  # of which there is a record, whose name is that of a file
        return _is_name(value[1]) and value[2] != b""
    return bool(value[0] == MUTABLE_READ)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_seconds(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < _MOST_SECONDS


def _or_none(is_right: Is) -> Is:
    return lambda value: value is None or is_right(value)


def _list_of(is_right: Is) -> Is:
    return lambda value: type(value) is list and all(map(is_right, value))


def _at_most(most: int, is_right: Is) -> Is:
    return lambda value: is_right(value) and len(value) <= most


def _row_of(*rules: Is) -> Is:
    """A list that may have grown."""
    return lambda value: (
        type(value) in (list, Result)
        and len(value) >= len(rules)
        and all(is_right(one) for is_right, one in zip(rules, value, strict=False))
    )


_NAME = re.compile("[0-9A-Za-z][0-9A-Za-z_.-]{0,127}")
_DIGEST_BYTES = 32
_MOST_SECONDS = 1e11  # of the year 5138; dates have an end
_CODES = _list_of(_row_of(_is_text, _is_name))
_PICKLE = _row_of(_is_text, _is_count, _is_digest, _is_digest, _is_count)
_READ = _row_of(_is_text, _is_text, _is_address)
_RESULT_IS = _row_of(
    *(_is_digest, _is_count, _is_text, _CODES),
    *(_or_none(_is_bytes), _list_of(_PICKLE)),
)
_RECORD_IS: tuple[Is, ...] = (
    *(_is_name, _is_text, _is_text, _or_none(_is_text), _is_name),
    *(_list_of(_row_of(_is_text, _is_address, _is_text)), _RESULT_IS, _is_text),
    *(_is_seconds, _is_seconds, _is_text, _is_text, _is_count, _is_text, _is_text),
    *(_CODES, _list_of(_is_text), _is_parent),
    *(_list_of(_row_of(_is_text, _is_name)), _at_most(MOST_CHILDREN, _list_of(_is_name))),
    *(_at_most(MOST_READS, _list_of(_is_read)), _is_seconds, _is_count, _is_count, _is_text),
    *(_is_address, _list_of(_row_of(_is_text, _is_bytes))),
)
