"""Planning a collection in a zone: what leaves it, and in which order.

A plan is a table in the database of a survey. Making it changes nothing.
"""

from __future__ import annotations

from heapq import merge
from typing import NamedTuple

from .collecting import GRACE
from .survey import Survey

# The order in which things go: nobody finds a record whose blobs have gone before it.
RECORDS, ARRAYS, MANIFESTS, BLOBS, REST = STEPS = range(5)

_ABANDONED = 86_400.0  # seconds after which a lease or a temporary object belongs to nobody
_BLOB_FOLDERS = "('sha1', 'sha256', 'blake3')"


class ZonePolicy(NamedTuple):
    """What is to be collected in a zone.

    `older_than`: records written so many seconds ago go; without it the zone's `expires` counts.
    `max_size`: bytes that may stay; the oldest records go. `files`: named files and arrays go, too.
    `orphans`: also blobs by BLAKE3, and arrays, that no record ever named. What is younger than `grace`
    and named by nothing stays.
    """

    older_than: float | None = None
    max_size: int | None = None
    files: bool = False
    orphans: bool = False
    grace: float = GRACE


def plan_zone(survey: Survey, policy: ZonePolicy, expires: float | None, now: float) -> None:
    """Fill the tables of a survey that say what is needed, and what goes.

    `expires`: of the zone. `now`: seconds since 1970, by the server's clock, before the survey began.
    """
    _Planner(survey, policy, expires, now).plan()


class _Planner:
    def __init__(
        self, survey: Survey, policy: ZonePolicy, expires: float | None, now: float
    ) -> None:
        self._survey = survey
        self._policy = policy
        self._settled = now - policy.grace
        age = expires if policy.older_than is None else policy.older_than
        self._too_old = None if age is None else now - age
        self._with_files = policy.files or (expires is not None and policy.older_than is None)
        self._now = now

    def plan(self) -> None:
        """Mark what stays, and choose what goes."""
        survey = self._survey
        survey.keep_pinned()
        if self._too_old is not None:
            self._go(RECORDS, "folder = 'jobs'", self._too_old)
        self._choose_for_size()
        survey.keep(survey.all(_STAYING.format("jobs")))
        self._choose_differing()
        survey.keep(survey.all(_STAYING.format("differing")))
        self._choose_arrays()
        survey.keep(survey.all(_STAYING.format("arrays")))  # with their chunks
        self._choose_blobs()
        self._choose_rest()

    def _go(self, step: int, which: str, before: float) -> None:
        """Choose objects that nothing needs and that are older than a moment."""
        readable = "AND name IN (SELECT name FROM record)" if step == RECORDS else ""
        self._survey.db.execute(
            "INSERT OR IGNORE INTO going SELECT name, ?, ? FROM object"  # noqa: S608 - all of it is ours
            " WHERE modified < ?"
            f" AND name NOT IN kept AND ({which}) {readable}",
            (step, before, before),
        )

    def _choose_for_size(self) -> None:
        """The oldest records, until the rest is small enough."""
        if self._policy.max_size is None:
            return
        survey = self._survey
        too_much = survey.one("SELECT total(size) FROM object") - self._policy.max_size
        too_much -= sum(_freed_by(survey, name) for name in survey.all("SELECT name FROM going"))
        records = survey.all(_STAYING.format("jobs") + " AND name NOT IN kept ORDER BY modified")
        for name in records:
            if too_much <= 0:
                return
            if survey.one("SELECT 1 FROM record WHERE name = ?", name):
                survey.db.execute("INSERT INTO going VALUES (?, 0, ?)", (name, self._now))
                too_much -= _freed_by(survey, name)
        if self._policy.files and self._too_old is None and too_much > 0:
            self._too_old = self._age_for(too_much)

    def _age_for(self, too_much: float) -> float:
        """A moment such that the files from before it have so many bytes, with their parts."""
        survey = self._survey
        blobs = survey.all(
            f"SELECT modified, size FROM object WHERE folder IN {_BLOB_FOLDERS}"  # noqa: S608
            " AND name NOT IN kept AND name NOT IN"
            " (SELECT name FROM edge WHERE owner LIKE 'arrays/%') ORDER BY modified"
        )
        arrays = (
            (modified, _freed_by(survey, name))
            for modified, name in survey.all(
                "SELECT modified, name FROM object WHERE folder = 'arrays' AND name NOT IN kept"
                " ORDER BY modified"
            )
        )
        for modified, size in merge(blobs, arrays):
            too_much -= size
            if too_much <= 0:
                return float(modified) + 1e-3
        return self._now

    def _choose_differing(self) -> None:
        """Other results of jobs that are gone."""
        self._go(
            RECORDS,
            "folder = 'differing' AND NOT EXISTS (SELECT 1 FROM object AS job WHERE job.name ="
            " 'jobs/' || substr(object.name, 11, 67) AND job.name NOT IN (SELECT name FROM going))",
            self._settled,
        )

    def _choose_arrays(self) -> None:
        """The manifests of chunked arrays that no record has any more, and no user himself."""
        survey = self._survey
        survey.db.executescript(_OF_GOING)
        if survey.too_new:  # such a record may hold any array
            return
        known = "folder = 'arrays' AND name IN (SELECT name FROM record WHERE {})"
        self._go(ARRAYS, known.format("NOT named") + " AND name IN of_going", self._settled)
        if self._with_files and self._too_old is not None:
            self._go(ARRAYS, known.format("1"), self._oldest())
        if self._policy.orphans:
            self._go(ARRAYS, known.format("NOT named"), self._settled)
        survey.db.executescript(_ALSO_OF_GOING)

    def _choose_blobs(self) -> None:
        """Manifests first: one that stays keeps its parts, whoever named it."""
        survey = self._survey
        manifest = (
            "folder = 'manifests' AND EXISTS (SELECT 1 FROM edge WHERE edge.name = object.name"
        )
        manifest += " AND edge.owner NOT IN kept AND {})"
        self._go(
            MANIFESTS,
            manifest.format(f"edge.owner IN of_going AND {self._certain('edge.owner')}"),
            self._settled,
        )
        if self._with_files and self._too_old is not None:
            self._go(MANIFESTS, manifest.format(self._certain("edge.owner")), self._oldest())
        if self._policy.orphans:
            self._go(MANIFESTS, manifest.format(self._orphan("edge.owner")), self._settled)
        survey.keep(
            survey.all(
                "SELECT edge.owner FROM object JOIN edge ON edge.name = object.name WHERE folder ="
                " 'manifests' AND object.name NOT IN (SELECT name FROM going)"
            )
        )
        survey.db.executescript(_PARTS_OF_GOING)
        self._choose_whole()

    def _choose_whole(self) -> None:
        blob = f"folder IN {_BLOB_FOLDERS} AND "
        self._go(BLOBS, blob + f"name IN of_going AND {self._certain('name')}", self._settled)
        if self._with_files and self._too_old is not None:
            self._go(BLOBS, blob + self._certain("name"), self._oldest())
        if self._policy.orphans:
            self._go(BLOBS, blob + self._orphan("name"), self._settled)

    def _oldest(self) -> float:
        assert self._too_old is not None  # noqa: S101 - asked before
        return min(self._too_old, self._settled)

    def _orphan(self, name: str) -> str:
        return f"{name} LIKE 'blake3/%' AND {self._certain(name)}"

    def _certain(self, name: str) -> str:
        """What is not in doubt: a record of a later kachery may hold any blob by BLAKE3, and a damaged
        manifest may list any part.
        """
        if any(one.startswith("manifests/") for one in self._survey.damaged):
            return "0"
        return f"{name} NOT LIKE 'blake3/%'" if self._survey.too_new else "1"

    def _choose_rest(self) -> None:
        """Descriptions of code that nothing names; leases and temporary objects left behind."""
        if not self._survey.too_new and not self._survey.damaged:  # such a record may name any code
            self._go(REST, "folder = 'code'", self._settled)
        self._go(REST, "folder IN ('leases', 'tmp')", min(self._settled, self._now - _ABANDONED))


