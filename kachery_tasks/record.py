"""Records: the outcome of a job, as it is kept (docs/formats/record.md).

A record is a sealed file whose body is the msgpack of the fields of a Record as an array, which may
grow.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack

from kachery_store.amounts import size_text
from kachery_store.errors import DigestMismatch
from kachery_store.saying import clean
from kachery_store.unpacking import unpack

from .fields import (
    Is,
    at_most,
    is_address,
    is_bytes,
    is_count,
    is_digest,
    is_name,
    is_name_or_empty,
    is_seconds,
    is_text,
    list_of,
    or_none,
    row_of,
    wrong_one,
)
from .sealed import seal, unseal
from .summary import call_text

MAGIC = "kachery record"
VERSION = 1
INLINE_UP_TO = 65_536  # encodings up to this size live inside the record
MOST_CHILDREN = MOST_READS = 10_000  # that a record tells of
QUERY_READ, MUTABLE_READ = "query", "mutable"  # kinds of `reads`
_SHORT = 12  # digits of an id that are shown
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

    def __repr__(self) -> str:
        return f"<Result {clean(self.type)}, {size_text(self.size)}, {self.address.hex()[:_SHORT]}>"


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
    [name, encoding] of small arguments, `parts` [name, addresses, whether these are all] of what is in
    others that are lists, tuples and dicts. Older records lack all of these.
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
    parts: list[tuple[str, bytes, bool]] = []  # noqa: RUF012

    @property
    def uri(self) -> str:
        """job://<job id>"""
        return f"job://{self.job_id}"

    @property
    def is_error(self) -> bool:
        """Whether the result is an exception that the task keeps (`cache_errors=`)."""
        return self.status == ERROR

    def __repr__(self) -> str:
        told = {name: summary for name, _, summary in self.arguments}
        call = clean(call_text(self.task, told))
        result = f"{clean(self.result.type)}, {size_text(self.result.size)}"
        return f"<Record {call} {self.job_id[:_SHORT]} {clean(self.status)}: {result}>"

    def apart(self) -> Record:
        """The same with lists of its own, for who may change them: this one may be remembered."""
        fields = _with_own_lists(self)
        fields[_RESULT] = Result._make(_with_own_lists(self.result))
        return type(self)(*fields)

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
            fields: list[Any] = unpack(body)[: len(cls._fields)]
            if fields[0] != job_id:
                raise DigestMismatch(f"the record of job {job_id} is that of another job")
            fields[_RESULT] = Result._make(fields[_RESULT][: len(Result._fields)])
            return cls(*fields)  # an older record has fewer
        except (ValueError, TypeError, IndexError, KeyError) as error:
            raise DigestMismatch(f"the record of job {job_id} is damaged ({error})") from error


def record_in(data: bytes) -> Record:
    """The record in an intact file, whosever it is."""
    return Record.of_this_store(data, unpack(unpack(data)[2])[0])


_RESULT = Record._fields.index("result")


def _with_own_lists(fields: tuple[Any, ...]) -> list[Any]:
    return [one.copy() if type(one) is list else one for one in fields]


def wrong_field(record: Record) -> str | None:
    """The field of a record that is not what it should be, or None.

    A seal tells only that a record is as somebody wrote it, and in a zone anybody may have.
    """
    return wrong_one(Record._fields, _RECORD_IS, record)


def _is_read(value: Any) -> bool:
    if not _READ(value):
        return False
    if value[0] == QUERY_READ:  # of which there is a record, whose name is that of a file
        return is_name(value[1]) and value[2] != b""
    return bool(value[0] == MUTABLE_READ)


def _is_addresses(value: Any) -> bool:
    return is_bytes(value) and len(value) % _ADDRESS == 0


def _is_bool(value: Any) -> bool:
    return type(value) is bool


_ADDRESS = 32  # bytes
_CODES = list_of(row_of(is_text, is_name))
_PICKLE = row_of(is_text, is_count, is_digest, is_digest, is_count)
_READ = row_of(is_text, is_text, is_address)
_RESULT_IS = row_of(
    *(is_digest, is_count, is_text, _CODES),
    *(or_none(is_bytes), list_of(_PICKLE)),
)
_RECORD_IS: tuple[Is, ...] = (
    *(is_name, is_text, is_text, or_none(is_text), is_name),
    *(list_of(row_of(is_text, is_address, is_text)), _RESULT_IS, is_text),
    *(is_seconds, is_seconds, is_text, is_text, is_count, is_text, is_text),
    *(_CODES, list_of(is_text), is_name_or_empty),
    *(list_of(row_of(is_text, is_name)), at_most(MOST_CHILDREN, list_of(is_name))),
    *(at_most(MOST_READS, list_of(_is_read)), is_seconds, is_count, is_count, is_text),
    *(is_address, list_of(row_of(is_text, is_bytes))),
    list_of(row_of(is_text, _is_addresses, _is_bool)),
)
