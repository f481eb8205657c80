"""What is said of the outcome of an action: to those who ask again, and when it could not be kept."""

from __future__ import annotations

import time

from kachery_store.saying import clean, clean_lines
from kachery_store.zone import Zone

from .claims import ERROR, FINISHED, Failure, Step
from .errors import ActionFailed, OutcomeNotKept, OutcomeUnknown


def not_kept(outcome: Step, why: str) -> OutcomeNotKept:
    """The error that says what became of a run, and why that is not written down."""
    failure = outcome.failure
    what = "HAS RUN and finished" if failure is None else f"HAS RUN and raised {_words(failure)}"
    error = OutcomeNotKept(
        f"the action {outcome.action} (job {outcome.job_id}) {what}; {why}", outcome.job_id
    )
    error.state = outcome.state
    return error


def told(last: Step, zone: Zone | None) -> None:
    """Tell a request what became of an action that was started before; nothing is told of success.

    Raises ActionFailed, OutcomeUnknown.
    """
    if last.state == FINISHED:
        return
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(last.started))
    what = f"the action {clean(last.action)} (job {last.job_id})"
    where = f"on {clean(last.host)} (process {last.pid}, by {clean(last.user)}) on {when}"
    failure = last.failure
    if last.state == ERROR:
        by = f"{clean(last.by)} has said that it failed"
        how = by if failure is None or last.by else f"raised {_words(failure)}"
        trace = clean_lines(failure.traceback) if failure else ""
        failed = ActionFailed(
            f"{what} was started {where}, and {how}. It is not started again: hand it another"
            f' idempotency="..." if it shall be.\n{trace}'.rstrip(),
            last.job_id,
        )
        if failure is not None:
            failed.type, failed.message, failed.traceback = failure
        raise failed
    why = "" if failure is None else f" ({_words(failure)})"
    where_to_say = "" if zone is None else f" --zone {zone.name}"
    raise OutcomeUnknown(
        f"{what} was started {where}, and nobody knows what became of it{why}: it may have done"
        " everything, nothing, or a part. It is not started again. Find out, and then say `kachery"
        f" resolve {last.job_id[:12]}{where_to_say} --done` or `--failed`",
        last.job_id,
    )


def _words(failure: Failure) -> str:
    text = f"{failure.type}: {failure.message}" if failure.message else failure.type
    return clean(" ".join(text.split()))


def option(state: str) -> str:
    """How `kachery resolve` is told an outcome."""
    return "--done" if state == FINISHED else "--failed"
