"""Values of Polars, PyArrow, xarray and SciPy: identical exactly when they have one address."""

import datetime as dt
import decimal
import struct
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp
import xarray as xr
from conftest import count, run_python
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import kachery
from kachery_tasks.errors import CannotDecode, CannotEncode
from kachery_tasks.values import decode, encode

MANY = settings(
    max_examples=count(10_000, 200),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def there_and_back(value):
    encoded = encode(value)
    blobs = {blob.digest: bytes(blob.memory) for blob in encoded.blobs}
    return decode(encoded.data, lambda digest, size: memoryview(bytearray(blobs[digest])))


def address(value):
    return encode(value).address


def plain(value):
    """Python values so that `==` is identity: the bits of floats, the types of everything."""
    if isinstance(value, float | np.floating):
        return (type(value).__name__, struct.pack("d", value))
    if isinstance(value, dict):
        return ("dict", [(key, plain(item)) for key, item in value.items()])
    if isinstance(value, list | tuple):
        return (type(value).__name__, list(map(plain, value)))
    if isinstance(value, dt.datetime | dt.time):
        return (type(value).__name__, value.isoformat(), str(value.tzinfo))
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, np.ndarray):
        order = "F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C"
        content = plain(value.tolist()) if value.dtype.hasobject else value.tobytes()
        return ("array", value.dtype.str, value.shape, order, content)
    return (type(value).__name__, value)


# Polars

LEAVES = {
    **{kind: st.integers(-5, 5) for kind in (pl.Int8, pl.Int16, pl.Int32, pl.Int64)},
    **{kind: st.integers(0, 5) for kind in (pl.UInt8, pl.UInt16, pl.UInt32)},
    pl.UInt64: st.integers(0, 2**64 - 1),
    pl.Int128: st.integers(-(2**127), 2**127 - 1) | st.integers(-3, 3),
    pl.UInt128: st.integers(0, 2**128 - 1) | st.integers(0, 3),
    pl.Float16: st.floats(width=16),
    pl.Float32: st.floats(width=32),
    pl.Float64: st.floats(),
    pl.Decimal(20, 3): st.decimals("-1e9", "1e9", places=3),
    pl.Decimal(38, 0): st.decimals("-1e20", "1e20", places=0),
    pl.Boolean: st.booleans(),
    pl.String: st.text(max_size=3),
    pl.Binary: st.binary(max_size=3),
    pl.Date: st.dates(),
    pl.Time: st.times(),
    pl.Datetime("us"): st.datetimes(),
    pl.Datetime("ms", "UTC"): st.datetimes(timezones=st.just(dt.UTC)),
    pl.Duration("us"): st.timedeltas(dt.timedelta(-9), dt.timedelta(9)),
    pl.Duration("ms"): st.timedeltas(dt.timedelta(-9), dt.timedelta(9)),
    pl.Categorical(): st.sampled_from(["a", "b", "", "ü"]),
    pl.Categorical(pl.Categories("small", "tests", pl.UInt8)): st.sampled_from("ab"),
    pl.Enum(["b", "a"]): st.sampled_from("ab"),
    pl.Enum(["a", "b"]): st.sampled_from("ab"),
    pl.Null: st.none(),
}
names = st.sampled_from(["a", "b", "", "ü"])


def _nested_dtypes(inner):
    fields = st.dictionaries(names, inner, max_size=3)
    return st.one_of(
        inner.map(pl.List),
        st.builds(pl.Array, inner, st.integers(0, 2)),
        fields.map(pl.Struct),
        st.builds(pl.Map, st.sampled_from([pl.String, pl.Int16]), inner),
    )


polars_dtypes = st.recursive(st.sampled_from(list(LEAVES)), _nested_dtypes, max_leaves=3)


def polars_values(dtype):
    """Values of a dtype as Python has them."""
    if dtype in LEAVES:
        found = LEAVES[dtype]
    elif isinstance(dtype, pl.List):
        found = st.lists(polars_values(dtype.inner), max_size=3)
    elif isinstance(dtype, pl.Array):
        size = dtype.size
        found = st.lists(polars_values(dtype.inner), min_size=size, max_size=size)
    elif isinstance(dtype, pl.Map):
        found = st.dictionaries(LEAVES[dtype.key], polars_values(dtype.value), max_size=2)
    else:
        found = st.fixed_dictionaries({f.name: polars_values(f.dtype) for f in dtype.fields})
    return st.none() | found


rows_usual = st.integers(0, 5)


@st.composite
def polars_series(draw, rows=rows_usual):
    dtype, length = draw(polars_dtypes), draw(rows)
    values = draw(st.lists(polars_values(dtype), min_size=length, max_size=length))
    return pl.Series(draw(names), values, dtype=dtype)


@st.composite
def polars_frames(draw):
    length = draw(st.integers(0, 5))
    columns = draw(st.lists(polars_series(st.just(length)), max_size=3))
    series = [column.alias(f"{column.name}{i}") for i, column in enumerate(columns)]
    return pl.DataFrame(series) if series else pl.DataFrame(height=length)


def polars_model(value):
    """What makes a frame or a series what it is, written down without the encoding."""
    if isinstance(value, pl.DataFrame):
        return ("frame", value.height, [polars_model(series) for series in value])
    parameters = repr(value.dtype)  # Categories have their name in it
    return ("series", value.name, parameters, [plain(item) for item in value.to_list()])


def sliced(value):
    """The same rows, as a slice of more of them."""
    return pl.concat([value, value])[len(value) :]


def chunked(value):
    pieces = [value[i : i + 1] for i in range(len(value))]
    return pl.concat([value.clear(), *pieces, value.clear()], rechunk=False)


@MANY
@pytest.mark.timeout(3600)
@given(polars_frames() | polars_series())
def test_polars_there_and_back(value):
    again = there_and_back(value)
    assert type(again) is type(value) and polars_model(again) == polars_model(value)
    assert address(again) == address(value)


@MANY
@pytest.mark.timeout(3600)
@given(polars_frames() | polars_series(), polars_frames() | polars_series())
def test_polars_one_address_exactly_when_identical(a, b):
    assert (address(a) == address(b)) == (polars_model(a) == polars_model(b))


@MANY
@pytest.mark.timeout(3600)
@given(polars_series(st.integers(1, 5)), st.data())
def test_polars_every_value_and_its_place_count(series, data):
    position = data.draw(st.integers(0, len(series) - 1))
    items = series.to_list()
    items[position] = data.draw(polars_values(series.dtype))
    other = pl.Series(series.name, items, dtype=series.dtype)
    assert (address(series) == address(other)) == (polars_model(series) == polars_model(other))


@MANY
@pytest.mark.timeout(3600)
@given(polars_series())
def test_polars_chunks_and_slices_do_not_count(series):
    if series.dtype != pl.Null or len(series):
        assert address(sliced(series)) == address(series)
    assert address(chunked(series)) == address(series)
    assert address(chunked(series).to_frame()) == address(series.to_frame())


