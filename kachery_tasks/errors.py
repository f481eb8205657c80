"""What can go wrong with tasks, beside what can go wrong with stored bytes.

KacheryError (kachery_store)
├── BadBundle (ValueError)         a file is no bundle, or what it says does not hang together
├── CannotEncode (TypeError)       a value has no canonical encoding
├── CannotDecode (ValueError)      an encoding cannot be turned into a value here
├── CannotFingerprint (TypeError)  a function's code cannot be identified
├── CodeMismatch                   the code here is not the code the job id stands for
├── NotPure                        a task asks the outside world, which was not allowed to it
├── NotStored (LookupError)        nothing may run now (read_only), and the result is not known
├── NotReproducible                a result was not stored, so a second run cannot be compared
├── ActionFailed                   an action that is started once at most has run, and failed
├── OutcomeUnknown                 an action was started, and nobody knows what became of it
├── OutcomeNotKept                 an action has run, and its outcome could not be written down
├── ResultGone (NotFound, KeyError)   what a MemorizedResult stands for has been removed
├── RunFailed                      a run raised what cannot be raised here as it was
├── TookTooLong (TimeoutError)     a run took longer than its task's timeout=
└── WorkerLost                     the process or cluster that was to run a job is gone

KacheryWarning (kachery_store)
├── ImpureTaskWarning              a task changed its arguments; its result was not stored
├── LeaseLostWarning               a job's holder was presumed dead, and another's result was first
├── LargeGlobalWarning             a large global that can change is looked at in every call
├── NotStoredWarning               a result could not be stored and was returned all the same
├── StaleResultWarning             a query failed, and its last good answer was served
└── SourceWarning                  a function's source could not be used; its bytecode counts
"""

from __future__ import annotations

from kachery_store.errors import KacheryError, KacheryWarning, NotFound


class BadBundle(KacheryError, ValueError):
    """A file is no bundle, or a damaged one, or says what its content does not show."""


class CannotEncode(KacheryError, TypeError):
    """A value has no canonical encoding. `place` says where in the argument or result it is.

    `final` says that taking the value apart in another way would not help.
    """

    def __init__(self, reason: str, place: str = "", *, final: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.place = place
        self.final = final
        self.advice = ""  # what else to do, where that is known

    def inside(self, outer: str) -> CannotEncode:
        """The same error, seen from the container that holds the value."""
        self.place = outer + self.place
        return self

    def __str__(self) -> str:
        place = self.place or "the value"
        if len(place) > 160:
            place = f"{place[:100]}...{place[-50:]}"
        return f"cannot encode {place}: {self.reason}{self.advice}"


class CannotDecode(KacheryError, ValueError):
    """An encoding cannot be turned into a value in this process."""


class CannotFingerprint(KacheryError, TypeError):
    """The code of a function, or something that it reads, cannot be identified.

    `final` is as for CannotEncode.
    """

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


class CodeMismatch(KacheryError):
    """The code in this process is not the code that the job id stands for."""


class NotReproducible(KacheryError):
    """A result could not be stored, so that a second run has nothing to be compared with."""


class ImpureTaskWarning(KacheryWarning):
    """A task changed its arguments; its result was returned and not stored."""


class LargeGlobalWarning(KacheryWarning):
    """A large global that can change is part of the code's identity, and looked at in every call."""


class LeaseLostWarning(KacheryWarning):
    """A process was presumed dead while it computed a job, and another one's result was first."""


class NotStoredWarning(KacheryWarning):
    """A result could not be stored; it was returned all the same."""


class SourceWarning(KacheryWarning):
    """The source of a function is not what runs, or is not there; its bytecode counts instead."""


class StaleResultWarning(KacheryWarning):
    """A query failed, and the last good answer was served instead; the message says how old it is."""


class NotPure(KacheryError):
    """A task, whose result is kept for ever, asks something whose answer changes."""


class NotStored(KacheryError, LookupError):
    """The result is not known, and with `read_only` nothing runs."""


class ResultGone(NotFound, KeyError):
    """The result that a MemorizedResult stands for has been removed; joblib raises KeyError for it."""

    __str__ = Exception.__str__  # KeyError's would put quotes around it


class RunFailed(KacheryError):
    """A run raised an exception that cannot be raised here as it was.

    `type` is the name of its class; `traceback` the text of its traceback, if that is known.
    """

    def __init__(self, message: str, type: str = "", traceback: str = "") -> None:
        super().__init__(message, type, traceback)  # so that it can be pickled
        self.type = type
        self.traceback = traceback

    def __str__(self) -> str:
        return str(self.args[0])


class TookTooLong(KacheryError, TimeoutError):
    """A run took longer than its task's `timeout=`."""


class WorkerLost(KacheryError):
    """The process or the cluster that ran a job, or was to run it, is gone."""


class _OfAction(KacheryError):
    """`job_id` is that of the action."""

    def __init__(self, message: str, job_id: str = "") -> None:
        super().__init__(message)
        self.job_id = job_id


class ActionFailed(_OfAction):
    """An action that is started once at most has run before, and raised something.

    `type`, `message` and `traceback` are texts that tell what.
    """

    type = message = traceback = ""


class OutcomeUnknown(_OfAction):
    """An action was started, and nobody knows whether it finished; a person has to find out."""


class OutcomeNotKept(_OfAction):
    """An action has run, and its outcome could not be written down; `state` is what it is.

    Others will be told that the outcome is unknown, unless the message says otherwise.
    """

    state = ""
