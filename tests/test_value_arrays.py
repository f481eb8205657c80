"""Values of NumPy and pandas: identical exactly when they have one address."""

import datetime as dt
import io
import itertools
import math
import warnings
import zoneinfo

import msgpack
import numpy as np
import pandas as pd
import pytest
from conftest import count
from hypothesis import HealthCheck, given, settings
from identity import StringDType, identical, pa, there_and_back
from nearness import pairs
from strategies import COLUMNS, OFFSETS, STRINGS, ZONES, numpy_values, pandas_values

from kachery_tasks.errors import CannotDecode, CannotEncode
from kachery_tasks.values import decode, encode, registry

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")
CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
MANY = settings(max_examples=count(100_000, 500), deadline=None, suppress_health_check=CHECKS)
SOME = settings(max_examples=count(20_000, 300), deadline=None, suppress_health_check=CHECKS)


def address(value):
    return encode(value).address


def assert_same(*values):
    assert len({address(value) for value in values}) == 1


def assert_differ(*values):
    for a, b in itertools.combinations(values, 2):
        assert address(a) != address(b), (a, b)


def survives(value):
    again = there_and_back(value)
    assert identical(value, again)
    assert address(again) == address(value)
    return again


@MANY
@pytest.mark.timeout(3600)
@given(numpy_values)
def test_decoding_numpy_gives_back_an_identical_value(value):
    survives(value)


@MANY
@pytest.mark.timeout(3600)
@given(pairs(numpy_values))
def test_one_address_exactly_when_identical_in_numpy(pair):
    a, b = pair
    assert (address(a) == address(b)) == identical(a, b)


@SOME
@pytest.mark.timeout(3600)
@given(pandas_values)
def test_decoding_pandas_gives_back_an_identical_value(value):
    survives(value)


@SOME
@pytest.mark.timeout(3600)
@given(pairs(pandas_values))
def test_one_address_exactly_when_identical_in_pandas(pair):
    a, b = pair
    assert (address(a) == address(b)) == identical(a, b)


# NumPy: arrays and dtypes


def test_a_memory_map_is_the_array_it_shows(tmp_path):
    array = np.arange(10.0)
    array.tofile(tmp_path / "a")
    mapped = np.memmap(tmp_path / "a", dtype="f8", mode="r")
    assert_same(mapped, array)
    assert_differ(array, np.memmap(tmp_path / "a", dtype="f8", mode="r", shape=(2, 5)))
    assert_same(np.ma.array(mapped, mask=array > 3), np.ma.array(array, mask=array > 3))


def test_large_contiguous_memory_is_not_copied():
    array = np.arange(60_000.0).reshape(200, 300)
    frame = pd.DataFrame({"a": array.reshape(-1), "b": 1})
    masked = np.ma.array(array, mask=False)
    for value, memory in [
        *((array, array), (array.T, array), (masked, array), (array.view(np.matrix), array)),
        (frame, frame["a"].to_numpy()),
    ]:
        blobs = [np.frombuffer(blob.memory, "u1") for blob in encode(value).blobs]
        assert any(np.shares_memory(blob, memory) for blob in blobs), type(value)


def test_long_doubles_in_either_byte_order():
    values = [1.5, 1.5000001, -0.0, 0.0, math.inf]
    assert_differ(*(np.array([v], order + "f16") for v in values for order in "<>"))
    for order in "<>":
        garbage = np.frombuffer(bytearray(range(32)), order + "f16")
        clean = np.zeros(2, order + "f16")
        garbage[:], clean[:] = 1.5, 1.5
        assert_same(garbage, clean)
        assert_same(np.array([(1, clean)], [("a", "i1"), ("b", order + "f16", (2,))]),
                    np.array([(1, garbage)], [("a", "i1"), ("b", order + "f16", (2,))]))  # fmt: skip
        assert survives(clean).tolist() == [1.5, 1.5]


