"""What does not count: attributes that follow from others, and objects that affect no result."""

from __future__ import annotations

from types import CodeType, GetSetDescriptorType, MemberDescriptorType
from typing import Any

from ..project import is_installed_file

# Types whose instances do not affect results: they log, lock, show progress, or remember.
INERT = frozenset(
    (
        "_io.TextIOWrapper",
        "_thread.RLock",
        "_thread._local",
        "_thread.lock",
        "concurrent.futures.process.ProcessPoolExecutor",
        "concurrent.futures.thread.ThreadPoolExecutor",
        "_contextvars.ContextVar",
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
        "__module__",
        "__orig_bases__",
        "__parameters__",
        "__qualname__",
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
    return isinstance(value, MemberDescriptorType | GetSetDescriptorType)


def is_generated(cls: type, name: str, value: Any) -> bool:
    """Whether dataclass or namedtuple wrote a method, from what is described beside it."""
    if "__dataclass_params__" not in cls.__dict__ and "_field_defaults" not in cls.__dict__:
        return False
    code = getattr(getattr(value, "__wrapped__", value), "__code__", None)
    if not isinstance(code, CodeType):
        return type(value).__name__ == "_tuplegetter"
    if name in _OF_NAMED_TUPLES or name == "__replace__":
        return is_installed_file(code.co_filename) or code.co_filename.startswith("<string")
    return name in _OF_DATACLASSES and code.co_filename == "<string>"


_OF_NAMED_TUPLES = frozenset(
    ("__new__", "__repr__", "__getnewargs__", "_asdict", "_make", "_replace")
)
_OF_DATACLASSES = frozenset(
    ("__init__", "__repr__", "__eq__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__")
    + ("__setattr__", "__delattr__", "__getstate__", "__setstate__")
)
