"""From what was asked about to its lineage: up to the raw inputs, or down to all that was made of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kachery_store import NotFound, Store
from kachery_store.uri import parse_uri

from ..record import Record
from .at_hand import AtHand
from .circles import without_circles
from .index import Index, children_told
from .model import ARGUMENT, CHILD, CONTENT, MUTABLE, RECORD, Input, JobNode, Lineage, Link
from .origins import Origins
from .resolve import Asked
from .things import SLIGHT, WHOLE, Taken


class Traced(NamedTuple):
    """A lineage. `also`: for a job in it, others that made what it was asked for."""

    lineage: Lineage
    also: dict[str, tuple[str, ...]]


def trace(store: Store, index: Index, asked: Asked, *, up: bool) -> Traced:
    """The lineage of what was asked about. NotFound when nothing is known of it."""
    at_hand = AtHand(store, [asked.record] if asked.record else [])
    while True:
        tracing = _Tracing(store, index, at_hand, asked)
        traced = tracing.up() if up else tracing.down()
        if not at_hand.brought:
            return traced
        at_hand.brought = False  # what came from the zone may tell who made what
        index.update()


class _Tracing:
    """What is found in one walk through the records."""

    def __init__(self, store: Store, index: Index, at_hand: AtHand, asked: Asked) -> None:
        self._store = store
        self._index = index
        self._at_hand = at_hand
        self._asked = asked
        self._inputs: dict[str, Input] = {}
        self._links: dict[Link, None] = {}
        self._taken_from: dict[str, dict[str, list[Link]]] = {}
        self._origins = Origins(index, at_hand)

    # Up

    def up(self) -> Traced:
        """Back to the raw inputs."""
        (root, _) = self._root(up=True)
        seen: set[str] = set()
        level = [root]
        while level:
            seen.update(level)
            self._at_hand.load(level)
            sources = [link.source for job_id in level for link in self._into(job_id)]
            level = [
                one for one in dict.fromkeys(sources) if one not in seen and one not in self._inputs
            ]
        kept, dropped = without_circles(root, list(self._links), self._is_doubtful, up=True)
        return self._traced(root, kept + self._ends(dropped), up=True)

    def _ends(self, dropped: Iterable[Link]) -> list[Link]:
        """Inputs in the place of what would lead round in a circle."""
        ends = []
        for link in dropped:
            record = self._at_hand.get(link.target)
            taken = self._origins.taken(record).get(link.label) if record else None
            if link.role == ARGUMENT and taken is not None and taken.exact:
                self._inputs[taken.exact] = Input(taken.exact, taken.summary)
                ends.append(link._replace(source=taken.exact, by=RECORD))
        return list(dict.fromkeys(ends))

    def _root(self, *, up: bool) -> tuple[str, tuple[str, ...]]:
        """The job asked about, or who made what was, or the input that it is; and what of it was meant.

        The latter is empty when all that the job made is. What one job made, and another had taken
        before, is an input of what was made from it.
        """
        for job_id in self._asked.jobs:
            if self._at_hand.get(job_id) or self._index.users(job_id):
                return job_id, ()
        things = self._asked.things
        makers = [one for thing in things for one in self._origins.makers(thing, slight=True)]
        makers.sort(key=lambda one: (one.passes, one.finished, one.job_id))
        if makers and (up or not any(map(self._was_raw, things))):
            self._origins.choose(makers[0].job_id, things)
            return makers[0].job_id, things
        for thing in things:
            if self._index.takers(thing):
                self._inputs[thing] = Input(thing, self._summary_of(thing))
                return thing, things
        raise NotFound(self._nothing())

    def _nothing(self) -> str:
        asked, backend = self._asked, self._store.backend
        stored = [thing for thing in asked.things if "://" in thing]
        if any(backend.stat(parse_uri(thing).digest.path) is not None for thing in stored):
            return (
                f"{asked.about} is stored in {self._store.root}, but no job there made or took it"
            )
        what = "has the record of" if asked.jobs else "made or took"
        return f"nothing in {self._store.root} {what} {asked.about}; " + (
            asked.hint or "`kachery jobs` lists what there is, and a zone is asked for job ids only"
        )

    def _summary_of(self, thing: str) -> str:
        """What the records of those who took a thing say of it."""
        for job_id, name in self._index.takers(thing):
            record = self._at_hand.get(job_id)
            if record is not None and name in self._origins.taken(record):
                return self._origins.taken(record)[name].summary
        return ""

    def _was_raw(self, thing: str) -> bool:
        """Whether a job took a thing that others made from none of them."""
        takers = self._index.takers(thing) if self._origins.makers(thing) else []
        self._at_hand.load(job_id for job_id, _ in takers)
        found = ((self._at_hand.get(job_id), name) for job_id, name in takers)
        return any(
            record is not None
            and not self._origins.of(record, name)
            and self._origins.taken(record)[name].exact == thing
            for record, name in found
        )

    def _is_doubtful(self, link: Link) -> bool:
        """Whether only content tells of a link, and it goes against time."""
        source, target = self._at_hand.get(link.source), self._at_hand.get(link.target)
        if link.by != CONTENT or source is None or target is None:
            return False
        first = self._at_hand.first_runs
        return first.of(source).ended > first.of(target).started

    def _into(self, job_id: str) -> list[Link]:
        """The links into a job, which are noted, and so are the inputs among their sources."""
        record = self._at_hand.get(job_id)
        if record is None:
            return []
        arguments = self._origins.taken(record).values()
        links = [link for taken in arguments for link in self._of_argument(record, taken)]
        children = dict.fromkeys([*children_told(record), *self._index.children_of(job_id)])
        links += (Link(child, job_id, CHILD, "") for child in children if child != job_id)
        links += self._mutables(record)
        self._links.update(dict.fromkeys(links))
        return links

    def _mutables(self, record: Record) -> Iterator[Link]:
        for what, name, address in record.reads:
            if what == "mutable":
                text = f"mutable:{name}:{address.hex()}"
                summary = f"the mutable {name}{'' if address else ', not set'}"
                self._inputs[text] = Input(text, summary)
                yield Link(text, record.job_id, MUTABLE, name)

    def _of_argument(self, record: Record, taken: Taken) -> list[Link]:
        if not taken.exact:  # of a secret nothing is kept
            return []
        sources = self._origins.of(record, taken.name)
        if not sources:
            names = [thing for thing in taken.inside if "://" in thing] or [taken.exact]
            for name in names:
                self._inputs.setdefault(name, Input(name, taken.summary))
            sources = dict.fromkeys(names, RECORD)
        return [
            Link(source, record.job_id, ARGUMENT, taken.name, by) for source, by in sources.items()
        ]

    # Down

    def down(self) -> Traced:
        """To all that was made of it: each job that took what it is, by the rule that leads up."""
        root, meant = self._root(up=False)
        seen = {root: None}
        level = [root]
        while level:
            self._at_hand.load(level)
            links = [link for source in level for link in self._out_of(source, meant)]
            self._links.update(dict.fromkeys(links))
            targets = dict.fromkeys(link.target for link in links)
            level, meant = [target for target in targets if target not in seen], ()
            seen.update(dict.fromkeys(level))
        kept, _ = without_circles(root, list(self._links), self._is_doubtful, up=False)
        return self._traced(root, kept, up=False)

    def _out_of(self, source: str, meant: tuple[str, ...]) -> Iterator[Link]:
        """The links to those who took what a job or an input is, or only what of it was `meant`."""
        made = self._index.made_by(source)
        for thing in meant:  # who asks for a value means whoever took it
            yield from self._to_takers(source, thing)
        for thing in () if meant else [one.thing for one in made if one.how != SLIGHT]:
            yield from self._links_by(thing).get(source, ())
        if not meant or any(one.thing in meant and one.how in (WHOLE, SLIGHT) for one in made):
            for job_id, role, name in self._index.users(source):
                link = Link(source, job_id, role, name)
                if job_id != source and self._is_still_so(link):
                    yield link

    def _to_takers(self, source: str, thing: str) -> Iterator[Link]:
        takers = self._index.takers(thing)
        self._at_hand.load(job_id for job_id, _ in takers)
        for job_id, name in takers:
            record = self._at_hand.get(job_id)
            if record is not None and job_id != source:
                by = self._origins.of(record, name).get(source, CONTENT)
                is_input = source in self._inputs
                yield Link(source, job_id, ARGUMENT, name, RECORD if is_input else by)

    def _links_by(self, thing: str) -> dict[str, list[Link]]:
        """The links to those who took a thing, by the job that each has it from."""
        if thing not in self._taken_from:
            found: dict[str, list[Link]] = {}
            takers = self._index.takers(thing)
            self._at_hand.load(job_id for job_id, _ in takers)
            for job_id, name in takers:
                record = self._at_hand.get(job_id)
                sources = {} if record is None else self._origins.of(record, name)
                for source in self._origins.that_made(thing, sources):
                    link = Link(source, job_id, ARGUMENT, name, sources[source])
                    found.setdefault(source, []).extend([] if link.of_another_result else [link])
            self._taken_from[thing] = found
        return self._taken_from[thing]

    def _is_still_so(self, link: Link) -> bool:
        """Whether a job took what the record of the source tells of, as far as that is known."""
        record = self._at_hand.get(link.target) if link.role == ARGUMENT else None
        found = {} if record is None else self._origins.of(record, link.label)
        return not link._replace(by=found.get(link.source, RECORD)).of_another_result

    # Both

    def _traced(self, root: str, links: list[Link], *, up: bool) -> Traced:
        names = dict.fromkeys(
            [root, *(end for link in links for end in (link.target, link.source))]
        )
        jobs = [name for name in names if name not in self._inputs]
        lineage = Lineage(
            about=self._asked.about,
            up=up,
            asked=(root,),
            jobs={
                job_id: JobNode(job_id, self._at_hand.get(job_id), self._at_hand.signers(job_id))
                for job_id in jobs
            },
            inputs={name: self._inputs[name] for name in names if name in self._inputs},
            links=tuple(links),
        )
        also = self._origins.also()
        return Traced(lineage, {name: also[name] for name in jobs if name in also})
