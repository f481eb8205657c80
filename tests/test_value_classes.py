"""Values of the program's own classes, of attrs and pydantic, and odds and ends of the library."""

import argparse
import array
import collections
import functools
import importlib
import ipaddress
import string
import struct
import types
import typing
import warnings

import attr
import attrs
import numpy as np
import pydantic
import pytest
from conftest import write
from test_values import there_and_back

import kachery
import kachery_tasks.code  # noqa: F401 - modules and functions are values through it
from kachery_tasks.errors import CannotDecode, CannotEncode
from kachery_tasks.values import decode, encode


class Dict(dict):
    """Its own methods lie."""

    def items(self):
        raise RuntimeError

    __iter__ = keys = values = items


class List(list):
    def __iter__(self):
        raise RuntimeError


class Text(str):
    def __str__(self):
        return "no"


class Whole(int):
    def __int__(self):
        return 0

    def __repr__(self):
        return "no"


class Real(float):
    __slots__ = ()


class Complex(complex):
    pass


class Bytes(bytes):
    pass


class ByteArray(bytearray):
    pass


class Tuple(tuple):
    pass


class Set(set):
    pass


class FrozenSet(frozenset):
    pass


class Default(collections.defaultdict):
    pass


class Ordered(collections.OrderedDict):
    pass


class Deque(collections.deque):
    pass


class Count(collections.Counter):
    pass


class Pair(typing.NamedTuple("Pair", [("a", int), ("b", int)])):
    def total(self):
        return self.a + self.b


class Typed(list, typing.Generic[typing.TypeVar("T")]):
    pass


class Stateful(list):
    def __getstate__(self):
        return "state"

    def __setstate__(self, state):
        self.state = state


def subclassed():
    numbers = List([1, 2])
    numbers.unit = {"mV"}
    return [
        *(Dict(a=1), numbers, Text("abc"), Whole(2**70), Real(-0.0), Complex(1j)),
        *(Bytes(b"x" * 70_000), ByteArray(b"q"), Tuple((1, [2])), Set({1}), FrozenSet({1})),
        *(Default(int, {1: 2}), Ordered(b=1, a=2), Deque([1, 2, 3], 2), Count("aab"), Pair(1, 2)),
        Typed([1]),
    ]


PLAIN = {
    Dict: lambda v: dict(dict.items(v)),
    List: lambda v: list(list.__iter__(v)),
    Default: lambda v: (v.default_factory, dict(v)),
    Deque: lambda v: (v.maxlen, list(v)),
    Text: lambda v: str.__add__(v, ""),
    Whole: lambda v: int.__add__(v, 0),
}


@pytest.mark.parametrize("value", subclassed(), ids=lambda v: type(v).__name__)
def test_subclasses_of_builtin_types(value):
    again = there_and_back(value)
    plain = PLAIN.get(type(value), lambda v: v)
    assert type(again) is type(value) and plain(again) == plain(value)
    assert getattr(again, "__dict__", None) == getattr(value, "__dict__", None)
    assert encode(again).address == encode(value).address
    base = type(value).__mro__[1]
    if (
        base not in (collections.defaultdict, collections.deque, str, int)
        and type(value) is not Dict
    ):
        assert encode(plain(value)).address == encode(value).address or type(plain(value)) is base


def test_subclasses_differ_from_each_other_and_from_their_bases():
    values = [*subclassed(), [1, 2], {"a": 1}, "abc", 2**70, (1, [2]), {1}, frozenset({1})]
    assert len({encode(value).address for value in values}) == len(values)
    with_more = List([1, 2])
    assert encode(with_more).address != encode(subclassed()[1]).address  # it has no unit
    assert there_and_back(Stateful([1])).state == "state"


def test_a_subclass_of_an_installed_class_is_refused():
    class Odd(np.ndarray):
        pass

    with pytest.raises(CannotEncode, match="Odd"):
        encode(np.zeros(3).view(Odd))


def whole(x):
    return int(x)


@attrs.define
class Slotted:
    x: int = attrs.field(default=1, validator=attrs.validators.instance_of(int), converter=whole)
    y: list = attrs.field(factory=list)

    @functools.cached_property
    def twice(self):
        return self.x * 2


@attrs.frozen(cache_hash=True)
class Frozen:
    x: int


@attr.s
class Old:
    x = attr.ib(default=3)


@pytest.mark.parametrize("value", [Slotted(2, [1]), Frozen(3), Old(4)], ids=repr)
def test_attrs(value):
    before = encode(value).address
    again = there_and_back(value)
    assert again == value and type(again) is type(value)
    if isinstance(value, Slotted):
        assert value.twice == 4 == again.twice
        assert encode(value).address == encode(again).address != before  # cached values count
        del value.twice, again.twice
    if isinstance(value, Frozen):
        hash(value)
    assert encode(value).address == before == encode(again).address
    assert encode(attrs.evolve(value, x=9)).address != before


