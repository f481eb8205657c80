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
from .model import ARGUMENT, CHILD, MUTABLE, Input, JobNode, Lineage, Link
from .origins import Origins
from .resolve import Asked
from .things import SLIGHT, WHOLE, Taken, taken_by


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
        self._origins = Origins(index, at_hand)

    # Up

    def up(self) -> Traced:
        """Back to the raw inputs."""
        (root, _) = self._root()
        seen: set[str] = set()
        level = [root]
        while level:
            seen.update(level)
            self._at_hand.load(level)
            sources = [link.source for job_id in level for link in self._into(job_id)]
            level = [
                one for one in dict.fromkeys(sources) if one not in seen and one not in self._inputs
            ]
        kept, dropped = without_circles(root, list(self._links), up=True)
        return self._traced(root, kept + self._ends(dropped), up=True)

    def _ends(self, dropped: Iterable[Link]) -> list[Link]:
        """Inputs in the place of what would lead round in a circle."""
        ends = []
        for link in dropped:
            record = self._at_hand.get(link.target)
            for taken in taken_by(record) if record else ():
                if link.role == ARGUMENT and taken.name == link.label and taken.exact:
                    self._inputs[taken.exact] = Input(taken.exact, taken.summary)
                    ends.append(link._replace(source=taken.exact))
        return ends

    def _root(self) -> tuple[str, tuple[str, ...]]:
        """The job asked about, or who made what was, or the input that it is; and what of it was meant.

        The latter is empty when all that the job made is.
        """
        for job_id in self._asked.jobs:
            if self._at_hand.get(job_id) or self._index.users(job_id):
                return job_id, ()
        things = self._asked.things
        makers = [one for thing in things for one in self._origins.makers(thing, slight=True)]
        makers.sort(key=lambda one: (one.passes, one.finished, one.job_id))
        if makers:
            self._origins.note_others(makers[0], makers)
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
            for taken in taken_by(record) if record else ():
                if taken.name == name:
                    return taken.summary
        return ""

    def _into(self, job_id: str) -> list[Link]:
        """The links into a job, which are noted, and so are the inputs among their sources."""
        record = self._at_hand.get(job_id)
        if record is None:
            return []
        links = [link for taken in taken_by(record) for link in self._of_argument(record, taken)]
        children = children_told(record) or self._index.children_of(job_id)
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
        sources = self._origins.of(record, taken)
        if not sources:
            names = [thing for thing in taken.inside if "://" in thing] or [taken.exact]
            for name in names:
                self._inputs.setdefault(name, Input(name, taken.summary))
            sources = names
        return [Link(source, record.job_id, ARGUMENT, taken.name) for source in sources]

    # Down

    def down(self) -> Traced:
        """To all that was made of it."""
        root, meant = self._root()
        ways: dict[tuple[str, str, str], list[str]] = {}  # by taker, parameter and thing: from whom
        seen = {root: None}
        level = [root]
        while level:
            uses = [use for source in level for use in self._uses_of(source, meant)]
            self._at_hand.load(link.target for link, _ in uses)
            level, meant = [], ()
            for link, thing in uses:
                if thing and not self._may_be(link, thing, root):
                    continue
                if thing:
                    ways.setdefault((link.target, link.label, thing), []).append(link.source)
                else:
                    self._links[link] = None
                if link.target not in seen:
                    seen[link.target] = None
                    level.append(link.target)
        for (target, label, thing), sources in ways.items():
            source = sources[0] if len(sources) == 1 else self._first(sources, target, thing)
            self._links[Link(source, target, ARGUMENT, label)] = None
        kept, _ = without_circles(root, list(self._links), up=False)
        return self._traced(root, kept, up=False)

    def _uses_of(self, source: str, meant: tuple[str, ...]) -> Iterator[tuple[Link, str]]:
        """Who took what a job made (or only what of it was `meant`), or used the job, and the thing."""
        made = self._index.made_by(source)
        things = meant or tuple(one.thing for one in made if one.how != SLIGHT)
        for thing in things:
            for job_id, name in self._index.takers(thing):
                if job_id != source:
                    yield Link(source, job_id, ARGUMENT, name), thing
        if not meant or any(one.thing in meant and one.how in (WHOLE, SLIGHT) for one in made):
            for job_id, role, name in self._index.users(source):
                if job_id != source:
                    yield Link(source, job_id, role, name), ""

    def _may_be(self, link: Link, thing: str, root: str) -> bool:
        """Whether a job took a thing that the source of the link made from there."""
        record = self._at_hand.get(link.target)
        if record is None:
            return False
        if link.source == root and thing in self._asked.things:
            return True
        told = [source for name, source in record.inputs if name == link.label]
        if told:
            return link.source in told
        return any(one.job_id == link.source for one in self._origins.before(record, thing))

    def _first(self, sources: list[str], target: str, thing: str) -> str:
        record = self._at_hand.get(target)
        before = self._origins.before(record, thing) if record else []
        return next((one.job_id for one in before if one.job_id in sources), sources[0])

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
        also = self._origins.also
        return Traced(lineage, {name: tuple(also[name]) for name in jobs if name in also})