# PyArrow

ARROW_LEAVES = {
    **{kind: st.integers(-5, 5) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{kind: st.integers(0, 5) for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    pa.float16(): st.floats(width=16).map(np.float16),
    pa.float32(): st.floats(width=32),
    pa.float64(): st.floats(),
    pa.decimal32(9, 2): st.decimals("-1e5", "1e5", places=2),
    pa.decimal64(18, 2): st.decimals("-1e5", "1e5", places=2),
    pa.decimal128(38, 2): st.decimals("-1e20", "1e20", places=2),
    pa.decimal256(70, 2): st.decimals("-1e20", "1e20", places=2),
    pa.bool_(): st.booleans(),
    **dict.fromkeys((pa.string(), pa.large_string(), pa.string_view()), st.text(max_size=14)),
    **dict.fromkeys((pa.binary(), pa.large_binary(), pa.binary_view()), st.binary(max_size=14)),
    pa.binary(2): st.binary(min_size=2, max_size=2),
    pa.binary(0): st.just(b""),
    **dict.fromkeys((pa.date32(), pa.date64()), st.dates()),
    pa.time32("s"): st.times().map(lambda t: t.replace(microsecond=0)),
    pa.time64("us"): st.times(),
    pa.timestamp("us"): st.datetimes(),
    pa.timestamp("ns", "UTC"): st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1)),
    pa.duration("us"): st.timedeltas(dt.timedelta(-9), dt.timedelta(9)),
    pa.month_day_nano_interval(): st.tuples(*[st.integers(-3, 3)] * 3),
    pa.null(): st.none(),
    pa.dictionary(pa.int8(), pa.string()): st.sampled_from(["a", "b", ""]),
    pa.dictionary(pa.uint16(), pa.int64(), ordered=True): st.integers(0, 2),
}


def _nested_types(inner):
    metadata = st.sampled_from([None, {"k": "v"}, {"k": "w"}])
    fields = st.builds(
        lambda name, kind, nullable, metadata: pa.field(
            name, kind, nullable or pa.types.is_null(kind), metadata
        ),
        *(names, inner, st.booleans(), metadata),
    )
    nullable = st.builds(pa.field, names, inner, st.just(True))
    return st.one_of(
        fields.map(pa.list_),
        fields.map(pa.large_list),
        inner.map(pa.list_view),
        inner.map(pa.large_list_view),
        st.builds(pa.list_, nullable, st.integers(0, 2)),
        st.lists(fields, max_size=3, unique_by=lambda field: field.name).map(pa.struct),
        st.builds(pa.map_, st.sampled_from([pa.string(), pa.int16()]), inner, st.booleans()),
    )


arrow_types = st.recursive(st.sampled_from(list(ARROW_LEAVES)), _nested_types, max_leaves=3)


def arrow_values(kind, nullable=True):
    """Values of a type as Python has them."""
    if kind in ARROW_LEAVES:
        found = ARROW_LEAVES[kind]
    elif pa.types.is_map(kind):
        pairs = st.tuples(arrow_values(kind.key_type, False), arrow_values(kind.item_type))
        found = st.lists(pairs, max_size=2)
    elif pa.types.is_struct(kind):
        found = st.fixed_dictionaries({f.name: arrow_values(f.type, f.nullable) for f in kind})
    else:
        size = kind.list_size if pa.types.is_fixed_size_list(kind) else None
        inner = arrow_values(kind.value_type, kind.value_field.nullable)
        found = st.lists(inner, min_size=size or 0, max_size=2 if size is None else size)
    return st.none() | found if nullable or pa.types.is_null(kind) else found


@st.composite
def arrow_arrays(draw, rows=rows_usual, kinds=arrow_types):
    kind, length = draw(kinds), draw(rows)
    return pa.array(draw(st.lists(arrow_values(kind), min_size=length, max_size=length)), kind)


@st.composite
def arrow_tables(draw):
    """Tables and record batches, chunked arrays, arrays."""
    array = draw(arrow_arrays())
    form = draw(st.sampled_from(["array", "chunked", "table", "batch"]))
    if form == "array":
        return array
    if form == "chunked":
        return pa.chunked_array([array])
    others = draw(st.lists(arrow_arrays(st.just(len(array))), max_size=2))
    field = draw(
        st.builds(pa.field, names, st.just(array.type), metadata=st.none() | st.just({"k": "v"}))
    )
    fields = [field, *(pa.field("a", other.type) for other in others)]
    schema = pa.schema(fields, metadata=draw(st.none() | st.just({"k": "v"})))
    kind = pa.Table if form == "table" else pa.RecordBatch
    return kind.from_arrays([array, *others], schema=schema)


def type_model(kind):
    """A type with all that its own `==` may overlook."""
    return [str(kind), [field_model(kind.field(i)) for i in range(kind.num_fields)]]


def field_model(field):
    metadata = None if field.metadata is None else list(field.metadata.items())
    return [field.name, field.nullable, metadata, type_model(field.type)]


def arrow_model(value):
    """What makes a value what it is, written down without the encoding."""
    name = type(value).__name__
    if isinstance(value, pa.Table | pa.RecordBatch):
        metadata = None if value.schema.metadata is None else list(value.schema.metadata.items())
        columns = [array_model(column) for column in value.columns]
        return [name, metadata, list(map(field_model, value.schema)), value.num_rows, columns]
    return [name, type_model(value.type), array_model(value)]


def array_model(array):
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks == 1 else array.combine_chunks()
    kind, valid = array.type, [bool(v) for v in array.is_valid()]
    if pa.types.is_dictionary(kind):
        return [array.indices.to_pylist(), array_model(array.dictionary)]
    if pa.types.is_struct(kind):
        return [valid, list(map(array_model, array.flatten()))]
    if pa.types.is_map(kind):
        items = pa.concat_arrays(
            [array.items[:0], *[row.values.field(1) for row in array if row.is_valid]]
        )
        return [plain(array.to_pylist()), array_model(items)]
    if pa.types.is_nested(kind):
        lengths = [None if row.values is None else len(row.values) for row in array]
        return [valid, lengths, array_model(array.flatten())]
    return plain(array.to_pylist())


@MANY
@pytest.mark.timeout(3600)
@given(arrow_tables())
def test_arrow_there_and_back(value):
    again = there_and_back(value)
    assert arrow_model(again) == arrow_model(value)
    assert address(again) == address(value)
    again.validate(full=True)


@MANY
@pytest.mark.timeout(3600)
@given(arrow_tables(), arrow_tables())
def test_arrow_one_address_exactly_when_identical(a, b):
    assert (address(a) == address(b)) == (arrow_model(a) == arrow_model(b))


