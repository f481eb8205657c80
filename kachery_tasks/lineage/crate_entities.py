"""The entities of an RO-Crate while it is filled: each once, and their lists gathered until the end."""

from __future__ import annotations

import hashlib
import io
import mimetypes
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from kachery_store.errors import Unsupported


class CrateEntities:
    """A crate of the library. `root`: its root entity."""

    def __init__(self, version: str, context: str) -> None:
        self._library = _library()
        self.crate = self._library.ROCrate(version=version)
        self.crate.metadata.extra_contexts.append(context)
        self.root = self.crate.root_dataset
        self._known: dict[str, Any] = {}
        # The library looks through a list whenever something is appended to it.
        self._lists: dict[tuple[str, str], dict[str, Any]] = {}
        self._owners: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        """The entity of that name that was added, or None."""
        return self._known.get(name)

    def add(self, name: str, properties: dict[str, Any]) -> Any:
        """An entity that is no file, unless it is there already."""
        if name not in self._known:
            entity = self._library.ContextEntity(self.crate, name, properties=properties)
            self._known[name] = self.crate.add(entity)
        return self._known[name]

    def add_file(self, path: str, data: bytes, properties: dict[str, Any]) -> Any:
        """A file with these bytes, unless it is there already."""
        if path not in self._known:
            told = {
                "contentSize": str(len(data)),
                "sha256": hashlib.sha256(data).hexdigest(),
                "encodingFormat": mimetypes.guess_type(path)[0] or "application/octet-stream",
                **properties,
            }
            self._known[path] = self.crate.add_file(io.BytesIO(data), path, properties=told)
        return self._known[path]

    def add_folder(self, path: str, properties: dict[str, Any]) -> Any:
        """A folder, unless it is there already."""
        if path not in self._known:
            self._known[path] = self.crate.add_dataset(None, path, properties=properties)
        return self._known[path]

    def relate(self, entity: Any, name: str, others: Iterable[Any]) -> None:
        """Have a property of an entity name others, each once: entities, or text."""
        listed = self._lists.setdefault((entity.id, name), {})
        self._owners[entity.id] = entity
        for other in others:
            listed.setdefault(other if isinstance(other, str) else other.id, other)

    def related(self, entity: Any, name: str) -> dict[str, Any]:
        """What a property of an entity names so far, by id."""
        return self._lists.get((entity.id, name), {})

    def settle(self) -> None:
        """Write the lists into the crate: of one thing it is that thing, as the specification has it."""
        for (owner, name), listed in self._lists.items():
            others = list(listed.values())
            self._owners[owner][name] = others[0] if len(others) == 1 else others


def reference(text: str) -> str:
    """Text as a part of the id of an entity."""
    return quote(text, safe="")


def _library() -> Any:
    try:
        import rocrate.rocrate
    except ImportError as error:
        raise Unsupported(
            "an RO-Crate needs the package rocrate: pip install 'kachery[provenance]'"
        ) from error
    return rocrate.rocrate
