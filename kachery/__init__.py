"""kachery: memoization that a whole lab can trust.

    import kachery

    @kachery.task
    def spectrum(recording, fs, *, window=1024): ...

    spectrum(recording, 30_000)        # computed once, ever; then served from the store

Everything public is here; the rest of the packages is private.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Where each public name is. A module is imported when one of its names is first used; type checkers
# read __init__.pyi instead.
_HOMES = {
    "kachery_store.errors": (
        "BadAmount",
        "BadArray",
        "BadFeed",
        "BadKey",
        "BadManifest",
        "BadMessage",
        "BadMutable",
        "BadNote",
        "BadURI",
        "Busy",
        "ConfigError",
        "ConfigWarning",
        "DamagedWarning",
        "DigestMismatch",
        "DownloadFailed",
        "DownloadRefused",
        "FeedDamaged",
        "FeedFinalized",
        "FeedForked",
        "FeedRolledBack",
        "KacheryError",
        "KacheryWarning",
        "NotFound",
        "NotTrusted",
        "NotWriteable",
        "OutOfReach",
        "StoreTooNew",
        "StoreUnavailable",
        "Unsupported",
        "UnverifiedWarning",
        "ZoneWarning",
    ),
    "kachery_store.published_json": ("sha1_of_dict",),
    "kachery_tasks._version": ("__version__",),
    "kachery_tasks.actions": (
        "Action",
        "action",
    ),
    "kachery_tasks.bundles": (
        "BundleReport",
        "Bundled",
        "Imported",
        "bundle",
        "import_bundle",
        "verify_bundle",
    ),
    "kachery_tasks.carrying": (
        "pull",
        "push",
    ),
    "kachery_tasks.chunked": (
        "open_dask",
        "open_zarr",
        "persist",
        "store_zarr",
        "zarr_references",
        "zarr_store",
    ),
    "kachery_tasks.counting": (
        "Stats",
        "stats",
    ),
    "kachery_tasks.decorators": (
        "Task",
        "task",
    ),
    "kachery_tasks.destinations": ("set_custom_storage_backend",),
    "kachery_tasks.errors": (
        "ActionFailed",
        "BadBundle",
        "CannotDecode",
        "CannotEncode",
        "CannotFingerprint",
        "CodeMismatch",
        "ImpureTaskWarning",
        "LargeGlobalWarning",
        "LeaseLostWarning",
        "NotPure",
        "NotReproducible",
        "NotStored",
        "NotStoredWarning",
        "OutcomeNotKept",
        "OutcomeUnknown",
        "ResultGone",
        "RunFailed",
        "SourceWarning",
        "StaleResultWarning",
        "TookTooLong",
        "WorkerLost",
    ),
    "kachery_tasks.explain": ("Explanation",),
    "kachery_tasks.feeds": (
        "create_feed",
        "delete_feed",
        "get_feed_id",
        "load_feed",
        "load_subfeed",
        "publish_feed",
        "set_feed_name",
        "subscribe_feed",
        "verify_feed",
        "watch_for_new_messages",
    ),
    "kachery_tasks.files": (
        "cat_file",
        "get_kachery_dir",
        "link_file",
        "load_bytes",
        "load_file",
        "load_file_info",
        "load_json",
        "load_npy",
        "load_pkl",
        "load_text",
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
    ),
    "kachery_tasks.gathering": (
        "as_completed",
        "gather",
    ),
    "kachery_tasks.job": ("Job",),
    "kachery_tasks.job_table": (
        "Run",
        "runs",
    ),
    "kachery_tasks.keeping": (
        "gc",
        "pin",
        "pins",
        "unpin",
    ),
    "kachery_tasks.lineage.tracing": (
        "Lineage",
        "lineage",
    ),
    "kachery_tasks.memory": (
        "Memory",
        "expires_after",
    ),
    "kachery_tasks.mutables": (
        "delete_mutable",
        "delete_mutable_folder_local",
        "delete_mutable_local",
        "get_mutable",
        "get_mutable_local",
        "set_mutable",
        "set_mutable_local",
    ),
    "kachery_tasks.queries": (
        "Answer",
        "Query",
        "query",
    ),
    "kachery_tasks.record": ("Record",),
    "kachery_tasks.reproduce": ("Reproduction",),
    "kachery_tasks.reproducing": ("reproduce",),
    "kachery_tasks.sandbox": ("use_sandbox",),
    "kachery_tasks.settings": (
        "configure",
        "using",
    ),
    "kachery_tasks.stale": (
        "StaleJob",
        "stale",
    ),
    "kachery_tasks.values": ("register",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [*_HOME_OF]  # noqa: PLE0604 - names


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(home), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
