"""exca: its MapInfra, of the two kinds of cache that it has the one for many calls.

exca looks at annotations, so they are no strings here.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pydantic
from exca import MapInfra

from .adapter import Adapter, NotOffered


class Calls(pydantic.BaseModel):
    """Calls of one function, by its name; items are tuples of arguments."""

    function: str
    infra: MapInfra = MapInfra()

    @infra.apply(item_uid=str)
    def process(self, items: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        for item in items:
            yield _FUNCTIONS[self.function](*item)


_FUNCTIONS: dict[str, Callable[..., Any]] = {}


class Peer(Adapter):
    """Without its copy of all results in memory: they are kept in files, as everybody else's."""

    def memoize(self, function: Callable[..., Any]) -> Callable[..., Any]:
        _FUNCTIONS[function.__qualname__] = function
        calls = Calls(
            function=function.__qualname__,
            infra={"folder": self.folder, "keep_in_ram": False},  # type: ignore[arg-type]
        )
        self.calls = calls

        def memoized(*args: Any) -> Any:
            if not all(isinstance(arg, int | float | str) for arg in args):
                raise NotOffered("an item is known by a text that its user makes of it")
            return next(iter(calls.process([args])))

        return memoized

    def results(self) -> int:
        return len(list(self.calls.infra.cache_dict.keys()))