@MANY
@pytest.mark.timeout(3600)
@given(arrow_arrays(st.integers(1, 5)), st.data())
def test_arrow_every_value_and_its_place_count(array, data):
    position = data.draw(st.integers(0, len(array) - 1))
    other = pa.array([data.draw(arrow_values(array.type))], array.type)
    other = pa.concat_arrays([array[:position], other, array[position + 1 :]])
    assert (address(array) == address(other)) == (arrow_model(array) == arrow_model(other))


@MANY
@pytest.mark.timeout(3600)
@given(arrow_arrays())
def test_arrow_chunks_and_slices_do_not_count(array):
    whole = pa.concat_arrays([array, array])
    assert address(whole[len(array) :]) == address(array) == address(whole[: len(array)])
    pieces = [array[i : i + 1] for i in range(len(array))]
    chunks = pa.chunked_array([array[:0], *pieces], array.type)
    assert address(chunks) == address(pa.chunked_array([array]))
    assert address(pa.table({"a": chunks})) == address(pa.table({"a": array}))
    assert address(chunks) != address(array)


def nulled(array, hidden):
    """The array with nulls over what it has."""
    if pa.types.is_dictionary(array.type):
        indices = nulled(array.indices, hidden)
        return pa.DictionaryArray.from_arrays(indices, array.dictionary, ordered=array.type.ordered)
    bitmap = pa.py_buffer(np.packbits(~np.array(hidden), bitorder="little"))
    kind = array.type
    if pa.types.is_struct(kind):
        children = [array.field(i) for i in range(kind.num_fields)]
    else:
        children = [array.values] if pa.types.is_nested(kind) else None
    own = 0 if children is None else len(array.buffers()) - sum(len(c.buffers()) for c in children)
    buffers = array.buffers()[1 : own or None]
    return pa.Array.from_buffers(kind, len(array), [bitmap, *buffers], children=children)


@MANY
@pytest.mark.timeout(3600)
@given(arrow_arrays(st.integers(1, 5)), st.data())
def test_what_stands_under_a_null_does_not_count(array, data):
    if pa.types.is_null(array.type):
        return
    flags = st.lists(st.booleans(), min_size=len(array), max_size=len(array))
    hidden = data.draw(
        flags.map(lambda f: [a or not b.is_valid for a, b in zip(f, array, strict=True)])
    )
    covered = nulled(array, hidden)
    items = [None if h else item for h, item in zip(hidden, array.to_pylist(), strict=True)]
    if pa.types.is_dictionary(array.type):
        bare = pa.DictionaryArray.from_arrays(
            pa.array(
                [None if h else i for h, i in zip(hidden, array.indices.to_pylist(), strict=True)],
                array.type.index_type,
            ),
            array.dictionary,
            ordered=array.type.ordered,
        )
    elif "dictionary" in str(array.type):
        return  # PyArrow would make another dictionary
    else:
        bare = pa.array(items, array.type)
    assert address(covered) == address(bare)
    assert arrow_model(there_and_back(covered)) == arrow_model(bare)


@MANY
@pytest.mark.timeout(3600)
@given(arrow_arrays(st.integers(1, 3)))
def test_arrow_scalars_types_fields_and_schemas(array):
    field = pa.field("x", array.type, pa.types.is_null(array.type), metadata={"k": "v"})
    for value in (*array, array.type, field, pa.schema([field], {"a": "b"})):
        again = there_and_back(value)
        assert type(again) is type(value) and address(again) == address(value)
        if isinstance(value, pa.Scalar):
            assert plain(again.as_py()) == plain(value.as_py()) and again.type == value.type
        else:
            assert again.equals(value, check_metadata=True)
    assert len({address(v) for v in (array, array[0], array.type, field)}) == 4


# xarray

attributes = st.dictionaries(names, st.integers(0, 2) | st.text(max_size=2), max_size=2)
LENGTHS = {"x": 2, "y": 3, "z": 0}
small = st.one_of(
    hnp.integer_dtypes(), hnp.floating_dtypes(), hnp.boolean_dtypes(), hnp.unicode_string_dtypes()
)
dimensions = st.lists(st.sampled_from(list(LENGTHS)), max_size=2, unique=True)


def _indexes(dim):
    """Things that can index a dimension."""
    length = LENGTHS[dim]
    made = [
        pd.RangeIndex(length),
        pd.Index(range(length)),
        pd.Index([1.5, 2.5, -0.0][:length]),
        pd.date_range("2024", periods=length),
        pd.date_range("2024", periods=length, tz="UTC"),
        pd.period_range("2024", periods=length, freq="M"),
        pd.Categorical(list("aba")[:length]),
        pd.Index(list("abc")[:length], dtype=object),
        np.array(list("abc")[:length], "U2"),
        np.arange(length, dtype="i2"),
    ]
    return st.sampled_from(made).map(lambda index: ((dim,), index))


def _variables():
    data = dimensions.flatmap(
        lambda dims: hnp.arrays(small, [LENGTHS[dim] for dim in dims]).map(lambda a: (dims, a))
    )
    dates = st.just((["x"], np.array(["2024", "NaT"], "M8[s]")))
    integers = st.just((["x"], pd.array([1, None], "Int64")))
    things = st.just((["x"], np.array([None, "a"], object)))
    return st.builds(
        lambda pair, attrs: xr.Variable(*pair, attrs), data | dates | integers | things, attributes
    )


@st.composite
def datasets(draw):
    variables = draw(st.dictionaries(names, _variables(), max_size=3))
    dataset = xr.Dataset(variables, attrs=draw(attributes))
    for dim in draw(st.sets(st.sampled_from("xy"), max_size=2)):
        if dim == "x" and draw(st.booleans()):
            levels = pd.MultiIndex.from_arrays([[1, 1], ["u", "v"]], names=["l", "m"])
            dataset = dataset.assign_coords(xr.Coordinates.from_pandas_multiindex(levels, "x"))
        else:
            dataset = dataset.assign_coords({dim: draw(_indexes(dim))})
    coords = draw(st.sets(st.sampled_from(list(variables)))) if variables else []
    return dataset.set_coords(coords)


@st.composite
def xarrays(draw):
    """Datasets, data arrays, variables, trees."""
    dataset = draw(datasets())
    form = draw(st.sampled_from(["set", "array", "variable", "tree"]))
    if form == "tree":
        return xr.DataTree(
            dataset, children={"c": xr.DataTree(draw(datasets()) if not dataset.sizes else None)}
        )
    if form == "set" or not dataset.variables:
        return dataset
    name = draw(st.sampled_from(list(dataset.variables)))
    if form == "array":
        return dataset[name].rename(draw(st.sampled_from([name, "other", None])))
    return dataset.variables["x" if name in "lm" and name else name]


