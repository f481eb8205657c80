"""What is in force: the store, the Dask client, the policies."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from kachery_store import Store
from kachery_store.store import default_root
from kachery_store.zone_settings import ZoneSettings, zone_in_force, zone_named

from .credentials import Credentials, acting
from .project import configure_rule, rule
from .trust import Trust

UNCHANGED: Any = object()  # for arguments that were not given
AT_HAND: Any = object()  # the Dask client that the program has, if any
OF_ENVIRONMENT: Any = object()  # the zone that the environment names, if any

THREADS, PROCESSES = "threads", "processes"  # where jobs run when there is no client


class Settings:
    """One choice of store, zone, client and policies.

    `root` is the store's folder; `zone` is OF_ENVIRONMENT, None (none), a name, or ZoneSettings;
    `client` is AT_HAND, None (this process) or a Client; `refresh` is True, or the names of the tasks
    that run though their results are known; with `read_only` nothing runs. Without a client jobs run
    on THREADS or in PROCESSES, which `executor` says. `credentials` are those that a worker was told.
    """

    __slots__ = (
        "_store",
        "client",
        "credentials",
        "executor",
        "read_only",
        "refresh",
        "root",
        "session",
        "strict",
        "zone",
    )

    def __init__(
        self,
        root: str,
        zone: Any = OF_ENVIRONMENT,
        client: Any = AT_HAND,
        strict: bool = False,
        refresh: bool | frozenset[str] = False,
        read_only: bool = False,
        executor: str = THREADS,
        credentials: Credentials | None = None,
    ) -> None:
        self.root = root
        self.credentials = credentials
        self.executor = executor
        self.zone = zone
        self.client = client
        self.strict = strict
        self.refresh = refresh
        self.read_only = read_only
        self.session: Any = None  # made when it is first needed, by session.py
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        """The store, opened when it is first needed. Raises as Store does, ConfigError for the zone."""
        if self._store is None:
            self._store = store_at(self.root, self.zone_settings())
        return self._store

    def zone_settings(self) -> ZoneSettings | None:
        """How the zone in force is reached, or None. ConfigError when it is not configured."""
        if self.zone is OF_ENVIRONMENT:
            return zone_in_force(self.root)
        return zone_named(self.zone, self.root) if isinstance(self.zone, str) else self.zone

    def changed(
        self,
        dir: Any = UNCHANGED,
        zone: Any = UNCHANGED,
        client: Any = UNCHANGED,
        strict: Any = UNCHANGED,
        refresh: Any = UNCHANGED,
        read_only: Any = UNCHANGED,
        executor: Any = UNCHANGED,
    ) -> Settings:
        """The same with some of it changed."""
        return Settings(
            self.root if dir is UNCHANGED else absolute(dir),
            self.zone if zone is UNCHANGED else zone,
            self.client if client is UNCHANGED else client,
            self.strict if strict is UNCHANGED else strict,
            self.refresh if refresh is UNCHANGED else _names(refresh),
            self.read_only if read_only is UNCHANGED else read_only,
            self.executor if executor is UNCHANGED else _executor(executor),
            self.credentials,
        )

    def refresh_inside(self) -> bool | frozenset[str]:
        """What `refresh` is for what a task asks of others."""
        return False if isinstance(self.refresh, Once) else self.refresh

    def refreshes(self, name: str) -> bool:
        """Whether the task of that name runs though its result is known."""
        if isinstance(self.refresh, bool):
            return self.refresh
        return name in self.refresh or name.rpartition(":")[2] in self.refresh


class Once(frozenset[str]):
    """Names of tasks that run though their results are known, but not what they ask in turn."""


def _names(refresh: bool | str | Iterable[str]) -> bool | frozenset[str]:
    if isinstance(refresh, bool | Once):
        return refresh
    return frozenset((refresh,) if isinstance(refresh, str) else refresh)


def _executor(name: Any) -> str:
    if name not in (THREADS, PROCESSES):
        raise ValueError(
            f"executor= is {THREADS!r} or {PROCESSES!r}, not {name!r}; a Dask cluster is client="
        )
    return str(name)


_in_force: ContextVar[Settings | None] = ContextVar("kachery_settings", default=None)
_configured: Settings | None = None
_of_environment: tuple[tuple[str | None, ...], Settings] | None = None
_stores: dict[tuple[str, ZoneSettings | None], Store] = {}


def absolute(dir: str | os.PathLike[str]) -> str:
    """The path of a store's folder in one form."""
    return os.path.abspath(os.path.expanduser(os.fspath(dir)))


