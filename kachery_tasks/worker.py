"""What a worker does with an order."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cloudpickle

from kachery_store import Store
from kachery_store.errors import KacheryError
from kachery_store.store import default_root

from .cache import ABSENT, Outcome, Unusable, private, value_of
from .code import changes, syntax_known
from .definition import Definition
from .environment import at_worker
from .errors import CodeMismatch
from .inputs import Filling, filled
from .kept_code import kept_code
from .names import main_known_as
from .orders import Order, Stand, Standing, ValueKept, mark_of
from .project import rule_known
from .purity import asked_by
from .runs import run_submitted
from .settings import Settings, applied
from .trust import acting_for


def carry_out(order: Order, inputs: Sequence[Outcome] = ()) -> Outcome:
    """Do one job on a worker: check the code, get the inputs, look up or compute, commit."""
    told = _standing(order.standing)
    with main_known_as(told.main), rule_known(told.rule), syntax_known(told.syntax):
        settings = _settings(_root_here(told), told)
        with (
            applied(settings),
            acting_for(told.credentials),
            at_worker(_dask_worker()),
            asked_by(order.parent),
        ):
            return _carried_out(order, told, settings, inputs)


def _dask_worker() -> str:
    """The address of the Dask worker that this is, or nothing."""
    distributed = sys.modules.get("distributed")
    try:
        return "" if distributed is None else str(distributed.get_worker().address)
    except (AttributeError, ValueError):  # one that is being imported; no worker
        return ""


def value_here(standing: bytes, outcome: Outcome) -> Any:
    """The value of an outcome, on a worker."""
    told = _standing(standing)
    if outcome.value is not ABSENT:
        return outcome.value
    with main_known_as(told.main), rule_known(told.rule), syntax_known(told.syntax):
        settings = _settings(_root_here(told), told)
        with applied(settings), acting_for(told.credentials):
            return value_of(settings.store, outcome)


def as_outcome(value: Any) -> Outcome:
    """What stands for the outcome of a job, of a value that Dask computed."""
    return Outcome(None, value)


def _carried_out(
    order: Order, told: Standing, settings: Settings, inputs: Sequence[Outcome]
) -> Outcome:
    definition = _load_definition(told)
    _check_code(settings.store, definition, told)
    outcomes = {**order.known, **dict(zip(order.inputs, inputs, strict=True))}
    arguments, addresses = cloudpickle.loads(order.arguments), None
    if order.opened:
        how = Filling(
            settings.store,
            (Stand,),
            lambda stand: outcomes[stand.key],
            lambda stand: _input_value(settings.store, outcomes, stand.key),
            told.strict,
        )
        arguments, addresses = filled(definition, arguments, order.key, order.opened, how)
    try:
        outcome = run_submitted(
            settings.store,
            definition,
            arguments,
            expected=None if order.opened else order.key,
            strict=told.strict,
            addresses=addresses,
        )
    except SystemExit as error:  # it would end the worker
        raise RuntimeError(f"{told.task} called sys.exit({error.code!r})") from error
    if outcome.record is None:
        return _sendable(outcome, told)
    if not order.keep_value or outcome.warning is not None:
        return Outcome(outcome.record, warning=outcome.warning)
    value = outcome.value
    return ValueKept(
        outcome.record, value_of(settings.store, outcome) if value is ABSENT else value
    )


@lru_cache(maxsize=256)
def _standing(pickled: bytes) -> Standing:
    standing: Standing = cloudpickle.loads(pickled)
    return standing


@lru_cache(maxsize=256)
def _definition_by_value(pickled: bytes) -> Definition:
    definition: Definition = cloudpickle.loads(pickled)
    return definition


def _settings(root: str, told: Standing) -> Settings:
    return Settings(root, told.zone, None, told.strict, told.refresh, told.read_only)


def _root_here(told: Standing) -> str:
    """The folder of the client's store; with a zone, this machine's own if that is not to be had."""
    if told.mark is not None and mark_of(told.root) == told.mark:
        return told.root
    if told.zone is not None:
        return os.path.abspath(default_root())
    raise KacheryError(
        f"the store of the client, {told.root}, is not to be found on {socket.gethostname()} (process"
        f" {os.getpid()}), so the result of {told.task} would be lost. Nothing was computed. Let the"
        " workers mount that folder under the same path, or put a zone in force that both can reach"
    )


def _sendable(outcome: Outcome, told: Standing) -> Outcome:
    try:
        cloudpickle.dumps(outcome.value)
    except Exception as error:
        raise KacheryError(
            f"the result of {told.task} can neither be stored nor sent back from the worker:"
            f" {outcome.warning}; {error}"
        ) from error
    return outcome


def _input_value(store: Store, outcomes: dict[str, Outcome], key: str) -> Any:
    # From the store every job gets a copy of its own, so that none sees what another one changed.
    outcome = outcomes[key]
    try:
        return value_of(store, outcome)
    except Unusable:
        if outcome.value is ABSENT:
            raise
        outcomes[key] = Outcome(None, outcome.value)
        return private(outcome.value)


def _load_definition(told: Standing) -> Definition:
    if told.by_value:
        return _definition_by_value(told.definition)
    try:
        definition: Definition = cloudpickle.loads(told.definition)
    except (ImportError, AttributeError) as error:
        raise CodeMismatch(
            f"the worker on {socket.gethostname()} does not have the task's module: {error}."
            " Install it there, or start the workers where it can be imported"
        ) from error
    return definition


def _check_code(store: Store, definition: Definition, told: Standing) -> None:
    """Refuse to run anything but the code that the client's job id stands for."""
    here = definition.fingerprint()
    if here.digest == told.fingerprint:
        return
    client = kept_code(store, told.fingerprint)
    differing = [] if client is None else [one.what for one in changes(here.description, client)]
    raise CodeMismatch(
        f"{definition.name}: the code of {', '.join(differing) or 'the task'} on the worker"
        f" {socket.gethostname()} (process {os.getpid()}, {definition.function.__code__.co_filename})"
        " is not the client's. Nothing was computed. Restart the workers (client.restart()), or"
        " bring both to the same version of the code"
    )
