"""Making a zone consistent again after damage.

What is damaged or missing there is sent again from the local store, where that has it intact. Else the
records that need it are removed, so that their jobs are computed again, and files are named that the
zone cannot give any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from .backend import Backend
from .blobs import Blobs
from .border import Border
from .collecting import GRACE, OnlyCollection
from .digest import Digest
from .errors import ConfigError, DigestMismatch, NotFound, StoreTooNew
from .inventory import HeldBy
from .local_backend import LocalBackend
from .renewal import put
from .repair import Repaired
from .survey import Survey, digest_of, whole_of
from .transfer import has, manifest_of_blob, send
from .verify import CheckEntry
from .zone import Zone

_REFS = ("jobs", "differing", "arrays", "code")


def repair_zone(
    zone: Zone,
    local: LocalBackend,
    held_by: HeldBy,
    check_entry: CheckEntry,
    border: Border,
    *,
    discard: bool = False,
) -> Repaired:
    """Send what a zone has lost again, or forget it; as `repair`, where `fetched` is what was sent.

    `border` says what records are in the zone.

    Damaged bytes of files that are lost stay in the zone's quarantine, unless `discard` is given. Raises
    Busy while garbage is collected there, ConfigError for a zone that is only read, StoreTooNew,
    StoreUnavailable.
    """
    zone.prepare(writing=False)
    if zone.read_only:
        raise ConfigError(f"zone {zone.name} is read_only here, so nothing is repaired there")
    with OnlyCollection(zone.backend, GRACE) as sole:
        survey = Survey(zone.backend, held_by, sole.beat)
        try:
            return _ZoneRepair(zone, local, survey, held_by, check_entry, border).run(discard)
        finally:
            survey.close()


class _ZoneRepair:
    def __init__(
        self,
        zone: Zone,
        local: LocalBackend,
        survey: Survey,
        held_by: HeldBy,
        check_entry: CheckEntry,
        border: Border,
    ) -> None:
        self._backend = zone.backend
        self._local = local
        self._blobs = Blobs(local)
        self._survey = survey
        self._held_by = held_by
        self._check_entry = check_entry
        self._border = border
        self._sent: dict[str, None] = {}
        self._forgotten: dict[str, None] = {}
        self._gone: set[str] = set()  # blobs that are neither in the zone nor here

    def run(self, discard: bool) -> Repaired:
        self._survey.look()
        for name in self._survey.damaged:
            self._backend.quarantine(name)
        aside = dict(_quarantined(self._backend))
        self._send_refs(aside)
        self._send_blobs(aside)
        self._forget_records()
        of_jobs = self._of_set_aside(aside)
        of_jobs.update(self._survey.all("SELECT name FROM edge WHERE kind = 2"))
        lost = {one for one in self._gone if not self._holders(one) and one not in of_jobs}
        aside = dict(_quarantined(self._backend))
        salvage = {place for place, name in aside.items() if whole_of(name) in lost and not discard}
        cleared = sum(self._backend.remove(place) for place in aside if place not in salvage)
        return Repaired(
            sorted(self._sent),
            sorted(self._forgotten),
            sorted(map(_uri, lost)),
            sorted(f"{self._backend.url}/{place}" for place in salvage),
            cleared,
        )

    def _send_refs(self, aside: dict[str, str]) -> None:
        """Send records and descriptions again that were set aside, where the local store has them."""
        for name in dict.fromkeys(aside.values()):
            if name.partition("/")[0] not in _REFS or self._backend.status(name) is not None:
                continue
            data = self._intact_here(name)
            if data is not None:
                folder, own = name.partition("/")[0], name.rpartition("/")[2]
                put(self._backend, name, self._border.outgoing(folder, own, data))
                self._sent[_uri(name)] = None
                self._note_record(name, data)
            elif name.startswith("jobs/"):
                self._forgotten[_uri(name)] = None
            elif name.startswith("arrays/"):
                self._gone.add(name)

    def _intact_here(self, name: str) -> bytes | None:
        with suppress(NotFound, DigestMismatch):
            data = self._local.read(name)
            self._check_entry(name, data)
            return data
        return None

    def _note_record(self, name: str, data: bytes) -> None:
        """Count a record among those of the zone: its blobs must be there, too."""
        status = self._backend.status(name)
        if status is not None and name.startswith(("jobs/", "arrays/")):
            self._survey.add(name, status, data)

    def _send_blobs(self, aside: dict[str, str]) -> None:
        """Send blobs again until nothing new is lacking: an encoding that is back names others."""
        tried: set[str] = set()
        while wanted := {*self._incomplete(), *self._of_aside(aside)} - tried:
            for name in sorted(wanted):
                self._send_blob(name)
            tried |= wanted
            for record in list(self._survey.all("SELECT name FROM record WHERE NOT complete")):
                self._read_again(record)

    def _read_again(self, record: str) -> None:
        with suppress(NotFound, DigestMismatch, StoreTooNew):
            self._note_record(record, self._backend.read(record))

    def _incomplete(self) -> Iterator[str]:
        """What the zone has not, or not all of, though a record holds it or a manifest lists it."""
        survey = self._survey
        yield from survey.all(
            "SELECT DISTINCT edge.name FROM edge WHERE kind = 0 AND (owner LIKE 'jobs/%'"
            " OR owner IN (SELECT name FROM record WHERE named))"
            " AND NOT EXISTS (SELECT 1 FROM object WHERE object.name = edge.name)"
            " AND NOT EXISTS (SELECT 1 FROM edge AS whole JOIN object ON object.name = whole.name"
            " WHERE whole.owner = edge.name AND object.folder = 'manifests')"
        )
        yield from survey.all(
            "SELECT DISTINCT part.owner FROM part LEFT JOIN object ON object.name = part.name"
            " WHERE object.size IS NOT part.size"
        )
        yield from survey.all(
            "SELECT 'blake3/' || substr(address, 1, 2) || '/' || address FROM record"
            " WHERE NOT complete AND name LIKE 'jobs/%' AND NOT EXISTS"
            " (SELECT 1 FROM edge WHERE owner = record.name AND edge.name LIKE 'arrays/%')"
        )

    def _of_aside(self, aside: dict[str, str]) -> Iterator[str]:
        """Blobs that were set aside, but for parts, which their manifests tell of."""
        for name in dict.fromkeys(aside.values()):
            whole = whole_of(name) if name.startswith("manifests/") else name
            is_part = self._survey.one("SELECT 1 FROM part WHERE name = ?", name)
            if digest_of(whole) is not None and not is_part:
                yield whole

    def _send_array(self, name: str) -> None:
        """Send the manifest of a chunked array; what it lists is sent, where that lacks, later."""
        data = self._intact_here(name)
        if data is None:
            self._gone.add(name)
        else:
            put(self._backend, name, data)
            self._sent[_uri(name)] = None
            self._note_record(name, data)

    def _send_blob(self, name: str) -> None:
        if name.startswith("arrays/"):
            self._send_array(name)
            return
        digest = digest_of(name)
        if digest is None or self._is_whole(digest):
            return
        try:
            send(self._backend, digest, self._blobs, afresh=True)
        except (NotFound, DigestMismatch):
            self._gone.add(name)
        else:
            self._sent[str(digest)] = None

    def _is_whole(self, digest: Digest) -> bool:
        """Whether the zone has a blob by now, with all its parts."""
        if self._backend.status(digest.path) is not None:
            return True
        if self._backend.part_size is None or not has(self._backend, digest):
            return False
        try:
            parts = manifest_of_blob(self._backend, digest).parts
        except (NotFound, DigestMismatch):
            return False
        found = ((part, self._backend.status(part.digest.path)) for part in parts)
        return all(one is not None and one.size == part.end - part.start for part, one in found)

    def _holders(self, name: str) -> list[str]:
        query = "SELECT owner FROM edge WHERE name = ? AND kind = 0 AND owner LIKE 'jobs/%'"
        return list(self._survey.all(query, name))

    def _forget_records(self) -> None:
        """Remove the records that have lost a blob, and what is left of the manifests of such blobs."""
        for name in sorted(self._gone):
            digest = digest_of(name)
            there = self._backend.status(name) if digest is None else self._is_whole(digest)
            if there:  # somebody else has sent it
                self._gone.discard(name)
                continue
            holders = self._holders(name)
            for record in holders:
                self._backend.remove(record)
                self._forgotten[self._described(record)] = None
            set_aside = self._backend.remove if holders else self._backend.quarantine
            for listed in self._survey.all(
                "SELECT name FROM edge WHERE owner = ? AND name LIKE 'manifests/%'", name
            ):
                set_aside(listed)

    def _described(self, record: str) -> str:
        task = self._survey.one("SELECT task FROM record WHERE name = ?", record)
        return _uri(record) + (f" ({task})" if task else "")

    def _of_set_aside(self, aside: dict[str, str]) -> set[str]:
        """The blobs that records in quarantine hold, as far as those can be read."""
        found: set[str] = set()
        for place, name in aside.items():
            if not name.startswith("jobs/"):
                continue
            with suppress(NotFound, DigestMismatch, StoreTooNew):
                held = self._held_by(name.rpartition("/")[2], self._backend.read(place))
                found.update(digest.path for digest, _ in held.blobs)
                found.update(digest.path for digest in held.about)
        return found


def _quarantined(backend: Backend) -> Iterator[tuple[str, str]]:
    """What is in quarantine: where it is, and the name that it had."""
    for place in backend.names("quarantine"):
        original = place.removeprefix("quarantine/").rpartition(".")[0]
        yield place, original.replace("_", "/")


def _uri(name: str) -> str:
    """How what was sent, or is lost, is told."""
    folder, own = name.partition("/")[0], name.rpartition("/")[2]
    known = {"jobs": f"job://{own}", "arrays": f"blake3://{own}"}
    digest = digest_of(name)
    return str(digest) if digest is not None else known.get(folder, f"{folder}/{own}")
