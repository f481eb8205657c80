"""What a hostile tester hands in: a right answer or a clear typed error, never a crash or a hang."""

import math
import sys

import numpy as np
import pytest
from conftest import count, run_python
from test_values import there_and_back

import kachery
from kachery_tasks.values import encode, encoding


@kachery.task
def same(x):
    return x


class Evil:
    """A class whose methods are traps."""

    def __init__(self, x):
        self.x = x

    def trap(self, *_):
        raise RuntimeError("a trap")

    __eq__ = __hash__ = __repr__ = __str__ = __reduce__ = __reduce_ex__ = __len__ = trap
    __bool__ = __iter__ = __lt__ = __format__ = __sizeof__ = trap


class EvilState(Evil):
    __getstate__ = Evil.trap


class EvilAttributes:
    def __getattribute__(self, name):
        raise RuntimeError("a trap")


def test_methods_that_raise_are_not_asked():
    value = Evil([1])
    assert same(value).x == [1] and same.job(value).cached
    assert same({"a": [value]})["a"][0].x == [1]
    assert same.explain(Evil([2])).nearest is not None
    assert encode(Evil(1)).address != encode(Evil(2)).address
    assert "Evil" in str(same.explain(Evil(3)))


def test_methods_that_have_to_be_asked_raise_by_place():
    with pytest.raises(kachery.CannotEncode, match=r"same\(x\)\[0\]"):
        same([EvilState(1)])
    trapped = EvilAttributes()
    assert same.job([trapped]).id == same.job([EvilAttributes()]).id  # it need not be asked


def test_integers_of_a_million_digits():
    million = 10**1_000_000 + 7
    assert there_and_back(million) == million
    assert encode(million).address != encode(million + 1).address
    assert same(million) == million
    assert same.job(million).record.arguments[0][2].startswith("int of ")
    assert same.explain(-million).nearest is not None


def test_strings_and_floats_of_every_kind():
    import struct

    texts = ["\ud800", "\udfff\ud800", "a\0b", "\U0010ffff", "e\u0301", "\u00e9", ""]
    assert [same(text) for text in texts] == texts
    assert len({encode(text).address for text in texts}) == len(texts)
    patterns = [0x7FF8000000000000, 0x7FF8000000000001, 0xFFF8000000000000, 0x7FF0000000000001]
    nans = [struct.unpack("<d", struct.pack("<Q", p))[0] for p in patterns]
    assert len({encode(nan).address for nan in nans}) == len(nans)
    for nan, pattern in zip(nans, patterns, strict=True):
        assert struct.pack("<d", there_and_back(nan)) == struct.pack("<Q", pattern)
        assert there_and_back(np.float64(nan)).tobytes() == struct.pack("<Q", pattern)


def test_keys_that_collide_or_cannot_be_sorted():
    nans = {math.nan: 1, float("nan"): 2}
    assert list(there_and_back(nans).values()) == [1, 2]
    both = {float("nan"), float("nan")}
    assert len(there_and_back(both)) == 2
    mixed = {1, "1", None, (1,), frozenset({1}), 2.5, b"1"}
    assert there_and_back(mixed) == mixed
    assert encode(mixed).address == encode(set(reversed(list(mixed)))).address
    unsortable = {1j: 1, None: 2, "a": 3}
    assert list(there_and_back(unsortable).items()) == list(unsortable.items())


def test_kwargs_of_every_name():
    @kachery.task
    def named(**kwargs):
        return list(kwargs)

    assert named(**{"z": 1, "a": 2, "": 3, "not a name": 4}) == ["", "a", "not a name", "z"]
    assert named.job(b=1, a=2).id == named.job(a=2, b=1).id


def nested(depth, make):
    value = 1
    for _ in range(depth):
        value = make(value)
    return value


@pytest.mark.parametrize(
    ("make", "depth"),
    [
        (lambda v: [v], 10_000),
        (lambda v: (v,), 10_000),
        (lambda v: {"k": v}, 10_000),
        (lambda v: Evil(v), 10_000),
        (lambda v: np.array([v, None], object), 1000),  # NumPy itself dies of deleting 10,000
    ],
    ids=["list", "tuple", "dict", "instance", "object array"],
)
def test_ten_thousand_levels(make, depth):
    with pytest.raises(kachery.CannotEncode, match="deep"):
        same(nested(depth, make))
    with pytest.raises(kachery.CannotEncode, match="deep"):
        same.job(nested(depth, make))