_STAYING = "SELECT name FROM object WHERE folder = '{}' AND name NOT IN (SELECT name FROM going)"

_OF_GOING = """
CREATE TABLE of_going (name TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_ALSO_OF_GOING = """
INSERT OR IGNORE INTO of_going
    SELECT edge.name FROM going CROSS JOIN edge ON edge.owner = going.name
    WHERE kind IN (0, 2);
"""
_OF_GOING += _ALSO_OF_GOING
_PARTS_OF_GOING = """
INSERT OR IGNORE INTO of_going SELECT parts.name FROM going
    CROSS JOIN edge AS listed ON listed.name = going.name
    CROSS JOIN edge AS parts ON parts.owner = listed.owner
    WHERE going.step = 2;
"""


def _freed_by(survey: Survey, record: str) -> int:
    """About how many bytes become free with a record, or array, that goes: its own, and what only it
    holds.
    """
    return int(
        survey.one(
            "WITH held (name) AS (SELECT name FROM edge WHERE owner = ?1 AND kind = 0 AND name NOT IN"
            " kept AND NOT EXISTS (SELECT 1 FROM edge AS other WHERE other.name = edge.name AND"
            " other.owner <> ?1 AND other.owner NOT IN (SELECT name FROM going) AND"
            " (other.owner LIKE 'jobs/%' OR other.owner IN (SELECT name FROM record WHERE named)))),"
            " parts (name) AS (SELECT ?1 UNION SELECT name FROM held UNION SELECT edge.name FROM held"
            " JOIN edge ON edge.owner = held.name)"
            " SELECT total(size) FROM parts JOIN object ON object.name = parts.name",
            record,
        )
    )
