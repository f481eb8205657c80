"""Whose records count: what enters a zone is signed, and what comes from there is looked at first.

Whoever can write to a zone can write anything there. So a record counts only when a key that the user
trusts signed it, for this job; a pickle, which can run any code, only when the key is trusted for that,
too. Everything else is a miss, and said once. What came into the local store keeps its signatures:
when a key is trusted no longer, what it signed counts no longer (docs/trust.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from kachery_store import Store
from kachery_store.border import Border, Refusal
from kachery_store.errors import BadKey, DigestMismatch, StoreTooNew, StoreUnavailable, ZoneWarning
from kachery_store.identity import Delegated, Identity, delegated, identity, is_given, own_identity
from kachery_store.saying import warn
from kachery_store.signing import user_folder

from .claims import Step, Witness
from .record import Record, wrong_field
from .sealed import Signature, is_signed, same_seal, signatures_of, signed, signers_of
from .trusted_keys import Trusted, date_text, trusted_keys

_SLACK = 3600.0  # seconds by which the clocks of workers may be ahead
_RECORDS = ("jobs", "differing")
_MOST_SHOWN = 80  # characters of what somebody else has written


class Credentials(NamedTuple):
    """What a worker needs to sign in the user's place, and to know whom the user trusts.

    `own`: the user's public key, or None; `delegated`: None where nothing is to be signed.
    """

    own: bytes | None
    delegated: Delegated | None
    trusted: tuple[Trusted, ...]


_acting: ContextVar[Credentials | None] = ContextVar("kachery_credentials", default=None)


def credentials(*, signing: bool) -> Credentials:
    """Those of this user, for workers; `signing`: which write to the zone. BadKey, StoreUnavailable."""
    told = _acting.get()
    if told is not None:
        return told
    own = own_identity() if signing else identity()
    return Credentials(
        None if own is None else own.public, delegated() if signing else None, trusted_keys()
    )


@contextmanager
def acting_for(told: Credentials | None) -> Iterator[None]:
    """On a worker: sign and trust as the user does who has sent these, if any, and not as its own user.

    A worker whose environment has an identity of its own (KACHERY_IDENTITY) signs with that.
    """
    reset = _acting.set(told)
    try:
        yield
    finally:
        _acting.reset(reset)


class Trust(Border):
    """Signs the records that enter a zone, and says what speaks against those that come from there."""

    knows_records = True

    def __init__(self, zone: str) -> None:
        self._zone = zone

    def outgoing(self, folder: str, name: str, data: bytes) -> bytes:  # noqa: ARG002
        """As of Border; records are signed. StoreUnavailable without a key that can be used."""
        return outgoing(data) if folder in _RECORDS else data

    def is_same(self, one: bytes, other: bytes) -> bool:
        """As of Border."""
        return one == other or same_seal(one, other)

    def objection(
        self, folder: str, name: str, data: bytes, *, damaged_too: bool = False
    ) -> Refusal | None:
        """As of Border. What is damaged is taken, because whoever reads it sets it aside."""
        if folder not in _RECORDS:
            return None
        try:
            return objection(name.partition("-")[0], data, self._zone)
        except DigestMismatch as error:
            return Refusal(str(error)) if damaged_too else None


class TrustedWitness(Witness):
    """Signs the steps of actions that go to a zone, and believes those of trusted keys."""

    def __init__(self, zone: str) -> None:
        self._zone = zone

    def signed(self, data: bytes) -> bytes:
        """As of Witness."""
        return outgoing(data)

    def doubt(self, step: Step, data: bytes) -> str | None:
        """As of Witness."""
        try:
            found = signatures_of(data)
        except ValueError as error:
            return str(error)
        why = refusal(
            found,
            step.action,
            self._zone,
            made=step.changed,
            pickle=False,
            claimed=f"{_shown(step.user)} on {_shown(step.host)}",
        )
        return None if why is None else why.text


def outgoing(data: bytes) -> bytes:
    """A record, or a step of an action, with the user's signature. StoreUnavailable."""
    try:
        return signed(data, _signing())
    except BadKey as error:
        raise StoreUnavailable(f"nothing can be signed: {error}", place=user_folder()) from error
    except (ValueError, TypeError):  # it is damaged, which is found elsewhere
        return data


def objection(job_id: str, data: bytes, zone: str) -> Refusal | None:
    """What speaks against a record from outside, which should be that job's. DigestMismatch."""
    try:
        record = Record.of_this_store(data, job_id)
    except StoreTooNew as error:
        return Refusal(str(error))
    wrong = wrong_field(record)
    if wrong is not None:
        return Refusal(f"its {wrong} is not one")
    try:
        found = signatures_of(data)
    except ValueError as error:
        return Refusal(str(error))
    return _refusal_of(record, found, zone)


