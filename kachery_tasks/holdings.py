"""What records hold: the door through which collecting, checking and repairing see them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress

from kachery_store import Digest, Store, StoreTooNew
from kachery_store.backend import Backend
from kachery_store.digest import hash_buffer, make_digest
from kachery_store.errors import BadURI, DigestMismatch, KacheryError, NotFound
from kachery_store.inventory import Held, HeldBy, read_quietly
from kachery_store.local_backend import LocalBackend
from kachery_store.transfer import load
from kachery_store.zarr.arrays import blobs_of, chunks_by_blob
from kachery_store.zarr.manifest import Manifest, is_manifest

from .code import Description
from .errors import CannotDecode
from .record import Record
from .values.blob_walk import arrays_in, blobs_in

_FILE_URI = re.compile(rb"(sha1|sha256|blake3)://([0-9a-f]{40,64})")


# What a store has of the encoding with an address, checked; None when it is lost or damaged.
EncodingOf = Callable[[Digest], bytes | None]


# The bytes of the manifest of a chunked array, by address; None when there is none.
ManifestOf = Callable[[str], bytes | None]


def holdings(store: Store) -> HeldBy:
    """What tells, for a job id and the bytes of its record, what the record holds in a store.

    Also for the address of a chunked array and the bytes of its manifest.
    """
    return holdings_by(
        lambda address: stored_encoding(store, address),
        lambda address: _read(store.backend, address),
    )


def zone_holdings(zone: Backend) -> HeldBy:
    """The same for a zone; StoreUnavailable when that cannot be read."""
    return holdings_by(
        lambda address: _encoding_in_zone(zone, address), lambda address: _read(zone, address)
    )


def holdings_by(encoding_of: EncodingOf, manifest_of: ManifestOf) -> HeldBy:
    """The same for anything that has encodings and manifests."""

    def held_by(job_id: str, data: bytes) -> Held:
        if is_manifest(data):
            return _held_by_array(encoding_of, Manifest.from_bytes(data, job_id))
        return _with_arrays(
            *_held(encoding_of, Record.from_bytes(data, job_id)), encoding_of, manifest_of
        )

    return held_by


def _read(backend: Backend | LocalBackend, address: str) -> bytes | None:
    try:
        return backend.read(f"arrays/{address[:2]}/{address}")
    except NotFound:
        return None


def _held_by_array(encoding_of: EncodingOf, manifest: Manifest) -> Held:
    def entries_of(digest: bytes, size: int) -> bytes | None:
        found = encoding_of(_blake3(digest))
        return found if found is not None and len(found) == size else None

    blobs, complete = blobs_of(manifest, entries_of)
    address = manifest.address
    return Held("array", blobs, [], 0.0, [], address, [], complete, (), manifest.named)


def _with_arrays(
    held: Held, encoding: bytes | None, encoding_of: EncodingOf, manifest_of: ManifestOf
) -> Held:
    """What a record holds, with the chunks of the chunked arrays in its result."""
    arrays = [] if encoding is None else arrays_in(encoding)
    for address in arrays:
        data = manifest_of(address)
        try:
            array = data and _held_by_array(encoding_of, Manifest.from_bytes(data, address))
        except DigestMismatch:
            array = None
        held = held._replace(
            blobs=held.blobs + (array.blobs if array else []),
            complete=held.complete and bool(array and array.complete),
        )
    return held._replace(arrays=arrays)


def chunk_names(backend: Backend | LocalBackend, names: Iterable[str]) -> dict[str, str]:
    """Of the names of blobs those that are chunks of arrays of a store or a zone, and of which.

    The first array that has such a chunk is named.
    """
    wanted = {name.rpartition("/")[2]: name for name in names if name.startswith("blake3/")}
    found: dict[str, str] = {}
    for place in backend.names("arrays") if wanted else ():
        address = place.rpartition("/")[2]
        with suppress(KacheryError):
            manifest = Manifest.from_bytes(backend.read(place), address)
            for hex, chunk in chunks_by_blob(manifest, lambda *one: _load(backend, *one)):
                if hex in wanted:
                    found.setdefault(wanted[hex], chunk)
    return found


def _load(backend: Backend | LocalBackend, digest: bytes, size: int) -> bytes:
    data = load(backend, _blake3(digest))
    if len(data) != size:
        raise DigestMismatch(f"blob {digest.hex()} has another size")
    return data


def check_entry(name: str, data: bytes) -> None:
    """Check a file of `jobs/`, `differing/`, `arrays/` or `code/` against its own digest.

    Raises DigestMismatch. What a later kachery wrote is left to that.
    """
    folder, _, file = name.partition("/")
    own = file.rpartition("/")[2]
    try:
        if folder == "arrays":
            Manifest.from_bytes(data, own)
        elif folder == "code":
            Description.from_bytes(data, own)
        else:
            Record.from_bytes(data, own.partition("-")[0])
    except StoreTooNew:
        return


def _held(encoding_of: EncodingOf, record: Record) -> tuple[Held, bytes | None]:
    """What a record holds but for chunks of arrays, and the encoding of its result, if it is intact."""
    result = record.result
    address = Digest("blake3", result.address.hex())
    blobs = [(_blake3(digest), size) for *_, digest, size in result.pickles]
    encoding = result.inline
    if encoding is None:
        encoding = encoding_of(address)
        blobs.append((address, -1 if encoding is None else len(encoding)))
    named: list[tuple[bytes, int]] = []
    try:
        named = blobs_in(encoding) if encoding is not None else []
    except CannotDecode:
        encoding = None
    blobs += ((_blake3(digest), size) for digest, size in named)
    # Where the job ran: the result is none the worse for it when that is lost.
    about = [_blake3(record.environment)] if record.environment else []
    summaries = " ".join(summary for *_, summary in record.arguments).encode(errors="replace")
    held = Held(
        task=record.task,
        blobs=blobs,
        files=[*files_named_in([encoding or b"", summaries]), *about],
        seconds=record.seconds,
        codes=[record.fingerprint, *(code for _, code in record.codes)],
        address=address.hex,
        arguments=[argument.hex() for _, argument, _ in record.arguments],
        complete=encoding is not None,
        about=about,
    )
    return held, encoding


def _blake3(digest: bytes) -> Digest:
    return Digest("blake3", digest.hex())


def stored_encoding(store: Store, address: Digest) -> bytes | None:
    """The encoding that is a blob of its own, checked; None when it is lost or damaged."""
    try:
        data, _ = read_quietly(store.backend.path(address.path))
        if hash_buffer(address.algorithm, data) == address.hex:
            return data
    except OSError:
        pass
    return None


def _encoding_in_zone(zone: Backend, address: Digest) -> bytes | None:
    try:
        return load(zone, address)
    except (NotFound, DigestMismatch):
        return None


def files_named_in(texts: Iterable[bytes]) -> list[Digest]:
    """The stored files whose URIs are in some bytes: tasks that store files return those."""
    found: dict[Digest, None] = {}
    for text in texts:
        for algorithm, hex in _FILE_URI.findall(text):
            try:
                found[make_digest(algorithm.decode(), hex.decode())] = None
            except BadURI:  # digits of another number
                continue
    return list(found)