def xarray_model(value):
    if isinstance(value, xr.DataTree):
        return [
            "tree",
            value.name,
            xarray_model(value.to_dataset(inherit=False)),
            [[k, xarray_model(v)] for k, v in value.children.items()],
        ]
    if isinstance(value, xr.Variable):
        index = None
        if isinstance(value, xr.IndexVariable):
            index = value.to_index()
            index = [
                type(index).__name__,
                str(getattr(index, "freq", None)),
                str(index.dtype),
                list(index.names),
            ]
        return [
            type(value).__name__,
            value.dims,
            str(value.dtype),
            data_model(value),
            plain(value.attrs),
            index,
        ]
    indexes = {name: type(index).__name__ for name, index in value.xindexes.items()}
    if isinstance(value, xr.DataArray):
        own = value.variable
        if (
            isinstance(own, xr.IndexVariable)
            and own.to_index().name in ("l", "m")
            and value.name not in indexes
        ):
            own = own.to_base_variable()  # the level of a multi-index under another name
        variables, own = value.coords.variables, [value.name, xarray_model(own)]
    else:
        variables, own = value.variables, [list(value.data_vars), plain(value.attrs)]
    return [
        type(value).__name__,
        own,
        [[k, xarray_model(v)] for k, v in variables.items()],
        indexes,
    ]


def data_model(variable):
    data = variable.data
    return (
        plain(data) if isinstance(data, np.ndarray) else [type(data).__name__, list(map(str, data))]
    )


@MANY
@pytest.mark.timeout(3600)
@given(xarrays())
def test_xarray_there_and_back(value):
    again = there_and_back(value)
    assert xarray_model(again) == xarray_model(value) and again.identical(value)
    assert address(again) == address(value)


@MANY
@pytest.mark.timeout(3600)
@given(xarrays(), xarrays())
def test_xarray_one_address_exactly_when_identical(a, b):
    assert (address(a) == address(b)) == (xarray_model(a) == xarray_model(b))


# SciPy

FORMATS = ("csr", "csc", "coo", "bsr", "dia", "lil", "dok")
KINDS = [getattr(sp, f"{name}_{form}") for name in FORMATS for form in ("matrix", "array")]


@st.composite
def sparse(draw):
    kind = draw(st.sampled_from(KINDS))
    shape = draw(st.sampled_from([(2, 3), (3, 2), (0, 2), (1, 1)]))
    numbers = st.sampled_from([0, 0, 0, 1, 2])
    dense = draw(hnp.arrays("i4", shape, elements=numbers))
    dense = dense.astype(draw(st.sampled_from(["i4", "f8", "c16", "?"])))
    matrix = kind(dense)
    wide = draw(st.booleans())
    if matrix.format in ("csr", "csc", "coo", "bsr") and draw(st.booleans()):
        matrix.data = -matrix.data if matrix.dtype != bool else ~matrix.data  # also stored zeros
    if matrix.format == "coo" and draw(st.booleans()):
        order = np.arange(matrix.nnz)[::-1]
        matrix.coords = tuple(np.concatenate([c[order], c[:1]]) for c in matrix.coords)
        matrix.data = np.concatenate([matrix.data[order], matrix.data[:1]])
    if wide and matrix.format == "coo":
        matrix.coords = tuple(c.astype("i8") for c in matrix.coords)
    elif wide and matrix.format in ("csr", "csc", "bsr"):
        matrix.indices, matrix.indptr = matrix.indices.astype("i8"), matrix.indptr.astype("i8")
    return matrix


def sparse_model(matrix):
    head = [type(matrix).__name__, matrix.shape, matrix.dtype.str]
    if matrix.format == "lil":
        return [*head, matrix.rows.tolist(), plain(matrix.data.tolist())]
    if matrix.format == "dok":
        return [*head, [(key, plain(value.item())) for key, value in matrix.items()]]
    attributes = {"coo": ["coords"], "dia": ["offsets"]}.get(matrix.format, ["indices", "indptr"])
    return [*head, *(plain(getattr(matrix, name)) for name in ["data", *attributes])]


@MANY
@pytest.mark.timeout(3600)
@given(sparse())
def test_sparse_there_and_back(matrix):
    again = there_and_back(matrix)
    assert sparse_model(again) == sparse_model(matrix)
    assert address(again) == address(matrix)
    assert (again.toarray() == matrix.toarray()).all()


@MANY
@pytest.mark.timeout(3600)
@given(sparse(), sparse())
def test_sparse_one_address_exactly_when_identical(a, b):
    assert (address(a) == address(b)) == (sparse_model(a) == sparse_model(b))


# What others confuse

