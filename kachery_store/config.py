"""The configuration of a store: `kachery.toml`, or the `kachery.yaml` of kachery-client, in its folder.

A store without such a file has the defaults. KACHERY_CONFIG names a TOML file to be used instead.
"""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple

from .errors import ConfigError, ConfigWarning
from .saying import warn

TOML_FILE = "kachery.toml"
YAML_FILE = "kachery.yaml"
_LIMIT = "maxCacheSizeGiB"
_KNOWN = frozenset((_LIMIT, "store", "zones"))  # what is in `zones` is read elsewhere
_GIB = 1 << 30


class Config(NamedTuple):
    """What is configured. `max_size`: bytes that the store may have, or None for any number."""

    max_size: int | None = None


class Table(NamedTuple):
    """What a configuration file says, as it stands there, and the path of the file."""

    path: str
    content: dict[str, Any]


def read_config(root: str) -> Config:
    """The configuration of the store in a folder.

    ConfigError names the file and the key of a wrong value; a key that is not known is a
    ConfigWarning.
    """
    table = read_table(root)
    store = table.content.get("store", {})
    if not isinstance(store, dict):
        raise ConfigError(f"{table.path}: `store` is a table, written [store]; it is {store!r}")
    _warn_of_unknown(table.path, "", table.content.keys() - _KNOWN)
    _warn_of_unknown(table.path, "store.", store.keys() - {_LIMIT})
    if _LIMIT in store:
        return Config(_bytes(table.path, f"store.{_LIMIT}", store[_LIMIT]))
    if _LIMIT in table.content:
        return Config(_bytes(table.path, _LIMIT, table.content[_LIMIT]))
    return Config()


def read_table(root: str) -> Table:
    """The raw content of the configuration file of the store in a folder; empty without one.

    ConfigError when it cannot be read.
    """
    named = os.environ.get("KACHERY_CONFIG")
    if named:
        path = os.path.abspath(os.path.expanduser(named))
        data = _read(path)
        if data is None:
            raise ConfigError(f"KACHERY_CONFIG names {path}, and there is no such file")
        return Table(path, _from_toml(path, data))
    for name, parse in ((TOML_FILE, _from_toml), (YAML_FILE, _from_yaml)):
        path = os.path.join(root, name)
        data = _read(path)
        if data is not None:
            return Table(path, parse(path, data))
    return Table(os.path.join(root, TOML_FILE), {})


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        if not os.access(os.path.dirname(path), os.X_OK):
            return None  # a store that cannot be entered, which whoever needs it will be told
        raise ConfigError(f"{path} cannot be read: {error}") from error


def _from_toml(path: str, text: str) -> dict[str, Any]:
    import tomllib  # most stores have no such file

    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def _from_yaml(path: str, text: str) -> dict[str, Any]:
    """The one line that kachery-client knew; of the rest the names, so that they are warned of."""
    content: dict[str, Any] = {}
    for line in text.splitlines():
        statement = line.partition("#")[0].strip()
        if statement in ("", "---"):
            continue
        name, colon, value = statement.partition(":")
        if name.strip() == _LIMIT and colon:
            content[_LIMIT] = _number(value.strip())
        else:
            shown = statement if len(statement) <= 60 else statement[:57] + "..."
            warn(
                ConfigWarning(
                    f"{path}: {shown!r} is not understood; of this file only {_LIMIT} is read."
                    f" Settings go into {TOML_FILE}"
                )
            )
    return content


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _bytes(path: str, key: str, value: Any) -> int:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value <= 0:
        raise ConfigError(f"{path}: {key} is a number of GiB above 0, as 100 or 0.5, not {value!r}")
    return int(value * _GIB)


def _warn_of_unknown(path: str, table: str, names: set[str]) -> None:
    for name in sorted(names):
        warn(
            ConfigWarning(f"{path}: {table}{name} is not known to this kachery, and has no effect")
        )
