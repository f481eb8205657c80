"""kachery: memoization that a whole lab can trust.

    import kachery

    @kachery.task
    def spectrum(recording, fs, *, window=1024): ...

    spectrum(recording, 30_000)        # computed once, ever; then served from the store

Everything public is here; the rest of the packages is private.
"""

from kachery_store.errors import (
    BadURI,
    DamagedWarning,
    DigestMismatch,
    KacheryError,
    KacheryWarning,
    NotFound,
    StoreTooNew,
    StoreUnavailable,
)
from kachery_tasks._version import __version__
from kachery_tasks.decorators import Task, task
from kachery_tasks.errors import (
    CannotDecode,
    CannotEncode,
    CannotFingerprint,
    CodeMismatch,
    ImpureTaskWarning,
    LargeGlobalWarning,
    NotReproducible,
    NotStoredWarning,
    SourceWarning,
)
from kachery_tasks.explain import Explanation
from kachery_tasks.files import (
    cat_file,
    get_kachery_dir,
    load_bytes,
    load_file,
    load_json,
    load_npy,
    load_text,
    store_file,
    store_json,
    store_npy,
    store_text,
)
from kachery_tasks.job import Job
from kachery_tasks.record import Record
from kachery_tasks.reproduce import Reproduction
from kachery_tasks.session import gather
from kachery_tasks.settings import configure, using
from kachery_tasks.values import register

__all__ = [
    "BadURI",
    "CannotDecode",
    "CannotEncode",
    "CannotFingerprint",
    "CodeMismatch",
    "DamagedWarning",
    "DigestMismatch",
    "Explanation",
    "ImpureTaskWarning",
    "Job",
    "KacheryError",
    "KacheryWarning",
    "LargeGlobalWarning",
    "NotFound",
    "NotReproducible",
    "NotStoredWarning",
    "Record",
    "Reproduction",
    "SourceWarning",
    "StoreTooNew",
    "StoreUnavailable",
    "Task",
    "__version__",
    "cat_file",
    "configure",
    "gather",
    "get_kachery_dir",
    "load_bytes",
    "load_file",
    "load_json",
    "load_npy",
    "load_text",
    "register",
    "store_file",
    "store_json",
    "store_npy",
    "store_text",
    "task",
    "using",
]