def test_long_doubles_of_another_machine_are_refused():
    data = encode(np.array([1.5], "g")).data
    assert b"\x3f" in data  # 63 bits of mantissa
    with pytest.raises(CannotDecode, match="112 bits"):
        decode(data.replace(b"f16\x3f", b"f16\x70"), None)


def test_padding_does_not_count():
    aligned = np.dtype([("a", "i1"), ("b", "i8")], align=True)
    x = np.frombuffer(np.full(aligned.itemsize, 255, "u1").tobytes(), aligned).copy()
    y = np.zeros(1, aligned)
    x["a"], x["b"] = y["a"], y["b"]
    assert_same(x, y)
    assert_differ(y, y.astype([("a", "i1"), ("b", "i8")]))


def test_strings_without_length_and_dtypes_without_fields():
    for dtype in ("U0", "S0", "V0"):
        assert survives(np.ndarray(3, dtype)).dtype.itemsize == 0
        survives(np.zeros(2, [("a", dtype), ("b", "i1")]))
    survives(np.zeros(3, []))
    survives(np.zeros(3, {"names": [], "formats": [], "offsets": [], "itemsize": 8}))


def test_metadata_of_every_dtype():
    def noted(dtype, metadata):
        return np.dtype(dtype, metadata=metadata)

    inner = noted("<f8", {"unit": "m"})
    for dtype in ([("a", inner)], (inner, (2,)), np.dtype((np.record, [("a", inner)]))):
        plain = np.dtype(dtype)
        each = [plain, noted(plain, {"k": [1]}), noted(plain, {"k": [2]})]
        assert_differ(*each)
        assert_same(plain, noted(plain, {}))
        for one in each:
            assert survives(one).metadata == one.metadata
    assert survives(np.zeros(2, [("a", inner)])).dtype["a"].metadata["unit"] == "m"


def test_dtypes_that_are_not_numpys_own_are_refused():
    try:
        from numpy._core._rational_tests import rational
    except ImportError:
        from numpy.core._rational_tests import rational
    fields = {"real": (np.int16, 0), "imag": (np.int16, 2)}
    for value in (
        *(np.zeros(2, rational), np.zeros(2, [("a", rational)]), np.dtype(rational)),
        *(np.zeros(2, np.dtype((np.int32, fields))), rational(1, 2)),
    ):
        with pytest.raises(CannotEncode):
            encode(value)


@pytest.mark.skipif(StringDType is None, reason="needs NumPy 2")
def test_strings_of_any_width():
    kinds = [
        *(StringDType(), StringDType(coerce=False), StringDType(na_object=None)),
        *(
            StringDType(na_object=math.nan),
            StringDType(na_object=pd.NA),
            StringDType(na_object="-"),
        ),
    ]
    arrays = [np.array(["a\0", "", "ü" * 40], kind) for kind in kinds]
    assert_differ(*kinds, *arrays)
    for kind, array in zip(kinds, arrays, strict=True):
        survives(kind)
        assert survives(array.reshape(1, 3).T).tolist() == [["a\0"], [""], ["ü" * 40]]
        if hasattr(kind, "na_object"):
            missing = np.array(["a", kind.na_object], kind)
            assert identical(survives(missing).tolist()[1], kind.na_object)
            assert_differ(missing, np.array(["a", ""], kind))


def test_scalars_and_names_that_numpy_has_twice():
    assert_same(np.longlong(5), np.int64(5))
    assert_same(np.dtype("q"), np.dtype("l"))
    assert_differ(
        np.int64(5), np.uint64(5), np.int32(5), np.timedelta64(5, "s"), np.array([5]).view("m8")[0]
    )
    assert_differ(np.timedelta64(1, "25s"), np.timedelta64(25, "s"), np.timedelta64("NaT", "s"))
    assert_differ(np.void(b"ab"), np.bytes_(b"ab"), np.array(b"ab"), np.array(b"ab", "V2"))
    record = np.array([(1, [2])], np.dtype((np.record, [("a", ">i4"), ("b", "O")])))
    assert type(survives(record[0])) is np.record


