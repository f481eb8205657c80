"""Performing an action: started at most once, whatever happens to whom in the middle.

The change to `running` is on the disk, or in the zone, before the function is called, and whoever made
it is the only one who calls it. The change to what became of it follows. In between, `running` means
that nobody but the holder knows; when the holder has gone, that is `unknown`, for ever, unless a person
says otherwise or the decorator has `retry_unknown=True` (docs/actions.md).
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from kachery_store import Store, StoreUnavailable
from kachery_store.errors import KacheryError, KacheryWarning, Unsupported

from .binding import Arguments
from .cache import Outcome
from .calling import call
from .claims import ERROR, FINISHED, PENDING, RUNNING, UNKNOWN, Failure, Log, Notes, Step
from .commit import stated
from .definition import Definition
from .environment import here
from .errors import NotStored
from .identity import Addresses
from .lease import lease
from .policy import Policy
from .purity import check_allowed
from .settings import current, store_at
from .verdicts import not_kept, option, told
from .watching import Place, beating, place_of, settled, watch

_KEEP_TRYING = 60.0  # seconds in which an outcome that cannot be written is tried again
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_LONGEST_TRACEBACK = 20_000  # characters


def perform(
    store: Store, job_id: str, definition: Definition, arguments: Arguments, addresses: Addresses
) -> Outcome:
    """Perform an action, or tell what became of it: the outcome has the value None.

    Raises what the function raises. Before anything is started: StoreUnavailable and Unsupported when
    the claim cannot be written where others see it, NotStored with `read_only`, NotPure. Of an earlier
    request: ActionFailed, OutcomeUnknown. OutcomeNotKept after a run.
    """
    _check(definition)
    new = _step_of(job_id, definition, stated(definition, arguments, addresses))
    if not definition.policy.once:
        return _perform_anew(store, new, definition, arguments)
    with _nothing_started(definition, job_id):
        place = place_of(store, job_id)
    while True:
        with ExitStack() as stack:
            with _nothing_started(definition, job_id):
                stack.enter_context(lease(store_at(store.root), job_id))
                log = place.log()
                last = settled(place, log)
                free = _is_free(last, definition.policy)
                mine = _claimed(place, log, _following(new, last)) if free else None
            if mine is not None:
                with beating(place):
                    return _run(place, log, mine, definition, arguments)
        if last is None or free:
            continue  # somebody else was faster
        if last.state != RUNNING:
            told(last, place.zone)
            return Outcome(None, None)
        with _nothing_started(definition, job_id):
            watch(place, log)


def _check(definition: Definition) -> None:
    check_allowed(definition)
    settings = current()
    if settings.read_only:
        raise NotStored(
            f"the action {definition.name} would have to be started, and read_only=True"
        )
    if definition.policy.once and settings.refreshes(definition.name):
        raise Unsupported(
            f"the action {definition.name} is started once at most, and refresh= asks for it again;"
            ' hand it another idempotency="...", or write @kachery.action(once=False)'
        )


def _step_of(job_id: str, definition: Definition, arguments: list[tuple[str, bytes, str]]) -> Step:
    host, user = here()
    return Step(
        job_id=job_id,
        action=definition.name,
        state=RUNNING,
        attempt=1,
        run="",
        arguments=arguments,
        started=0.0,
        changed=0.0,
        host=host,
        user=user,
        pid=os.getpid(),
    )


def _following(new: Step, last: Step | None) -> Step:
    """The step that begins a run now."""
    now = time.time()
    attempt = 1 if last is None else last.attempt + 1
    return new._replace(attempt=attempt, run=os.urandom(32).hex(), started=now, changed=now)


def _is_free(last: Step | None, policy: Policy) -> bool:
    """Whether the action may be started now."""
    if last is None or last.state == PENDING:
        return True
    return last.state == UNKNOWN and policy.retry_unknown


def _claimed(place: Place, log: Log, new: Step) -> Step | None:
    """The claim, once it is where everybody sees it; None when somebody else was faster."""
    place.note(new)
    try:
        if log.add(new):
            return new
    except StoreUnavailable:
        _withdraw(place, log, new._replace(state=PENDING))
        raise
    place.forget(new.run)
    return None


def _withdraw(place: Place, log: Log, claim: Step) -> None:
    """Say of a claim, which may be there although its writing failed, that nothing was started."""
    with suppress(StoreUnavailable):  # without it the claim, if it is there, says `running`
        place.note(claim)
        last = log.look()
        if last is not None and last.run == claim.run:
            log.add(claim)


def _run(
    place: Place, log: Log, claim: Step, definition: Definition, arguments: Arguments
) -> Outcome:
    """Call the function, and write down what became of it."""
    try:
        value = call(definition, arguments, job_id=claim.job_id)
    except Exception as error:
        _keep(place, log, _ended(claim, ERROR, error))
        raise
    except BaseException as error:  # interrupted in the middle: who knows how far it came
        with suppress(KacheryError):  # without it, `running` means the same
            if os.getpid() == claim.pid:
                _add_outcome(log, _ended(claim, UNKNOWN, error))
        raise
    _keep(place, log, _ended(claim, FINISHED))
    return Outcome(None, None, _no_value(definition, value))


def _ended(claim: Step, state: str, error: BaseException | None = None) -> Step:
    failure = None
    if error is not None:
        text = "".join(traceback.format_exception(error))[-_LONGEST_TRACEBACK:]
        message = _message_of(error)[:_LONGEST_TRACEBACK]
        # A surrogate, as in a file name that is not UTF-8, has no encoding.
        texts = (type(error).__qualname__, message, text)
        failure = Failure(*(one.encode(errors="backslashreplace").decode() for one in texts))
    return claim._replace(state=state, changed=time.time(), failure=failure)


def _message_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the user's own type; its failure is not the one to tell
        return "(its message cannot be read)"


def _no_value(definition: Definition, value: object) -> KacheryWarning | None:
    if value is None:
        return None
    return KacheryWarning(
        f"{definition.name} returned {type(value).__name__}: an action has no value, and its caller"
        " gets None. Let a task or a query make what others need"
    )


def _keep(place: Place, log: Log, outcome: Step) -> None:
    """Write down what became of a run, as long as that takes, within bounds."""
    if os.getpid() != outcome.pid:
        return  # a child that the function forked has come out of it; its parent tells the outcome
    with suppress(StoreUnavailable):  # it helps only if the next fails, which is said
        place.note(outcome)
    give_up, pause = time.monotonic() + _KEEP_TRYING, _FIRST_PAUSE
    while True:
        try:
            _add_outcome(log, outcome)
            break
        except StoreUnavailable as error:
            if time.monotonic() + pause > give_up:
                raise not_kept(
                    outcome,
                    f"that could not be written down: {error} Its state will be shown as unknown;"
                    " the next request from this store corrects that if it can, and otherwise"
                    f" `kachery resolve {outcome.job_id[:12]} {option(outcome.state)}` says it",
                ) from error
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
    with suppress(StoreUnavailable):  # a note too many says nothing wrong
        place.forget(outcome.run)


def _add_outcome(log: Log, outcome: Step) -> None:
    """Write an outcome after `running`, and after an `unknown` that others have put there."""
    while not log.add(outcome):
        now = log.last
        if now is None or (now.run == outcome.run and now.state in (RUNNING, UNKNOWN)):
            continue
        if now.run == outcome.run and now.state == outcome.state:
            return
        told = f"{now.by} has said {now.state}" if now.by else f"it was started again on {now.host}"
        raise not_kept(outcome, f"meanwhile {told}, and that is what is known of it now")


def _perform_anew(store: Store, new: Step, definition: Definition, arguments: Arguments) -> Outcome:
    """Perform an action that runs each time; its last change is noted in the local store."""
    claim = _following(new, None)
    notes = Notes(store.backend, claim.job_id)
    with ExitStack() as stack:
        with _nothing_started(definition, claim.job_id):
            # Who looks sees by it whether the run goes on.
            stack.enter_context(lease(store_at(store.root), claim.run))
            notes.write_last(claim)
        try:
            value = call(definition, arguments, job_id=claim.job_id)
        except BaseException as error:
            state = ERROR if isinstance(error, Exception) else UNKNOWN
            _note_last(notes, _ended(claim, state, error))
            raise
        _note_last(notes, _ended(claim, FINISHED))
    return Outcome(None, None, _no_value(definition, value))


def _note_last(notes: Notes, outcome: Step) -> None:
    if os.getpid() != outcome.pid:
        return
    try:
        notes.write_last(outcome)
    except StoreUnavailable as error:
        raise not_kept(outcome, f"that could not be written down: {error}") from error


@contextmanager
def _nothing_started(definition: Definition, job_id: str) -> Iterator[None]:
    """Say of what the store or zone refuses here that this request has started nothing."""
    try:
        yield
    except StoreUnavailable as error:
        raise StoreUnavailable(
            f"the action {definition.name} (job {job_id}) was not started by this request, because"
            f" who has started it could not be written or read: {error}",
            error.errno,
            error.place,
        ) from error
