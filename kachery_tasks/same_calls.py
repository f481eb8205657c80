"""Which stored jobs are of one call: the same function with the same arguments, whatever its code was.

The code of what made the arguments does not count either, nor does whether a default was left out.
A record names the jobs among its arguments, and how those were put together is found out from addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kachery_store import Digest, DigestMismatch, NotFound, Store, StoreUnavailable
from kachery_store.digest import blake3_bytes

from .assembled import assembled
from .code import Description
from .definition import Definition
from .kept_code import kept_code
from .record import Record

_TELLING = 1024  # bytes; a value that is smaller may be the same as another one by chance

WHOLE = (
    "whole"  # of an argument that is the result of a job; else it is a list or tuple, or unknown
)

Definitions = Callable[[str], Definition | str]  # the task of a name, or why there is none


class Calls:
    """The jobs of a store by the calls that they are of."""

    def __init__(self, store: Store, made: Sequence[Record], definitions: Definitions) -> None:
        """`made`: the oldest first."""
        self._store = store
        self._definitions = definitions
        self.records = {record.job_id: record for record in made}
        self._makers = _makers(made)
        self._inputs = {record.job_id: self._inputs_of(record) for record in made}
        self._defaults: dict[Any, dict[str, bytes]] = {}
        self._forms: dict[tuple[str, str], Any] = {}
        self._calls: dict[str, bytes] = {}
        self._jobs: dict[bytes, list[Record]] = {}
        for record in self._inputs_first(made):
            call = self._calls[record.job_id] = self._call_of(record)
            self._jobs.setdefault(call, []).append(record)

    def each(self) -> Iterator[tuple[bytes, list[Record]]]:
        """Each call with its jobs, the newest first; a call comes after those of its inputs."""
        for call, jobs in self._jobs.items():
            yield call, sorted(jobs, key=lambda one: one.started, reverse=True)

    def call_of(self, job_id: str) -> bytes:
        """The call that a stored job is of."""
        return self._calls[job_id]

    def inputs(self, record: Record) -> list[tuple[str, str]]:
        """Parameters and the jobs whose results they were."""
        return self._inputs[record.job_id]

    def _inputs_of(self, record: Record) -> list[tuple[str, str]]:
        told = {name for name, _ in record.inputs}
        found = [(name, job_id) for name, job_id in record.inputs]
        for name, address, _ in record.arguments:
            maker = None if name in told else self._makers.get(address)
            if maker is not None and maker.started + maker.seconds <= record.started:
                found.append((name, maker.job_id))
        return found

    def _inputs_first(self, made: Sequence[Record]) -> Iterator[Record]:
        """The records, inputs before those who took them, which may have been made again since."""
        entered: set[str] = set()
        done: set[str] = set()
        for record in made:
            waiting = [record]
            while waiting:
                one = waiting[-1]
                if one.job_id not in entered:
                    entered.add(one.job_id)
                    needed = [job_id for _, job_id in self._inputs[one.job_id]]
                    waiting += [
                        self.records[job_id]
                        for job_id in needed
                        if job_id in self.records and job_id not in entered
                    ]
                    continue
                waiting.pop()
                if one.job_id not in done:
                    done.add(one.job_id)
                    yield one

    def _call_of(self, record: Record) -> bytes:
        inputs = self._inputs[record.job_id]
        parts: list[Any] = [record.kind, record.task]
        for name, address, _ in record.arguments:
            made = [self._calls.get(job_id, job_id) for of, job_id in inputs if of == name]
            if not made and self._is_default(record, name, address):
                continue
            form = self.form(record, name) if made else None
            parts.append((name, (form, made) if form else address or record.job_id))
        return blake3_bytes(repr(parts).encode())

    # How results of jobs are in arguments

    def form(self, record: Record, name: str) -> Any:
        """How an argument is made of the results of jobs; None when that is not known."""
        if (record.job_id, name) not in self._forms:
            self._forms[record.job_id, name] = self._found_form(record, name)
        return self._forms[record.job_id, name]

    def _found_form(self, record: Record, name: str) -> Any:
        address, summary = next(
            ((of, text) for one, of, text in record.arguments if one == name), (b"", "")
        )
        made = [self.records.get(job_id) for one, job_id in self.inputs(record) if one == name]
        alone = made[0] if len(made) == 1 else None
        container = _container(summary)
        if alone is not None and (container is None or address == alone.result.address):
            return WHOLE
        encodings = [None if one is None else self._encoding(one) for one in made]
        known = [one for one in encodings if one is not None]
        whole = assembled(known, address, summary) if len(known) == len(made) else None
        if whole is not None:
            return whole.kind.__name__, whole.order
        if alone is not None and container == alone.result.type and ran_since(alone, record):
            return WHOLE
        return None

    def _encoding(self, record: Record) -> bytes | None:
        if record.result.inline is not None:
            return record.result.inline
        try:
            return self._store.blobs.read(Digest("blake3", record.result.address.hex()))
        except (NotFound, DigestMismatch, StoreUnavailable):
            return None

    # Defaults

    def _is_default(self, record: Record, name: str, address: bytes) -> bool:
        """Whether an argument is the default: now, or then where there is no such parameter now."""
        definition = self._definitions(record.task)
        if isinstance(definition, str) or not address:
            return False
        if name in definition.identifying:
            return self._defaults_now(definition).get(name) == address
        return self._defaults_then(record).get(name) == address

    def _defaults_now(self, definition: Definition) -> dict[str, bytes]:
        if definition not in self._defaults:
            try:
                found = _defaults_in(definition.fingerprint().description)
            except TypeError:  # its code cannot be identified
                found = {}
            self._defaults[definition] = found
        return self._defaults[definition]

    def _defaults_then(self, record: Record) -> dict[str, bytes]:
        if record.fingerprint not in self._defaults:
            description = kept_code(self._store, record.fingerprint)
            self._defaults[record.fingerprint] = (
                {} if description is None else _defaults_in(description)
            )
        return self._defaults[record.fingerprint]


def ran_since(made: Record, record: Record) -> bool:
    """Whether a job was computed again after another had taken its result: `refresh`, or `forget`."""
    return made.started + made.seconds > record.started


def _container(summary: str) -> str | None:
    """What an argument is by its summary, if jobs may stand in it."""
    for kind, opening in (("list", "["), ("tuple", "("), ("dict", "{")):
        if summary.startswith((opening, f"{kind} of ")):
            return kind
    return None


def _defaults_in(description: Description) -> dict[str, bytes]:
    """The addresses of the defaults of the function that is described, by parameter."""
    told = description.nodes[0][1].get("defaults", {})
    return {
        name: bytes.fromhex(reference[1])
        for name, reference in told.items()
        if reference[0] == "value"
    }


def _makers(made: Sequence[Record]) -> dict[bytes, Record]:
    """By the address of a result the job that made it first; of results that are no one else's."""
    found: dict[bytes, Record] = {}
    for record in made:
        if record.result.size > _TELLING and not record.is_error:
            found.setdefault(record.result.address, record)
    return found
