"""Values: decoding gives back what was encoded, and different values have different addresses."""

import dataclasses
import datetime as dt
import decimal
import enum
import math
import pathlib
import struct
import sys
import threading

import numpy as np
import pandas as pd
import pytest
from conftest import count
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kachery_tasks.errors import CannotDecode, CannotEncode
from kachery_tasks.values import decode, encode

MANY = settings(
    max_examples=count(100_000, 2000),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Mode(enum.Enum):
    FAST = 1
    SLOW = "slow"


@dataclasses.dataclass
class Setting:
    name: str
    values: object = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: object


def there_and_back(value):
    encoded = encode(value)
    blobs = {blob.digest: bytes(blob.memory) for blob in encoded.blobs}

    def load(digest, size):
        assert len(blobs[digest]) == size
        return memoryview(bytearray(blobs[digest]))

    return decode(encoded.data, load)


def identical(a, b):
    """Identity as the format defines it, written down independently of the encoding."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    if isinstance(a, complex):
        return identical(a.real, b.real) and identical(a.imag, b.imag)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(identical, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(
            identical(k, l) and identical(v, w)
            for (k, v), (l, w) in zip(a.items(), b.items(), strict=True)
        )
    if isinstance(a, set | frozenset):
        rest = list(b)
        for item in a:
            match = next((other for other in rest if identical(item, other)), rest)
            if match is rest:
                return False
            rest.remove(match)
        return not rest
    if isinstance(a, np.ndarray):
        return (
            a.dtype == b.dtype
            and a.dtype.str == b.dtype.str
            and a.shape == b.shape
            and order(a) == order(b)
            and (
                all(map(identical, a.ravel().tolist(), b.ravel().tolist()))
                if a.dtype.hasobject
                else a.tobytes() == b.tobytes()
            )
        )
    if isinstance(a, np.generic):
        return a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if dataclasses.is_dataclass(a):
        return identical(vars(a), vars(b))
    if isinstance(a, dt.datetime | dt.time):
        return a.isoformat() == b.isoformat() and a.fold == b.fold
    if isinstance(a, decimal.Decimal | range):
        return str(a) == str(b)
    return a == b


def order(array):
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**130), 2**130),
    st.floats(),
    st.complex_numbers(),
    st.text(st.characters(exclude_categories=())),
    st.binary(),
    st.decimals().filter(lambda d: not d.is_snan()),  # cannot be hashed
    st.dates(),
    st.datetimes(timezones=st.none() | st.just(dt.timezone(dt.timedelta(minutes=-90)))),
    st.times(),
    st.timedeltas(),
    st.uuids(),
    st.fractions(),
    st.sampled_from(list(Mode)),
    st.builds(pathlib.PurePosixPath, st.text(min_size=1).filter(lambda s: "\0" not in s)),
    st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 3)),
)
arrays = hnp.arrays(
    st.one_of(
        hnp.boolean_dtypes(),
        hnp.integer_dtypes(endianness="?"),
        hnp.floating_dtypes(endianness="?"),
        hnp.complex_number_dtypes(),
        hnp.unicode_string_dtypes(),
        hnp.datetime64_dtypes(),
        hnp.timedelta64_dtypes(),
    ),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
).map(lambda a: a.T if a.size % 2 else a)
hashable = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
values = st.recursive(
    scalars | arrays,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(hashable, inner, max_size=4),
        st.sets(hashable, max_size=4),
        st.frozensets(hashable, max_size=4),
        st.builds(Setting, st.text(), inner),
        st.builds(Frozen, inner),
        st.lists(inner, max_size=3).map(lambda items: np.array([*items, None], object)[:-1]),
    ),
    max_leaves=12,
)


@MANY
@pytest.mark.timeout(3600)
@given(values)
def test_decoding_gives_back_an_identical_value(value):
    again = there_and_back(value)
    assert identical(value, again)
    assert encode(again).data == encode(value).data


@MANY
@pytest.mark.timeout(3600)
@given(values, values)
def test_one_address_exactly_when_identical(a, b):
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


def test_a_memory_map_is_the_array_it_shows(tmp_path):
    array = np.arange(10.0)
    array.tofile(tmp_path / "a")
    mapped = np.memmap(tmp_path / "a", dtype="f8", mode="r")
    assert encode(mapped).address == encode(array).address
    assert encode(np.memmap(tmp_path / "a", dtype="f8", mode="r", shape=(2, 5))).address != (
        encode(array).address
    )


def test_large_buffers_are_blobs_of_their_own():
    image = np.random.default_rng(0).random((300, 300))
    encoded = encode({"a": [image, image.copy()], "b": b"x" * 65536, "c": image[:2]})
    assert len(encoded.blobs) == 3 and len({blob.digest for blob in encoded.blobs}) == 2
    assert len(encoded.data) < 6000
    # no copy was made of a contiguous array
    assert np.shares_memory(np.frombuffer(encode(image).blobs[0].memory, "u1"), image)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(),
        pd.DataFrame({"a": [1, 2], 3: ["x", None]}, index=pd.Index(["u", "v"], name="i")),
        pd.DataFrame({"t": pd.date_range("2024", periods=3, tz="Europe/Berlin")}),
        pd.DataFrame(
            np.arange(6.0).reshape(2, 3), columns=pd.MultiIndex.from_product([[1], list("abc")])
        ),
        pd.DataFrame({"c": pd.Categorical(["a", None], ["b", "a"], ordered=True)}),
        pd.DataFrame({"i": pd.array([1, None], "Int32"), "b": pd.array([True, None], "boolean")}),
        pd.DataFrame(
            {
                "s": pd.array(["x", None], "string"),
                "p": pd.period_range("2024", periods=2, freq="M"),
            }
        ),
        pd.DataFrame([[1, 2]], columns=["same", "same"]),
        pd.Series([dt.date(2024, 1, 1), 5, None], dtype=object),
        pd.Series(np.zeros(100_000), name=("a", 1)),
    ],
    ids=lambda frame: str(frame.shape),
)
def test_frames(frame):
    frame.attrs["unit"] = "mV"
    again = there_and_back(frame)
    test = (
        pd.testing.assert_frame_equal
        if isinstance(frame, pd.DataFrame)
        else pd.testing.assert_series_equal
    )
    test(frame, again)
    assert again.attrs == {"unit": "mV"}
    assert encode(again).address == encode(frame).address
    again.attrs["unit"] = "V"
    assert encode(again).address != encode(frame).address


def test_masked_values_under_the_mask_do_not_count():
    a, b = pd.array([1, None], "Int64"), pd.array([1, None], "Int64")
    b._data[1] = 77
    assert encode(pd.Series(a)).address == encode(pd.Series(b)).address


def test_masked_arrays():
    a = np.ma.MaskedArray([1.0, 2.0, 3.0], mask=[0, 1, 0], fill_value=-1)
    b = np.ma.MaskedArray([1.0, 9.0, 3.0], mask=[0, 1, 0], fill_value=-1)
    assert encode(a).address == encode(b).address
    others = [
        np.ma.MaskedArray([1.0, 2.0, 3.0], mask=[1, 1, 0], fill_value=-1),
        np.ma.MaskedArray([1.0, 2.0, 3.0], mask=[0, 1, 0], fill_value=-2),
        np.ma.MaskedArray([1.0, 2.0, 3.0], mask=[0, 0, 0]),
        np.ma.MaskedArray([1.0, 2.0, 3.0]),
        np.array([1.0, 2.0, 3.0]),
    ]
    assert len({encode(other).address for other in [a, *others]}) == 6
    again = there_and_back(a)
    assert type(again) is np.ma.MaskedArray and again.fill_value == -1
    assert again.tolist() == a.tolist() and again.dtype == a.dtype


def test_padding_does_not_count():
    a = np.frombuffer(np.full(32, 255, "u1").tobytes(), "g").copy()
    b = np.zeros(2, "g")
    a[:], b[:] = 1.5, 1.5
    assert encode(a).address == encode(b).address
    aligned = np.dtype([("a", "i1"), ("b", "i8")], align=True)
    x = np.frombuffer(np.full(aligned.itemsize, 255, "u1").tobytes(), aligned).copy()
    y = np.zeros(1, aligned)
    x["a"], x["b"] = y["a"], y["b"]
    assert encode(x).address == encode(y).address


def test_looking_at_a_cached_property_changes_nothing():
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
    assert encode(value).address == before
    value.extra = 1
    assert encode(value).address != before


class Plain:
    def __init__(self, x):
        self.x = x


class Slotted:
    __slots__ = ("__hidden", "x")

    def __init__(self, x):
        self.x, self.__hidden = x, -x


class Stateful(Plain):
    def __getstate__(self):
        return [self.x, "kept"]

    def __setstate__(self, state):
        self.x = state[0]
        self.cache = "made anew"


def test_instances_of_the_project_s_classes():
    assert vars(there_and_back(Plain([1, {2}]))) == {"x": [1, {2}]}
    again = there_and_back(Slotted(3))
    assert (again.x, again._Slotted__hidden) == (3, -3)
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
        (lambda: type("SubList", (list,), {})([1]), "SubList"),
    ],
)
def test_refusals_name_the_place(make, place):
    value = make()
    with pytest.raises(CannotEncode, match=place):
        encode(value)
    if hasattr(value, "close"):
        value.close()


def test_cycles_depth_and_explosions_are_refused():
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
    data = encode(Setting("a")).data.replace(b"test_values:Setting", b"antigravity:Setting")
    with pytest.raises(CannotDecode, match="antigravity"):
        decode(data, lambda digest, size: memoryview(b""))
    assert "antigravity" not in sys.modules
