"""The fingerprint of a function: the digest of the code that it runs and of what that reaches."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from types import FunctionType
from typing import Any, NamedTuple

from ..errors import CannotFingerprint
from ..project import is_project_class
from .description import Description
from .guards import Guards
from .reach import Reach
from .recent import Recent


class Fingerprint(NamedTuple):
    """What a function's code is.

    `digest`: 64 hex digits, the digest of the description. `main_syntax` tells a worker, who lacks the
    source of what `__main__` defines, the digests of its syntax. `guards` tell whether all of it
    still holds.
    """

    digest: str
    description: Description
    main_syntax: dict[str, str]
    guards: Guards


def fingerprint_of(
    function: FunctionType,
    *,
    version: str | None = None,
    depends: Iterable[str] = (),
    ignore: Collection[str] = (),
    secret: Collection[str] = (),
) -> Fingerprint:
    """The fingerprint of a function as it is now; CannotFingerprint when something has no identity.

    With `version` the source text and what it reaches do not count, defaults and closure do.
    `depends` are installed distributions whose versions count, `ignore` parameters whose defaults do
    not, `secret` parameters of whose defaults the description tells nothing.
    """
    reach = Reach(package_of(function))
    start: Any = reach.function(function, version, ignore)
    versions = {name: _version_of(name) for name in sorted(depends)}
    found = finish(reach, [*start, versions] if versions else start)
    if not secret:
        return found
    return found._replace(description=found.description.without_defaults(secret))


def _version_of(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        raise CannotFingerprint(
            f"depends= names {distribution!r}, which is not an installed distribution"
        ) from None


_of_classes: Recent[type, Fingerprint] = Recent()


def class_fingerprint(cls: type, package: str = "") -> Fingerprint | None:
    """The fingerprint of a class of the project, seen from a package; None for an installed class."""
    if not is_project_class(cls, package):
        return None
    known = _of_classes.get(cls)
    if known is None or not known.guards.hold():
        reach = Reach(package_of(cls))
        known = finish(reach, reach.class_(cls))
        _of_classes.put(cls, known)
    return known


def package_of(thing: FunctionType | type) -> str:
    """The top-level package that a function or class is in; empty for one outside of packages."""
    module = thing.__module__ or ""
    return module.partition(".")[0] if "." in module else ""


def finish(reach: Reach, start: Any) -> Fingerprint:
    """The fingerprint of what a walk has reached, starting from a reference."""
    description = Description(reach.nodes, start, reach.sources, reach.summaries)
    return Fingerprint(description.digest(), description, reach.main_syntax, reach.guards)
