"""Who asked for what, in an RO-Crate: tools, workflows, their steps, and the runs of those."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any

from kachery_store import Store

from ..kept_code import kept_code
from ..record import Record
from .crate_entities import CrateEntities, reference
from .makers import ended
from .model import CHILD, Lineage

NO_LICENSE = "Nobody has stated a license: ask those who ran the jobs before you use this"


class CrateWorkflows:
    """Adds tools and workflows. `main`: the job whose code is the main workflow, or None.

    `records`: by job id, in the order in which the jobs were done.
    """

    def __init__(
        self,
        store: Store,
        lineage: Lineage,
        records: Mapping[str, Record],
        entities: CrateEntities,
    ) -> None:
        self._store = store
        self._records = records
        self._entities = entities
        self._children = _children_of(lineage, records)
        self._orchestrating = {tool_of(records[job_id]) for job_id in self._children}
        self.main = self._main_workflow(lineage)

    def _main_workflow(self, lineage: Lineage) -> Record | None:
        """The asked job, if it asked for others; else the last one that did."""
        asked = [job_id for job_id in lineage.asked if job_id in self._children]
        last = [job_id for job_id in self._records if job_id in self._children]
        chosen = [*asked[:1], *last[-1:]]
        return self._records[chosen[0]] if chosen else None

    def add_steps(self) -> None:
        """The steps of all runs that asked for others; the actions are there."""
        for job_id, children in self._children.items():
            self._add_steps(self._records[job_id], list(children))

    def person(self, record: Record) -> Any:
        """Who ran a job: all that is known is the name of an account."""
        name = f"{record.user}@{record.host}"
        account = {"@type": "Person", "name": record.user, "identifier": name}
        return self._entities.add(f"#user-{reference(name)}", account)

    def license(self) -> Any:
        """What is said of the license."""
        said = {"@type": "CreativeWork", "name": "No license", "description": NO_LICENSE}
        return self._entities.add("#no-license", said)

    def tool(self, record: Record) -> Any:
        """What ran: a task with this code."""
        if tool_of(record) in self._orchestrating:
            return self._workflow(record)
        return self._entities.add(
            f"urn:kachery:task:{reference(record.task)}:{record.fingerprint}",
            {
                "@type": "SoftwareApplication",
                "name": record.task,
                "softwareVersion": record.version or record.fingerprint,
                "identifier": record.fingerprint,
            },
        )

    def _workflow(self, record: Record) -> Any:
        """A task whose function asks for other jobs, with the source of what it runs."""
        name = re.sub("[^A-Za-z0-9_.-]", "_", record.task)
        path = f"code/{name}-{record.fingerprint[:16]}.py"
        known = self._entities.get(path)
        if known is not None:
            return known
        python = {"@type": "ComputerLanguage", "name": "Python", "url": "https://www.python.org/"}
        properties = {
            "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
            "name": record.task,
            "version": record.version or record.fingerprint,
            "identifier": record.fingerprint,
            "encodingFormat": "text/x-python",
            "programmingLanguage": self._entities.add("#python", python),
            "license": self.license(),
            "creator": self.person(record),
        }
        return self._entities.add_file(path, self._source(record).encode(), properties)

    def _source(self, record: Record) -> str:
        """The text of all functions and classes that the task reaches, as far as it was kept."""
        head = f"# The code of {record.task}, which kachery knows as {record.fingerprint}.\n"
        code = kept_code(self._store, record.fingerprint)
        if code is None or not code.sources:
            return f"{head}# Its source was not kept.\n"
        texts = (
            f"\n# {label}\n{code.sources[syntax]}"
            for label, (_, facts) in zip(code.labels(), code.nodes, strict=True)
            if isinstance(facts, dict) and (syntax := facts.get("syntax")) in code.sources
        )
        return head + "".join(text if text.endswith("\n") else f"{text}\n" for text in texts)

    def _add_steps(self, parent: Record, children: list[str]) -> None:
        """The steps of a run that asked for other jobs, and who saw to it that they ran."""
        entities = self._entities
        workflow = self.tool(parent)
        controls = [self._control(workflow, parent, self._records[child]) for child in children]
        organized = entities.add(
            f"#organize-{parent.job_id}",
            {
                "@type": "OrganizeAction",
                "name": f"Run of kachery {parent.kachery} for {parent.task}",
                "instrument": self._engine(parent.kachery),
                "result": entities.get(parent.uri),
                "agent": self.person(parent),
                "startTime": time_text(parent.started),
                "endTime": time_text(ended(parent)),
            },
        )
        entities.relate(organized, "object", controls)
        entities.relate(entities.root, "mentions", [organized])

    def _engine(self, version: str) -> Any:
        site = "https://pypi.org/project/kachery/"
        told = {"@type": "SoftwareApplication", "name": "kachery", "url": site}
        return self._entities.add(f"{site}{version}/", {**told, "softwareVersion": version})

    def _control(self, workflow: Any, parent: Record, child: Record) -> Any:
        tool = self.tool(child)
        self._entities.relate(workflow, "hasPart", [tool])
        action = {
            "@type": "ControlAction",
            "name": f"{parent.task} asks for {child.task}",
            "instrument": self._step(workflow, parent, child, tool),
            "object": self._entities.get(child.uri),
        }
        return self._entities.add(f"#control-{parent.job_id}-{child.job_id}", action)

    def _step(self, workflow: Any, parent: Record, child: Record, tool: Any) -> Any:
        """The step of a workflow that asks for this code, in the order in which they were asked for."""
        name = f"#step-{reference(':'.join((*tool_of(parent), *tool_of(child))))}"
        if self._entities.get(name) is None:
            position = str(len(self._entities.related(workflow, "step")))
            told = {"@type": "HowToStep", "name": child.task, "workExample": tool}
            step = self._entities.add(name, {**told, "position": position})
            self._entities.relate(workflow, "step", [step])
        return self._entities.get(name)


def _children_of(lineage: Lineage, records: Mapping[str, Record]) -> dict[str, dict[str, None]]:
    """For each job that asked for others while it ran: those, as far as they are told."""
    found: dict[str, dict[str, None]] = {}
    for link in lineage.links:
        if link.role == CHILD and link.source in records and link.target in records:
            found.setdefault(link.target, {})[link.source] = None
    return found


def tool_of(record: Record) -> tuple[str, str]:
    """Which code a job ran, under which name."""
    return record.task, record.fingerprint


def time_text(seconds: float) -> str:
    """A moment, as the profiles want it."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds")
