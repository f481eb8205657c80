"""What a fingerprint covers, and what differs between two of them, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from .description import Description

_Path = tuple[str, ...]


class Change(NamedTuple):
    """One thing that differs in the code: what, how it is here and there, or a diff of its source."""

    what: str
    here: str
    there: str
    diff: str = ""


class Coverage(NamedTuple):
    """What a fingerprint stands for.

    `code`: the project's functions and classes. `constants`: what they read, as (place, summary).
    `versions`: of packages that were asked for. `installed`: what is known by its name only. `inert`:
    what does not count, as (place, type).
    """

    code: list[str]
    constants: list[tuple[str, str]]
    versions: dict[str, str]
    installed: list[str]
    inert: list[tuple[str, str]]


def coverage_of(description: Description) -> Coverage:
    """What a fingerprint stands for, and what it leaves out."""
    found = Coverage(description.labels(), [], description.versions(), [], [])
    installed: set[str] = set()
    for label, node in zip(found.code, _described(description).values(), strict=True):
        for path, reference in node.items():
            kind = reference[0] if isinstance(reference, list) else None
            if kind == "value":
                found.constants.append((_place(label, path), _words(reference, description)))
            elif kind == "name":
                installed.add(reference[1])
            elif kind in ("inert", "unidentified"):
                found.inert.append((_place(label, path), reference[1]))
    found.installed.extend(sorted(installed))
    return found


def changes(here: Description, there: Description) -> list[Change]:
    """What differs between two descriptions, in the order in which the code is reached."""
    ours, theirs = _described(here), _described(there)
    theirs = _with_the_same_start(ours, theirs)
    found: list[Change] = []
    for label, node in ours.items():
        if label in theirs:
            found += _changes_of_node(label, (node, here), (theirs[label], there))
        else:
            found.append(Change(f"`{label}`", "reached", "not reached"))
    found += [
        Change(f"`{label}`", "not reached", "reached") for label in theirs if label not in ours
    ]
    return found + _changed_versions(here.versions(), there.versions())


_Node = dict[_Path, Any]
_Nodes = dict[str, _Node]


def _with_the_same_start(ours: _Nodes, theirs: _Nodes) -> _Nodes:
    """Call the function that all starts from by one name, also when it was moved."""
    names = next(iter(ours), ""), next(iter(theirs), "")
    if names[0] in theirs or names[1] in ours:
        return theirs
    return {names[0] if label == names[1] else label: node for label, node in theirs.items()}


def _changes_of_node(
    label: str, ours: tuple[_Node, Description], theirs: tuple[_Node, Description]
) -> Iterator[Change]:
    (here, ours_all), (there, theirs_all) = ours, theirs
    rewritten = here.get(_SYNTAX) != there.get(_SYNTAX)
    if rewritten:
        yield Change(f"`{label}`", "", "", _diff(here, ours_all, there, theirs_all))
    for path in here | there:
        if path in (_SYNTAX, _VERSION) or here.get(path) == there.get(path):
            continue
        if rewritten and not (path in here and path in there):
            continue  # the diff shows what it names, and no longer names
        yield Change(
            _place(label, path),
            _words(here.get(path), ours_all),
            _words(there.get(path), theirs_all),
        )


_SYNTAX: _Path = ("syntax",)
_VERSION: _Path = ("version",)


def _diff(here: _Node, ours: Description, there: _Node, theirs: Description) -> str:
    """The difference between two sources, as `diff -u` shows it; empty when one was not kept."""
    new, old = ours.sources.get(here.get(_SYNTAX, "")), theirs.sources.get(there.get(_SYNTAX, ""))
    if new is None or old is None:
        return ""
    import difflib

    lines = difflib.unified_diff(
        old.splitlines(), new.splitlines(), "there", "here", n=2, lineterm=""
    )
    return "\n".join(lines)


def _changed_versions(here: dict[str, str], there: dict[str, str]) -> list[Change]:
    return [
        Change(f"package {name}", here.get(name, "not asked for"), there.get(name, "not asked for"))
        for name in sorted(here.keys() | there.keys())
        if here.get(name) != there.get(name)
    ]


def _described(description: Description) -> _Nodes:
    """Label -> path -> what is there, with nodes referred to by label."""
    labels = description.labels()
    return {
        label: dict(_leaves((), node, labels))
        for label, (_, node) in zip(labels, description.nodes, strict=True)
    }


_LEAVES = frozenset(("value", "name", "inert", "unidentified", "missing"))


def _leaves(path: _Path, plain: Any, labels: list[str]) -> Iterator[tuple[_Path, Any]]:
    """All references inside a description, with the way to them."""
    if isinstance(plain, dict):
        for name, member in plain.items():
            yield from _leaves((*path, str(name)), member, labels)
    elif isinstance(plain, list) and plain[:1] == ["node"]:
        yield path, ["node", labels[plain[1]]]
    elif not isinstance(plain, list):
        yield path, plain
    else:
        leaf = plain[:2] if _is_leaf(plain) else []
        if leaf:
            yield path, leaf
        for position, member in enumerate(plain[len(leaf) :]):
            yield from _leaves((*path, str(position)), member, labels)


def _is_leaf(plain: list[Any]) -> bool:
    return bool(plain) and isinstance(plain[0], str) and plain[0] in _LEAVES


def _place(label: str, path: _Path) -> str:
    kind, *rest = path
    name = ".".join(rest)
    if kind == "globals":
        return f"the global `{rest[0]}` that `{label}` reads"
    if kind == "closure":
        return f"the variable `{rest[0]}` in the closure of `{label}`"
    if kind == "defaults":
        return f"the default of `{rest[0]}` in `{label}`"
    if kind == "bases":
        return f"a base of `{label}`"
    return f"`{label}.{name if kind == 'attributes' else '.'.join(path)}`"


def _words(reference: Any, description: Description) -> str:
    if reference is None:
        return "absent"
    if not isinstance(reference, list):
        return str(reference)
    kind, *rest = reference
    if kind == "value":
        return description.summaries.get(rest[0], "a constant")
    if kind == "missing":
        return "missing"
    return str(rest[0])
