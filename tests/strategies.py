"""Values of every kind that the format names."""

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import math
import pathlib
import random
import re
import struct
import uuid
import zoneinfo

import numpy as np
import pandas as pd
from hypothesis import strategies as st
from identity import StringDType, pa


class Mode(enum.Enum):
    FAST = 1
    SLOW = "slow"
    ODD = float("nan")


class Word(enum.StrEnum):
    A = "a"
    B = "b"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Right(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()
    RUN = enum.auto()


@dataclasses.dataclass
class Setting:
    name: str
    values: object = None


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: object


class Plain:
    def __init__(self, x):
        self.x = x


class Slotted:
    __slots__ = ("__hidden", "x")

    def __init__(self, x):
        self.x, self.__hidden = x, [x]


Pair = collections.namedtuple("Pair", "a b")


# Values of the standard library


def float_of(bits):
    return struct.unpack("<d", struct.pack("<Q", bits))[0]


nans = st.builds(
    lambda payload, sign: float_of(0x7FF << 52 | sign << 63 | payload),
    st.integers(1, 2**52 - 1),
    st.integers(0, 1),
)
integers = st.one_of(
    st.integers(-3, 300),
    st.builds(lambda p, d, s: s * (2**p + d), st.integers(0, 130), st.integers(-1, 1), st.sampled_from([1, -1])),
    st.integers(),
)  # fmt: skip
floats = st.floats() | nans | st.sampled_from([0.0, -0.0, 1.0, math.inf, 5e-324])
texts = st.text(st.characters(exclude_categories=()), max_size=8)
ZONES = [
    dt.UTC,
    dt.timezone(dt.timedelta(0), "UTC"),
    dt.timezone(dt.timedelta(minutes=-90)),
    dt.timezone(dt.timedelta(hours=5, minutes=30), "IST"),
    *map(zoneinfo.ZoneInfo, ("UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu")),
]
zones = st.sampled_from([None, *ZONES])
folds = st.integers(0, 1)
datetimes = st.builds(lambda t, z, f: t.replace(tzinfo=z, fold=f), st.datetimes(), zones, folds)
times = st.builds(lambda t, z, f: t.replace(tzinfo=z, fold=f), st.times(), zones, folds)
parts_of_paths = st.text(min_size=1, max_size=6).filter(lambda s: "\0" not in s)
patterns = st.sampled_from(
    [
        re.compile(p, f)
        for p in ("a+", "(?i)b", "")
        for f in (0, re.IGNORECASE, re.MULTILINE | re.DOTALL)
    ]
    + [re.compile(b"a+"), re.compile("a+", re.ASCII), re.compile("(?P<n>x)|\\d")]
)
hashable_scalars = st.one_of(
    st.none(),
    st.booleans(),
    integers,
    floats,
    st.builds(complex, floats, floats),
    texts,
    st.binary(max_size=8),
    st.decimals(allow_nan=False),
    st.dates(),
    datetimes,
    times,
    st.timedeltas(),
    st.uuids(allow_nil=True),
    st.builds(lambda i, s: uuid.UUID(int=i, is_safe=s), st.integers(0, 3), st.sampled_from(uuid.SafeUUID)),
    st.fractions(),
    st.sampled_from([*Mode, *Word, *Level, *Right, Right(0), Right.READ | Right.RUN]),
    st.builds(pathlib.PurePosixPath, parts_of_paths),
    st.builds(pathlib.PosixPath, parts_of_paths),
    st.builds(pathlib.PureWindowsPath, parts_of_paths),
    st.builds(range, st.integers(-9, 9), st.integers(-9, 9), st.sampled_from([1, 2, -1])),
    patterns,
    st.sampled_from([..., NotImplemented, int, Plain, Mode, np.float32, *ZONES]),
)  # fmt: skip
scalars = st.one_of(
    hashable_scalars,
    st.builds(slice, integers | st.none(), integers | st.none(), integers | st.none()),
    st.builds(bytearray, st.binary(max_size=8)),
    st.sampled_from(["NaN", "-NaN", "sNaN12"]).map(decimal.Decimal),
    st.builds(random.Random, st.integers(0, 9)),
)
hashable = st.recursive(
    hashable_scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.frozensets(inner, max_size=3),
        st.builds(Pair, inner, inner),
        st.builds(Frozen, inner),
    ),
    max_leaves=4,
)