def test_subclasses_are_types_of_their_own():
    base = np.array([["a ", "b"]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        chars = base.view(np.char.chararray)
    records = np.zeros((1, 2), [("a", "i4")])
    values = [base, chars, base.view(np.matrix), base.view(np.recarray), np.ma.array(base)]
    values += [
        records,
        records.view(np.recarray),
        records.astype(np.dtype((np.record, records.dtype))),
    ]
    assert_differ(*values)
    for value in values:
        assert type(survives(value)) is type(value)
    values[2].note = 1
    with pytest.raises(CannotEncode, match="note"):
        encode(values[2])


def test_object_arrays_hold_anything_but_themselves():
    array = np.empty(3, object)
    array[:] = [np.array([1, 2]), np.array(5), [np.float32(1)]]
    assert [type(item) for item in survives(array)] == [np.ndarray, np.ndarray, list]
    array[1] = array
    with pytest.raises(CannotEncode, match="itself"):
        encode(array)


def test_polynomials_and_calendars():
    P = np.polynomial
    values = [P.Polynomial([1, 2]), P.Chebyshev([1, 2]), P.Polynomial([1, 2], symbol="z")]
    values += [P.Polynomial([1, 2], domain=[0, 1]), P.Polynomial([1, 2, 0]), np.poly1d([1, 2])]
    values += [np.poly1d([1, 2], variable="s"), np.array([1.0, 2.0])]
    assert_differ(*values)
    values[-2][1] = 0.0
    for value in values:
        assert repr(there_and_back(value)) == repr(value)
    assert_same(P.Polynomial([1], domain=P.Polynomial.domain), P.Polynomial([1]))
    days = np.busdaycalendar("1010000", ["2024-01-01"])
    assert there_and_back(days).weekmask.tolist() == days.weekmask.tolist()
    assert_differ(days, np.busdaycalendar("1010000"))


@pytest.mark.parametrize(
    "make",
    [lambda: np.nditer([1]), lambda: np.arange(2).flat, lambda: np.broadcast([1], [2]), lambda: np.iinfo("i4")],
)  # fmt: skip
def test_views_of_arrays_are_refused(make):
    with pytest.raises(CannotEncode, match="numpy"):
        encode(make())


# Masked arrays


def test_masked_arrays():
    a = np.ma.MaskedArray([1.0, 2.0, 3.0], mask=[0, 1, 0], fill_value=-1)
    b = np.ma.MaskedArray([1.0, 9.0, 3.0], mask=[0, 1, 0], fill_value=-1)
    assert_same(a, b)
    assert_differ(
        a,
        np.ma.MaskedArray([1.0, 2.0, 3.0], mask=[1, 1, 0], fill_value=-1),
        np.ma.MaskedArray([1.0, 2.0, 3.0], mask=[0, 1, 0], fill_value=-2),
        np.ma.MaskedArray([1.0, 2.0, 3.0], mask=[0, 1, 0]),
        np.ma.MaskedArray([1.0, 2.0, 3.0], mask=[0, 0, 0]),
        np.ma.MaskedArray([1.0, 2.0, 3.0]),
        np.ma.MaskedArray([1.0, 2.0, 3.0], mask=[0, 1, 0], fill_value=-1, hard_mask=True),
        np.array([1.0, 2.0, 3.0]),
    )
    assert survives(a).fill_value == -1
    assert there_and_back(np.ma.masked) is np.ma.masked


def test_looking_at_a_masked_array_changes_nothing():
    kinds = ["i1", "f4", "U1", "M8[s]", "O", [("a", "i2"), ("b", [("c", "f4", (1,))])]]
    for dtype in kinds:
        array = np.ma.array(np.zeros(2, dtype), mask=True)
        before = address(array)
        repr(array), array.fill_value, array[:1]
        assert address(array) == before
        assert identical(there_and_back(array).fill_value, array.fill_value)
    chosen = np.ma.array([1, 2], dtype="i1", mask=[0, 1], fill_value=63)
    assert survives(chosen).fill_value == 63


def test_masks_of_structures_hide_field_by_field():
    dtype = [("a", "i4"), ("b", [("c", "f8"), ("d", "O", (2,))])]
    mask = [(1, (0, [0, 1])), (0, (1, [0, 0]))]
    a, b = (np.ma.array(np.zeros(2, dtype), mask=mask) for _ in range(2))
    a.data["a"][0], a.data["b"]["c"][1], a.data["b"]["d"][0, 1] = 7, 8, "hidden"
    assert_same(a, b)
    a.data["b"]["c"][0] = 8
    assert_differ(a, b)
    survives(a)
    overlapping = np.zeros(
        2, {"names": "ab", "formats": ["i4", "i4"], "offsets": [0, 0], "itemsize": 9}
    )
    with pytest.raises(CannotEncode, match="overlap"):
        encode(np.ma.array(overlapping, mask=[(0, 1), (0, 0)]))


def test_a_masked_view_is_its_copy():
    base = np.arange(6.0).reshape(2, 3)
    view = np.ma.array(base.T[::-1], mask=np.eye(3, 2)[::-1])
    assert_same(view, np.ma.array(base.T[::-1].copy("C"), mask=np.eye(3, 2)[::-1].copy("C")))
    matrix = np.ma.array(base.view(np.matrix), mask=base > 3)
    assert type(survives(matrix).data) is np.matrix


def test_attributes_of_a_masked_array_are_refused():
    array = np.ma.array([1])
    array.note = "x"
    with pytest.raises(CannotEncode, match="note"):
        encode(array)
    records = np.zeros(2, [("a", "i4")]).view(np.recarray)
    vars(records)["note"] = "x"
    with pytest.raises(CannotEncode, match="note"):
        encode(np.ma.array(records))
    with pytest.raises(CannotEncode, match="mvoid"):
        encode(np.ma.array([(1, 2)], "i4,i4", mask=[(1, 0)])[0])


# Random generators


@pytest.mark.parametrize("kind", ["MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64"])
def test_generators_go_on_where_they_were(kind):
    bits = getattr(np.random, kind)(np.random.SeedSequence(5, spawn_key=(1,), pool_size=8))
    for generator in (bits, np.random.Generator(bits), np.random.RandomState(bits)):
        bits.random_raw(3)
        again = survives(generator)
        assert type(again) is type(generator)
        draw = "random_raw" if generator is bits else "bytes"
        assert np.array_equal(*(getattr(g, draw)(1000) for g in (generator, again)))
        survives(generator)
    assert there_and_back(bits).seed_seq.spawn(1)[0].state == bits.seed_seq.spawn(1)[0].state


def test_a_legacy_generator_and_seeds():
    old = np.random.RandomState(3)
    old.normal()
    assert there_and_back(old).normal() == old.normal()
    unseeded = np.random.Generator(np.random.RandomState(3)._bit_generator)
    assert survives(unseeded).bit_generator.seed_seq is None
    seeds = [np.random.SeedSequence(5), np.random.SeedSequence(5, spawn_key=(1,))]
    seeds += [np.random.SeedSequence([5]), np.random.SeedSequence(5, pool_size=8)]
    assert_differ(*seeds)
    assert all(
        survives(s).generate_state(2).tolist() == s.generate_state(2).tolist() for s in seeds
    )
    seeds[0].spawn(1)
    assert_differ(seeds[0], np.random.SeedSequence(5))


def test_generators_of_others_are_refused():
    class Seeds(np.random.bit_generator.ISeedSequence):
        def generate_state(self, n_words, dtype=np.uint32):
            return np.arange(n_words, dtype=dtype)

    with pytest.raises(CannotEncode, match="Seeds"):
        encode(np.random.Generator(np.random.PCG64(Seeds())))
    with pytest.raises(CannotEncode, match="pool"):
        encode(np.random.SeedSequence(1, pool_size=5000))


# pandas: frames


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
        pd.DataFrame(index=[1, 2]),
        pd.DataFrame(columns=pd.date_range("2024", periods=2)),
        pd.DataFrame({"s": pd.arrays.SparseArray([0, 0, 1]), "i": pd.interval_range(0, 3)}),
        pd.Series([dt.date(2024, 1, 1), 5, None], dtype=object),
        pd.Series(np.zeros(100_000), name=("a", 1)),
    ],
    ids=lambda frame: str(frame.shape),
)
def test_frames(frame):
    frame.attrs["unit"] = "mV"
    again = survives(frame)
    test = (
        pd.testing.assert_frame_equal
        if isinstance(frame, pd.DataFrame)
        else pd.testing.assert_series_equal
    )
    test(frame, again)
    assert again.attrs == {"unit": "mV"}
    again.attrs["unit"] = "V"
    assert_differ(frame, again)


