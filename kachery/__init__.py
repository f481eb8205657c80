"""kachery: memoization that a whole lab can trust.

    import kachery

    @kachery.task
    def spectrum(recording, fs, *, window=1024): ...

    spectrum(recording, 30_000)        # computed once, ever; then served from the store

Everything public is here; the rest of the packages is private.
"""

from kachery_store.errors import (
    BadAmount,
    BadManifest,
    BadMutable,
    BadURI,
    Busy,
    ConfigError,
    ConfigWarning,
    DamagedWarning,
    DigestMismatch,
    DownloadFailed,
    DownloadRefused,
    KacheryError,
    KacheryWarning,
    NotFound,
    OutOfReach,
    StoreTooNew,
    StoreUnavailable,
    Unsupported,
    UnverifiedWarning,
    ZoneWarning,
)
from kachery_store.published_json import sha1_of_dict
from kachery_tasks._version import __version__
from kachery_tasks.carrying import pull, push
from kachery_tasks.counting import Stats, stats
from kachery_tasks.decorators import Task, task
from kachery_tasks.destinations import set_custom_storage_backend
from kachery_tasks.errors import (
    CannotDecode,
    CannotEncode,
    CannotFingerprint,
    CodeMismatch,
    ImpureTaskWarning,
    LargeGlobalWarning,
    NotPure,
    NotReproducible,
    NotStored,
    NotStoredWarning,
    SourceWarning,
    StaleResultWarning,
)
from kachery_tasks.explain import Explanation
from kachery_tasks.files import (
    cat_file,
    get_kachery_dir,
    link_file,
    load_bytes,
    load_file,
    load_file_info,
    load_json,
    load_npy,
    load_pkl,
    load_text,
    store_bytes,
    store_file,
    store_file_local,
    store_json,
    store_json_local,
    store_npy,
    store_npy_local,
    store_pkl,
    store_text,
    store_text_local,
)
from kachery_tasks.job import Job
from kachery_tasks.keeping import gc, pin, pins, unpin
from kachery_tasks.mutables import (
    delete_mutable,
    delete_mutable_folder_local,
    delete_mutable_local,
    get_mutable,
    get_mutable_local,
    set_mutable,
    set_mutable_local,
)
from kachery_tasks.queries import Answer, Query, query
from kachery_tasks.record import Record
from kachery_tasks.reproduce import Reproduction
from kachery_tasks.sandbox import use_sandbox
from kachery_tasks.session import as_completed, gather
from kachery_tasks.settings import configure, using
from kachery_tasks.values import register

__all__ = [
    "Answer",
    "BadAmount",
    "BadManifest",
    "BadMutable",
    "BadURI",
    "Busy",
    "CannotDecode",
    "CannotEncode",
    "CannotFingerprint",
    "CodeMismatch",
    "ConfigError",
    "ConfigWarning",
    "DamagedWarning",
    "DigestMismatch",
    "DownloadFailed",
    "DownloadRefused",
    "Explanation",
    "ImpureTaskWarning",
    "Job",
    "KacheryError",
    "KacheryWarning",
    "LargeGlobalWarning",
    "NotFound",
    "NotPure",
    "NotReproducible",
    "NotStored",
    "NotStoredWarning",
    "OutOfReach",
    "Query",
    "Record",
    "Reproduction",
    "SourceWarning",
    "StaleResultWarning",
    "Stats",
    "StoreTooNew",
    "StoreUnavailable",
    "Task",
    "Unsupported",
    "UnverifiedWarning",
    "ZoneWarning",
    "__version__",
    "as_completed",
    "cat_file",
    "configure",
    "delete_mutable",
    "delete_mutable_folder_local",
    "delete_mutable_local",
    "gather",
    "gc",
    "get_kachery_dir",
    "get_mutable",
    "get_mutable_local",
    "link_file",
    "load_bytes",
    "load_file",
    "load_file_info",
    "load_json",
    "load_npy",
    "load_pkl",
    "load_text",
    "pin",
    "pins",
    "pull",
    "push",
    "query",
    "register",
    "set_custom_storage_backend",
    "set_mutable",
    "set_mutable_local",
    "sha1_of_dict",
    "stats",
    "store_bytes",
    "store_file",
    "store_file_local",
    "store_json",
    "store_json_local",
    "store_npy",
    "store_npy_local",
    "store_pkl",
    "store_text",
    "store_text_local",
    "task",
    "unpin",
    "use_sandbox",
    "using",
]
