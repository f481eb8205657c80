"""What does not count: attributes that follow from others, and objects that affect no result."""

from __future__ import annotations

from types import CodeType, GetSetDescriptorType, MemberDescriptorType
from typing import Any

# Types whose instances do not affect results: they log, lock, show progress, or remember.
INERT = frozenset(
    (
        "_io.TextIOWrapper",
        "_thread.RLock",
        "_thread._local",
        "_thread.lock",
        "concurrent.futures.process.ProcessPoolExecutor",
        "concurrent.futures.thread.ThreadPoolExecutor",
        "contextvars.ContextVar",
        "distributed.client.Client",
        "logging.Logger",
        "logging.LoggerAdapter",
        "logging.RootLogger",
        "rich.console.Console",
        "threading.BoundedSemaphore",
        "threading.Condition",
        "threading.Event",
        "threading.Semaphore",
        "tqdm.std.tqdm",
        "weakref.ReferenceType",
        "weakref.WeakKeyDictionary",
        "weakref.WeakSet",
        "weakref.WeakValueDictionary",
    )
)

# Attributes of a class that say nothing about what it does, or that a look at it changes.
_INCIDENTAL = frozenset(
    (
        "__abstractmethods__",
        "__annotate__",
        "__annotate_func__",
        "__annotations__",
        "__annotations_cache__",
        "__dataclass_params__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__match_args__",
        "__module__",
        "__orig_bases__",
        "__parameters__",
        "__qualname__",
        "__replace__",
        "__slotnames__",
        "__static_attributes__",
        "__weakref__",
        "_abc_impl",
    )
)


def is_incidental(name: str, value: Any) -> bool:
    """Whether an attribute of a class follows from the others, or says nothing of what it does."""
    if name in _INCIDENTAL or (name == "__hash__" and value is None):
        return True
    if isinstance(value, MemberDescriptorType | GetSetDescriptorType):
        return True
    code = getattr(getattr(value, "__wrapped__", value), "__code__", None)
    # dataclass and namedtuple write methods from what is described beside them
    return isinstance(code, CodeType) and code.co_filename.startswith("<string")