def test_blocks_do_not_count():
    frame = pd.DataFrame(np.arange(12.0).reshape(4, 3), columns=list("abc"))
    single = pd.DataFrame({name: frame[name].to_numpy().copy() for name in frame})
    grown = frame[["a"]].copy()
    grown["b"], grown["c"] = frame["b"], frame["c"]
    fortran = pd.DataFrame(np.asfortranarray(frame.to_numpy()), columns=list("abc"))
    assert_same(frame, single, grown, fortran)


def test_what_a_mask_hides_does_not_count():
    a, b = pd.array([1, None], "Int64"), pd.array([1, None], "Int64")
    b._data[1] = 77
    assert_same(pd.Series(a), pd.Series(b))
    assert_differ(pd.Series(a), pd.Series(pd.array([1, 0], "Int64")))
    nan = pd.arrays.FloatingArray(np.array([1, np.nan]), np.array([False, False]))
    assert_differ(nan, pd.array([1, None], "Float64"))
    survives(nan)


@pytest.mark.parametrize(
    "look",
    [
        lambda frame: frame.groupby("a"),
        lambda frame: frame.groupby("a")["b"],
        lambda frame: frame.rolling(2),
        lambda frame: frame["a"].expanding(),
        lambda frame: frame.set_index(pd.date_range("2024", periods=2)).resample("D"),
        lambda frame: type("Measured", (pd.DataFrame,), {})(frame),
    ],
)
def test_ways_to_look_at_a_frame_are_refused(look):
    with pytest.raises(CannotEncode, match="pandas"):
        encode(look(pd.DataFrame({"a": [1, 2], "b": [3, 4]})))