def containers(inner):
    """Containers of values."""
    mappings = st.dictionaries(hashable, inner, max_size=3)
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        mappings,
        mappings.map(collections.OrderedDict),
        st.builds(collections.defaultdict, st.sampled_from([None, int, list]), mappings),
        st.lists(st.sampled_from("abc"), max_size=5).map(collections.Counter),
        st.builds(collections.deque, st.lists(inner, max_size=3), st.none() | st.integers(3, 4)),
        st.sets(hashable, max_size=4),
        st.frozensets(hashable, max_size=4),
        st.builds(Setting, texts, inner),
        st.builds(Plain, inner),
        st.builds(Slotted, inner),
        st.builds(Pair, inner, inner),
        st.builds(lambda items: objects(items), st.lists(inner, max_size=3)),
    )


def objects(items):
    """A one-dimensional array of objects, whatever they are."""
    array = np.empty(len(items), object)
    for position, item in enumerate(items):
        array[position] = item
    return array


# NumPy

CHARS = [
    *("?", "i1", "u2", "<i4", ">i4", "<i8", ">u8", "<f2", ">f4", "<f8", ">f8", "g", ">g", "<c8"),
    *(">c16", "G", "S3", "S1", "U2", ">U2", "V3", "<M8[D]", ">M8[25s]", "<m8[ns]", "<m8", "O"),
]
plain_dtypes = st.sampled_from([np.dtype(char) for char in CHARS])
metadata = st.sampled_from([None, None, None, {}, {"unit": "m"}, {"unit": 1}])


def with_metadata(dtype, metadata):
    return dtype if metadata is None else np.dtype(dtype, metadata=metadata)


@st.composite
def field_dtypes(draw, inner):
    dtype = with_metadata(draw(inner), draw(metadata))
    shape = draw(st.sampled_from([None, None, (2,), (1, 2), (0,)]))
    return dtype if shape is None else np.dtype((dtype, shape))


@st.composite
def struct_dtypes(draw, inner):
    names = draw(st.lists(st.sampled_from(["a", "b", "c", "é"]), max_size=3, unique=True))
    spec = {"names": names, "formats": [draw(field_dtypes(inner)) for _ in names]}
    if draw(st.booleans()) and names:
        spec["titles"] = [f"title of {name}" for name in names]
    # NumPy 1.26 dies of a field that is aligned and has no fields itself.
    aligned = draw(st.booleans()) and all(dtype.alignment for dtype in spec["formats"])
    dtype = np.dtype(spec, align=aligned)
    if draw(st.booleans()) and not aligned:  # with gaps
        gaps = [dtype.fields[name][1] + 3 * i for i, name in enumerate(names)]
        room = dtype.itemsize + 3 * len(names) + draw(st.integers(0, 2))
        dtype = np.dtype(spec | {"offsets": gaps, "itemsize": room})
    if draw(st.sampled_from([False, False, True])):
        dtype = np.dtype((np.record, dtype))
    return with_metadata(dtype, draw(metadata))


structs = struct_dtypes(plain_dtypes | struct_dtypes(plain_dtypes))
string_dtypes = st.sampled_from(
    [None]
    if StringDType is None
    else [StringDType(), StringDType(coerce=False), StringDType(na_object=None), StringDType(na_object=math.nan)]
)  # fmt: skip
array_dtypes = st.one_of(
    st.builds(with_metadata, plain_dtypes, metadata),
    plain_dtypes,
    structs,
    string_dtypes.map(lambda d: d or np.dtype("f8")),
)
OBJECTS = [None, 1, 1.0, True, "a", (1,), [2], {"k": 3}, b"x", np.float64(1), np.arange(2), pd.NaT]


