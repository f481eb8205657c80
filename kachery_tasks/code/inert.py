"""What does not count: attributes that follow from others, and objects that affect no result."""

from __future__ import annotations

from types import CodeType, GetSetDescriptorType, MemberDescriptorType
from typing import Any

from ..project import is_installed_file

# Types whose instances, and those of their subclasses, do not affect results: they log, lock, show
# progress, hold a connection, or remember.
_INERT = frozenset(
    (
        "__future__._Feature",
        "_asyncio.Future",
        "_io.BufferedRandom",
        "_io.BufferedReader",
        "_io.BufferedWriter",
        "_io.FileIO",
        "_io.TextIOWrapper",
        "_thread.RLock",
        "_thread._local",
        "_thread.lock",
        "asyncio.locks.Event",
        "asyncio.locks.Lock",
        "asyncio.locks.Semaphore",
        "asyncio.queues.Queue",
        "_queue.SimpleQueue",
        "concurrent.futures._base.Executor",
        "diskcache.core.Cache",
        "distributed.client.Client",
        "fsspec.spec.AbstractFileSystem",
        "http.client.HTTPConnection",
        "httpx.Client",
        "joblib.memory.Memory",
        "joblib.parallel.Parallel",
        "kachery_tasks.memory.Memory",
        "logging.Filterer",
        "logging.LoggerAdapter",
        "multiprocessing.pool.Pool",
        "multiprocessing.synchronize.SemLock",
        "psycopg.Connection",
        "queue.Queue",
        "requests.sessions.Session",
        "rich.console.Console",
        "_socket.socket",
        "sqlalchemy.engine.base.Engine",
        "sqlite3.Connection",
        "threading.Barrier",
        "threading.Condition",
        "threading.Event",
        "threading.Semaphore",
        "threading.Thread",
        "tqdm.std.tqdm",
        "urllib3.poolmanager.PoolManager",
        "weakref.ReferenceType",
        "weakref.WeakKeyDictionary",
        "weakref.WeakSet",
        "weakref.WeakValueDictionary",
    )
)


def is_inert(kind: type) -> bool:
    """Whether instances of a type do not affect results."""
    return any(f"{base.__module__}.{base.__qualname__}" in _INERT for base in kind.__mro__)


# Attributes of a class that say nothing about what it does, or that a look at it changes.
_INCIDENTAL = frozenset(
    (
        "__abstractmethods__",
        "__annotate__",
        "__annotate_func__",
        "__annotations__",
        "__annotations_cache__",
        "__callable_proto_members_only__",
        "__closed__",
        "__dataclass_params__",
        "__dict__",
        "__doc__",
        "__extra_items__",
        "__firstlineno__",
        "__class_vars__",
        "__is_pydantic_dataclass__",
        "__module__",
        "__mutable_keys__",
        "__non_callable_proto_members__",
        "__orig_bases__",
        "__parameters__",
        "__private_attributes__",
        "__protocol_attrs__",
        "__qualname__",
        "__readonly_keys__",
        "__signature__",
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
    if name.startswith("__pydantic_"):
        return True  # made of the fields and decorators, which are described
    return isinstance(value, MemberDescriptorType | GetSetDescriptorType)


def is_generated(cls: type, name: str, value: Any) -> bool:
    """Whether dataclass, attrs or namedtuple wrote a method, from what is described beside it."""
    if "__attrs_attrs__" in cls.__dict__:
        return _is_made_by_attrs(name, value)
    if name in ("__init__", "__subclasshook__") and "_is_protocol" in cls.__dict__:
        function = getattr(value, "__func__", value)
        return getattr(function, "__module__", None) == "typing"  # what Protocol writes
    if "__dataclass_params__" not in cls.__dict__ and "_field_defaults" not in cls.__dict__:
        return False
    code = getattr(getattr(value, "__wrapped__", value), "__code__", None)
    if not isinstance(code, CodeType):
        return type(value).__name__ == "_tuplegetter"
    if is_installed_file(code.co_filename):
        of_pydantic = name == "__init__" and "__is_pydantic_dataclass__" in cls.__dict__
        return of_pydantic or name in _OF_NAMED_TUPLES or name == "__replace__"
    if code.co_filename.startswith("<string") and name == "__new__":
        return code.co_name == "<lambda>"  # of a named tuple
    # A user's own method can be in a file called "<string>" too, but not in such a function.
    return name in _OF_DATACLASSES and code.co_qualname == f"__create_fn__.<locals>.{name}"


def _is_made_by_attrs(name: str, value: Any) -> bool:
    if name in ("__match_args__", "__slots__", "__attrs_own_setattr__"):
        return True
    code = getattr(value, "__code__", None)
    if not isinstance(code, CodeType):
        return False
    if name == "__getattr__":
        return False  # it has the functions of cached properties
    made = code.co_filename.startswith("<attrs generated")
    return made or (is_installed_file(code.co_filename) and name.startswith("__"))


_OF_NAMED_TUPLES = frozenset(
    ("__new__", "__repr__", "__getnewargs__", "_asdict", "_make", "_replace")
)
_OF_DATACLASSES = frozenset(
    ("__init__", "__repr__", "__eq__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__")
    + ("__setattr__", "__delattr__", "__getstate__", "__setstate__")
)