def test_columns_of_others_are_refused():
    class Counts(pd.arrays.IntegerArray):
        pass

    counts = Counts(np.arange(2), np.zeros(2, bool))
    with pytest.raises(CannotEncode, match="Int64"):
        encode(pd.DataFrame({"a": counts}))


# pandas: columns


TEXTS = ["a", None, "", "ü\0", "\U0001f600" * 30]


def test_how_strings_are_held_does_not_count():
    arrays = [pd.array(TEXTS, kind) for kind in STRINGS]
    for missing_is_na in (True, False):
        alike = [a for a in arrays if (a.dtype.na_value is pd.NA) == missing_is_na]
        if alike:
            assert_same(*alike)
            assert_same(*(a.dtype for a in alike))
            assert_same(*(pd.Series(a[::-1])[::-1] for a in alike), pd.Series(alike[0][::-1])[::-1])
    assert_differ(
        *{(a.dtype.na_value is pd.NA): a for a in arrays}.values(), np.array(TEXTS, object)
    )
    for array in arrays:
        survives(array)
        survives(pd.Index(array))
        assert_differ(array, pd.array([*TEXTS[:-1], "x"], array.dtype), array[:-1], array[1:])


def test_strings_that_arrow_cannot_hold():
    column = pd.Series(["\ud800", None, "\ud83d", "\ude00"], dtype=pd.StringDtype("python"))
    assert survives(column).iloc[2] == "\ud83d"
    subclass = pd.Series([np.str_("a"), None], dtype=pd.StringDtype("python"))
    assert_same(subclass, pd.Series(["a", None], dtype=pd.StringDtype("python")))


