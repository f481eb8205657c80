"""Links without circles. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterator

from .model import Link


def without_circles(root: str, links: list[Link], *, up: bool) -> tuple[list[Link], list[Link]]:
    """The links that can be reached from the root, without those that close a circle; and those.

    `up`: whether they are followed from targets to sources, or the other way.
    """
    away: dict[str, list[Link]] = {}
    for link in links:
        away.setdefault(link.target if up else link.source, []).append(link)
    kept: dict[Link, None] = {}
    dropped: list[Link] = []
    done: set[str] = set()
    path = {root}
    walk: list[tuple[str, Iterator[Link]]] = [(root, iter(away.get(root, ())))]
    while walk:
        name, rest = walk[-1]
        for link in rest:
            end = link.source if up else link.target
            if end in path:
                dropped.append(link)
                continue
            kept[link] = None
            if end not in done:
                path.add(end)
                walk.append((end, iter(away.get(end, ()))))
                break
        else:
            walk.pop()
            path.discard(name)
            done.add(name)
    return [link for link in links if link in kept], dropped