def store_at(root: str, zone: ZoneSettings | None = None) -> Store:
    """The store in a folder; one object for each, so that it remembers what it checked."""
    store = _stores.get((root, zone))
    if store is None:
        opened = None if zone is None else zone.open()
        border = None if zone is None else Trust(zone.name)
        store = _stores[root, zone] = Store(root, opened, border)
    return store


def current() -> Settings:
    """The settings in force here: of the innermost `using`, else of `configure`, else the default."""
    return _in_force.get() or _configured or _default()


def _default() -> Settings:
    global _of_environment
    now = os.environ.get("KACHERY_DIR"), os.environ.get("KACHERY_ZONE")
    if _of_environment is None or _of_environment[0] != now:
        _of_environment = (now, Settings(absolute(default_root())))
    return _of_environment[1]


@contextmanager
def using(
    *,
    dir: Any = UNCHANGED,
    zone: Any = UNCHANGED,
    client: Any = UNCHANGED,
    strict: Any = UNCHANGED,
    refresh: bool | str | Iterable[str] = UNCHANGED,
    read_only: bool = UNCHANGED,
    executor: str = UNCHANGED,
) -> Iterator[None]:
    """Settings for a with-block.

    dir: the folder of the store. zone: the name of a zone of kachery.toml, or None for none. client:
    a `distributed.Client` on which jobs run, or None to run them in this process even though there
    is one. strict: hash arguments of any size again after a run, to see whether the task changed
    them. refresh: run tasks though their results are known, which are replaced: True for all, or
    names of tasks, as ["denoise"]. read_only: run nothing; what is not known raises NotStored.
    executor: where jobs run when there is no client: on "threads" of this process, or in "processes"
    of this machine. ConfigError for a zone that is not configured.
    """
    changed = current().changed(dir, zone, client, strict, refresh, read_only, executor)
    if zone is not UNCHANGED:
        changed.zone = changed.zone_settings()
    with applied(changed):
        yield


class applied:  # noqa: N801 - it is used like a function, and costs less than one
    """These settings for a with-block."""

    __slots__ = ("_acting", "_in_force", "_settings")

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def __enter__(self) -> None:
        self._in_force = _in_force.set(self._settings)
        self._acting = acting.set(self._settings.credentials)

    def __exit__(self, *_: object) -> None:
        acting.reset(self._acting)
        _in_force.reset(self._in_force)


def configure(
    *,
    dir: Any = UNCHANGED,
    zone: Any = UNCHANGED,
    client: Any = UNCHANGED,
    strict: Any = UNCHANGED,
    executor: str = UNCHANGED,
    project: Iterable[str] | None = None,
    installed: Iterable[str] | None = None,
) -> None:
    """Settings for the rest of the program; `dir` to `executor` as for `using`.

    project: packages and modules whose code counts by content though they are installed. installed:
    those that count by name only though they are not. Both replace what was configured before.
    ValueError for what is no name of a module.
    """
    global _configured
    changed = None
    if any(given is not UNCHANGED for given in (dir, zone, client, strict, executor)):
        changed = (_configured or _default()).changed(dir, zone, client, strict, executor=executor)
        if zone is not UNCHANGED:
            changed.zone = changed.zone_settings()
    if project is not None or installed is not None:
        now = rule()
        configure_rule(
            now.project if project is None else project,
            now.installed if installed is None else installed,
        )
    _configured = changed or _configured


def client_in_force(settings: Settings) -> Any:
    """The Dask client to use, or None to run jobs in this process."""
    if settings.client is not AT_HAND:
        return settings.client
    if "distributed" not in sys.modules:
        return None
    from distributed import Client

    try:
        return Client.current(allow_global=True)
    except ValueError:
        return None


def zone_settings_of(store: Store) -> ZoneSettings | None:
    """How the zone behind a store that was opened here is reached, or None."""
    return next((zone for (_, zone), one in _stores.items() if one is store), None)