@pytest.mark.skipif(pa is None, reason="needs PyArrow")
def test_chunks_and_slices_of_strings_do_not_count():
    whole = pa.chunked_array([pa.array(["x", "a", None, "bc"], pa.large_string())])
    pieces = pa.chunked_array([["x", "a"], [], [None, "bc"]], pa.large_string())
    first, second = (pd.arrays.ArrowStringArray(chunks) for chunks in (whole, pieces))
    assert_same(first, second)
    assert_same(first[1:], second[1:], pd.array(["a", None, "bc"], pd.StringDtype("pyarrow")))


@pytest.mark.skipif(pa is None, reason="needs PyArrow")
def test_columns_of_arrow():
    kinds = [pa.int64(), pa.int32(), pa.string(), pa.list_(pa.int64()), pa.timestamp("ms", "UTC")]
    arrays = [pd.array([None, None], pd.ArrowDtype(kind)) for kind in kinds]
    assert_differ(*arrays, *(a.dtype for a in arrays), *map(pd.Series, arrays))
    for array in arrays:
        survives(array)
        survives(array.dtype)
        survives(pd.DataFrame({"a": array}))


def test_categories_of_any_type():
    options = [
        ["b", "a"],
        [2, 1],
        [2.0, 1.0],
        pd.interval_range(0, 2),
        pd.period_range("2024", periods=2),
    ]
    options += [pd.date_range("2024", periods=2), pd.RangeIndex(2), pd.Index(["b", "a"], name="n")]
    values = [pd.Categorical.from_codes([0, -1], pd.Index(o)) for o in options]
    values += [values[0].as_ordered(), values[0].reorder_categories(["a", "b"])]
    assert_differ(*values, *(v.dtype for v in values))
    for value in values:
        survives(pd.Series(value))
    assert_differ(pd.CategoricalDtype(), pd.CategoricalDtype(ordered=True), values[0].dtype)


def test_what_is_sparse_says_how():
    values = [pd.arrays.SparseArray(list(dense), kind=kind, fill_value=fill)
              for dense in ([0, 0, 1, 1], [0.0, 1.0, 1.0, 0.0]) for kind in ("integer", "block") for fill in (0, 1)]  # fmt: skip
    assert_differ(*values, np.array([0, 0, 1, 1]), pd.array([0, 0, 1, 1]))
    for value in [*values, pd.arrays.SparseArray(["a", None, "b"]), pd.arrays.SparseArray([])]:
        survives(value)
        survives(pd.DataFrame({"s": value}))


def test_intervals_do_not_have_frequencies():
    index = pd.interval_range(pd.Timestamp("2024", tz="UTC"), periods=3, closed="both")
    rebuilt = pd.IntervalIndex(list(index), closed="both").astype(index.dtype)
    assert_same(index, rebuilt)
    assert_same(index.array, rebuilt.array)
    survives(index)


@pytest.mark.parametrize("make", COLUMNS)
def test_arrays_of_each_kind_alone(make):
    rng = np.random.default_rng(5)
    for _ in range(10):
        column = pd.Series(make(rng, 3))
        assert_differ(column, column.array, column.index)
        survives(column.array)
        survives(column.dtype)


# pandas: indexes


