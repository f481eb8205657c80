"""The fingerprint of a function: the digest of the code that it runs and of what that reaches."""

from __future__ import annotations

from collections.abc import Iterable
from types import FunctionType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from ..errors import CannotFingerprint
from ..project import is_project_module
from ..values import encode
from .guards import Guards
from .reach import Reach

_KIND = "kachery fingerprint 1"


class Fingerprint(NamedTuple):
    """What a function's code is.

    `digest`: 64 hex digits. `parts`: function or class -> digest of its description, for showing what
    differs. `main_syntax` tells a worker, who lacks the source of what `__main__` defines, the
    digests of its syntax. `guards`
    tell whether all of it still holds.
    """

    digest: str
    parts: dict[str, str]
    main_syntax: dict[str, str]
    guards: Guards


def fingerprint_of(
    function: FunctionType, *, version: str | None = None, depends: Iterable[str] = ()
) -> Fingerprint:
    """The fingerprint of a function as it is now; CannotFingerprint when something has no identity.

    With `version` the source text and what it reaches do not count, defaults and closure do.
    `depends` are installed distributions whose versions count.
    """
    reach = Reach(package_of(function))
    start: Any = reach.function(function, version)
    versions = {name: _version_of(name) for name in sorted(depends)}
    found = finish(reach, [*start, versions] if versions else ("node", 0))
    parts = {f"package {name}": version for name, version in versions.items()}
    return found._replace(parts=found.parts | parts)


def _version_of(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        raise CannotFingerprint(
            f"depends= names {distribution!r}, which is not an installed distribution"
        ) from None


_of_classes: WeakKeyDictionary[type, Fingerprint] = WeakKeyDictionary()


def class_fingerprint(cls: type, package: str = "") -> Fingerprint | None:
    """The fingerprint of a class of the project, seen from a package; None for an installed class."""
    if not is_project_module(cls.__module__, package):
        return None
    known = _of_classes.get(cls)
    if known is None or not known.guards.hold():
        reach = Reach(package_of(cls))
        reach.class_(cls)
        known = _of_classes[cls] = finish(reach)
    return known


def package_of(thing: FunctionType | type) -> str:
    """The top-level package that a function or class is in; empty for one outside of packages."""
    module = thing.__module__ or ""
    return module.partition(".")[0] if "." in module else ""


def finish(reach: Reach, start: Any = ("node", 0)) -> Fingerprint:
    """The fingerprint of what a walk has reached, starting from a reference."""
    parts: dict[str, str] = {}
    for name, description in reach.nodes:
        label = f"{name}#{sum(known.rpartition('#')[0] == name for known in parts)}"
        parts[label] = _digest([name, description])
    whole = [_KIND, reach.nodes] if start == ("node", 0) else [_KIND, reach.nodes, start]
    return Fingerprint(_digest(whole), parts, reach.main_syntax, reach.guards)


def _digest(data: Any) -> str:
    return encode(data).address.hex()
