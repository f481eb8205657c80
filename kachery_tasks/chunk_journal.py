"""What runs of a job have stored of its arrays in chunks, so that the next need not compute it again.

Hints in the local store. While a job runs, a note for each chunk (`partial/<job id>/`); when an array is
done, one note that says which it became (`made/`), for the case that chunks of it are lost later.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from kachery_store import NotFound, Store
from kachery_store.digest import Digest, blake3_bytes
from kachery_store.errors import DigestMismatch, StoreUnavailable
from kachery_store.refs import Refs
from kachery_store.uplink import ref_name
from kachery_store.zarr import grid
from kachery_store.zarr.arrays import StoredArray
from kachery_store.zarr.chunks import WRITTEN
from kachery_store.zarr.content import ArrayContent
from kachery_store.zarr.lost import lost_chunks
from kachery_store.zarr.manifest import entry

from .chunk_places import Notes, Place, opened, store_of

_DIGEST = 32
_LOST = blake3_bytes(b"lost").hex()  # the note that a job has lost its result


class Journal:
    """The chunks that an earlier run of a job has stored, under `partial/<job id>/`."""

    def __init__(
        self, place: Place, job_id: str, form: ArrayContent, codecs: str, array: str = ""
    ) -> None:
        self._store = store_of(place)
        self._folder = f"partial/{job_id}"
        self._refs = Refs(self._store.backend, self._folder)
        self._about = f"{form} {codecs} {array}"

    def note(self, index: grid.Index, written: bytes) -> None:
        """Note that a chunk is stored."""
        self._refs.create(self._name(index), written + blake3_bytes(written))

    def find(self, index: grid.Index) -> bytes | None:
        """What was noted of a chunk, if its blob is there; a collection leaves it alone from now on."""
        try:
            found = self._refs.read(self._name(index))
        except NotFound:
            return None
        written, digest = found[:WRITTEN], found[WRITTEN:]
        if blake3_bytes(written) != digest:
            return None
        blob, size = Digest("blake3", written[32:64].hex()), int.from_bytes(written[64:], "big")
        status = self._store.backend.stat(ref_name(self._folder, self._name(index)))
        since = 0.0 if status is None else status.st_mtime
        return written if self._store.blobs.keep(blob, size, since) else None

    def _name(self, index: grid.Index) -> str:
        return blake3_bytes(f"{self._about} {index}".encode()).hex()


def journal_of(place: Place, notes: Notes, form: ArrayContent, codecs: str) -> Journal:
    """The journal of one array of a job."""
    return Journal(place, notes.job_id, form, codecs, f"{notes.array} {notes.failed}")


def note_lost_result(store: Store, job_id: str) -> None:
    """Note that chunks are lost of what a job has stored, so that the next run uses the others."""
    with suppress(StoreUnavailable):
        Refs(store.backend, f"partial/{job_id}").create(_LOST, b"")


def has_lost_result(store: Store, job_id: str) -> bool:
    """Whether that was noted, and no run has ended since."""
    return Refs(store.backend, f"partial/{job_id}").has(_LOST)


class Made:
    """What an array of a job became when the job was done. `about`: what tells how it is computed."""

    def __init__(self, place: Place, notes: Notes, about: str) -> None:
        self._place = place
        self._begins_anew = bool(notes.failed)
        self._is_lost = notes.is_lost
        self._refs = Refs(store_of(place).backend, "made")
        self._name = blake3_bytes(f"{notes.job_id} {notes.array} {about}".encode()).hex()

    def note(self, address: str) -> None:
        """Note which array it became."""
        digest = bytes.fromhex(address)
        data = digest + blake3_bytes(digest)
        if not self._refs.create(self._name, data) and self._address() != address:
            self._refs.replace(self._name, data)

    def left(self) -> dict[grid.Index, bytes]:
        """What is left of the array of a lost result, each read and checked, as `write_chunk` has it.

        Nothing if neither the result nor a chunk is lost: who computes that again wants it anew.
        """
        address = None if self._begins_anew else self._address()
        if address is None:
            return {}
        try:
            array = opened(replace(self._place, address=address)).array()
            lost = set(lost_chunks(array))
        except (NotFound, DigestMismatch):
            return {}
        if not (lost or self._is_lost):
            return {}
        every = grid.indices(array.content.shape, array.content.chunks)
        found = ((index, _left_of(array, index)) for index in every if index not in lost)
        return {index: written for index, written in found if written is not None}

    def _address(self) -> str | None:
        try:
            data = self._refs.read(self._name)
        except NotFound:
            return None
        digest = data[:_DIGEST]
        return digest.hex() if blake3_bytes(digest) == data[_DIGEST:] else None


def _left_of(array: StoredArray, index: grid.Index) -> bytes | None:
    blob, size = array.blob(index)
    try:
        array.whole_chunk(index)
    except (NotFound, DigestMismatch):
        return None
    if not array.opened.store.blobs.keep(blob, size):
        return None
    number = grid.number_of(index, array.content.along)
    return array.content.digest(number) + entry(bytes.fromhex(blob.hex), size)