def test_indexes_that_others_confuse():
    tuples = pd.Index([(1, 2), (1, 3)], tupleize_cols=False)
    assert_differ(
        tuples,
        pd.MultiIndex.from_tuples([(1, 2), (1, 3)]),
        pd.MultiIndex(levels=[[1, 9], [2, 3]], codes=[[0, 0], [0, 1]]),
        pd.MultiIndex(levels=[[1], [2, 3]], codes=[[0, 0], [0, 1]], sortorder=2),
        pd.MultiIndex.from_tuples([(1, 2), (1, 3)], names=["a", None]),
    )
    assert type(survives(tuples)) is pd.Index
    assert_differ(
        *(pd.RangeIndex(0, 4, 3), pd.RangeIndex(0, 5, 3), pd.Index([0, 3]), pd.Index([0, 3], dtype="i4")),
        *(pd.Index([0, 3], dtype="Int64"), pd.Index([0, 3], dtype=object), pd.Index([0.0, 3.0])),
    )  # fmt: skip
    dates = pd.date_range("2024", periods=3)
    assert_differ(dates, dates._with_freq(None), dates.as_unit("s"), dates.tz_localize("UTC"))
    survives(pd.Index([dt.date(2024, 1, 1), pd.Timestamp("2024")], dtype=object))


@pytest.mark.parametrize("offset", OFFSETS, ids=str)
def test_offsets_and_frequencies(offset):
    survives(offset)
    index = pd.date_range("2024-03-29", periods=4, freq=offset)
    if index.freq is not None:
        assert_differ(index, index._with_freq(None))
    assert survives(index).freq == index.freq


def test_offsets_that_a_text_does_not_tell_apart():
    O = pd.offsets
    days = [O.CustomBusinessDay(holidays=["2024-01-02"]), O.CustomBusinessDay(weekmask="Mon")]
    days += [
        O.CustomBusinessDay(calendar=np.busdaycalendar("1000000")),
        O.BusinessDay(normalize=True),
    ]
    assert_differ(*days, *OFFSETS[:8], *OFFSETS[9:])
    assert_differ(
        pd.DateOffset(months=1, days=2), pd.DateOffset(days=1, months=2), O.Day(), O.Hour(24)
    )
    assert_same(pd.DateOffset(months=1, days=2), pd.DateOffset(days=2, months=1))
    relative = pytest.importorskip("dateutil.relativedelta")
    survives(pd.DateOffset(weekday=relative.MO(2)))


# pandas: times


def test_a_zone_is_its_name():
    berlin = [zoneinfo.ZoneInfo("Europe/Berlin"), "Europe/Berlin"]
    assert_same(*(pd.Timestamp("2024", tz=zone) for zone in berlin))
    assert_same(*(pd.Series(pd.date_range("2024", periods=2, tz=zone)) for zone in berlin))
    assert_differ(*(pd.Timestamp(0, tz=zone) for zone in [None, *ZONES[1:]]))
    tz = pytest.importorskip("dateutil.tz")
    with pytest.raises(CannotEncode, match="tz_convert"):
        encode(pd.Timestamp(0, tz=tz.tzoffset("X", 3600)))
    data = encode(pd.Timestamp(0, tz="Europe/Berlin")).data
    with pytest.raises(CannotDecode, match="time zone"):
        decode(data.replace(b"Europe/Berlin", b"dateutil/x/yz"), None)


def test_units_of_time():
    stamps = [pd.Timestamp("2024-01-01").as_unit(unit) for unit in ("s", "ms", "us", "ns")]
    spans = [pd.Timedelta(1, "D").as_unit(unit) for unit in ("s", "ms", "us", "ns")]
    stamps += [pd.Timestamp("2024-01-01").replace(fold=1), np.datetime64("2024-01-01")]
    assert_differ(*stamps, *spans, dt.datetime(2024, 1, 1), dt.timedelta(1))
    edges = [pd.Timestamp.min, pd.Timestamp.max, pd.Timestamp(np.datetime64(10**12, "s"))]
    edges += [pd.Timedelta.min, pd.Timedelta.max, pd.Timestamp.max.tz_localize("UTC")]
    for value in [*stamps, *spans, *edges]:
        survives(value)
    hour = pd.Timestamp("2024-10-27", tz="UTC")
    twice = [(hour + pd.Timedelta(m, "min")).tz_convert("Europe/Berlin") for m in (30, 90)]
    assert_differ(*twice)
    assert [survives(stamp).fold for stamp in twice] == [0, 1]


