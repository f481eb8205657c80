"""What a user asks about: a job, a URI, a file on disk, a value in hand."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

from kachery_store import DigestMismatch, NotFound, Store
from kachery_store.digest import HEX_LENGTH, new_hasher
from kachery_store.errors import KacheryError
from kachery_store.progress import progress_bar
from kachery_store.uri import parse_uri

from ..answers import answers
from ..job import Job
from ..record import Record
from ..summary import summary_of
from ..values import encode

JOB = "job://"

_JOB_ID = re.compile("[0-9a-f]{64}")
_START = re.compile("[0-9a-f]{6,64}")
_PIECE = 4 << 20
_ALGORITHMS = ("sha1", "sha256", "blake3")


class Asked(NamedTuple):
    """What was asked about. `about`: in words.

    `jobs`: ids, where it is a job; else `things`: names of content, any of which it may have (see
    things.py). `record`: one that was handed over. `hint`: what to do if nothing is known of it.
    """

    about: str
    jobs: tuple[str, ...]
    things: tuple[str, ...]
    record: Record | None = None
    hint: str = ""


def asked_about(store: Store, x: Any) -> Asked:
    """What a user names: a Job, Record, URI, the beginning of a job id, a path, or a value.

    Text is never a value. Raises NotFound, BadURI, CannotEncode, OSError for a file, KacheryError for a
    job whose inputs are not known.
    """
    if isinstance(x, Job):
        return _asked_job(store, x)
    if isinstance(x, Record):
        return Asked(x.uri, (x.job_id,), (), record=x)
    if isinstance(x, os.PathLike):
        return _asked_path(os.fspath(x))
    if isinstance(x, str):
        return _asked_text(store, x)
    return asked_value(x)


def asked_value(value: Any) -> Asked:
    """A value in hand, by its address. CannotEncode."""
    address = encode(value).address.hex()
    hint = "a value is known as it was returned, or taken: not after it was changed"
    return Asked(f"a value, {summary_of(value)} ({address[:12]})", (), (address,), hint=hint)


def _asked_job(store: Store, job: Job) -> Asked:
    if job.id is None:
        raise KacheryError(f"{job} has no id before its inputs are done: ask for its result")
    record = job.record
    if record is not None:
        return Asked(record.uri, (record.job_id,), (), record=record)
    newest = next(answers(store, job.id), None)
    if newest is not None:
        return Asked(newest.uri, (newest.job_id,), (), record=newest)
    hint = "it has not finished, or its result was not stored; an action has none"
    return Asked(f"{JOB}{job.id}", (job.id,), (), hint=hint)


def _asked_text(store: Store, text: str) -> Asked:
    if text.startswith(JOB):
        return _asked_id(store, text.removeprefix(JOB).lower(), text)
    if text.startswith("kachery:") or text.partition("://")[0] in HEX_LENGTH:
        digest, *_ = parse_uri(text)
        address = (digest.hex,) if digest.algorithm == "blake3" else ()
        return Asked(str(digest), (), (str(digest), *address))
    if _START.fullmatch(text.lower()):
        try:
            return _asked_id(store, text.lower(), text)
        except NotFound:
            if not os.path.exists(text):
                raise
    if os.path.exists(text):
        return _asked_path(text)
    raise NotFound(
        f"{text[:200]!r} is no job, no URI and no file here. Give a job id or at least 6 digits of one"
        " (`kachery jobs` lists them), job://..., sha1://..., sha256://..., blake3://..., or the path of"
        " a file; in Python, text that is itself the value in question: kachery.lineage(value=...)"
    )


def _asked_id(store: Store, start: str, text: str) -> Asked:
    """A job by its id, or the beginning of one; or else the address of a value."""
    if _JOB_ID.fullmatch(start):
        newest = next(answers(store, start), None)
        if newest is not None:
            return Asked(newest.uri, (newest.job_id,), (), record=newest)
        return Asked(f"{JOB}{start}", (start,), () if text.startswith(JOB) else _address(start))
    found = list(islice(_begin_with(store, start), 2)) if _START.fullmatch(start) else []
    if not found:
        raise NotFound(
            f"no job {text[:200]} is stored at {store.root}; `kachery jobs` lists what is, and at"
            " least 6 digits are needed"
        )
    if len(found) > 1:
        raise NotFound(f"several jobs begin with {text}; give more digits of the one you mean")
    return Asked(f"{JOB}{found[0]}", (found[0],), ())


def _address(hex: str) -> tuple[str, ...]:
    return (hex, f"blake3://{hex}")


def _begin_with(store: Store, start: str) -> Iterator[str]:
    return (job_id for job_id in store.jobs.names(start) if job_id.startswith(start))


def _asked_path(path: str) -> Asked:
    if os.path.isdir(path):
        raise NotFound(
            f"{path} is a folder, and no task makes those: ask about a file in it, or about the job"
        )
    uris = _uris_of(path)
    hint = "a file is known by its bytes, once it was stored (store_file) and a task named it"
    return Asked(f"the file {path} ({uris[0]})", (), uris, hint=hint)


def _uris_of(path: str) -> tuple[str, ...]:
    """What the bytes of a file are called, by each algorithm, in one reading. OSError."""
    hashers = {name: new_hasher(name) for name in _ALGORITHMS}
    # Without O_NONBLOCK a named pipe in the place of a file would block for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb", buffering=0) as file:
        before = os.fstat(descriptor)
        with progress_bar(f"hash {os.path.basename(path)}", before.st_size) as progress:
            while piece := file.read(_PIECE):
                for hasher in hashers.values():
                    hasher.update(piece)
                progress(len(piece))
        after = os.fstat(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise DigestMismatch(f"{path} changed while it was read; try again when it is complete")
    return tuple(f"{name}://{hasher.hexdigest()}" for name, hasher in hashers.items())
