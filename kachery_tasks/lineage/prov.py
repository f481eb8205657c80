"""A lineage as W3C PROV-JSON (docs/lineage-exports.md)."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from kachery_store import Store
from kachery_store.errors import Unsupported

from ..environment import environment_at
from ..record import Record
from ..summary import call_text
from .makers import Use, Uses, ended, makers, records_in_order
from .model import CHILD, MUTABLE, Lineage

# What the names in the document stand for; they are part of what users rely on.
NAMESPACES = {
    "job": "job://",
    "blake3": "blake3://",
    "sha1": "sha1://",
    "sha256": "sha256://",
    "kachery": "urn:kachery:term:",
    "code": "urn:kachery:code:",
    "key": "urn:kachery:key:",
    "made": "urn:kachery:made:",
    "mutable": "urn:kachery:mutable:",
    "record": "urn:kachery:record:",
    "secret": "urn:kachery:secret:",
    "user": "urn:kachery:user:",
}

_KINDS = {"task": "kachery:Task", "query": "kachery:Query", "action": "kachery:Action"}


def prov(store: Store, lineage: Lineage) -> str:
    """The PROV-JSON text of a lineage: jobs are activities, values entities, users and signers agents.

    Equal lineages give equal texts. Raises Unsupported when the library `prov` is not installed.
    """
    document = _Document(store, lineage)
    for name in sorted(lineage.inputs):
        document.add_input(name)
    for job_id in sorted(job_id for job_id, node in lineage.jobs.items() if node.record is None):
        document.add_lost(job_id)
    for record in records_in_order(lineage):
        document.add_job(record)
    document.add_links()
    return document.text()


class _Document:
    """A document of the library, and what has been said in it."""

    def __init__(self, store: Store, lineage: Lineage) -> None:
        self._store = store
        self._lineage = lineage
        self._makers = makers(lineage)
        self._uses = Uses(lineage)
        self._said: set[tuple[str, ...]] = set()
        self._document = _model().ProvDocument()
        for prefix, uri in NAMESPACES.items():
            self._document.add_namespace(prefix, uri)

    def text(self) -> str:
        """All of it, as JSON."""
        text = self._document.serialize(format="json")
        return json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False) + "\n"

    def add_input(self, name: str) -> None:
        """Something that no job made."""
        kind = "kachery:Mutable" if name.startswith("mutable:") else "kachery:Input"
        self._entity(_input_name(name), kind, self._lineage.inputs[name].summary)

    def add_lost(self, job_id: str) -> None:
        """A job that is only named."""
        label = "a job whose record is gone"
        self._document.activity(f"job:{job_id}", None, None, {"prov:label": label})

    def add_job(self, record: Record) -> None:
        """A job, who ran it with which code, what it took, and what it made."""
        job = f"job:{record.job_id}"
        facts = _facts(record) | _git(environment_at(self._store, record.environment))
        self._document.activity(job, _time(record.started), _time(ended(record)), facts)
        self._add_plan(record, job)
        self._add_result(record, job)
        for use in self._uses.of(record):
            self._add_use(use, job)
        self._add_signers(record, job)

    def _add_plan(self, record: Record, job: str) -> None:
        code = f"code:{record.fingerprint}/{quote(record.task, safe='')}"
        facts = {"kachery:task": record.task, "kachery:version": record.version}
        self._entity(code, "prov:Plan", record.task, facts)
        user = f"user:{quote(f'{record.user}@{record.host}', safe='')}"
        if self._is_new("agent", user):
            label = {"prov:label": f"{record.user} at {record.host}", "prov:type": _name("Person")}
            self._document.agent(user, label)
        self._document.association(job, user, code, None, {"prov:role": "runs"})

    def _add_result(self, record: Record, job: str) -> None:
        result = record.result
        value = f"blake3:{result.address.hex()}"
        kind = "kachery:Exception" if record.is_error else "kachery:Value"
        facts = {"kachery:type": result.type, "kachery:size": result.size}
        self._entity(value, kind, result.type, facts)
        made = value
        if self._makers.get(result.address.hex()) != record.job_id:  # it was there before
            made = f"made:{record.job_id}"
            self._entity(made, kind, result.type, facts)
            self._document.alternate(made, value)
        role = {"prov:role": "result"}
        self._document.generation(made, job, _time(ended(record)), None, role)

    def _add_use(self, use: Use, job: str) -> None:
        value = f"blake3:{use.address}"
        if use.address:
            self._entity(value, "kachery:Value", use.summary)
        elif not use.sources:
            value = f"secret:{use.job_id}/{quote(use.parameter, safe='')}"
            self._entity(value, "kachery:Secret", "a value that was not to be told")
        if use.address or not use.sources:
            self._use(job, value, use.parameter)
        for source in use.sources:
            made = self._lineage.jobs[source].record
            name = f"blake3:{made.result.address.hex()}" if made is not None else None
            if name is None or name == value:
                continue
            if use.address:
                self._derived(value, name)
            else:
                self._use(job, name, use.parameter)
        for file in use.files:
            self._use(job, _input_name(file), use.parameter)

    def _add_signers(self, record: Record, job: str) -> None:
        for key in self._lineage.jobs[record.job_id].signers:
            told = f"record:{record.job_id}"
            if self._is_new("signed", told):
                self._entity(told, "kachery:Record", f"the record of {record.task}")
                self._document.generation(told, job, None, None, {"prov:role": "record"})
            if self._is_new("agent", key):
                label = {"prov:label": f"the key {key}", "prov:type": _name("kachery:Key")}
                self._document.agent(f"key:{key}", label)
            self._document.attribution(told, f"key:{key}")

    def add_links(self) -> None:
        """Jobs that used what others gave while they ran, and the mutables that they read."""
        for link in sorted(self._lineage.links):
            if link.role == CHILD and link.source in self._lineage.jobs:
                self._document.communication(f"job:{link.target}", f"job:{link.source}")
            elif link.role == MUTABLE:
                self._use(f"job:{link.target}", _input_name(link.source), "mutable")

    def _entity(
        self, name: str, kind: str, label: str, facts: dict[str, Any] | None = None
    ) -> None:
        if self._is_new("entity", name):
            told = {"prov:type": _name(kind), "prov:label": label, **(facts or {})}
            self._document.entity(name, _told(told.items()))

    def _use(self, job: str, value: str, role: str) -> None:
        if self._is_new("use", job, value, role):
            self._document.usage(job, value, None, None, {"prov:role": role})

    def _derived(self, value: str, source: str) -> None:
        if self._is_new("derived", value, source):
            self._document.derivation(value, source)

    def _is_new(self, *what: str) -> bool:
        known = what in self._said
        self._said.add(what)
        return not known


def _facts(record: Record) -> dict[str, Any]:
    """What is told of a job."""
    call = call_text(record.task, {name: summary for name, _, summary in record.arguments})
    facts = {
        "prov:type": _name(_KINDS.get(record.kind, "kachery:Task")),
        "prov:label": call,
        "kachery:task": record.task,
        "kachery:version": record.version,
        "kachery:fingerprint": record.fingerprint,
        "kachery:status": record.status,
        "kachery:host": record.host,
        "kachery:python": record.python,
        "kachery:kachery": record.kachery,
        "kachery:cpuSeconds": record.cpu_seconds,
        "kachery:peakMemory": record.peak_memory,
        "kachery:attempt": record.attempt,
        "kachery:worker": record.worker,
    }
    return _told(facts.items())


def _git(environment: dict[str, Any] | None) -> dict[str, Any]:
    """The commit that a job's code was at, and whether there were changes beside it."""
    git = (environment or {}).get("git")
    return {"kachery:commit": git["commit"], "kachery:dirty": git["dirty"]} if git else {}


def _told(facts: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in facts if value not in (None, "")}


def _input_name(name: str) -> str:
    """An input's name in the document: a value by its address, a file by its digest, a mutable."""
    if name.startswith("mutable:"):
        return f"mutable:{quote(name.removeprefix('mutable:'), safe='')}"
    scheme, separator, rest = name.partition("?")[0].partition("://")
    if not separator:
        return f"blake3:{name}"
    return f"{scheme}:{rest}" if scheme in NAMESPACES else f"kachery:{quote(name, safe='')}"


def _time(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _name(text: str) -> Any:
    """A qualified name: what is a type is no text."""
    model = _model()
    prefix, _, local = text.rpartition(":")
    if prefix == "kachery":
        return model.Namespace("kachery", NAMESPACES["kachery"])[local]
    return model.PROV[local]


def _model() -> Any:
    try:
        import prov.model
    except ImportError as error:
        raise Unsupported(
            "PROV-JSON needs the package prov: pip install 'kachery[provenance]'"
        ) from error
    return prov.model
