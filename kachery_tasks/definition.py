"""What a decorated function is: its name, its options, its code as it is now."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from .binding import Parameters
from .code import Fingerprint, fingerprint_of, package_of
from .names import MAIN_NAMES, qualified_name
from .policy import Policy, declare_errors

TASK, QUERY, ACTION = "task", "query", "action"
RETURN = "return"  # how `opaque=` names the result, as annotations do


class Definition:
    """A function made into a task.

    `kind` is TASK, QUERY or ACTION; `name` is the import path unless it was given. `ignore` are the
    parameters left out of the identity, `secret` those of which a record keeps nothing, `opaque`
    those for which pickle is allowed ("return" is the result), `depends` the installed distributions
    whose versions are part of the identity. `allow` are the queries that a task may ask; it is no
    part of the identity, and neither is `policy`.
    """

    def __init__(
        self,
        function: FunctionType,
        *,
        kind: str,
        name: str | None = None,
        version: str | None = None,
        ignore: tuple[str, ...] = (),
        depends: tuple[str, ...] = (),
        opaque: tuple[str, ...] = (),
        secret: tuple[str, ...] = (),
        allow: tuple[str, ...] = (),
        policy: Policy = Policy(),  # noqa: B008 - it is never changed
    ) -> None:
        self.function = function
        self.kind = kind
        self.version = version
        self.ignore = ignore
        self.depends = depends
        self.opaque = opaque
        self.secret = secret
        self.allow = allow
        self.policy = policy
        self._name = name
        if name is None and function.__module__ not in MAIN_NAMES:
            self._name = qualified_name(function)
        self._prepare()

    def _prepare(self) -> None:
        self.parameters = self._parameters()
        self.is_async = inspect.iscoroutinefunction(self.function)
        self._check_names("ignore", self.ignore, ())
        self._check_names("secret", self.secret, ())
        self._check_names("opaque", self.opaque, (RETURN,))
        self.package = package_of(self.function)
        self.identifying = tuple(n for n in self.parameters.names if n not in self.ignore)
        self._fingerprint: Fingerprint | None = None
        declare_errors(self.policy.cache_errors)

    def _parameters(self) -> Parameters:
        return Parameters(self.function)

    def _check_names(self, option: str, names: tuple[str, ...], also: tuple[str, ...]) -> None:
        unknown = sorted(set(names) - {*self.parameters.names, *also})
        if unknown:
            raise ValueError(
                f"{option}= names {', '.join(map(repr, unknown))}, but the parameters of"
                f" {self.function.__qualname__} are"
                f" {', '.join((*self.parameters.names, *also)) or 'none'}"
            )

    @property
    def name(self) -> str:
        """The task's name: given, or `module:qualname`."""
        if self._name is None:
            return qualified_name(self.function)  # what `__main__` is called can change
        return self._name

    @property
    def called(self) -> Callable[..., Any]:
        """What was decorated: the function, unless that only stands for it."""
        return self.function

    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the code as it is at this moment."""
        known = self._fingerprint
        if known is None or not known.guards.hold():
            known = self._fingerprint = fingerprint_of(
                self.function,
                version=self.version,
                depends=self.depends,
                ignore=self.ignore,
                secret=self.secret,
            )
        return known

    @property
    def importable(self) -> bool:
        """Whether another process can find this task by importing its module."""
        module = self.function.__module__
        if module in MAIN_NAMES or "<locals>" in self.function.__qualname__:
            return False
        return _definition_at(sys.modules.get(module), self.function.__qualname__) is self

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.importable:
            return import_definition, (self.function.__module__, self.function.__qualname__)
        return super().__reduce_ex__(protocol)

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for derived in ("_fingerprint", "parameters", "identifying", "package", "is_async"):
            state.pop(derived, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._prepare()


def import_definition(module: str, qualname: str) -> Definition:
    """The definition of the task of that name; ImportError or AttributeError when it is not there."""
    found = _definition_at(importlib.import_module(module), qualname)
    if found is None:
        raise AttributeError(f"{module} has no task {qualname}")
    return found


def _definition_at(module: ModuleType | None, qualname: str) -> Definition | None:
    found: Any = module
    for name in qualname.split("."):
        found = getattr(found, name, None)
    definition = getattr(found, "definition", None)
    return definition if isinstance(definition, Definition) else None