_codes = pa.array([0, 1], pa.int8())
ALIKE = [
    *(pl.Series([1]), pl.Series([1], dtype=pl.Int32), pl.Series([1.0]), pl.Series("a", [1])),
    *(pl.Series([True]), pl.Series([1], dtype=pl.UInt64), pl.Series([1], dtype=pl.Int128)),
    *(pl.Series([1], dtype=pl.Decimal(5, 0)), pl.Series([1], dtype=pl.Decimal(6, 0))),
    *(pl.Series([1], dtype=pl.Decimal(5, 1)), pl.Series(["1"]), pl.Series([b"1"])),
    *(pl.Series([None]), pl.Series([None], dtype=pl.Int64), pl.Series([None], dtype=pl.String)),
    *(pl.Series([0, None]), pl.Series([None, 0]), pl.Series([0, 0]), pl.Series([0])),
    *(
        pl.Series([float("nan")]),
        pl.Series([None], dtype=pl.Float64),
        pl.Series([-0.0]),
        pl.Series([0.0]),
    ),
    *(
        pl.Series(["", None]),
        pl.Series([None, ""]),
        pl.Series(["", ""]),
        pl.Series(["ab", "c"]),
        pl.Series(["a", "bc"]),
    ),
    *(pl.Series([0], dtype=pl.Datetime(unit)) for unit in ("ms", "us", "ns")),
    *(pl.Series([0], dtype=pl.Datetime("us", zone)) for zone in ("UTC", "Europe/Berlin")),
    *(pl.Series([0], dtype=pl.Duration(unit)) for unit in ("ms", "us", "ns")),
    *(pl.Series([0], dtype=pl.Date), pl.Series([0], dtype=pl.Time)),
    *(pl.Series(["a"], dtype=pl.Categorical), pl.Series(["a"], dtype=pl.Categorical("other"))),
    *(pl.Series(["a"], dtype=pl.Enum(["a"])), pl.Series(["a"], dtype=pl.Enum(["a", "b"]))),
    *(
        pl.Series(["a"], dtype=pl.Enum(["b", "a"])),
        pl.Series(["a"]),
        pl.Series(["a"], dtype=pl.Object),
    ),
    *(pl.Series([[1]]), pl.Series([[1]], dtype=pl.Array(pl.Int64, 1)), pl.Series([[[1]]])),
    *(pl.Series([[]], dtype=pl.List(pl.Int8)), pl.Series([None], dtype=pl.List(pl.Int8))),
    *(pl.Series([[None]], dtype=pl.List(pl.Int8)), pl.Series([], dtype=pl.List(pl.Int8))),
    *(pl.Series([[1, 2], [3]]), pl.Series([[1], [2, 3]]), pl.Series([[1, 2, 3]])),
    *(
        pl.Series([{"a": 1}]),
        pl.Series([{"b": 1}]),
        pl.Series([{"a": None}]),
        pl.Series([{"a": 1, "b": 1}]),
    ),
    *(pl.Series([{"b": 1, "a": 1}]), pl.Series([None], dtype=pl.Struct({"a": pl.Int64}))),
    *(pl.Series([{"a": 1}], dtype=pl.Map(pl.String, pl.Int64)), pl.Series([1], dtype=pl.Object)),
    *(pl.DataFrame({"a": [1]}), pl.DataFrame({"b": [1]}), pl.DataFrame({"a": [1.0]})),
    *(pl.DataFrame({"a": [1], "b": [1]}), pl.DataFrame({"b": [1], "a": [1]}), pl.DataFrame()),
    *(
        pl.DataFrame(height=1),
        pl.DataFrame(height=2),
        pl.DataFrame({"a": []}),
        pl.DataFrame({"a": [None]}),
    ),
    *(pl.Int64, pl.Int64(), pl.Datetime, pl.Datetime(), pl.Datetime("ns"), pl.List(pl.Int64)),
    *(
        pl.Schema({"a": pl.Int64}),
        pl.Schema({"b": pl.Int64}),
        pl.Schema({"a": pl.Int32}),
        pl.Schema(),
    ),
    *(pa.array([1]), pa.array([1], pa.int32()), pa.array([1.0]), pa.array([True]), pa.array(["1"])),
    *(pa.array(["1"], pa.large_string()), pa.array(["1"], pa.string_view()), pa.array([b"1"])),
    *(
        pa.array([b"1"], pa.binary(1)),
        pa.array([b"1"], pa.large_binary()),
        pa.array([b"1"], pa.binary_view()),
    ),
    *(pa.array([None]), pa.array([None], pa.int64()), pa.array([0, None]), pa.array([0, 0])),
    *(pa.array([float("nan")]), pa.array([None], pa.float64()), pa.array([-0.0]), pa.array([0.0])),
    *(pa.array(["", None]), pa.array([None, ""]), pa.array(["ab", "c"]), pa.array(["a", "bc"])),
    *(pa.array([0], pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")),
    *(pa.array([0], pa.timestamp("us", zone)) for zone in ("UTC", "Europe/Berlin")),
    *(pa.array([0], pa.date32()), pa.array([0], pa.date64()), pa.array([0], pa.time64("us"))),
    *(
        pa.array([0], pa.decimal128(5, 0)),
        pa.array([0], pa.decimal128(5, 1)),
        pa.array([0], pa.decimal256(5, 0)),
    ),
    *(pa.DictionaryArray.from_arrays(_codes, values) for values in (["a", "b"], ["a", "b", "c"])),
    *(pa.DictionaryArray.from_arrays(_codes[::-1], ["b", "a"]), pa.array(["a", "b"])),
    *(pa.DictionaryArray.from_arrays(_codes, ["a", "b"], ordered=True),),
    *(pa.DictionaryArray.from_arrays(_codes.cast(pa.int16()), ["a", "b"]),),
    *(
        pa.array([[1]]),
        pa.array([[1]], pa.large_list(pa.int64())),
        pa.array([[1]], pa.list_view(pa.int64())),
    ),
    *(
        pa.array([[1]], pa.list_(pa.int64(), 1)),
        pa.array([[1]], pa.list_(pa.field("x", pa.int64()))),
    ),
    *(pa.array([[1]], pa.list_(pa.field("item", pa.int64(), nullable=False))), pa.array([[1], []])),
    *(pa.array([[1], None]), pa.array([[None]], pa.list_(pa.int64())), pa.array([[[1]]])),
    *(
        pa.array([{"a": 1}]),
        pa.array([{"b": 1}]),
        pa.array([{"a": None}], pa.struct({"a": pa.int64()})),
    ),
    *(pa.array([None], pa.struct({"a": pa.int64()})), pa.array([{}], pa.struct([]))),
    *(
        pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64(), ordered))
        for ordered in (True, False)
    ),
    *(pa.chunked_array([[1]]), pa.scalar(1), pa.scalar(1, pa.int32()), pa.scalar(None, pa.int64())),
    *(
        pa.table({"a": [1]}),
        pa.record_batch({"a": [1]}),
        pa.table({"b": [1]}),
        pa.table({"a": ["1"]}),
    ),
    *(pa.table({"a": [1]}, metadata={"k": "v"}), pa.table({"a": [1]}, metadata={"k": "w"})),
    *(pa.table({"a": [1]}, schema=pa.schema([pa.field("a", pa.int64(), nullable=False)])),),
    *(pa.table({"a": [1]}, schema=pa.schema([pa.field("a", pa.int64(), metadata={"k": "v"})])),),
    *(pa.table({"a": [1], "b": [1]}), pa.table({"b": [1], "a": [1]}), pa.table({})),
    *(
        pa.table({"a": [1]}).select([]),
        pa.record_batch({"a": [1]}).select([]),
        pa.table({"a": [1, 1]}),
    ),
    *(pa.int64(), pa.field("a", pa.int64()), pa.schema([("a", pa.int64())]), pa.string()),
    *(
        xr.Variable("x", [1]),
        xr.IndexVariable("x", [1]),
        xr.DataArray([1], dims="x"),
        xr.Variable("y", [1]),
    ),
    *(
        xr.Variable("x", [1.0]),
        xr.Variable("x", [1], {"u": "m"}),
        xr.Variable((), 1),
        xr.DataArray(1),
    ),
    *(xr.DataArray([1], dims="x", name="n"), xr.DataArray([1], dims="x", coords={"x": [1]})),
    *(
        xr.DataArray([1], dims="x", coords={"x": [1.0]}),
        xr.DataArray([1], dims="x", attrs={"u": "m"}),
    ),
    *(
        xr.DataArray([1], dims="x", coords={"x": [1]}).drop_indexes("x"),
        xr.DataArray([1], dims="x", coords={"y": 1}),
    ),
    *(xr.DataArray([1], dims="x", coords={"x": pd.RangeIndex(1, 2)}),),
    *(xr.DataArray([1], dims="x", coords={"y": ("x", [1])}),),
    *(xr.DataArray([1], dims="x", coords={"y": ("x", [1])}).set_xindex("y"),),
    *(xr.DataArray(np.zeros((2, 2)), dims=dims) for dims in (["x", "y"], ["y", "x"])),
    *(xr.Dataset(), xr.Dataset({"a": ("x", [1])}), xr.Dataset(coords={"a": ("x", [1])})),
    *(
        xr.Dataset({"a": 1, "b": 1}),
        xr.Dataset({"b": 1, "a": 1}),
        xr.Dataset({"a": 1}, attrs={"u": "m"}),
    ),
    *(
        xr.Dataset({"a": 1}),
        xr.DataTree(xr.Dataset({"a": 1})),
        xr.DataTree(xr.Dataset({"a": 1}), name="n"),
    ),
    *(kind(np.array([[0.0, 1.0]])) for kind in KINDS),
    *(
        sp.csr_array(np.array([[0.0, 1.0]])).astype("f4"),
        sp.csr_array(np.array([[0.0, 1.0], [0.0, 0.0]])),
    ),
    *(sp.csr_array(([1.0, 0.0], [1, 0], [0, 2])), sp.csr_array(([0.0, 1.0], [0, 1], [0, 2]))),
    *(sp.coo_array(([0.5, 0.5], ([0, 0], [1, 1]))), sp.coo_array(np.array([0.0, 1.0]))),
    *(sp.coo_array(np.array([[[0.0, 1.0]]])), sp.csr_array(np.array([0.0, 1.0]))),
    sp.bsr_array(np.array([[0.0, 1.0]]), blocksize=(1, 2)),
]


