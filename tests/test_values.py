"""Values: decoding gives back what was encoded, and different values have different addresses."""

import dataclasses
import datetime as dt
import decimal
import math
import pathlib
import sys
import threading

import numpy as np
import pandas as pd
import pytest
from conftest import count
from hypothesis import HealthCheck, given, settings
from identity import identical, there_and_back
from nearness import pairs
from strategies import Frozen, Mode, Plain, Setting, Slotted, values

from kachery_tasks.errors import CannotDecode, CannotEncode
from kachery_tasks.values import decode, encode, encoding

MANY = settings(
    max_examples=count(100_000, 500),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")


@MANY
@pytest.mark.timeout(3600)
@given(values)
def test_decoding_gives_back_an_identical_value(value):
    again = there_and_back(value)
    assert identical(value, again)
    assert encode(again).data == encode(value).data


@MANY
@pytest.mark.timeout(3600)
@given(pairs(values))
def test_one_address_exactly_when_identical(pair):
    a, b = pair
    assert (encode(a).address == encode(b).address) == identical(a, b)


ALIKE = [
    *(0, 0.0, -0.0, False, 0j, "", b"", None, (), [], {}, set(), frozenset(), bytearray()),
    *(1, 1.0, True, "1", b"1", (1,), [1], {1}, {1: 1}, {"1": 1}, {1: "1"}, frozenset({1})),
    *(np.int64(1), np.int32(1), np.float64(1), np.bool_(True), np.array(1), np.array([1])),
    *(np.array([1.0]), np.array([[1]]), np.array([1], "i4"), np.array([1], ">i8"), np.str_("1")),
    *(np.array(["1"]), np.array([b"1"]), np.array([1], object), np.array([True])),
    *(pathlib.PurePosixPath("1"), pathlib.PureWindowsPath("1"), decimal.Decimal(1)),
    *(decimal.Decimal("1.0"), range(1), [[1]], [(1,)], ([1],), ((1,),), {"a": 1, "b": 2}),
    *({"b": 2, "a": 1}, [1, None], [None, 1], ["ab", "c"], ["a", "bc"], [b"ab", b"c"]),
    *(dt.date(2024, 1, 1), dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, fold=1)),
    *(dt.datetime(2024, 1, 1, tzinfo=dt.UTC), np.datetime64("2024-01-01")),
    *(np.datetime64("2024-01-01", "s"), dt.timedelta(1), np.timedelta64(1, "D")),
    *(math.nan, math.inf, np.float32("nan"), Mode.FAST, Setting("a"), Frozen("a"), Setting("b")),
    *(np.zeros(3), np.zeros((3, 1)), np.zeros((1, 3)), np.zeros(0), np.zeros((0, 3)), slice(1)),
    *(
        np.eye(3) + [[0, 1, 2]],
        (np.eye(3) + [[0, 1, 2]]).T,
        np.asfortranarray(np.eye(3) + [[0, 1, 2]]),
    ),
    *(pd.Series([1]), pd.Series([1.0]), pd.Series([1], name="a"), pd.Series([1], index=[1])),
    *(pd.Series([1], dtype="Int64"), pd.Series([1], dtype="category"), pd.DataFrame({"a": [1]})),
    *(pd.DataFrame({"b": [1]}), pd.DataFrame({"a": [1.0]}), pd.DataFrame({"a": [1]}, index=[1])),
    *(pd.Index([1]), pd.RangeIndex(1, 2), pd.Index([1], name="x"), pd.NaT, pd.NA),
    *(
        pd.Timestamp(0),
        pd.Timestamp(0, tz="UTC"),
        pd.Timestamp(0, tz="Europe/Berlin"),
        pd.Timedelta(0),
    ),
    *(
        pd.Series(["a"], dtype=object),
        pd.Series(["a"], dtype="string"),
        pd.Series(["a"], dtype="category"),
    ),
]


def test_values_that_others_confuse_differ():
    addresses = {}
    for value in ALIKE:
        other = addresses.setdefault(encode(value).address, value)
        assert other is value, f"{other!r} and {value!r} have one address"


def test_what_cannot_be_relied_on_does_not_count():
    a = np.arange(24.0).reshape(4, 6)
    assert encode(a[::2, ::3]).address == encode(a[::2, ::3].copy()).address
    assert encode({"x", "y", "z", 1}).address == encode({1, "z", "y", "x"}).address
    shared = [1.0]
    assert encode([shared, shared]).address == encode([[1.0], [1.0]]).address
    text = "".join(["a", "b"])
    assert encode({text: text}).address == encode({"ab": "ab"}).address
    frame = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
    blocks = pd.DataFrame({"a": [1, 2]})
    blocks["b"] = [3, 4]
    assert encode(frame).address == encode(blocks).address


