"""What another process is told about a job; worker.py carries it out."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import cloudpickle

from kachery_store.zone_settings import ZoneSettings

from .cache import Outcome
from .code import callable_fingerprint, class_fingerprint
from .commit import codes_among
from .definition import TASK, Definition
from .foreign import Foreign
from .graph import inputs_first
from .job import Job
from .kept_code import keep_code
from .names import find_class, main_name
from .project import Rule, rule
from .purity import parent_job
from .settings import Settings
from .trust import Credentials, credentials
from .values import Made, recall, remember

_LAYOUT = "layout.json"  # written when a store is made, and then left alone


class Standing(NamedTuple):
    """What is the same for many jobs of one task.

    The code: `definition` pickled, `by_value` or as a reference to its module; `fingerprint` and
    `syntax` as the client has them; `main`, the name of the client's `__main__`; `rule`, what counts
    as the project there. The settings: `root` and `mark` say which folder the client's store is;
    `credentials`, which are secret, are told where there is a zone.
    """

    task: str
    definition: bytes
    by_value: bool
    fingerprint: str
    syntax: dict[str, str]
    main: str
    rule: Rule
    root: str
    mark: int | None
    zone: ZoneSettings | None
    credentials: Credentials | None
    strict: bool
    refresh: bool | frozenset[str]
    read_only: bool


@dataclass(slots=True)
class Order:
    """What a worker is told about one job.

    `standing` is a Standing, pickled, so that a scheduler holds it once. The arguments are pickled,
    with Stands for jobs in the parameters `opened`: `inputs` are the keys of those whose outcomes come
    with the order, `known` the outcomes of others. `parent` is the id of the job that asks for this one
    while it runs, if one does. Of arguments, which may be secret, nothing shows in logs.
    """

    key: str
    standing: bytes = field(repr=False)
    arguments: bytes = field(repr=False)
    inputs: list[str] = field(repr=False)
    known: dict[str, Outcome] = field(repr=False)
    opened: list[str] = field(repr=False)
    keep_value: bool = field(repr=False)
    parent: str = field(repr=False)

    def __dask_tokenize__(self) -> str:
        return self.key  # Dask names the whole graph by what is in it


class Stand:
    """Stands for a job among the arguments of another one, on the way to a worker."""

    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        self.key = key


class ValueKept(Outcome):
    """An outcome whose record is stored, and whose value stays where it is: do not fetch it."""

    __slots__ = ()


class Orders:
    """Writes the orders of jobs that are started together."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._standing: WeakKeyDictionary[Definition, tuple[Standing, bytes]] = WeakKeyDictionary()
        self._syntax: WeakKeyDictionary[Job, Mapping[str, str]] = WeakKeyDictionary()
        self._kept: set[str] = set()
        self._same: dict[str, Any] = {}

    def begin(self) -> None:
        """Look at the settings and the names in force: they are the same for what is started now."""
        settings = self._settings
        self._kept.clear()
        self._same = {
            "main": main_name(),
            "rule": rule(),
            "root": settings.root,
            "zone": (zone := settings.zone_settings()),
            "credentials": None if zone is None else credentials(signing=not zone.read_only),
            "strict": settings.strict,
            "refresh": settings.refresh,
            "read_only": settings.read_only,
        }

    def order(
        self, job: Job, inputs: list[str], known: dict[str, Outcome], *, keep_value: bool
    ) -> Order:
        """The order for a job: `inputs` and `known` together are the jobs among its arguments."""
        stands = {one.key: Stand(one.key) for one in job.inputs}
        return Order(
            key=job.key,
            standing=self.standing(job),
            arguments=_pickled(job.substituted(lambda one: stands[one.key])),
            inputs=inputs,
            known=known,
            opened=job.opened,
            keep_value=keep_value and job.definition.kind == TASK,
            parent=parent_job(),
        )

    def standing(self, job: Job) -> bytes:
        """The Standing of a job's task, pickled."""
        definition = job.definition
        code = definition.fingerprint()
        told = [code, *(one for _, one in codes_among(definition.package, *job.told))]
        new = [one for one in told if one.digest not in self._kept]
        keep_code(self._settings.store, new)  # workers may lack the source
        self._kept.update(one.digest for one in new)
        syntax = dict(self._main_syntax(job))
        last, pickled = self._standing.get(definition, (None, b""))
        # With `version=` the fingerprint says nothing of the code that is to run.
        same_code = (
            last is not None and last.fingerprint == code.digest and definition.version is None
        )
        standing = Standing(
            task=definition.name,
            definition=last.definition if last and same_code else cloudpickle.dumps(definition),
            by_value=last.by_value if last and same_code else not definition.importable,
            fingerprint=code.digest,
            syntax=syntax,
            mark=mark_of(self._settings.root),
            **self._same,
        )
        if standing != last:
            pickled = cloudpickle.dumps(standing)
            self._standing[definition] = (standing, pickled)
        return pickled

    def _main_syntax(self, job: Job) -> Mapping[str, str]:
        """What a worker must be told of `__main__`: of the task, of classes that inputs may bring."""
        for one in inputs_first([job], without=self._syntax.__contains__):
            parts = {id(part): part for part in (self._syntax[each] for each in one.inputs)}
            parts_own = _own_syntax(one)
            if len(parts) == 1 and parts_own.items() <= next(iter(parts.values())).items():
                self._syntax[one] = next(iter(parts.values()))  # shared: a chain may be long
            else:
                merged: dict[str, str] = {}
                for part in (*parts.values(), parts_own):
                    merged |= part
                self._syntax[one] = merged
        brought = {
            name
            for one in job.inputs
            if one.future is not None and (record := one.record) is not None
            for name, _ in record.result.classes
        }
        return (
            {**self._syntax[job], **_syntax_of_classes(brought)} if brought else self._syntax[job]
        )


def _own_syntax(job: Job) -> dict[str, str]:
    if isinstance(job, Foreign):
        return {}
    syntax = dict(job.definition.fingerprint().main_syntax)
    for value in job.callables:
        syntax |= callable_fingerprint(value).main_syntax
    return syntax | _syntax_of_classes({name for name, _ in job.classes})


def _syntax_of_classes(names: set[str]) -> dict[str, str]:
    syntax: dict[str, str] = {}
    for name in names:
        cls = find_class(name)
        code = None if cls is None else class_fingerprint(cls)
        syntax |= {} if code is None else code.main_syntax
    return syntax


def mark_of(root: str) -> int | None:
    """What tells the store in a folder from one that has the same path on another machine."""
    try:
        return os.stat(os.path.join(root, _LAYOUT)).st_mtime_ns
    except OSError:  # no store, or not one that can be reached from here
        return None


class _ArgumentPickler(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Tells of opaque values which job made them, so that a worker knows it, too."""

    def reducer_override(self, value: Any) -> Any:
        opaque = recall(value)
        if opaque is None:
            return super().reducer_override(value)
        return _remembered, (opaque.made, opaque.pickled)


def _pickled(arguments: Any) -> bytes:
    file = io.BytesIO()
    _ArgumentPickler(file).dump(arguments)
    return file.getvalue()


def _remembered(made: Made, data: bytes) -> Any:
    value = cloudpickle.loads(data)
    remember(value, made)
    return value
