"""Values whose classes say something else than what they hold, and other finds of hostile tests."""

import argparse
import collections
import enum
import functools
import string
import subprocess
import sys
import types
import typing
import weakref

import attrs
import pydantic
import pytest
from conftest import run_python, write
from test_values import there_and_back

from kachery_tasks.errors import CannotDecode, CannotEncode
from kachery_tasks.values import encode
from kachery_tasks.values.attributes import cached_values
from kachery_tasks.values.opaque import pickle_of, pickled_with_code


def differ(one, other):
    return encode(one).address != encode(other).address


class Lazy:
    def __init__(self, x):
        self.x = x

    @functools.cached_property
    def twice(self):
        return self.x * 2


@attrs.define
class LazyAttrs:
    x: int

    @functools.cached_property
    def twice(self):
        return self.x * 2


class LazyModel(pydantic.BaseModel):
    x: int

    @functools.cached_property
    def twice(self):
        return self.x * 2


@pytest.mark.parametrize("kind", [Lazy, LazyAttrs, LazyModel])
def test_a_cached_value_that_is_stale_counts(kind):
    stale = kind(x=1)
    assert stale.twice == 2
    stale.x = 2
    assert differ(stale, kind(x=2))
    assert there_and_back(stale).twice == 2


@pytest.mark.parametrize("kind", [Lazy, LazyAttrs, LazyModel])
def test_what_was_looked_at_since_can_be_left_out(kind):
    value, present = kind(x=1), {}
    with cached_values(present):
        before = encode(value).address
    assert value.twice == 2
    with cached_values(present, again=True):
        assert encode(value).address == before
        value.x = 3
        assert encode(value).address != before
    present = {}
    with cached_values(present):
        before = encode(value).address
    with cached_values(present, again=True):
        assert encode(value).address == before == encode(value).address


def test_mappingproxy_is_what_it_shows():
    proxy = types.MappingProxyType
    counted = collections.defaultdict(int)
    ordered = collections.OrderedDict(a=1)
    assert differ(proxy({}), proxy(counted)) and differ(proxy({"a": 1}), proxy(ordered))
    assert there_and_back(proxy(counted))["new"] == 0
    assert type(there_and_back(proxy(ordered)) | {}) is collections.OrderedDict
    with pytest.raises(CannotEncode):
        encode(proxy(collections.ChainMap({"a": 1})))


class Slot:
    __slots__ = ("x",)


class Shadowed(Slot):
    __slots__ = ()

    @property
    def x(self):
        return 0


class Twice(Slot):
    __slots__ = ("x",)


class Answers:
    __slots__ = ("x",)

    def __getattr__(self, name):
        return 7


class Denies:
    def __init__(self, x):
        object.__setattr__(self, "_x", x)

    def __getattribute__(self, name):
        return {} if name == "__dict__" else object.__getattribute__(self, name)


class Hides:
    def __init__(self, x):
        object.__setattr__(self, "_x", x)

    @property
    def __dict__(self):
        return {}


class Anything:
    def __getattr__(self, name):
        return "x"


def test_attributes_are_read_where_they_are():
    one, two = Shadowed(), Shadowed()
    Slot.x.__set__(one, 1)
    Slot.x.__set__(two, 2)
    assert differ(one, two)
    assert Slot.x.__get__(there_and_back(two)) == 2
    both = Twice()
    both.x = 1
    Slot.x.__set__(both, 2)
    again = there_and_back(both)
    assert (again.x, Slot.x.__get__(again)) == (1, 2)
    full = Answers()
    full.x = 7
    assert differ(Answers(), full)
    assert differ(Denies(1), Denies(2)) and there_and_back(Denies(1))._x == 1
    with pytest.raises(CannotEncode):
        encode(Hides(1))
    assert type(there_and_back(Anything())) is Anything


class NoState:
    def __getstate__(self):
        return None


class SuperState:
    __slots__ = ("a",)

    def __getstate__(self):
        return super().__getstate__()


class Both(SuperState):
    def __init__(self):
        self.a, self.b = 1, 2


class SetsSlots:
    __slots__ = ("a",)

    def __setstate__(self, state):
        _, slots = state
        self.a = slots["a"] + 1


def test_states_are_given_back_as_pickle_does():
    assert type(there_and_back(NoState())) is NoState
    value = SuperState()
    value.a = 3
    assert there_and_back(value).a == 3
    again = there_and_back(Both())
    assert (again.a, again.b) == (1, 2)
    value = SetsSlots()
    value.a = 1
    assert there_and_back(value).a == 2


class Loud:
    """Methods that change what goes in and out."""

    def __getitem__(self, key):
        return super().__getitem__(key) * 2

    def __setitem__(self, key, value):
        super().__setitem__(key, value + 1)

    def update(self, *args, **kwargs):
        raise RuntimeError

    extend = append = add = __missing__ = update


class LoudOrdered(Loud, collections.OrderedDict):
    pass


class LoudDefault(Loud, collections.defaultdict):
    default_factory = None


class LoudDict(Loud, dict):
    pass


class LoudDeque(Loud, collections.deque):
    maxlen = None


class LoudBytes(Loud, bytearray):
    pass


class LoudSet(Loud, set):
    pass


@pytest.mark.parametrize("kind", [LoudOrdered, LoudDefault, LoudDict])
def test_dicts_are_filled_without_their_methods(kind):
    value = kind()
    dict.__setitem__(value, "a", 1) if kind is not LoudOrdered else (
        collections.OrderedDict.__setitem__(value, "a", 1)
    )
    again = there_and_back(value)
    assert type(again) is kind and dict.__getitem__(again, "a") == 1
    assert differ(value, kind())