class Inner(pydantic.BaseModel):
    k: int = 1


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    a: int = 1
    b: list[int] = pydantic.Field(default_factory=list)
    inner: Inner | None = None
    _p: int = pydantic.PrivateAttr(3)

    @functools.cached_property
    def twice(self):
        return self.a * 2


class Root(pydantic.RootModel[list[int]]):
    pass


@pydantic.dataclasses.dataclass
class Data:
    a: int


def test_pydantic():
    model = Model(a=2, more=[5], inner=Inner(k=7))
    before = encode(model).address
    assert model.twice == 4 and encode(model).address != before  # cached values count
    del model.twice
    assert encode(model).address == before
    again = there_and_back(model)
    assert again == model and again.more == [5] and again._p == 3 and again.inner.k == 7
    assert again.model_fields_set == {"a", "more", "inner"}
    others = [
        *(Model(a=3), Model(a=2), Model(a=2, b=[]), Model(a=2, more=5), Inner(), Inner(k=1)),
        *(Root([1]), Root([2]), Data(1)),
    ]
    assert len({encode(value).address for value in [model, *others]}) == len(others) + 1
    for value in others:
        assert there_and_back(value) == value


def array_of_characters():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # since 3.13
        return array.array("u", "abc")


@pytest.mark.filterwarnings("ignore:The 'u' type code:DeprecationWarning")
@pytest.mark.parametrize(
    "value",
    [
        struct.Struct("<IH"),
        array.array("d", [1, 2]),
        array.array("h"),
        array_of_characters(),
        types.MappingProxyType({1: 2}),
        types.SimpleNamespace(a=[1]),
        argparse.Namespace(b=1),
        ipaddress.ip_address("10.0.0.1"),
        ipaddress.ip_network("10.0.0.0/8"),
        string.Template("$a"),
        list[int],
        dict[str, list[int]],
        int | None,
        typing.Optional[int],
        typing.Union[int, str],
        typing.Literal["a", 1],
        typing.List[int],
        typing.Callable[[int], str],
        typing.Any,
        typing.Annotated[int, "metres"],
        tuple[int, ...],
    ],
    ids=lambda value: str(value).partition(" at 0x")[0],  # the same in every process
)
def test_odds_and_ends(value):
    again = there_and_back(value)
    assert type(again) is type(value)
    if not isinstance(value, struct.Struct | string.Template):
        assert again == value
    assert encode(again).address == encode(value).address


def test_what_is_alike_differs():
    values = [
        *(array.array("i", [1]), array.array("l", [1]), array.array("d", [1]), [1], (1,)),
        *(types.SimpleNamespace(a=1), argparse.Namespace(a=1), {"a": 1}),
        *(types.MappingProxyType({"a": 1}), struct.Struct("<I"), struct.Struct("<i"), "<I"),
        *(list[int], list[float], typing.List[int], list, int | None, typing.Optional[int]),
        *(typing.Literal[1], typing.Literal[True], typing.Literal["1"], np, typing, struct),
    ]
    assert len({encode(value).address for value in values}) == len(values)


def test_modules_are_arguments(project):
    @kachery.task
    def name_of(module):
        return module.__name__

    assert name_of(np) == "numpy" and name_of.job(np).cached
    write(project / "given.py", "RATE = 3\n")
    import given

    before = name_of.job(given).id
    assert name_of.job(given).id == before
    given.RATE = 4
    assert name_of.job(given).id != before


def test_a_class_that_is_not_what_it_was(project):
    """Decoding makes nothing of a class that has become another kind of class."""
    write(project / "changing.py", "class C(dict):\n    pass\n")
    import changing

    data = encode(changing.C(a=1)).data
    changing.C = type("C", (), {"__module__": "changing"})
    with pytest.raises(CannotDecode, match="no subclass of dict"):
        decode(data, lambda digest, size: memoryview(b""))


def test_the_project_is_configurable(project, tmp_path, monkeypatch):
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    write(site / "installed_tools.py", "def g(x):\n    return x\n")
    text = "import installed_tools\ndef f(x):\n    return installed_tools.g(x)\n"
    write(project / "using_tools.py", text)
    import installed_tools
    import using_tools

    task = kachery.task(using_tools.f)
    by_name = task.job(1).id

    write(site / "installed_tools.py", "def g(x):\n    return x + 1\n")
    importlib.reload(installed_tools)
    assert task.job(1).id == by_name  # what is installed counts by its name
    try:
        kachery.configure(project=("installed_tools",))
        by_content = task.job(1).id
        assert by_content != by_name
        assert task.explain(1).coverage.code == ["using_tools:f", "installed_tools:g"]
        kachery.configure(project=(), installed=("installed_tools",))
        assert task.job(1).id == by_name
        for wrong in ("a b", "", ("x", 3)):
            with pytest.raises(ValueError, match="name of a package"):
                kachery.configure(project=wrong)
        with pytest.raises(ValueError, match="both"):
            kachery.configure(project="x", installed="x")
    finally:
        kachery.configure(project=(), installed=())
    assert task.job(1).id == by_name