def filled(rng, dtype, count):
    """A one-dimensional array with bits of every kind, garbage between its fields included."""
    if dtype.kind == "T":
        items = ["", "a\0", "ü" * 9, getattr(dtype, "na_object", "b")]
        return np.array([items[i] for i in rng.integers(0, 4, count)], dtype)
    if dtype.hasobject or dtype.itemsize == 0:
        array = np.zeros(count, dtype)
    else:
        array = np.frombuffer(bytearray(rng.bytes(count * dtype.itemsize)), dtype)
    _fill(rng, array)
    return array


def _fill(rng, array):
    if array.dtype.names is not None:
        for name in array.dtype.names:
            _fill(rng, array[name])
    elif array.dtype.kind in "?bUO" or array.dtype.char in "gG":
        choices = {"U": ["", "a", "bc", "ü"], "O": OBJECTS, "b": [True, False]}
        some = choices.get(array.dtype.kind, [0.0, -0.0, 1.5, math.nan, -math.inf])
        for place in np.ndindex(array.shape):
            array[place] = some[rng.integers(len(some))]
    elif rng.random() < 0.5 and array.dtype.kind in "iufcMm":  # so that some are alike
        array[...] = np.array(rng.integers(0, 2, array.shape), array.dtype)


def laid_out(array, how):
    """The same content, differently in memory."""
    if how == "F":
        return np.asfortranarray(array)
    if how == "strided" and array.ndim:
        return np.repeat(array, 2, axis=-1)[..., ::2]
    if how == "reversed" and array.ndim:
        return np.ascontiguousarray(array[::-1])[::-1]
    if how == "transposed":
        return np.ascontiguousarray(array.T).T
    return array


shapes = st.sampled_from(
    [(), (0,), (1,), (3,), (2, 3), (3, 1), (1, 1), (0, 2), (2, 2, 2), (1, 3, 2)]
)
layouts = st.sampled_from(["C", "F", "strided", "reversed", "transposed"])
generators = st.builds(np.random.default_rng, st.integers(0, 2**16))


@st.composite
def arrays(draw, dtypes=array_dtypes):
    dtype, shape = draw(dtypes), draw(shapes)
    array = filled(draw(generators), dtype, math.prod(shape)).reshape(shape)
    return laid_out(array, draw(layouts))


# NumPy itself fails with masked arrays of foreign dates, of structures of dates and of no fields.
maskable = plain_dtypes.filter(lambda d: d.str[:2] != ">M") | struct_dtypes(
    st.sampled_from([np.dtype(c) for c in ("?", "i1", ">i4", "<f8", ">f4", "<c8", "S3", "U2")])
).filter(lambda d: d.names)


@st.composite
def masked_arrays(draw):
    data = draw(arrays(maskable))
    mask = draw(st.sampled_from([np.ma.nomask, True, False, "some"]))
    if isinstance(mask, str):
        mask = filled(draw(generators), np.ma.make_mask_descr(data.dtype), data.size)
        mask = laid_out(mask.reshape(data.shape), draw(layouts))
    array = np.ma.MaskedArray(data, mask=mask, hard_mask=draw(st.booleans()))
    if draw(st.booleans()) and data.dtype.kind in "iufc":
        array.fill_value = draw(st.sampled_from([0, 1, 63]))
    return array


def _of_array(make, dtypes):
    return st.builds(make, arrays(dtypes))