def cyclic(kind):
    if kind == "list":
        value = [1]
        value.append(value)
    elif kind == "dict":
        value = {}
        value["self"] = [value]
    elif kind == "instance":
        value = Evil(1)
        value.me = {"me": value}
    elif kind == "array":
        value = np.array([None, 1], object)
        value[0] = value
    else:
        value = ([],)
        value[0].append(value)
    return value


@pytest.mark.parametrize("kind", ["list", "dict", "instance", "array", "tuple"])
def test_cycles_are_refused_by_place(kind):
    with pytest.raises(kachery.CannotEncode, match="contains itself"):
        same(cyclic(kind))
    with pytest.raises(kachery.CannotEncode, match=r"contains itself|too deeply"):
        same.job([cyclic(kind)])


@pytest.mark.parametrize("make", [lambda v: [v, v], lambda v: (v, v), lambda v: {"a": v, "b": v}])
def test_sharing_that_explodes(make, monkeypatch):
    """The limit as it is, in make test-full and in test_hostile."""
    monkeypatch.setattr(encoding, "MAX_SIZE", count(encoding.MAX_SIZE, 1 << 24))
    with pytest.raises(kachery.CannotEncode, match="larger than"):
        same(nested(60, make))


def test_a_class_redefined_between_calls():
    def define(result):
        class Model:
            def predict(self):
                return result

        Model.__qualname__ = "Model"
        Model.__module__ = __name__
        return Model

    @kachery.task
    def predicted(model):
        return model.predict()

    first, second = define(1), define(2)
    model = first()
    assert predicted(model) == 1
    assert predicted(second()) == 2
    assert predicted(model) == 1
    model.__class__ = second
    assert predicted(model) == 2
    first.predict = lambda self: 3
    assert predicted(first()) == 3


def test_a_result_whose_class_was_redefined_is_computed_again():
    @kachery.task
    def made(x):
        return CURRENT["class"](x)

    CURRENT["class"] = Evil
    assert type(made(1)) is Evil
    assert type(made(1)) is Evil


CURRENT = {}


def test_values_that_change_while_they_are_looked_at():
    class Shifty(dict):
        """Another answer each time: its own methods are not asked."""

        def __getitem__(self, name):
            raise RuntimeError

    value = Shifty(a=1)
    assert encode(value).address == encode(value).address


@pytest.mark.timeout(600)
def test_a_large_array_is_not_copied():
    """5 GB in the full run; the memory that a process used at most tells whether it was copied."""
    code = """
    import sys
    import numpy as np, kachery

    @kachery.task
    def first(array):
        return float(array[0])

    first(np.zeros(10))
    array = np.zeros(int(sys.argv[1]) // 8)
    array[:: 1 << 16] = 1  # not all of it is the same page of zeros
    before = int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])
    assert first(array) == 1.0 and first.job(array).cached
    print(int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) - before)
    """
    size = count(5_000_000_000, 500_000_000)
    # The memory of the array itself is counted as its pages are read.
    used = int(run_python(code, size).stdout) * (1024 if sys.platform != "darwin" else 1)
    assert used < size * 1.2


def test_more_than_memory_could_hold_is_refused():
    from numpy.lib.stride_tricks import as_strided

    huge = as_strided(np.zeros(1), (1 << 40,), (0,))  # 8 TiB of one number
    code = f"""
    import resource
    resource.setrlimit(resource.RLIMIT_AS, ({3 << 30}, {3 << 30}))
    import numpy as np, kachery
    from numpy.lib.stride_tricks import as_strided
    f = kachery.task(version="1")(lambda x: 1)
    try:
        f(as_strided(np.zeros(1), {huge.shape}, (0,)))
    except (kachery.CannotEncode, MemoryError) as error:
        print(type(error).__name__)
    """
    assert run_python(code).stdout.strip() in ("CannotEncode", "MemoryError")
