"""Whose records count: what enters a zone is signed, and what comes from there is looked at first.

Whoever can write to a zone can write anything there. So a record counts only when a key that the user
trusts signed it, for this job; a pickle, which can run any code, only when the key is trusted for that,
too. Everything else is a miss, and said once. What came into the local store keeps its signatures:
when a key is trusted no longer, what it signed counts no longer (docs/trust.md).
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

from kachery_store import Store
from kachery_store.border import Border, Refusal
from kachery_store.errors import BadKey, DigestMismatch, StoreTooNew, StoreUnavailable, ZoneWarning
from kachery_store.saying import warn
from kachery_store.signing import user_folder

from .claims import Step, Witness
from .credentials import believed, own_keys, signing_identity
from .record import Record, record_in, wrong_field
from .sealed import Signature, is_signed, same_seal, signatures_of, signed, signers_of
from .trusted_keys import Trusted, date_text

_SLACK = 3600.0  # seconds by which the clocks of workers may be ahead
_RECORDS = ("jobs", "differing")
_MOST_SHOWN = 80  # characters of what somebody else has written


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

    def is_same_job(self, one: bytes, other: bytes) -> bool:
        """As of Border: a key that is trusted for some tasks only could say that of another one's."""
        first, second = record_in(one), record_in(other)
        return first.task == second.task and first.fingerprint == second.fingerprint

    def objection(
        self, folder: str, name: str, data: bytes, *, damaged_too: bool = False
    ) -> Refusal | None:
        """As of Border. What is damaged is taken, because whoever reads it sets it aside."""
        if folder not in _RECORDS:
            return None
        try:
            return objection(name.partition("-")[0], data, self._zone)
        except DigestMismatch as error:
            return Refusal(str(error), is_damage=True) if damaged_too else None


class TrustedWitness(Witness):
    """Signs the steps of an action that go to a zone, and believes those of trusted keys.

    `action`: its name, or None where only its id is known.
    """

    def __init__(self, zone: str, action: str | None) -> None:
        self._zone = zone
        self._action = action

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
            self._action,
            self._zone,
            made=step.changed,
            pickle=False,
            claimed=f"{_shown(step.user)} on {_shown(step.host)}",
        )
        return None if why is None else why.text


def outgoing(data: bytes) -> bytes:
    """A record, or a step of an action, with the user's signature. StoreUnavailable."""
    try:
        return signed(data, signing_identity())
    except BadKey as error:
        what = f"nothing can be signed: {error}"
        raise StoreUnavailable(what, errno.EACCES, user_folder()) from error
    except (ValueError, TypeError):  # it is damaged, which is found elsewhere
        return data


def objection(job_id: str, data: bytes, zone: str) -> Refusal | None:
    """What speaks against a record from outside, which should be that job's. DigestMismatch."""
    try:
        record = Record.of_this_store(data, job_id)
    except StoreTooNew as error:
        return Refusal(str(error), f"too new {zone}")
    wrong = wrong_field(record)
    if wrong is not None:
        return Refusal(f"its {wrong} is not one", f"wrong {zone}")
    try:
        found = signatures_of(data)
    except ValueError as error:
        return Refusal(str(error), f"unfit {zone}")
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
    task: str | None,
    zone: str | None,
    *,
    made: float,
    pickle: bool,
    claimed: str,
) -> Refusal | None:
    """Why none of these signatures, which fit, makes something count; None when one does.

    `task`: whose it is; None: that is not known, so who is trusted for some tasks only does not count.
    `zone`: where it comes from; None: it came earlier. `made`: when, as it says itself. `claimed`: who
    made it, as it says.
    """
    why = None
    own, trusted = own_keys(), believed()
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


class Vouched(Record):
    """A record that came from a zone, with the signatures that it had: whoever uses it asks once more
    whether they count.
    """

    signatures: tuple[Signature, ...] = ()

    def apart(self) -> Vouched:
        """As of Record."""
        vouched = Vouched(*super().apart())
        vouched.signatures = self.signatures
        return vouched


def counted(store: Store, record: Record, data: bytes, task: str | None = None) -> Record | None:
    """A record of the local store if it counts now; one that does not goes from there.

    What was made here does. What came from a zone has signatures, which were checked when it came: it
    counts as long as one of those keys is trusted, and if it is of `task`, where that is given; it is a
    Vouched then. BadKey when it cannot be told who is trusted.
    """
    if not is_signed(data):
        return record
    vouched = Vouched(*record)
    vouched.signatures = tuple(signers_of(data))
    if task is not None and record.task != task:
        why: Refusal | None = Refusal(
            f"it says that it is of {_shown(record.task)}, not of {task}", f"task {task}"
        )
        store.jobs.spurn(record.job_id)
    else:
        why = doubt(vouched)
    if why is None:
        return vouched
    store.jobs.drop(record.job_id, data)
    about = f"{store.root} {why.once}"
    if not why.once or about not in _told:
        warn(ZoneWarning(f"{record.uri}, which came from a zone, does not count now: {why.text}"))
    if why.once:
        _told.add(about)
    return None


_told: set[str] = set()  # what has been said of local stores


def doubt(record: Record) -> Refusal | None:
    """Why a record that was found earlier counts no longer, or None."""
    return _refusal_of(record, record.signatures, None) if isinstance(record, Vouched) else None


def signers(record: Record) -> tuple[str, ...]:
    """Who signed a record of the local store: public keys in hex; nobody where it was made here."""
    found = record.signatures if isinstance(record, Vouched) else ()
    return tuple(one.key.hex() for one in found)


def _not_trusted(
    key: str,
    entries: list[Trusted],
    task: str | None,
    zone: str | None,
    *,
    pickle: bool,
    claimed: str,
) -> Refusal:
    once = f"{key} {zone} {pickle}"
    shown = "this" if task is None else _shown(task)
    command = f"kachery trust add {key}"
    if not entries:
        return Refusal(
            f"it is signed by a key that you do not trust, {key} (it says that {claimed} made it), so"
            f" the job is computed here. If you know whose key that is: {command}",
            once,
        )
    if pickle and any(entry.covers(task, zone, pickle=False) for entry in entries):
        return Refusal(
            f"the result of {shown} has a pickle in it, which can run any code when it is read, and key"
            f" {key} is not trusted for that. If you would run its owner's programs: {command} --pickle",
            once,
        )
    ended = [one.until for one in entries if one.until is not None]
    scope = f"; it was trusted until {date_text(max(ended))}" if ended else ""
    listed = "; ".join(str(one) for one in entries)
    return Refusal(
        f"it is signed by key {key}, which you trust, but not for {shown} here, or not any"
        f" longer{scope} (kachery trust list: {listed})",
        f"{once} scope",
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