subclasses = st.one_of(
    _of_array(lambda a: a.reshape(1, -1).view(np.matrix), st.sampled_from([np.dtype("<f8"), np.dtype(">i4")])),
    _of_array(lambda a: a.view(np.recarray), structs),
    masked_arrays(),
)  # fmt: skip
NOT_A_TIME = np.array([-(2**63)]).view("M8")[
    0
]  # of no unit, which later NumPys do not like to be asked for
numpy_scalars = st.one_of(
    arrays(plain_dtypes.filter(lambda d: d.kind != "O") | structs.filter(lambda d: d.names)).filter(
        lambda a: a.size
    ).map(lambda a: a.flat[0]),
    texts.map(np.str_),
    st.binary(max_size=4).map(np.bytes_),
    st.sampled_from([np.timedelta64(5, "25s"), NOT_A_TIME, np.longlong(5), np.int64(5)]),
)  # fmt: skip
random_generators = st.builds(
    lambda make, seed, drawn: drawn_from(make(seed), drawn),
    st.sampled_from(
        [
            np.random.default_rng,
            np.random.RandomState,
            np.random.Philox,
            lambda seed: np.random.Generator(np.random.MT19937(seed)),
            lambda seed: np.random.Generator(
                np.random.SFC64(np.random.SeedSequence(seed).spawn(2)[1])
            ),
            np.random.SeedSequence,
        ]
    ),
    st.integers(0, 3),
    st.integers(0, 2),
)


def drawn_from(generator, times):
    for _ in range(times):
        if hasattr(generator, "normal"):
            generator.normal()
    return generator


numpy_values = st.one_of(
    arrays(), arrays(), subclasses, numpy_scalars, array_dtypes, random_generators
)
values = st.recursive(scalars | arrays() | numpy_scalars, containers, max_leaves=8)


# pandas

UNITS = ["s", "ms", "us", "ns"]
NAMES = [None, "a", "b", 1, ("a", 1), 1.5, pd.Timestamp("2024-01-01")]
STRINGS = [pd.StringDtype("python")]
try:
    STRINGS += [pd.StringDtype("python", na_value=np.nan)]
    STRINGS += [pd.StringDtype("pyarrow"), pd.StringDtype("pyarrow", na_value=np.nan)]
except (TypeError, ImportError):
    pass
FREQUENCIES = ["D", "h", "7min", "ME", "QS-FEB", "2W-TUE", "B", "24h"]
FREQUENCIES += [
    pd.offsets.CustomBusinessDay(holidays=["2024-01-02"]),
    pd.DateOffset(months=1, day=3),
]
OFFSETS = [
    *map(pd.tseries.frequencies.to_offset, FREQUENCIES),
    *(pd.offsets.Week(), pd.offsets.Week(weekday=1), pd.offsets.MonthEnd(2, normalize=True)),
    *(pd.offsets.Easter(), pd.offsets.BusinessHour(start="10:00")),
    *(pd.offsets.CustomBusinessDay(weekmask="Mon Tue"), pd.DateOffset(2), pd.offsets.Day(2)),
]


def _integers(rng, n):
    return rng.integers(0, 3, n)


def _stamps(rng, n):
    return rng.integers(-3, 3, n) * 86_400


def _masked_column(rng, n):
    name = ["Int8", "Int64", "UInt32", "Float64", "Float32", "boolean"][rng.integers(6)]
    kind = pd.array([], dtype=name).dtype.numpy_dtype
    return pd.api.types.pandas_dtype(name).construct_array_type()(
        rng.integers(0, 2, n).astype(kind), rng.random(n) < 0.3
    )


def _strings(rng, n):
    texts = ["", "a", "bc", "ü", "a\0", None]
    return pd.array([texts[i] for i in rng.integers(0, 6, n)], STRINGS[rng.integers(len(STRINGS))])


def _datetimes(rng, n):
    unit, zone = UNITS[rng.integers(4)], [None, "UTC", "Europe/Berlin", ZONES[2]][rng.integers(4)]
    stamps = pd.Series(_stamps(rng, n).astype("M8[s]").astype(f"M8[{unit}]"))
    return (stamps if zone is None else stamps.dt.tz_localize("UTC").dt.tz_convert(zone)).array