def _refusal_of(record: Record, found: Iterable[Signature], zone: str | None) -> Refusal | None:
    return refusal(
        found,
        record.task,
        zone,
        made=record.started + record.seconds,
        pickle=bool(record.result.pickles),
        claimed=f"{_shown(record.user)} on {_shown(record.host)}",
    )


def refusal(
    found: Iterable[Signature],
    task: str,
    zone: str | None,
    *,
    made: float,
    pickle: bool,
    claimed: str,
) -> Refusal | None:
    """Why none of these signatures, which fit, makes something count; None when one does.

    `task`: whose it is. `zone`: where it comes from; None: it came earlier. `made`: when, as it says
    itself. `claimed`: who made it, as it says.
    """
    why = None
    own, trusted = _own_keys(), _trusted()
    for one in found:
        if one.until is not None and made > one.until + _SLACK:
            why = _outlived(one, zone)
            continue
        if one.key in own:
            return None
        entries = [entry for entry in trusted if entry.key == one.key.hex()]
        if any(entry.covers(task, zone, pickle=pickle) for entry in entries):
            return None
        why = _not_trusted(one.key.hex(), entries, task, zone, pickle=pickle, claimed=claimed)
    return why or Refusal(
        "it is not signed, so nobody can tell who made it, and the job is computed here",
        f"unsigned {zone}",
    )


def counts(store: Store, record: Record, data: bytes, task: str | None = None) -> bool:
    """Whether a record of the local store counts now; one that does not goes from there.

    What was made here does. What came from a zone has signatures, which were checked when it came: it
    counts as long as one of those keys is trusted, and if it is of `task`, where that is given. BadKey
    when it cannot be told who is.
    """
    if not is_signed(data):
        return True
    if task is not None and record.task != task:
        store.jobs.spurn(record.job_id)
        why: Refusal | None = Refusal(f"it says that it is of {_shown(record.task)}, not of {task}")
    else:
        why = _refusal_of(record, signers_of(data), None)
    if why is None:
        return True
    store.jobs.drop(record.job_id)
    about = f"{store.root} {why.once}"
    if not why.once or about not in _told:
        warn(ZoneWarning(f"{record.uri}, which came from a zone, does not count now: {why.text}"))
    if why.once:
        _told.add(about)
    return False


_told: set[str] = set()  # what has been said of local stores


def signers(data: bytes) -> tuple[str, ...]:
    """Who signed a record of the local store: public keys in hex; none for what was made here."""
    return tuple(one.key.hex() for one in signers_of(data))


def _signing() -> Identity:
    told = _acting.get()
    if told is None or told.delegated is None or is_given():
        return own_identity()
    return told.delegated.identity()


def _own_keys() -> list[bytes]:
    told = _acting.get()
    own = identity() if told is None or is_given() else None
    keys = [None if own is None else own.public, None if told is None else told.own]
    return [key for key in keys if key is not None]


def _trusted() -> tuple[Trusted, ...]:
    told = _acting.get()
    return trusted_keys() if told is None else told.trusted


def _not_trusted(
    key: str,
    entries: list[Trusted],
    task: str,
    zone: str | None,
    *,
    pickle: bool,
    claimed: str,
) -> Refusal:
    once = f"{key} {zone} {pickle}"
    command = f"kachery trust add {key}"
    if not entries:
        return Refusal(
            f"it is signed by a key that you do not trust, {key} (it says that {claimed} made it), so"
            f" the job is computed here. If you know whose key that is: {command}",
            once,
        )
    if pickle and any(entry.covers(task, zone, pickle=False) for entry in entries):
        return Refusal(
            f"the result of {task} has a pickle in it, which can run any code when it is read, and key"
            f" {key} is not trusted for that. If you would run its owner's programs: {command} --pickle",
            once,
        )
    ended = [one.until for one in entries if one.until is not None]
    scope = f"; it was trusted until {date_text(max(ended))}" if ended else ""
    listed = "; ".join(str(one) for one in entries)
    return Refusal(
        f"it is signed by key {key}, which you trust, but not for {task} in this zone, or not any"
        f" longer{scope} (kachery trust list: {listed})",
        f"{once} {task}",
    )


def _outlived(one: Signature, zone: str | None) -> Refusal:
    until = date_text(one.until or 0)
    return Refusal(
        f"it is signed by a worker in the place of key {one.key.hex()}, which could do that until"
        f" {until}, and it was made later. Check the clocks of the workers",
        f"outlived {one.key.hex()} {zone}",
    )


def _shown(text: str) -> str:
    """What somebody else has written, harmless on a terminal."""
    return repr(text[:_MOST_SHOWN])