def test_values_that_others_confuse_differ():
    addresses = {}
    for value in ALIKE:
        other = addresses.setdefault(address(value), value)
        assert other is value, f"{other!r} and {value!r} have one address"


def test_index_types_of_sparse_matrices_count():
    matrix = sp.random_array((5, 5), density=0.5, format="csr", random_state=0)
    wide = matrix.copy()
    wide.indices, wide.indptr = matrix.indices.astype("i8"), matrix.indptr.astype("i8")
    assert address(matrix) != address(wide)
    again = there_and_back(wide)
    assert again.indices.dtype == again.indptr.dtype == np.int64


# What nobody can rely on


def test_what_else_the_process_did_with_categories_does_not_count():
    program = """
        import sys
        import polars as pl
        from kachery_tasks.values import encode
        before = [pl.Series(list(text), dtype=pl.Categorical) for text in sys.argv[1:]]
        series = pl.Series(["a", "b", None, "a", "c"], dtype=pl.Categorical)
        nested = pl.Series([[{"k": "b"}], None, [{"k": "a"}]], dtype=pl.List(pl.Struct({"k": pl.Categorical})))
        print(series.to_physical().to_list(), encode([series, nested]).address.hex())
    """
    first, second = (
        run_python(program).stdout.split("]"),
        run_python(program, "xcb").stdout.split("]"),
    )
    assert first[0] != second[0]  # the codes
    assert first[1] == second[1]


@MANY
@pytest.mark.timeout(3600)
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=9), st.data())
def test_what_stands_under_a_null_of_polars_does_not_count(items, data):
    flags = data.draw(st.lists(st.booleans(), min_size=len(items), max_size=len(items)))
    bare = [None if flag else item for flag, item in zip(flags, items, strict=True)]
    for make in (
        int,
        float,
        str,
        lambda i: [i] * abs(i),
        lambda i: [i, i],
        lambda i: {"a": str(i)},
    ):
        kind = pa.list_(pa.int64(), 2) if make(3) == [3, 3] else None
        array = pa.array([make(item) for item in items], kind)
        covered = pl.from_arrow(nulled(array, flags))
        expected = pl.Series(
            [None if item is None else make(item) for item in bare], dtype=covered.dtype
        )
        assert covered.to_list() == expected.to_list()
        assert address(covered) == address(expected)


@pytest.mark.parametrize(
    ("items", "kind"),
    [
        ([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}], None),
        ([{"a": {"c": True}}, {"a": {"c": True}}], None),
        ([{"a": [1, 2]}, {"a": [3]}], None),
        ([[1, 2], [3, 4]], pa.list_(pa.int8(), 2)),
        ([["a", "b"], ["c", "d"]], pa.list_(pa.string(), 2)),
        ([[{"a": 1}], [{"a": 2}, {"a": 3}]], None),
        ([[("k", 1)], [("l", 2), ("m", 3)]], pa.map_(pa.string(), pa.int8())),
    ],
)
def test_what_a_null_hides_further_in_does_not_count(items, kind):
    whole = pa.array(items, kind)
    for hidden in ([True, False], [False, True], [True, True]):
        bare = [None if flag else item for flag, item in zip(hidden, items, strict=True)]
        assert address(nulled(whole, hidden)) == address(pa.array(bare, whole.type))
        assert address(nulled(whole, hidden)) != address(whole)


def test_a_bitmap_without_nulls_is_no_bitmap():
    values = np.arange(3.0)
    bitmap = pa.py_buffer(b"\xff")
    array = pa.Array.from_buffers(pa.float64(), 3, [bitmap, pa.py_buffer(values)])
    assert address(array) == address(pa.array(values))
    flags = pa.Array.from_buffers(pa.bool_(), 3, [bitmap, pa.py_buffer(b"\xfd")])
    assert address(flags) == address(pa.array([True, False, True]))


def test_dictionaries_of_chunks_are_united():
    parts = [pa.array(["a", "b"]).dictionary_encode(), pa.array(["b", "c"]).dictionary_encode()]
    united = pa.DictionaryArray.from_arrays(pa.array([0, 1, 1, 2], pa.int32()), ["a", "b", "c"])
    assert address(pa.chunked_array(parts)) == address(pa.chunked_array([united]))
    table = pa.table({"d": pa.chunked_array(parts)})
    assert there_and_back(table)["d"].to_pylist() == ["a", "b", "b", "c"]
    zeros = pa.chunked_array([pa.array([zero]).dictionary_encode() for zero in (0.0, -0.0)])
    with pytest.raises(CannotEncode, match=r"\['d'\].*0.0 and -0.0"):
        encode(pa.table({"d": zeros}))
    assert address(pa.chunked_array([zeros.chunk(0)])) != address(
        pa.chunked_array([zeros.chunk(1)])
    )


@pytest.mark.parametrize("kind", [pa.list_view(pa.string_view()), pa.list_view(pa.int8())])
def test_the_order_in_memory_of_list_views_does_not_count(kind):
    items = pa.array(["5", "6", "7"]).cast(kind.value_type)
    offsets, sizes = pa.array([1, 0, 2], pa.int32()), pa.array([2, 1, 0], pa.int32())
    views = pa.ListViewArray.from_arrays(offsets, sizes, items)
    assert address(views) == address(pa.array(views.to_pylist(), kind))