def test_large_buffers_are_blobs_of_their_own():
    image = np.random.default_rng(0).random((300, 300))
    encoded = encode({"a": [image, image.copy()], "b": b"x" * 65536, "c": image[:2]})
    assert len(encoded.blobs) == 3 and len({blob.digest for blob in encoded.blobs}) == 2
    assert len(encoded.data) < 6000
    # no copy was made of a contiguous array
    assert np.shares_memory(np.frombuffer(encode(image).blobs[0].memory, "u1"), image)


def test_what_a_cached_property_holds_counts():
    import functools

    @dataclasses.dataclass
    class Lazy:
        x: int

        @functools.cached_property
        def twice(self):
            return self.x * 2

    value = Lazy(2)
    before = encode(value).address
    assert value.twice == 4 and "twice" in vars(value)
    looked_at = encode(value).address
    value.x = 3
    assert value.twice == 4  # which is stale, and what a function would see
    assert len({before, looked_at, encode(value).address, encode(Lazy(3)).address}) == 4


class Stateful(Plain):
    def __getstate__(self):
        return [self.x, "kept"]

    def __setstate__(self, state):
        self.x = state[0]
        self.cache = "made anew"


def test_instances_of_the_project_s_classes():
    assert vars(there_and_back(Plain([1, {2}]))) == {"x": [1, {2}]}
    again = there_and_back(Slotted(3))
    assert (again.x, again._Slotted__hidden) == (3, [3])
    assert there_and_back(Stateful(5)).cache == "made anew"
    addresses = {encode(v).address for v in (Plain(1), Plain(2), Slotted(1), Stateful(1), {"x": 1})}
    assert len(addresses) == 5
    with pytest.raises(CannotEncode, match=r"\.x\['f'\]"):
        encode(Plain({"f": threading.Lock()}))


def test_types_and_containers_of_collections():
    import collections

    for value in (int, Plain, [Mode, dict], collections.defaultdict(list, {"a": [1]})):
        assert there_and_back(value) == value
    assert there_and_back(collections.defaultdict(int)).default_factory is int
    assert there_and_back(collections.deque([1], maxlen=2)).maxlen == 2
    counter = collections.Counter("aab")
    counter.note = "x"
    assert there_and_back(counter).note == "x" and there_and_back(counter) == counter
    kinds = [dict, collections.OrderedDict, collections.Counter, collections.deque, list]
    assert len({encode(kind()).address for kind in kinds}) == 5
    assert len({encode(kind).address for kind in kinds}) == 5


@pytest.mark.parametrize(
    ("make", "place"),
    [
        (lambda: open(__file__), "the value"),
        (lambda: {"a": [threading.Lock()]}, r"\['a'\]\[0\]"),
        (lambda: Setting("x", {"f": (x for x in ())}), r"\.values\['f'\]"),
        (lambda: np.array([object()]), "object"),
        (lambda: type("Sub", (np.ndarray,), {})(3), "Sub"),
        (lambda: {"a": memoryview(b"x")}, r"\['a'\].*memoryview"),
    ],
)
def test_refusals_name_the_place(make, place):
    value = make()
    with pytest.raises(CannotEncode, match=place):
        encode(value)
    if hasattr(value, "close"):
        value.close()


def test_cycles_depth_and_explosions_are_refused(monkeypatch):
    """The limit as it is, in make test-full and in test_hostile."""
    monkeypatch.setattr(encoding, "MAX_SIZE", count(encoding.MAX_SIZE, 1 << 24))
    cycle = []
    cycle.append({"again": cycle})
    with pytest.raises(CannotEncode, match="contains itself"):
        encode(cycle)
    deep = 1
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(CannotEncode, match="levels deep"):
        encode(deep)
    shared = [1]
    for _ in range(60):
        shared = [shared, shared]
    with pytest.raises(CannotEncode, match="larger than"):
        encode(shared)


@pytest.mark.parametrize("value", [[1, (2, "x")], {"a": np.arange(3)}, Setting("a"), Mode.FAST])
def test_damaged_encodings_are_typed_errors(value):
    data = encode(value).data
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            try:
                decode(bytes(damaged), lambda digest, size: memoryview(bytearray(8)))
            except CannotDecode:
                pass
    with pytest.raises(CannotDecode):
        decode(data[:-1], lambda digest, size: memoryview(b""))


def test_decoding_imports_nothing():
    data = encode(Setting("a")).data.replace(b"strategies:Setting", b"turtledemo:Setting")
    with pytest.raises(CannotDecode, match="turtledemo"):
        decode(data, lambda digest, size: memoryview(b""))
    assert "turtledemo" not in sys.modules
