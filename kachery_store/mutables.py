"""Mutables: named values that change. They stay in the store of this machine.

Those of kachery 2 are text under a path: `mutables/@folder/key`. The others take any JSON value as their
key: `mutables/json/<two digits>/<digest of the key>` holds the key, the value and a digest of both.
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from typing import Any

from .blobs import set_aside
from .digest import blake3_bytes
from .errors import BadMutable, DigestMismatch, NotFound, unavailable
from .local_backend import LocalBackend

_MAX_NAME = 250  # bytes; the limit of file systems is 255
_MAX_KEY = 3_000  # bytes
_WRITABLE = 0o644  # kachery 2 writes into these files, instead of replacing them


class Mutables:
    """The mutables of one store."""

    def __init__(self, backend: LocalBackend) -> None:
        self._backend = backend

    def set_text(self, key: str, value: str) -> None:
        """Set a mutable of kachery 2; on the disk when this returns. BadMutable, StoreUnavailable."""
        name = _text_name(key)
        if not isinstance(value, str):
            raise BadMutable(f"the value of {key!r} must be text, not {type(value).__name__}")
        self._backend.replace(name, _encoded(value))
        with suppress(OSError):  # it is there, if perhaps not for kachery 2
            os.chmod(self._backend.path(name), _WRITABLE)

    def get_text(self, key: str, default: str | None = None) -> str | None:
        """The text of a mutable of kachery 2, or the default. BadMutable, StoreUnavailable."""
        name = _text_name(key)
        try:
            return self._backend.read(name).decode()
        except NotFound:
            return default
        except UnicodeDecodeError:
            what = f"{name} is damaged: it is no text"
            raise DigestMismatch(set_aside(self._backend, name, what)) from None

    def delete_text(self, key: str) -> None:
        """Delete a mutable of kachery 2. NotFound, BadMutable, StoreUnavailable."""
        if not self._backend.remove(_text_name(key)):
            raise NotFound(f"there is no mutable {key!r} in the store at {self._backend.root}")

    def delete_folder(self, key: str) -> None:
        """Delete a folder of mutables, `@folder`, at once. NotFound, BadMutable, StoreUnavailable."""
        name = _folder_name(key)
        gone = self._backend.path(f"tmp/{os.getpid()}.{os.urandom(8).hex()}")
        try:
            os.makedirs(os.path.dirname(gone), exist_ok=True)
            os.rename(self._backend.path(name), gone)
            _remove(gone)
        except FileNotFoundError:
            raise NotFound(
                f"there is no folder of mutables {key!r} in the store at {self._backend.root}"
            ) from None
        except OSError as error:
            raise unavailable(self._backend.root, error) from error

    def set(self, key: Any, value: Any, *, update: bool = True) -> bool:
        """Set a value, on the disk when this returns; with `update=False` only where there is none.

        Key and value are JSON. Returns whether it was set; BadMutable, StoreUnavailable.
        """
        key_text = _json(key, "key")
        data = _sealed(key_text, _json(value, "value"))
        if not update:
            return self._backend.create(_json_name(key_text), data, durable=True)
        self._backend.replace(_json_name(key_text), data)
        return True

    def get(self, key: Any, default: Any = None) -> Any:
        """The value under a key, or the default. BadMutable, StoreUnavailable.

        Raises DigestMismatch for a damaged one, which was set aside.
        """
        key_text = _json(key, "key")
        name = _json_name(key_text)
        try:
            data = self._backend.read(name)
        except NotFound:
            return default
        return self._opened(name, key_text, data)

    def delete(self, key: Any) -> bool:
        """Delete the value under a key; returns whether there was one. BadMutable, StoreUnavailable."""
        return self._backend.remove(_json_name(_json(key, "key")))

    def _opened(self, name: str, key_text: str, data: bytes) -> Any:
        try:
            found = json.loads(data)
            value = found["value"]
            if data == _sealed(key_text, _json(value, "value")):
                return value
        except (ValueError, LookupError, TypeError, RecursionError):
            pass
        raise DigestMismatch(set_aside(self._backend, name, f"{name} is damaged"))


def _sealed(key_text: str, value_text: str) -> bytes:
    text = f'"key":{key_text},"value":{value_text}'
    return f'{{{text},"blake3":"{blake3_bytes(text.encode()).hex()}"}}'.encode()


def _json_name(key_text: str) -> str:
    hex = blake3_bytes(key_text.encode()).hex()
    return f"mutables/json/{hex[:2]}/{hex}"


def _json(value: Any, what: str) -> str:
    try:
        _check_keys(value)
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadMutable(f"the {what} of a mutable is a JSON value: {error}") from None


def _check_keys(value: Any) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"an object's key is text, not {key!r}")
            _check_keys(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_keys(item)


def _text_name(key: str) -> str:
    *folders, last = _names(key, "key")
    if last.startswith("@") or not all(name.startswith("@") for name in folders):
        raise BadMutable(
            f"{key[:80]!r} cannot be the key of a mutable: write @folder/key, with @ before folders only"
        )
    return f"mutables/{key}"


def _folder_name(key: str) -> str:
    if not all(name.startswith("@") for name in _names(key, "folder")):
        raise BadMutable(f"{key[:80]!r} cannot be a folder of mutables: write @folder")
    return f"mutables/{key}"


def _names(key: str, what: str) -> list[str]:
    if not isinstance(key, str):
        raise BadMutable(f"the {what} of a mutable is text, not {type(key).__name__}")
    if len(_encoded(key)) > _MAX_KEY:
        raise BadMutable(f"that {what} of a mutable has {len(key)} characters; shorten it")
    names = key.split("/")
    for name in names:
        _check_name(name, key, what)
    return names


def _check_name(name: str, key: str, what: str) -> None:
    if name in ("", ".", "..", "@"):
        raise BadMutable(
            f"{key[:80]!r} cannot be the {what} of a mutable, because of {name!r} in it"
        )
    if len(_encoded(name)) > _MAX_NAME:
        raise BadMutable(f"{name[:80]!r}... in the {what} of a mutable is too long; shorten it")
    if any(ord(character) < 32 or character == "\x7f" for character in name):
        raise BadMutable(f"{key[:80]!r} has control characters; leave them out of the {what}")


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise BadMutable(f"that text of a mutable cannot be written as UTF-8: {error}") from None


def _remove(path: str) -> None:
    if os.path.islink(path):
        os.unlink(path)
    else:
        shutil.rmtree(path)