# What bytes may say


def refuses(name, *parts):
    with pytest.raises(CannotDecode):
        decode(_typed(name, *parts), None)


def _typed(name, *parts):
    body = b"".join(encode(part).data[4:] for part in (name, *parts))
    header = msgpack.Packer().pack_array_header(len(parts) + 1)
    return encode(None).data[:4] + msgpack.packb(msgpack.ExtType(7, header + body))


def test_decoders_refuse_what_would_reach_beyond_memory():
    state = np.random.MT19937(0).state
    refuses("numpy.random.BitGenerator", state | {"state": state["state"] | {"pos": 10**6}}, None)
    state = np.random.Philox(0).state
    refuses("numpy.random.Generator", state | {"buffer_pos": -9}, [1, (), 4, 0])
    level, codes = pd.Index(["a"]), np.array([0, 5])
    refuses("pandas.MultiIndex", [level], [codes], [None])
    refuses("pandas.array", ["category", level, codes, False])
    refuses("pandas.array", ["period", 0, "M"])
    refuses("pandas.array", ["sparse", np.array([1]), np.array([9], "i4"), 5, 0, "integer"])
    refuses("pandas.array", ["sparse", np.array([1]), np.array([1, 2], "i4"), 5, 0, "integer"])
    refuses("pandas.array", ["masked", np.array([1, 2]), np.array([False])])
    refuses("pandas.array", ["string", True, 2, None, b"\0" * 8 + b"\5" * 16, b"abc"])


def test_decoders_refuse_arrays_that_do_not_fit():
    for shape, content in [([3], b"\0" * 8), ([-1], b"\0" * 8), ([1.0], b"\0" * 8), ([2], b"")]:
        refuses("numpy.ndarray", "<f8", shape, "C", content)
    for dtype in (
        "float64",
        "f8,i4",
        "|O8",
        ["struct", [["a", 0, "|O"]], 4, False],
        ["what"],
        ["long", "<f16", 5],
    ):
        refuses("numpy.dtype", dtype)
    refuses("numpy.ndarray", "|O", [10**12], "C", [])
    struct = ["struct", [["a", 0, "<i4"]], 4, False]
    refuses("numpy.ndarray", struct, [2], "C", [np.zeros(1, "i4")])
    refuses("numpy.ndarray", struct, [1], "C", [np.zeros(1, "f4")])
    refuses("numpy.random.SeedSequence", 5, (), 10**9, 0)
    if StringDType is not None:
        refuses("numpy.ndarray", ["string", True, []], [1], "C", [5])


def test_nothing_is_registered_under_two_meanings():
    names = {c.name for c in registry._by_type.values()} | set(registry._by_name)
    assert not any(name.startswith(("numpy.refused", "pandas.refused")) for name in names)


@pytest.mark.parametrize(
    "value",
    [
        np.array([(1, 2.5)], [("a", "<i2"), ("b", "<f8")]),
        np.ma.array([1, 2], mask=[0, 1]),
        np.random.default_rng(5),
        pd.DataFrame({"a": [1, 2], "s": ["x", None], "c": pd.Categorical(["u", "v"])}),
        pd.MultiIndex.from_tuples([(1, "a"), (2, "b")]),
        pd.date_range("2024", periods=3, tz="UTC"),
        pd.Series(pd.array([1, None], "Int64")),
        pd.Series(pd.period_range("2024", periods=2, freq="M")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_damaged_encodings_are_typed_errors(value):
    data = encode(value).data
    rng = np.random.default_rng(0)
    for position in rng.permutation(8 * len(data))[: count(8 * len(data), 400)]:
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                again = decode(bytes(damaged), lambda digest, size: memoryview(bytearray(8)))
            except CannotDecode:
                continue
            try:
                print(repr(again)[:0], end="", file=io.StringIO())  # it can be looked at
            except ValueError as error:  # a dtype became big-endian, which pandas cannot show
                assert "Big-endian" in str(error)