def _timedeltas(rng, n):
    return pd.Series(_stamps(rng, n).astype("m8[s]").astype(f"m8[{UNITS[rng.integers(4)]}]")).array


def _periods(rng, n):
    kind = pd.PeriodDtype(["M", "D", "2W-TUE", "Q-FEB", "25h"][rng.integers(5)])
    return pd.arrays.PeriodArray(rng.integers(0, 3, n), dtype=kind)


def _intervals(rng, n):
    closed = ["left", "right", "both", "neither"][rng.integers(4)]
    left = _integers(rng, n)
    if rng.random() < 0.5:
        left = left.astype("f8") if rng.random() < 0.5 else left.astype("M8[s]").astype("M8[ns]")
    right = (left.view("i8") + 1).view(left.dtype) if left.dtype.kind == "M" else left + 1
    return pd.arrays.IntervalArray.from_arrays(left, right, closed)


def _sparse(rng, n):
    dense = _integers(rng, n).astype(["i8", "f8", "f4", "?"][rng.integers(4)])
    kind = ["integer", "block"][rng.integers(2)]
    fill = [0, 1][rng.integers(2)] if dense.dtype.kind != "b" else False
    return pd.arrays.SparseArray(dense, kind=kind, fill_value=fill)


def _categories(rng, n):
    options = [["a", "b", "c"], [3, 2, 1], [1.5, -0.0, 2], pd.interval_range(0, 3)]
    options += [pd.date_range("2024", periods=3), pd.Index(["x", "y", "z"], name="k")]
    categories = pd.Index(options[rng.integers(len(options))])
    codes = rng.integers(-1, 3, n)
    return pd.Categorical.from_codes(codes, categories, ordered=bool(rng.integers(2)))


def _objects(rng, n):
    return objects([OBJECTS[i] for i in rng.integers(0, len(OBJECTS), n)])


def _plain(rng, n):
    chars = ["i8", "i4", "u1", "f8", "f4", "?", "c16", ">i4", "S3", "M8[s]", "M8[ns]", "m8[us]"]
    return filled(rng, np.dtype(chars[rng.integers(len(chars))]), n)


def _arrow(rng, n):
    if pa is None:
        return _plain(rng, n)
    kinds = [pa.int64(), pa.string(), pa.float32(), pa.bool_(), pa.large_string()]
    kind = kinds[rng.integers(len(kinds))]
    items = [pa.scalar(int(i)).cast(kind).as_py() if i else None for i in _integers(rng, n)]
    return pd.arrays.ArrowExtensionArray(pa.chunked_array([pa.array(items, kind)]))


COLUMNS = [
    *(_plain, _plain, _objects, _masked_column, _strings, _strings, _datetimes, _timedeltas),
    *(_periods, _intervals, _sparse, _categories, _arrow),
]
columns = st.sampled_from(COLUMNS)


def _multi_index(rng, n):
    levels = [pd.Index(["a", "b", "c"]), pd.Index([1.5, 2.5]), pd.date_range("2024", periods=2)]
    levels = [levels[i] for i in rng.permutation(3)[:2]]
    codes = [rng.integers(-1, len(level), n) for level in levels]
    names = [NAMES[rng.integers(5)], NAMES[rng.integers(5)]]
    return pd.MultiIndex(levels=levels, codes=codes, names=names)


def _dated_index(rng, n):
    frequency = FREQUENCIES[rng.integers(len(FREQUENCIES))]
    zone = [None, "Europe/Berlin"][rng.integers(2)]
    return pd.date_range("2024-03-29", periods=n, freq=frequency, tz=zone)


def _other_index(rng, n):
    return [
        pd.RangeIndex(n),
        pd.RangeIndex(0, 2 * n, 2),
        pd.Index(np.arange(n), dtype=["i8", "i4", "f8", "u1"][rng.integers(4)]),
        pd.Index([f"r{i}" for i in range(n)]),
        pd.Index(objects(list(range(n)))),
        pd.Index([(i, "x") for i in range(n)], tupleize_cols=False, dtype=object),
        pd.timedelta_range("1D", periods=n, freq="3h"),
        pd.period_range("2024", periods=n, freq="M"),
        pd.interval_range(0, n),
        pd.CategoricalIndex(_categories(rng, n)),
    ][rng.integers(10)]


