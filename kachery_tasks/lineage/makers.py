"""Which job of a lineage made which value, once for each value: exports need one origin at most."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..record import Record
from .model import ARGUMENT, Lineage


class Use(NamedTuple):
    """A job took a value under the name of a parameter. `address`: in hex, empty when it is secret.

    `sources`: jobs whose result the value is, or has in it; `files`: URIs that it names.
    """

    job_id: str
    parameter: str
    address: str
    summary: str
    sources: tuple[str, ...]
    files: tuple[str, ...]


def records_in_order(lineage: Lineage) -> list[Record]:
    """The records of a lineage, in the order in which the jobs were done."""
    records = [node.record for node in lineage.jobs.values() if node.record is not None]
    return sorted(records, key=lambda record: (ended(record), record.job_id))


def ended(record: Record) -> float:
    """When a job was done, in seconds since 1970."""
    return record.started + record.seconds


def makers(lineage: Lineage) -> dict[str, str]:
    """For each address of a result the job that made it first.

    Not those that were there before: what is an input of the lineage was made by nobody in it.
    """
    found: dict[str, str] = {}
    for record in records_in_order(lineage):
        address = record.result.address.hex()
        if address not in lineage.inputs:
            found.setdefault(address, record.job_id)
    return found


class Uses:
    """What the jobs of a lineage took."""

    def __init__(self, lineage: Lineage) -> None:
        self._jobs = lineage.jobs
        self._sources: dict[tuple[str, str], list[str]] = {}
        for link in sorted(lineage.links):
            if link.role == ARGUMENT:
                self._sources.setdefault((link.target, link.label), []).append(link.source)

    def of(self, record: Record) -> Iterator[Use]:
        """What a job took, by parameter."""
        for name, address, summary in record.arguments:
            sources = self._sources.get((record.job_id, name), [])
            jobs = tuple(source for source in sources if source in self._jobs)
            files = tuple(source for source in sources if "://" in source)
            yield Use(record.job_id, name, address.hex(), summary, jobs, files)
