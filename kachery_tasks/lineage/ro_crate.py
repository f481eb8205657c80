"""A lineage as a folder that follows Workflow Run RO-Crate (docs/lineage-exports.md).

Without a job that asked for others while it ran it is a Process Run Crate: nobody wrote the workflow
down. With one it is a Provenance Run Crate, whose main workflow is the code of that job.
"""

from __future__ import annotations

import os
import shutil
from typing import Any

from kachery_store import Store
from kachery_store.errors import KacheryError

from ..environment import environment_at
from ..record import Record
from ..summary import call_text
from .crate_entities import CrateEntities, reference
from .crate_values import CrateValues
from .crate_workflows import NO_LICENSE, CrateWorkflows, time_text, tool_of
from .makers import Uses, ended, records_in_order
from .model import Lineage

_ROCRATE = "1.1"  # what the profiles are written for
_PROFILES = "https://w3id.org/ro/wfrun"
_PROFILE_VERSION = "0.5"
_WORKFLOW_CRATE = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
_CONTEXT = "https://w3id.org/ro/terms/workflow-run/context"
_STATUS = {False: "CompletedActionStatus", True: "FailedActionStatus"}


def ro_crate(store: Store, lineage: Lineage, folder: str | os.PathLike[str]) -> None:
    """Write an RO-Crate of a lineage into a new folder, or an empty one.

    What is small is in it as files, the rest is described. Equal lineages of equal stores give equal
    folders. Raises Unsupported when the library `rocrate` is not installed, KacheryError when there is
    something in the folder, OSError when it cannot be written.
    """
    crate = _Crate(store, lineage).filled()
    folder = os.path.abspath(os.fspath(folder))
    if os.path.isdir(folder) and os.listdir(folder):
        raise KacheryError(f"{folder} is not empty: name a new folder for the RO-Crate")
    _write(crate, folder)


def _write(crate: Any, folder: str) -> None:
    """Write all of it beside the folder, then give it its name: there is never half a crate."""
    temporary = f"{folder}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    try:
        crate.write(temporary)
        os.rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class _Crate:
    """A crate while it is filled."""

    def __init__(self, store: Store, lineage: Lineage) -> None:
        self._store = store
        self._lineage = lineage
        self._uses = Uses(lineage)
        self._entities = CrateEntities(_ROCRATE, _CONTEXT)
        self._records = {record.job_id: record for record in records_in_order(lineage)}
        self._values = CrateValues(store, lineage, self._entities)
        self._workflows = CrateWorkflows(store, lineage, self._records, self._entities)

    def filled(self) -> Any:
        """The crate of the library, with everything in it."""
        self._add_root()
        for record in self._records.values():
            self._add_action(record)
        self._workflows.add_steps()
        if self._workflows.main is not None:
            self._entities.crate.mainEntity = self._workflows.tool(self._workflows.main)
        self._entities.settle()
        return self._entities.crate

    def _add_root(self) -> None:
        root, about = self._entities.root, self._lineage.about
        jobs = f"{len(self._records)} {'job' if len(self._records) == 1 else 'jobs'}"
        what = "led to" if self._lineage.up else "was made from"
        root["name"] = f"Lineage of {about}"
        root["description"] = f"What {what} {about}, as kachery recorded it: {jobs}"
        last = max((ended(record) for record in self._records.values()), default=0.0)
        root["datePublished"] = time_text(
            last
        )  # the true one is not known, and equal ones are equal
        root["license"] = self._workflows.license()
        profiles = (self._profile(*one) for one in self._profiles())
        self._entities.relate(root, "conformsTo", profiles)
        if self._workflows.main is not None:
            basis = {"@id": f"https://w3id.org/ro/crate/{_ROCRATE}"}
            self._entities.crate.metadata["conformsTo"] = [basis, {"@id": _WORKFLOW_CRATE}]
        text = f"# {root['name']}\n\n{root['description']}.\n\n{NO_LICENSE}.\n"
        told = {"about": root, "encodingFormat": "text/markdown", "name": "README"}
        self._entities.add_file("README.md", text.encode(), told)

    def _profiles(self) -> list[tuple[str, str, str]]:
        """Address, name and version of the profiles that the crate follows."""
        is_workflow = self._workflows.main is not None
        names = ("process", "workflow", "provenance") if is_workflow else ("process",)
        found = [
            (
                f"{_PROFILES}/{name}/{_PROFILE_VERSION}",
                f"{name.title()} Run Crate",
                _PROFILE_VERSION,
            )
            for name in names
        ]
        return found + [(_WORKFLOW_CRATE, "Workflow RO-Crate", "1.0")] * is_workflow

    def _profile(self, uri: str, name: str, version: str) -> Any:
        told = {"@type": "CreativeWork", "name": name, "version": version}
        return self._entities.add(uri, told)

    def _add_action(self, record: Record) -> None:
        """A run of a job."""
        entities, person = self._entities, self._workflows.person(record)
        action = {
            "@type": "CreateAction",
            "name": f"Run of {record.task}",
            "description": self._told(record),
            "instrument": self._workflows.tool(record),
            "agent": person,
            "startTime": time_text(record.started),
            "endTime": time_text(ended(record)),
            "actionStatus": f"http://schema.org/{_STATUS[record.is_error]}",
        }
        if record.is_error:
            action["error"] = record.result.type
        added = entities.add(record.uri, action)
        for use in self._uses.of(record):
            found = self._values.taken(use)
            self._realizes(found, record, use.parameter)
            entities.relate(added, "object", [found, *self._values.files(use.files)])
        made = self._values.made(record)
        self._realizes(made, record, None)
        entities.relate(added, "result", [made, *self._values.files_made(record)])
        entities.relate(entities.root, "mentions", [added])
        entities.relate(entities.root, "author", [person])

    def _told(self, record: Record) -> str:
        call = call_text(record.task, {name: summary for name, _, summary in record.arguments})
        where = f"on {record.host}, Python {record.python}, kachery {record.kachery}"
        where += f", {record.cpu_seconds:.3g} s of CPU" if record.cpu_seconds else ""
        where += f", at most {record.peak_memory} bytes of memory" if record.peak_memory else ""
        where += _git(environment_at(self._store, record.environment))
        signers = self._lineage.jobs[record.job_id].signers
        signed = f"; its record is signed by {', '.join(signers)}" if signers else ""
        return f"{call}, {record.seconds:.3g} s {where}{signed}"

    def _realizes(self, entity: Any, record: Record, name: str | None) -> None:
        """Note of which parameter a value was one; None: of what the task returns.

        What is only referred to cannot tell that.
        """
        if entity.type == "CreativeWork":
            return
        role, told = ("output", "result") if name is None else ("input", name)
        place = reference(":".join((*tool_of(record), told)))
        formal = self._entities.add(f"#{role}-{place}", {"@type": "FormalParameter", "name": told})
        self._entities.relate(self._workflows.tool(record), role, [formal])
        self._entities.relate(entity, "exampleOfWork", [formal])
        self._entities.relate(formal, "workExample", [entity])
        self._entities.relate(formal, "additionalType", [self._values.type_of(entity)])


def _git(environment: dict[str, Any] | None) -> str:
    """The commit that a job's code was at, in words."""
    git = (environment or {}).get("git")
    if not git:
        return ""
    return f", git commit {git['commit']}{' with changes' if git['dirty'] else ''}"