def indexed(make, rng, n):
    index = make(rng, n)
    return index if isinstance(index, pd.MultiIndex) else index.rename(NAMES[rng.integers(7)])


indexes = st.builds(
    indexed,
    st.sampled_from([_multi_index, _dated_index, _other_index, _other_index]),
    generators,
    st.integers(0, 4),
)
attrs = st.sampled_from([{}, {}, {"unit": "mV"}, {"unit": {"x": [1, (2,)]}}])


def noted(holder, attrs, unique):
    holder.attrs = attrs
    duplicated = holder.index.has_duplicates or (holder.ndim == 2 and holder.columns.has_duplicates)
    holder.flags.allows_duplicate_labels = not unique or duplicated
    return holder


def column(make, rng, index, name=None):
    values = make(rng, len(index))
    kept = values.dtype if isinstance(values, np.ndarray) else None
    return pd.Series(values, index=index, name=name, dtype=kept)


series = st.builds(
    lambda make, rng, index, name, attrs, unique: noted(column(make, rng, index, name), attrs, unique),
    columns,
    generators,
    indexes,
    st.sampled_from(NAMES),
    attrs,
    st.booleans(),
)  # fmt: skip


def framed(makes, rng, index, labels, attrs, unique):
    frame = pd.DataFrame({i: column(make, rng, index) for i, make in enumerate(makes)}, index=index)
    frame.columns = {
        "names": pd.Index([f"c{i}" for i in range(len(makes))], name=NAMES[rng.integers(3)]),
        "range": pd.RangeIndex(len(makes)),
        "same": pd.Index(["same"] * len(makes)),
        "mixed": pd.Index(objects(["a", 1, (2,), None][: len(makes)])),
        "levels": _multi_index(rng, len(makes)),
    }[labels]
    return noted(frame, attrs, unique)


frames = st.builds(
    framed,
    st.lists(columns, max_size=4),
    generators,
    indexes,
    st.sampled_from(["names", "range", "same", "mixed", "levels"]),
    attrs,
    st.booleans(),
)
pandas_arrays = st.builds(
    lambda make, rng, n: pd.array(make(rng, n)) if make is _plain else make(rng, n),
    columns.filter(lambda make: make not in (_objects, _plain)),
    generators,
    st.integers(0, 4),
)
stamps = st.builds(
    lambda day, unit, zone, fold: stamp(day, unit, zone).replace(fold=fold),
    st.integers(0, 10_000_000),
    st.sampled_from(UNITS),
    st.sampled_from([None, "UTC", "Europe/Berlin", ZONES[2]]),
    folds,
)


def stamp(minutes, unit, zone):
    naive = pd.Timestamp(np.datetime64(minutes * 300, "s")).as_unit(unit)
    return naive if zone is None else naive.tz_localize("UTC").tz_convert(zone)


pandas_scalars = st.one_of(
    stamps,
    st.builds(lambda n, u: pd.Timedelta(n, "s").as_unit(u), st.integers(-9, 9), st.sampled_from(UNITS)),
    st.builds(lambda f, n: pd.Period(ordinal=n, freq=f), st.sampled_from(["M", "D", "2W-TUE", "25h"]), st.integers(0, 3)),
    st.builds(pd.Interval, st.integers(0, 1), st.sampled_from([2, 2.0]), st.sampled_from(["left", "both"])),
    st.sampled_from([pd.NaT, pd.NA, *OFFSETS]),
)  # fmt: skip
pandas_values = st.one_of(
    frames, series, indexes, pandas_arrays, pandas_arrays.map(lambda a: a.dtype), pandas_scalars
)