def test_bits_of_nans_count():
    bits = np.array([0x7FF8000000000000, 0x7FF8000000000001, 0xFFF8000000000000], "u8").view("f8")
    for make in (
        pl.Series,
        pa.array,
        lambda a: xr.Variable("x", a),
        lambda a: sp.coo_array((a, ([0],))),
    ):
        assert len({address(make(bits[i : i + 1])) for i in range(3)}) == 3
    assert there_and_back(pl.Series(bits)).to_numpy().tobytes() == bits.tobytes()
    assert there_and_back(pa.array(bits)).to_numpy().tobytes() == bits.tobytes()
    nulls = pl.Series(bits).extend(pl.Series([None], dtype=pl.Float64))
    assert there_and_back(nulls)[:3].to_numpy().tobytes() == bits.tobytes()


def test_encoding_of_a_variable_does_not_count():
    a, b = (xr.Dataset({"v": ("x", [1, 2])}, coords={"x": [1, 2]}) for _ in range(2))
    b["v"].encoding["dtype"] = "int16"
    b["x"].encoding["zlib"] = True
    b.encoding["source"] = "file.nc"
    assert address(a) == address(b)


def test_the_order_in_which_indexes_were_set_does_not_count():
    dataset = xr.Dataset(coords={"x": [1], "y": [2], "z": 3})
    again = dataset.drop_indexes("x").set_xindex("x")
    assert list(again.xindexes) != list(dataset.xindexes)
    assert address(again) == address(dataset)
    assert address(xr.DataArray(coords=again.coords)) == address(
        xr.DataArray(coords=dataset.coords)
    )


def test_a_dataset_that_is_a_file_is_what_it_shows(tmp_path):
    dataset = xr.Dataset({"v": ("x", np.arange(3.0))}, coords={"x": [1, 2, 3]}, attrs={"a": "b"})
    dataset.to_netcdf(tmp_path / "d.nc", engine="scipy")
    with xr.open_dataset(tmp_path / "d.nc", engine="scipy") as opened:
        swapped = opened.astype(">f8")
        assert address(opened) == address(opened.load())
        assert address(opened) == address(there_and_back(opened)) != address(swapped)


def test_spare_room_of_sparse_matrices_does_not_count():
    matrix = sp.csr_array(np.eye(3))
    roomy = matrix.copy()
    roomy.data = np.concatenate([matrix.data, [9.0, 9.0]])
    roomy.indices = np.concatenate([matrix.indices, np.array([7, 7], "i4")])
    assert address(roomy) == address(matrix)
    blocks = sp.bsr_array(np.arange(16.0).reshape(4, 4), blocksize=(2, 2))
    turned = blocks.copy()
    turned.data = np.asfortranarray(blocks.data)
    assert address(turned) == address(blocks)


# Sizes, copies, time


def shares(encoded, array):
    return any(np.shares_memory(np.frombuffer(blob.memory, "u1"), array) for blob in encoded.blobs)


def test_large_columns_are_blobs_without_a_copy():
    array = np.random.default_rng(0).random(100_000)
    for value in (
        pa.table({"a": array}),
        pa.table({"a": np.concatenate([[0.0], array])}).slice(1),
        pl.DataFrame({"a": array}),
        xr.Dataset({"v": ("x", array)}),
        sp.csr_array((array, np.zeros(100_000, "i4"), np.arange(100_001))),
    ):
        encoded = encode(value)
        assert len(encoded.data) < 1000 and encoded.size > 800_000
        assert encode(value).blobs[0].memory == encoded.blobs[0].memory
        if isinstance(value, pa.Table):
            assert shares(encoded, value["a"].chunk(0).to_numpy())
        elif isinstance(value, pl.DataFrame):
            assert shares(encoded, value["a"].to_numpy(allow_copy=False))
        else:
            assert shares(encoded, array)
    text = pa.array([f"row {i}" for i in range(50_000)], pa.large_string())
    assert shares(encode(text), np.frombuffer(text.buffers()[2], "u1"))


def test_a_million_texts_take_less_than_a_second():
    """Of the processor: whoever else uses the machine does not count."""
    texts = [f"text {i}" for i in range(1_000_000)]
    for value in (pl.Series(texts), pa.array(texts), pa.array(texts, pa.string_view())):
        start = time.process_time()
        encode(value)
        assert time.process_time() - start < 1


def test_texts_are_taken_in_blocks(monkeypatch):
    from kachery_tasks.values import polars_columns

    series = pl.Series(["abc", None, "", "d" * 20, "ef", "", "g"])
    expected = encode(series).data
    monkeypatch.setattr(polars_columns, "_BLOCK", 4)
    assert encode(series).data == expected
    assert there_and_back(series).equals(series)


# Refusals


@pytest.mark.parametrize(
    ("make", "say"),
    [
        (lambda: pl.LazyFrame({"a": [1]}), r"collect\(\) it first"),
        (lambda: {"q": [pl.col("a")]}, r"\['q'\]\[0\].*Expr"),
        (lambda: pl.DataFrame({"a": pl.Series([object()], dtype=pl.Object)}), r"\['a'\].*object"),
        (lambda: pl.Series([1]).ext.to(pl.Extension("mine", pl.Int64)), r"ext\.storage"),
        (lambda: pa.array([b"a" * 16], pa.uuid()), r"\.storage"),
        (lambda: pa.table({"u": pa.array([b"a" * 16], pa.uuid())}), r"\['u'\]|\.storage"),
        (lambda: pa.uuid(), r"\.storage"),
        (lambda: pa.array([b"a" * 16], pa.uuid())[0], r"\.storage"),
        (lambda: pa.RunEndEncodedArray.from_arrays([1], ["a"]), "run_end_decode"),
        (lambda: pa.UnionArray.from_sparse(_codes[:1], [pa.array([1])]), "union"),
        (lambda: pa.table({"x": pa.array([b"\xff"]).view(pa.string())}), r"\['x'\].*UTF8"),
        (lambda: xr.Dataset({"a": ("x", [1, 2])}).chunk(), r"\['a'\].*load\(\) it first"),
        (lambda: xr.DataArray([1, 2], dims="x").chunk(), r"load\(\) it first"),
        (
            lambda: xr.Dataset(
                coords=xr.Coordinates.from_xindex(xr.indexes.RangeIndex.arange(3, dim="x"))
            ),
            "drop_indexes",
        ),
        (
            lambda: xr.Coordinates(
                {"x": ("x", [1])}, {"x": xr.indexes.PandasIndex([2], "x")}
            ).to_dataset(),
            "not what",
        ),
        (lambda: xr.DataTree.from_dict({"/a": None})["a"], r"copy\(\) it first"),
        (lambda: xr.Variable("x", Duck()), r"Duck; load\(\) it, or make it NumPy's with as_numpy"),
        (lambda: unsound(), "outside of the shape"),
    ],
)
def test_refusals_say_what_and_where(make, say):
    with pytest.raises(CannotEncode, match=say):
        encode(make())


