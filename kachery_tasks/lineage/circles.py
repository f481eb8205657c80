"""Links without circles. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from .model import Link


def without_circles(
    root: str,
    links: list[Link],
    is_doubtful: Callable[[Link], bool] = lambda _: False,
    *,
    up: bool,
) -> tuple[list[Link], list[Link]]:
    """The links that can be reached from the root, without those that close a circle; and those.

    Of a circle the links go that are doubtful; where none is, the one that closes it. `up`: whether they
    are followed from targets to sources, or the other way.
    """
    member_of = _circles(links)
    doubtful = {
        link
        for link in links
        if member_of[link.source] == member_of[link.target] and is_doubtful(link)
    }
    kept, dropped = _opened(root, [link for link in links if link not in doubtful], up=up)
    reached = {root, *(end for link in kept for end in (link.source, link.target))}
    dropped += (link for link in links if link in doubtful and link.target in reached)
    return kept, dropped


def _opened(root: str, links: list[Link], *, up: bool) -> tuple[list[Link], list[Link]]:
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


def _circles(links: Iterable[Link]) -> dict[str, int]:
    """For each end of a link a number: ends have the same when there are ways both there and back.

    Two walks through all of it, the second one backwards in the order in which the first was done.
    """
    ahead: dict[str, list[str]] = {}
    back: dict[str, list[str]] = {}
    for link in links:
        for end in (link.source, link.target):
            ahead.setdefault(end, [])
            back.setdefault(end, [])
        ahead[link.source].append(link.target)
        back[link.target].append(link.source)
    seen: set[str] = set()
    order = [name for start in ahead for name in _walked(start, ahead, seen)]
    seen.clear()
    numbers: dict[str, int] = {}
    for number, start in enumerate(reversed(order)):
        numbers.update(dict.fromkeys(_walked(start, back, seen), number))
    return numbers


def _walked(start: str, ways: dict[str, list[str]], seen: set[str]) -> Iterator[str]:
    """What can be reached and was not seen, each after all that is beyond it."""
    if start in seen:
        return
    seen.add(start)
    walk = [(start, iter(ways[start]))]
    while walk:
        name, rest = walk[-1]
        for end in rest:
            if end not in seen:
                seen.add(end)
                walk.append((end, iter(ways[end])))
                break
        else:
            walk.pop()
            yield name
