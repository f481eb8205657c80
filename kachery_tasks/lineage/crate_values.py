"""The values and files of a lineage in an RO-Crate: as files if they are small, else by reference."""

from __future__ import annotations

import ast
from typing import Any

from kachery_store import Digest, Store
from kachery_store.errors import BadURI, DigestMismatch, NotFound
from kachery_store.inventory import Held
from kachery_store.uri import parse_uri

from ..holdings import holdings
from ..record import Record
from .crate_entities import CrateEntities, reference
from .makers import Use, makers
from .model import Lineage

MOST = 1 << 20  # bytes of a value or file that is put into the crate

_ENCODING = "application/vnd.kachery.value"
_SCALARS: dict[type, str] = {
    bool: "Boolean",
    int: "Integer",
    float: "Float",
    str: "Text",
    type(None): "Text",
}


class CrateValues:
    """Adds what jobs took and made to a crate, each once."""

    def __init__(self, store: Store, lineage: Lineage, entities: CrateEntities) -> None:
        self._store = store
        self._lineage = lineage
        self._entities = entities
        self._makers = makers(lineage)
        self._held_by = holdings(store)
        self._types: dict[str, str] = {}  # id of an entity -> additionalType of what it realizes

    def taken(self, use: Use) -> Any:
        """What a job took as an argument."""
        maker = self._makers.get(use.address)
        if maker is not None:
            record = self._lineage.jobs[maker].record
            assert record is not None  # noqa: S101 - only those with a record are makers
            return self.made(record)
        if not use.address:
            return self._property(f"{use.job_id}-{use.parameter}", use.parameter, None, "secret")
        value, known = _plain(use.summary)
        if known:
            return self._property(f"{use.address}-{use.parameter}", use.parameter, value)
        description = f"{use.summary}; its bytes were not kept" if not use.sources else use.summary
        return self._by_reference(use.address, use.summary, description)

    def made(self, record: Record) -> Any:
        """The value that a job made."""
        address = record.result.address.hex()
        known = self._entities.get(f"values/{address}")
        if known is not None:
            return known
        pieces = self._pieces(record)
        name = f"{record.result.type} made by {record.task}"
        if pieces is None:
            size = f"{record.result.size} bytes, not in this crate"
            entity = self._by_reference(address, name, f"{name}: {size}")
            entity["contentSize"] = str(record.result.size)
            return entity
        told = {"name": name, "identifier": f"blake3://{address}"}
        encoded = {**told, "encodingFormat": _ENCODING}
        if len(pieces) == 1:
            return self._entities.add_file(f"values/{address}", pieces[0][1], encoded)
        folder = self._entities.add_folder(f"values/{address}", told)
        for piece, data in pieces:
            told = encoded if piece == address else {"name": f"a buffer of {name}"}
            part = self._entities.add_file(f"values/{address}/{piece}", data, told)
            self._entities.relate(folder, "hasPart", [part])
        return folder

    def _pieces(self, record: Record) -> list[tuple[str, bytes]] | None:
        """The encoding and the blobs of a result, by digest; None if that is much, or not all here."""
        if record.result.size > MOST or record.result.pickles:
            return None
        try:
            held = self._held(record)
            address = record.result.address
            found = {address.hex(): record.result.inline} if record.result.inline else {}
            for digest, _ in held.blobs:
                found[digest.hex] = self._store.blobs.read(digest)
        except (NotFound, DigestMismatch):
            return None
        complete = held.complete and not held.arrays
        pieces = {name: data for name, data in found.items() if data is not None}
        return list(pieces.items()) if complete else None

    def _held(self, record: Record) -> Held:
        return self._held_by(record.job_id, record.to_bytes())

    def files_made(self, record: Record) -> list[Any]:
        """The stored files whose URIs are in a job's result."""
        try:
            held = self._held(record)
        except DigestMismatch:
            return []
        taken = {str(one) for one in _files_in(record)}
        taken.add(f"blake3://{record.environment.hex()}")
        return [self._file(one, None) for one in held.files if str(one) not in taken]

    def files(self, uris: tuple[str, ...]) -> list[Any]:
        """Stored files, by their URIs."""
        found = []
        for uri in uris:
            try:
                digest, label, *_ = parse_uri(self._told_in_full(uri))
            except BadURI:
                found.append(self._entities.add(uri, {"@type": "CreativeWork", "name": uri}))
            else:
                found.append(self._file(digest, label))
        return found

    def _told_in_full(self, uri: str) -> str:
        """The URI as the argument had it, with its label, if the summary tells it."""
        found = self._lineage.inputs.get(uri)
        value, known = _plain(found.summary) if found else ("", False)
        return value if known and isinstance(value, str) and value.startswith(uri) else uri

    def _file(self, digest: Digest, label: str | None) -> Any:
        told = {"name": label or str(digest), "identifier": str(digest)}
        try:
            size = self._store.blobs.size(digest)
            if size <= MOST:
                path = f"files/{digest.hex}" + (f"/{label}" if label else "")
                return self._entities.add_file(path, self._store.blobs.read(digest), told)
            told |= {"contentSize": str(size), "description": "not in this crate"}
        except (NotFound, DigestMismatch):
            told["description"] = "its bytes are not in the store"
        return self._entities.add(str(digest), {"@type": "CreativeWork", **told})

    def _by_reference(self, address: str, name: str, description: str) -> Any:
        uri = f"blake3://{address}"
        told = {"name": name, "description": description, "identifier": uri}
        return self._entities.add(uri, {"@type": "CreativeWork", **told})

    def _property(self, place: str, name: str, value: Any, description: str = "") -> Any:
        told = {"@type": "PropertyValue", "name": name}
        told |= {"description": description} if description else {"value": value}
        entity = self._entities.add(f"#argument-{reference(place)}", told)
        self._types[entity.id] = "Text" if description else _SCALARS.get(type(value), "Text")
        return entity

    def type_of(self, entity: Any) -> str:
        """Of which type the parameters are that such a value realizes."""
        return self._types.get(entity.id, str(entity.type))  # else it is a File, or a Dataset


def _files_in(record: Record) -> list[Digest]:
    """The files that the arguments name."""
    found = []
    for _, _, summary in record.arguments:
        try:
            found.append(parse_uri(ast.literal_eval(summary))[0])
        except (ValueError, SyntaxError, BadURI, TypeError, AttributeError):
            continue
    return found


def _plain(summary: str) -> tuple[Any, bool]:
    """The value that a summary tells in full, as JSON can say it, and whether it does."""
    try:
        value = ast.literal_eval(summary)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None, False
    return (value if type(value) in _SCALARS and value is not None else summary), True