class Duck(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of another library, as xarray takes them."""

    shape, ndim, dtype, size = (1,), 1, np.dtype("f8"), 1

    def __array_function__(self, *args):
        return NotImplemented

    def __array_ufunc__(self, *args):
        return NotImplemented


def unsound():
    matrix = sp.csr_array(np.eye(2))
    matrix.indices[0] = 9
    return matrix


# Damage

DAMAGED = [
    pl.DataFrame(
        {
            "i": [1, None],
            "t": ["a", None],
            "l": [[1], None],
            "c": pl.Series(["a", "b"], dtype=pl.Categorical),
        }
    ),
    pl.Series([[{"a": 1}], None], dtype=pl.List(pl.Struct({"a": pl.Int8}))),
    pl.Series([[1, 2], None], dtype=pl.Array(pl.Int128, 2)),
    pa.table(
        {
            "i": [1, None],
            "t": ["a", None],
            "l": [[1], None],
            "d": pa.array(["a", "b"]).dictionary_encode(),
        }
    ),
    pa.array([[("a", 1)], None], pa.map_(pa.string_view(), pa.int8())),
    pa.array([{"a": [1, 2]}], pa.struct({"a": pa.list_(pa.int8(), 2)})),
    xr.Dataset({"v": ("x", [1, 2])}, coords={"x": [1, 2]}),
    xr.DataArray(
        [1],
        coords=xr.Coordinates.from_pandas_multiindex(
            pd.MultiIndex.from_arrays([[1], [2]], names=["l", "m"]), "x"
        ),
    ),
    *(kind(np.array([[1.0, 0.0], [2.0, 3.0]])) for kind in KINDS[1::2]),
]


def touch(value):
    """Look at a value as a program would."""
    if isinstance(value, pl.Series) and len(value) < 1000:
        value.to_list()
    elif isinstance(value, pl.DataFrame) and value.height < 1000:
        value.rows()
    elif isinstance(value, pa.Table | pa.Array):
        value.validate(full=True)
        if len(value) < 1000:
            value.to_pylist()
    elif sp.issparse(value) and max(value.shape) < 1000:
        value.tocsr().toarray()
        value @ np.ones(value.shape[-1])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("value", DAMAGED, ids=lambda value: type(value).__name__)
def test_damaged_encodings_are_typed_errors(value):
    data = encode(value).data
    rng = np.random.default_rng(0)
    for position in range(4, len(data)):
        for byte in {*rng.integers(0, 256, count(20, 2)), data[position] ^ 1, data[position] ^ 128}:
            damaged = data[:position] + bytes([byte]) + data[position + 1 :]
            try:
                again = decode(damaged, lambda digest, size: memoryview(bytearray(8)))
            except CannotDecode:
                continue
            try:
                touch(again)
            except (ValueError, TypeError, OverflowError, pl.exceptions.PolarsError):
                pass  # a sound value that is not the one that was encoded


def test_what_is_never_encoded_is_not_decoded():
    series, lazy = encode(pl.Series([1])).data, b"polars.LazyFrame"
    body = b"\x91" + bytes([0xA0 + len(lazy)]) + lazy
    with pytest.raises(CannotDecode, match="never encoded"):
        decode(series[:4] + bytes([0xC7, len(body), 7]) + body, None)


# Processes


def test_nothing_is_imported_before_it_is_met():
    program = """
        import sys
        import kachery
        from kachery_tasks.values import encode, decode
        import numpy
        encode([1, "a", {2: (None, {3})}, numpy.zeros(3)])
        print(sorted({"polars", "pyarrow", "xarray", "scipy"} & set(sys.modules)))
        ours = [name.rpartition(".")[2] for name in sys.modules if "kachery_tasks.values." in name]
        print([name for name in ours if name.startswith(("polars", "arrow", "xarray", "scipy"))])
    """
    assert run_python(program).stdout.split("\n")[:2] == ["[]", "[]"]


def test_polars_does_without_pyarrow():
    program = """
        import sys
        sys.modules["pyarrow"] = None
        import polars as pl
        from kachery_tasks.values import encode, decode
        frame = pl.DataFrame({"a": [1, None], "t": ["x", None], "l": [[1], []], "s": [{"a": 1}, None]})
        frame = frame.with_columns(c=pl.col("t").cast(pl.Categorical), d=pl.col("a").cast(pl.Decimal(9, 2)))
        assert decode(encode(frame).data, None).equals(frame)
        print(encode(frame).address.hex())
    """
    assert len(run_python(program).stdout) == 65


EVERYWHERE = """
pl.Series([1, None], dtype=pl.Int8)
pl.DataFrame({"a": [1.5, None], "b": ["x", None], "c": [[1], []]})
pl.Series(["b", "a"], dtype=pl.Categorical)
pa.table({"a": [1, None], "b": ["x", None], "c": [[1], []]})
pa.array(["a", "b", "a"]).dictionary_encode()
xr.Dataset({"v": ("x", [1, 2]), "w": 3}, coords={"x": [1, 2], "y": 4, "z": 5}, attrs={"k": {1, 2, "a"}})
xr.DataArray([[1]], dims=("a", "b"), coords={"p": 1, "q": 2, "r": 3})
sp.csr_array(np.eye(3))
sp.dok_matrix(np.eye(3))
sp.lil_array(np.eye(3))
"""


def _addresses_elsewhere(python, seed):
    program = """
        import sys
        import numpy as np, polars as pl, pyarrow as pa, scipy.sparse as sp, xarray as xr
        from kachery_tasks.values import encode
        for line in sys.argv[1].split("\\n"):
            print(encode(eval(line)).address.hex())
    """
    folder = str(Path(__file__).parent.parent)
    return run_python(
        program,
        EVERYWHERE.strip(),
        python=python,
        env={"PYTHONHASHSEED": seed, "PYTHONPATH": folder},
    ).stdout.split()


def test_addresses_are_the_same_in_all_processes_and_on_all_pythons():
    here = [address(eval(line)).hex() for line in EVERYWHERE.strip().split("\n")]
    for seed in ("0", "1"):
        assert _addresses_elsewhere(sys.executable, seed) == here
    root = Path(__file__).parent.parent
    for python in sorted(root.glob(".venv-3.*/bin/python")):
        assert _addresses_elsewhere(python, "2") == here, python


def test_tasks_take_and_return_them():
    @kachery.task
    def through(frame, table, dataset, matrix):
        return [frame, table, dataset, matrix]

    values = [
        pl.DataFrame({"a": [1]}),
        pa.table({"a": [1]}),
        xr.Dataset({"a": 1}),
        sp.eye_array(2).tocsr(),
    ]
    first, again = through(*values), through(*values)
    assert through.job(*values).cached
    assert [type(value) for value in again] == [type(value) for value in values]
    assert address(first) == address(again) == address(values)