def test_other_containers_are_filled_without_their_methods():
    again = there_and_back(LoudDeque([1, 2, 3], 2))
    assert list(again) == [2, 3]
    assert vars(collections.deque)["maxlen"].__get__(again) == 2
    assert bytes(there_and_back(LoudBytes(b"ab"))) == b"ab"
    assert there_and_back(LoudSet({1})) == {1}
    value = LoudDefault()
    vars(collections.defaultdict)["default_factory"].__set__(value, int)
    again = there_and_back(value)
    assert vars(collections.defaultdict)["default_factory"].__get__(again) is int


class Point(typing.NamedTuple):
    x: int

    def __iter__(self):
        return iter([0])


def test_named_tuples_templates_and_namespaces():
    assert differ(Point(1), Point(2)) and there_and_back(Point(2)).x == 2
    one, two = string.Template("x"), string.Template("x")
    two.foo = 1
    assert differ(one, two) and there_and_back(two).foo == 1
    for kind in (argparse.Namespace, types.SimpleNamespace):
        namespace = kind()
        namespace.self = 1
        assert vars(there_and_back(namespace)) == {"self": 1}
        vars(namespace)[1] = 2
        with pytest.raises(CannotEncode, match="no strings"):
            encode(namespace)


class Marked(enum.Enum):
    A = 1


def test_attributes_of_a_member_of_an_enum():
    plain = encode(Marked.A)
    Marked.A.k = 2
    try:
        assert encode(Marked.A).address != plain.address
        assert there_and_back(Marked.A) is Marked.A
        from kachery_tasks.values import decode

        with pytest.raises(CannotDecode, match="other attributes"):
            decode(plain.data, lambda *_: None)
    finally:
        del Marked.A.k


T = typing.TypeVar("T")


class Generic(typing.Generic[T]):
    pass


@pytest.mark.parametrize(
    "alias",
    [
        *(tuple[int], next(iter(tuple[int])), typing.Tuple[()], typing.Tuple),
        *(typing.ClassVar[int], typing.Final[int], typing.Required[int], typing.NotRequired[int]),
        *(typing.TypeGuard[int], typing.Unpack[tuple[int]], typing.Concatenate[int, ...]),
        *(Generic[int], Generic[list[int]], list[Generic[int]], typing.Literal[(1, 2)]),
        *(collections.abc.Callable[[int], str], collections.abc.Callable[..., str]),
    ],
    ids=repr,
)
def test_type_expressions(alias):
    again = there_and_back(alias)
    assert again == alias and repr(again) == repr(alias) and type(again) is type(alias)


def test_type_expressions_differ():
    assert differ(tuple[int], next(iter(tuple[int])))
    assert differ(typing.Tuple[()], typing.Tuple)
    assert differ(Generic[int], Generic[str])
    assert there_and_back(Generic[int]()).__orig_class__ == Generic[int]


def test_types_of_the_interpreter_in_a_fresh_process():
    data = encode([int | None, type(None), type(...), types.FunctionType, type(len)]).data
    code = f"from kachery_tasks.values import decode; print(decode({data!r}, None))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "NoneType" in done.stdout and "ellipsis" in done.stdout


class Box(pydantic.BaseModel, typing.Generic[T]):
    x: T


def test_models_made_of_generic_ones_are_known_by_their_origin():
    from kachery_tasks import names

    data = encode(Box[int](x=1))
    names._classes_met.pop(names.qualified_name(Box[int]), None)
    again = there_and_back(Box[int](x=1))
    assert type(again) is Box[int] and again.x == 1
    assert data.address != encode(Box[str](x="1")).address


GENERIC = """
import typing, kachery, pydantic
T = typing.TypeVar("T")
class Box(pydantic.BaseModel, typing.Generic[T]):
    x: T
@kachery.task
def make(n):
    print("ran")
    return Box[int](x=n)
if __name__ == "__main__":
    print(make(3))
"""


def test_a_model_made_inside_a_function_is_found_again(project, store_dir):
    """The next process has not made the class Box[int] yet."""
    write(project / "found.py", GENERIC)
    shown = [run_python("import found; print(found.make(3))").stdout for _ in range(2)]
    assert shown == ["ran\nx=3\n", "x=3\n"]


class Elsewhere:
    """A descriptor that keeps values for its owners, in one of the usual ways."""

    def __init__(self, values, name_of):
        self.values = values
        self.name_of = name_of

    def __get__(self, owner, kind=None):
        return self if owner is None else self.values[self.name_of(owner)]

    def __set__(self, owner, value):
        self.values[self.name_of(owner)] = value


@pytest.mark.parametrize("keys", ["weak", "ids", "owners"])
def test_what_a_descriptor_keeps_for_an_instance_is_refused(keys):
    class Model:
        gain = Elsewhere(
            weakref.WeakKeyDictionary() if keys == "weak" else {},
            id if keys == "ids" else lambda owner: owner,
        )

    class WithState(Model):
        def __getstate__(self):
            return {"gain": self.gain}

    encode(Model())  # nothing is kept for it yet
    model, other, same = Model(), WithState(), WithState()
    model.gain, other.gain, same.gain = 1, 2, 2
    with pytest.raises(CannotEncode, match=r"gain is kept by the Elsewhere .*__getstate__"):
        encode([model])
    assert not differ(other, same)
    same.gain = 3
    assert differ(other, same)


def helper():
    return 1


def test_pickles_tell_what_code_is_in_them():
    value = collections.ChainMap({"a": Lazy(1), "f": helper, "c": Marked})
    found = pickled_with_code(value)
    assert {Lazy, Marked} <= set(found.classes) and found.functions == [helper]
    assert found.data == pickle_of(value)
    import cloudpickle

    assert cloudpickle.loads(found.data)["a"].x == 1
