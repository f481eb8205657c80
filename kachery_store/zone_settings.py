"""Which zones there are: the tables `[zones.NAME]` of kachery.toml, KACHERY_ZONE, a shared folder.

    [zones.lab]
    url = "s3://bucket/prefix"        # or a folder, or another URL of fsspec
    endpoint_url = "https://..."      # of a server other than Amazon's
    region = "..."
    profile = "..."                   # of ~/.aws/credentials
    anon = true                       # no credentials
    read_only = true
    expires = "30d"

Credentials are never here: they come from the profile or the environment.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from .amounts import parse_span
from .config import read_table
from .errors import BadAmount, BadURI, ConfigError, ZoneWarning
from .remote import check_url, open_backend
from .saying import warn
from .zone import Zone, check_name

NO_ZONE = "default"  # with nothing configured, the local store alone
SHARED_FOLDER = "shared"  # the zone that KACHERY_MULTI_USER makes of KACHERY_DIR

_SCRATCH_EXPIRES = 30 * 86_400.0
_TEXTS = ("url", "endpoint_url", "region", "profile", "expires")
_URLS = ("url", "endpoint_url")
_SWITCHES = ("anon", "read_only")
_OPTIONS = ("anon", "endpoint_url", "profile", "region")
_CREDENTIALS = ("key", "secret", "token", "access_key_id", "secret_access_key", "password")


class ZoneSettings(NamedTuple):
    """How a zone is reached. It holds no credentials, and may travel to workers.

    `options` are those of _OPTIONS that are given; `expires` is in seconds.
    """

    name: str
    url: str
    options: tuple[tuple[str, Any], ...] = ()
    read_only: bool = False
    expires: float | None = None

    def open(self) -> Zone:
        """The zone; nothing is asked of a bucket yet.

        Raises as `remote.open_backend` does, ConfigError for its name.
        """
        check_name(self.name)
        options = dict(self.options)
        check_url(options.get("endpoint_url", ""))
        region = options.pop("region", None)
        if region is not None:
            options["client_kwargs"] = {"region_name": region}
        backend = open_backend(self.url, options)
        return Zone(self.name, backend, read_only=self.read_only, expires=self.expires)


def zones_of(root: str) -> dict[str, ZoneSettings]:
    """The zones that are configured for the store in a folder, or for the user's own store.

    ConfigError names file and key of what is wrong.
    """
    found = {**_zones_in(default_root()), **_zones_in(root)}
    folder = _shared_folder()
    if folder is not None:
        found.setdefault(SHARED_FOLDER, ZoneSettings(SHARED_FOLDER, folder))
    return found


def _zones_in(root: str) -> dict[str, ZoneSettings]:
    path, content = read_table(root)
    tables = content.get("zones", {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{path}: zones are tables, written [zones.NAME]")
    return {name: _settings(path, name, table) for name, table in tables.items()}


def zone_named(name: str, root: str) -> ZoneSettings | None:
    """The settings of a zone; None for `default`, if nothing of that name is configured.

    Raises ConfigError for a name that is not known.
    """
    zones = zones_of(root)
    if name in zones:
        return zones[name]
    if name == NO_ZONE:
        return None
    check_name(name)
    known = ", ".join(sorted(zones)) or "none"
    raise ConfigError(
        f"no zone {name!r} is configured (known: {known}). Add a table [zones.{name}] with its url to"
        f" {read_table(root).path}, or run `kachery zone add {name} URL`"
    )


def zone_in_force(root: str) -> ZoneSettings | None:
    """The zone that the environment names: KACHERY_ZONE, else a shared folder, else none."""
    name = os.environ.get("KACHERY_ZONE") or (SHARED_FOLDER if _shared_folder() else NO_ZONE)
    service = [v for v in ("KACHERY_API_KEY", "KACHERY_BASE_URL") if os.environ.get(v)]
    if service and name not in zones_of(root):
        warn(
            ZoneWarning(
                f"{service[0]} is set, but this kachery does not speak to the published service yet:"
                f" zone {name} is the local store alone, and nothing is uploaded or downloaded. A"
                " bucket or a folder can be a zone: see `kachery zone add`"
            )
        )
        return None
    return zone_named(name, root)


def default_root() -> str:
    """The folder of the local store: KACHERY_DIR, unless that is shared, else ~/.kachery."""
    if _shared_folder() is not None:
        return os.path.expanduser("~/.kachery")
    return os.environ.get("KACHERY_DIR") or os.path.expanduser("~/.kachery")


def _shared_folder() -> str | None:
    """The folder that KACHERY_MULTI_USER says is shared by several users."""
    if os.environ.get("KACHERY_MULTI_USER", "0") in ("", "0"):
        return None
    folder = os.environ.get("KACHERY_DIR")
    own = os.path.realpath(os.path.expanduser("~/.kachery"))
    if not folder or os.path.realpath(os.path.expanduser(folder)) == own:
        raise ConfigError(
            "KACHERY_MULTI_USER is set: KACHERY_DIR must name the folder that the users share, other"
            " than ~/.kachery, where your own local store is"
        )
    return os.path.abspath(os.path.expanduser(folder))


def _settings(path: str, name: str, table: Any) -> ZoneSettings:
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: zones.{name} is a table, written [zones.{name}]")
    check_name(name)
    for key, value in table.items():
        _check(f"{path}: zones.{name}.{key}", key, value)
    if "url" not in table:
        raise ConfigError(f"{path}: zones.{name} has no url, such as s3://bucket/prefix")
    return ZoneSettings(
        name,
        _expanded(table["url"]),
        tuple((key, table[key]) for key in _OPTIONS if key in table),
        table.get("read_only", False),
        _expires(path, name, table),
    )


def _check(place: str, key: str, value: Any) -> None:
    if key in _CREDENTIALS:
        raise ConfigError(
            f"{place}: credentials do not belong into this file. Name a `profile`, or set the"
            " environment variables of the service (AWS_ACCESS_KEY_ID and the like)"
        )
    if key in _TEXTS and not isinstance(value, str):
        raise ConfigError(f"{place} is text, not {type(value).__name__}")
    if key in _URLS:
        try:
            check_url(value)
        except BadURI as error:
            raise ConfigError(f"{place}: {error}") from None
    if key in _SWITCHES and not isinstance(value, bool):
        raise ConfigError(f"{place} is true or false, not {value!r}")
    if key not in (*_TEXTS, *_SWITCHES):
        raise ConfigError(f"{place} is not known; known are {', '.join((*_TEXTS, *_SWITCHES))}")


def _expanded(url: str) -> str:
    return os.path.expanduser(url) if url.startswith("~") else url


def _expires(path: str, name: str, table: dict[str, Any]) -> float | None:
    if "expires" not in table:
        return _SCRATCH_EXPIRES if name == "scratch" else None
    try:
        return parse_span(table["expires"])
    except BadAmount as error:
        raise ConfigError(f"{path}: zones.{name}.expires: {error}") from None
