"""The golden vectors of the formats.

python tests/vectors.py            compare this Python's encodings with docs/formats/vectors
python tests/vectors.py --write    write them (only when a format is deliberately changed)
"""

# Not all of these are named below: the expressions of VALUES use them.
import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import importlib
import ipaddress
import json
import pathlib
import random
import re
import struct
import sys
import tempfile
import types
import typing
import uuid
import zoneinfo

import msgpack
import numpy as np

LIBRARIES = {"pd": "pandas", "pl": "polars", "pa": "pyarrow", "xr": "xarray", "sp": "scipy.sparse"}
LACKING = []  # the vectors of a library are checked where it is installed
for _name, _library in LIBRARIES.items():
    try:
        globals()[_name] = importlib.import_module(_library)
    except ImportError:
        LACKING.append(f"{_name}.")
if "pd." not in LACKING and pd.__version__ < "3":
    LACKING.append('dtype="str"')  # it means objects there
if "pa." in LACKING:
    LACKING.append("pyarrow")
if np.__version__ < "2":
    LACKING.append("np.dtypes.StringDType")

from kachery_store.digest import hash_buffer
from kachery_store.manifest import has_manifest, manifest_of
from kachery_tasks.code import fingerprint_of
from kachery_tasks.definition import Definition
from kachery_tasks.failures import Failure
from kachery_tasks.identity import addresses_of, identify
from kachery_tasks.kept_errors import Raised
from kachery_tasks.record import MAGIC, VERSION, Record, Result
from kachery_tasks.sealed import seal
from kachery_tasks.values import encode

FOLDER = pathlib.Path(__file__).parent.parent / "docs/formats/vectors"


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: float
    label: str = "p"


Pair = collections.namedtuple("Pair", "a b")


class Sub(dict):
    pass


class Plain:
    def __init__(self):
        self.b, self.a = 1, [2]


for _cls in (Colour, Point, Pair, Sub, Plain):
    _cls.__module__ = "vectors"
sys.modules["vectors"] = sys.modules[__name__]

VALUES = """
None
True
False
0
1
-1
127
-33
2**63
2**64 - 1
2**64
-(2**63) - 1
10**40
0.0
-0.0
1.0
float("inf")
float("nan")
1e-300
1j
complex(-0.0, 2)
""
"text"
"Grüße \\u2603 \\U0001f600"
"\\ud800"
b""
b"bytes"
b"x" * 65535
b"x" * 65536
bytearray(b"bytes")
[]
[1, [2.0, ["three"]]]
()
(1,)
(1, (2, (3,)))
{}
{"b": 1, "a": 2}
{"a": 2, "b": 1}
{1: "int", "1": "str", (1,): "tuple", None: "none"}
set()
{3, 1, 2}
{"b", "a", ("c", 1)}
frozenset({1, frozenset({2})})
range(0, 10, 3)
slice(None, 5)
...
NotImplemented
decimal.Decimal("1.50")
fractions.Fraction(1, 3)
uuid.UUID("12345678123456781234567812345678")
pathlib.PurePosixPath("a/b.txt")
pathlib.PosixPath("/data/b.txt")
re.compile("a+", re.I)
dt.date(2024, 2, 29)
dt.time(12, 30, 1, 5)
dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
dt.datetime(2024, 1, 1, tzinfo=dt.timezone.utc)
dt.datetime(2024, 1, 1)
dt.timezone(dt.timedelta(hours=5, minutes=30), "IST")
dt.timedelta(days=-1, seconds=5, microseconds=7)
random.Random(5)
Colour.RED
Point(1.5)
Pair(1, [2])
np.float64(1.0)
np.float32(1.0)
np.int64(1)
np.bool_(True)
np.str_("s\\0")
np.bytes_(b"s")
np.datetime64("2024-01-01T00:00", "m")
np.dtype("float32")
np.dtype([("a", "<i4"), ("b", "<f8", (2,))])
np.array(5)
np.zeros(0)
np.arange(6, dtype="<i4").reshape(2, 3)
np.asfortranarray(np.arange(6, dtype="<i4").reshape(2, 3))
np.arange(6, dtype="<i4").reshape(2, 3).T
np.arange(12, dtype="<i4")[::2]
np.arange(3, dtype=">i4")
np.array(["a", "bc"])
np.array([b"a", b"bc"])
np.array([1, "a", None, [2]], dtype=object)
np.array([True, False])
np.array(["2024-01-01", "NaT"], dtype="M8[D]")
np.array([(1, 2.5)], dtype=[("a", "<i2"), ("b", "<f8")])
np.array([(1, 2.5)], dtype=np.dtype([("a", "<i2"), ("b", "<f8")], align=True))
np.arange(8192, dtype="<f8")
np.arange(8191, dtype="<f8")
{"image": np.zeros((256, 256)), "again": np.zeros((256, 256))}
np.random.default_rng(7)
np.random.RandomState(7)
collections.OrderedDict(a=1)
collections.deque([1, 2], 5)
collections.Counter("aab")
collections.defaultdict(int, a=1)
int
Point
pd.Series([1.0, 2.0], name="s")
pd.Series(["a", None], dtype="str")
pd.Series(["a", None], dtype="string")
pd.Series(["a", None], dtype=object)
pd.Series([1, None], dtype="Int64")
pd.DataFrame({"a": [1, 2], "b": [0.5, None]}, index=pd.Index(["x", "y"], name="i", dtype=object), columns=pd.Index(["a", "b"], dtype=object))
pd.DataFrame({"c": pd.Categorical(["u", "v", "u"], categories=pd.Index(["v", "u"], dtype=object))}, columns=pd.Index(["c"], dtype=object))
pd.date_range("2024-01-01", periods=3, freq="D", tz="Europe/Berlin", unit="ns")
pd.MultiIndex.from_arrays([np.array([1, 1, 2]), np.array([3, 4, 4])], names=["i", None])
pd.Timestamp("2024-01-01 12:00", tz="UTC").as_unit("ns")
pd.Timedelta(5, "s").as_unit("ns")
pd.NaT
pd.NA
pl.DataFrame({"a": [1, None], "b": ["x", None], "c": [[1, 2], []]})
pl.Series("s", ["b", "a", None, "b"], dtype=pl.Categorical)
pl.Series([{"t": dt.datetime(2024, 1, 1), "d": decimal.Decimal("1.50")}, None], dtype=pl.Struct({"t": pl.Datetime("ns", "UTC"), "d": pl.Decimal(9, 2)}))
pl.Series([[True, None], None, [False, True]], dtype=pl.Array(pl.Boolean, 2))
pa.table({"a": [1, None], "b": ["x", None], "c": [[1, 2], []]}, metadata={"k": "v"})
pa.chunked_array([pa.array(["a", "b"]).dictionary_encode(), pa.array(["b", None, "c"]).dictionary_encode()])
pa.array([{"a": [1, 2], "b": True}, None], pa.struct([pa.field("a", pa.list_(pa.int16(), 2), nullable=False), ("b", pa.bool_())]))
pa.schema([pa.field("m", pa.map_(pa.string(), pa.decimal128(9, 2)), metadata={"k": "v"}), ("t", pa.timestamp("us", "UTC"))])
xr.Variable("x", np.array([1.5, 2.5]), {"units": "m"})
xr.DataArray(np.arange(6.0).reshape(2, 3), dims=("x", "y"), coords={"y": np.array([3, 4, 5]), "z": 7}, name="n")
xr.Dataset({"v": ("x", np.array([1, 2]))}, coords={"x": pd.Index(["p", "q"], dtype=object)}, attrs={"a": 1})
xr.DataArray(np.array([1, 2]), dims="x", coords=xr.Coordinates.from_pandas_multiindex(pd.MultiIndex.from_arrays([np.array([1, 2]), np.array([3, 4])], names=["l", "m"]), "x"))
sp.csr_array((np.array([1.0, 0.0, 2.0]), np.array([2, 0, 1], "i4"), np.array([0, 1, 3], "i4")), shape=(2, 3))
sp.coo_matrix((np.array([1, 2, 2]), (np.array([0, 1, 1], "i4"), np.array([0, 2, 2], "i4"))), shape=(2, 3))
sp.dia_array((np.array([[1.0, 2.0, 3.0]]), np.array([1], "i4")), shape=(3, 3))
sp.dok_array(np.array([[0.0, 1.5], [2.5, 0.0]]))
struct.Struct("<IH")
array.array("d", [1.0, 2.0])
types.SimpleNamespace(b=1, a=2)
list[int]
int | None
typing.Literal["a", 1]
ipaddress.ip_network("10.0.0.0/8")
Sub({"a": 1})
Plain()
np.dtype("<f8", metadata={"unit": "m"})
np.dtype([("a", "<i4")], metadata={"unit": "m"})
np.dtype(("<f8", (2, 3)))
np.dtype((np.record, [("a", "<i4")]))
np.dtype({"names": ["a"], "formats": ["<i4"], "titles": ["t"], "offsets": [2], "itemsize": 8})
np.array([(1, (2.5, [b"x", b"y"]))], dtype=[("a", ">i2"), ("b", [("c", "<f8"), ("d", "S1", (2,))])])
np.array(["2024-01-01", "NaT"], dtype="M8[25s]")
np.arange(6, dtype="<f4").reshape(2, 3)[::-1, ::2]
np.timedelta64(5, "25s")
np.void(b"ab")
np.array([(1, 2)], dtype="<i4,<f8")[0]
np.ma.MaskedArray([1.0, 2.0], mask=[False, True])
np.ma.MaskedArray([1.0, 2.0], mask=[False, True], fill_value=-1, hard_mask=True)
np.ma.MaskedArray([1, 2], dtype="<i4")
np.ma.MaskedArray([(1, 2.0)], mask=[(True, False)], dtype=[("a", "<i4"), ("b", "<f8")])
np.ma.masked
np.zeros(1, [("a", "<i4")]).view(np.recarray)
np.array([[1, 2]], "<i4").view(np.matrix)
np.random.SeedSequence(5, spawn_key=(1,))
np.random.Philox(3)
np.random.Generator(np.random.MT19937(3))
np.random.RandomState(np.random.PCG64(4))
np.polynomial.Polynomial([1, 2])
np.polynomial.Chebyshev([1, 2], domain=[0, 1], symbol="z")
np.poly1d([1, 2], variable="z")
np.busdaycalendar("1010000", ["2024-01-01"])
np.dtypes.StringDType(na_object=None, coerce=False)
np.array(["a\\0", "", "\\u2603"], dtype=np.dtypes.StringDType())
np.array(["a", None], dtype=np.dtypes.StringDType(na_object=None))
pd.Series(["a", None, "", "\\u2603"], dtype="string")
pd.array(["a", None], dtype="string")
pd.array([1, None], dtype="Int8")
pd.array([0.5, None], dtype="Float32")
pd.array([True, None], dtype="boolean")
pd.array([1, 2], dtype="int64")
pd.Categorical(["a", None], categories=pd.Index(["b", "a"], dtype=object), ordered=True)
pd.arrays.SparseArray([0, 0, 1, 2], kind="block")
pd.Series(pd.period_range("2024-01", periods=2, freq="M"))
pd.interval_range(0, 2, closed="left")
pd.Series(pd.to_datetime(["2024-01-01", None]).as_unit("s").tz_localize("Europe/Berlin"))
pd.to_datetime(["2024-01-01"]).as_unit("us").array
pd.Series(pd.to_timedelta([1, 2], unit="s").as_unit("ms"))
pd.timedelta_range("1D", periods=2, freq="7h", unit="ns")
pd.date_range("2024-01-01", periods=3, freq="QS-FEB", unit="ns")
pd.date_range("2024-01-01", periods=3, freq=pd.offsets.CustomBusinessDay(holidays=["2024-01-02"]), unit="ns")
pd.DateOffset(months=1, day=3)
pd.offsets.MonthEnd(2, normalize=True)
pd.offsets.Easter()
pd.offsets.BusinessHour(start=["09:00", "14:00"], end=["12:00", "17:00"])
pd.Timestamp("2024-10-27 01:30", tz="UTC").tz_convert("Europe/Berlin").as_unit("ns")
pd.Timestamp("2024-10-27 01:30+02:00").as_unit("s")
pd.Period("2024-05", freq="Q-FEB")
pd.Interval(0, 1.5, closed="both")
pd.RangeIndex(0, 5, 3, name="r")
pd.Index([(1, 2), (3, 4)], tupleize_cols=False, dtype=object)
pd.CategoricalIndex(pd.Categorical([1, 2, 1]), name="c")
pd.MultiIndex(levels=[pd.Index([1, 2, 3]), pd.Index([4.5])], codes=[[0, -1], [0, 0]], names=["a", ("b", 1)])
pd.CategoricalDtype()
pd.CategoricalDtype([1, 2], ordered=True)
pd.DatetimeTZDtype("s", "Europe/Berlin")
pd.PeriodDtype("2W-TUE")
pd.IntervalDtype("int64", "left")
pd.SparseDtype("float64", 0.0)
pd.StringDtype()
pd.Int64Dtype()
pd.DataFrame({0: [1, 2]}, columns=pd.RangeIndex(1)).set_flags(allows_duplicate_labels=False)
pd.DataFrame(index=pd.RangeIndex(2), columns=pd.RangeIndex(0))
pd.Series(["a", None, "bc"], dtype="string[pyarrow]")
pd.Series([1, None], dtype="int64[pyarrow]")
"""

FUNCTIONS = {
    "f": "def f(x, y=2):\n    return x + y\n",
    "f with comment and docstring": (
        "# moved\n\n\ndef f(x: int, y = 2) -> float:\n    '''Doc.'''\n    # why\n    return (x\n        + y)\n"
    ),
    "f with another constant": "def f(x, y=2):\n    return x + y + 1\n",
    "f with another default": "def f(x, y=3):\n    return x + y\n",
    "f with helper": "K = 3\ndef g(x):\n    return x * K\ndef f(x):\n    return g(x)\n",
    "f with changed helper": "K = 3\ndef g(x):\n    return x + K\ndef f(x):\n    return g(x)\n",
    "f with changed constant": "K = 4\ndef g(x):\n    return x * K\ndef f(x):\n    return g(x)\n",
    "f with f-strings": (
        "def f(x, w):\n    return f'a{x!r:>{w}}b' 'c' f'{x:.3f}{{}}' + f\"{x['k']}\" if x else f''\n"
    ),
    "f with comprehensions": (
        "N = (1, 2)\ndef f(x):\n    return [a for a in x if a in N] + list(b for b in {c: 1 for c in N})\n"
    ),
    "f with match, walrus, lambda, try": (
        "def f(x):\n    match x:\n        case {'a': [1, *rest]}:\n            return rest\n        case str() | None:\n"
        "            return (y := x)\n    try:\n        return (lambda z, *, k=1: z + k)(x)\n"
        "    except* ValueError as e:\n        raise KeyError from e\n    finally:\n        pass\n"
    ),
    "f with numpy": "import numpy as np\ndef f(x):\n    return np.linalg.norm(x) + np.pi\n",
    "f with a dataclass": (
        "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass P:\n    a: int = 1\n    def m(self):\n"
        "        return self.a\ndef f(x):\n    return P(x).m()\n"
    ),
    "f with an enum": "import enum\nclass C(enum.Enum):\n    A = 1\n    B = 2\ndef f(x):\n    return C(x) is C.A\n",
    "f with a named tuple": "import collections\nT = collections.namedtuple('T', 'a b')\ndef f(x):\n    return T(x, 1)\n",
    "f with a global table": "TABLE = {'a': [1, 2]}\ndef f(x):\n    return TABLE[x]\n",
    "f with lambdas from comprehensions": (
        "FS = [lambda x: x + i for i in (1, 2)]\ndef make():\n    return {k: lambda x: x * k for k in (1, 2)}\n"
        "GS = make()\ndef f(x):\n    return FS[0](x) + GS[1](x)\n"
    ),
    "f with an inner function": "def f(x):\n    def g(y):\n        'doc'\n        return y * 2\n    return g(x)\n",
}


def values():
    vectors = []
    for expression in VALUES.strip().split("\n"):
        if any(name in expression for name in LACKING):
            continue
        encoded = encode(eval(expression))
        vector = {"python": expression, "address": encoded.address.hex()}
        if len(encoded.data) <= 400:
            vector["encoding"] = encoded.data.hex()
        if encoded.blobs:
            vector["blobs"] = [[blob.digest.hex(), blob.memory.nbytes] for blob in encoded.blobs]
        vectors.append(vector)
    return vectors


def _module(source, name="golden"):
    import linecache

    filename = f"<golden {abs(hash(source))}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(compile(source, filename, "exec", dont_inherit=True), module.__dict__)
    return module


def fingerprints():
    return [
        {"case": case, "source": source, "fingerprint": fingerprint_of(_module(source).f).digest}
        for case, source in FUNCTIONS.items()
    ]


def jobs():
    definition = Definition(_module(FUNCTIONS["f"]).f, kind="task")
    vectors = []
    for args, kwargs in (
        ((1,), {}),
        ((1.0,), {}),
        ((1, 3), {}),
        ((), {"y": [None], "x": {"a": 1}}),
    ):
        arguments = definition.parameters.bind(args, kwargs)
        addresses = addresses_of(definition, arguments)
        vectors.append(
            {
                "kind": "task",
                "name": definition.name,
                "fingerprint": definition.fingerprint().digest,
                "arguments": {name: address.hex() for name, address in addresses.of.items()},
                "job_id": identify(definition, addresses),
            }
        )
    return vectors


ENVIRONMENT = {
    "environment": 1,
    "host": "host",
    "user": "user",
    "python": "3.11.7",
    "implementation": "CPython",
    "platform": "Linux-6.1.0-x86_64-with-glibc2.36",
    "kachery": "3.0.0",
    "packages": {"numpy": "2.4.6", "yaml": ""},
    "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": True},
    "command": ["run.py", "--fast"],
}


def records():
    encoded = encode(3)
    record = Record(
        job_id="ab" * 32,
        kind="task",
        task="golden:f",
        version=None,
        fingerprint="cd" * 32,
        arguments=[("x", encode(1).address, "1"), ("y", encode(2).address, "2")],
        result=Result(encoded.address, encoded.size, "int", [], encoded.data, []),
        status="finished",
        started=1700000000.5,
        seconds=0.25,
        host="host",
        user="user",
        pid=1234,
        python="3.11.7",
        kachery="3.0.0",
        codes=[("golden:C", "ef" * 32)],
        inputs=[("x", "01" * 32)],
        cpu_seconds=0.125,
        peak_memory=50_000_000,
        attempt=1,
        environment=encode(ENVIRONMENT).address,
        values=[("x", encode(1).data), ("y", encode(2).data)],
    )
    full = record._replace(
        job_id="ac" * 32,
        asks=["golden:q"],
        parent="02" * 32,
        children=["03" * 32, "04" * 32],
        reads=[
            ("query", "05" * 32, encode("now").address),
            ("mutable", '"key"', encode([1]).address),
            ("mutable", "@folder/key", b""),
        ],
        attempt=3,
        worker="tcp://127.0.0.1:8786",
        parts=[("z", encode("the first part").address + encode("the second part").address, True)],
    )
    kept = encode(Raised("builtins:KeyError", ("x", 1), {"seen": [2]}))
    error = record._replace(
        job_id="ba" * 32,
        result=Result(kept.address, kept.size, "KeyError", [], kept.data, []),
        status="error",
    )
    now = [{"job_id": one.job_id, "file": one.to_bytes().hex()} for one in (record, error, full)]
    before = full._replace(parts=[])
    older = (
        (record, 16),
        (error, 16),
        (before._replace(parent=""), 17),
        (before, 18),
        (before, 27),
    )
    return now + [
        {"job_id": one.job_id, "older": True, "file": _with_fields(one, count).hex()}
        for one, count in older
    ]


def _with_fields(record, count):
    """The file that kachery wrote before a record had more fields than that."""
    return seal(MAGIC, VERSION, msgpack.packb(record[:count]))


def environments():
    encoded = encode(ENVIRONMENT)
    return [{"address": encoded.address.hex(), "blob": encoded.data.hex()}]


def failures():
    failure = Failure(
        job_id="ab" * 32,
        kind="task",
        task="golden:f",
        fingerprint="cd" * 32,
        arguments=[("password", b"", "secret"), ("x", encode(1).address, "1")],
        error="ValueError",
        message="no \N{SNOWMAN}",
        traceback="Traceback (most recent call last):\nValueError: no \N{SNOWMAN}\n",
        host="host",
        user="user",
        pid=1234,
        python="3.11.7",
        started=1700000000.5,
        seconds=0.25,
        attempts=3,
    )
    return [{"job_id": failure.job_id, "file": failure.to_bytes().hex()}]


SIZES = (0, 1, 19_999_999, 20_000_000, 20_000_001, 60_000_000)


def golden_bytes(size):
    """The contents of the files of the manifest vectors: byte i is i mod 251."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


def manifests():
    vectors = []
    for size in SIZES:
        data = golden_bytes(size)
        vector = {"size": size, "sha1": hash_buffer("sha1", data)}
        if has_manifest(size):
            with tempfile.NamedTemporaryFile() as file:
                file.write(data)
                file.flush()
                for algorithm in ("sha1", "sha256", "blake3"):
                    file.seek(0)
                    manifest = manifest_of(file, algorithm).to_bytes()
                    vector[f"{algorithm} manifest"] = manifest.decode()
                    vector[f"digest of the {algorithm} manifest"] = hash_buffer(algorithm, manifest)
        vectors.append(vector)
    return vectors


SETS = {
    "value": values,
    "fingerprint": fingerprints,
    "job": jobs,
    "record": records,
    "environment": environments,
    "failure": failures,
    "manifest": manifests,
}


def differences():
    """What this Python makes otherwise than the vectors say."""
    found = []
    for name, make in SETS.items():
        expected = json.loads((FOLDER / f"{name}.json").read_text())
        expected = [v for v in expected if not any(name in v.get("python", "") for name in LACKING)]
        made = json.loads(json.dumps(make()))
        found += [f"{name}: {a} is now {b}" for a, b in zip(expected, made, strict=True) if a != b]
    return found


if __name__ == "__main__":
    if "--write" in sys.argv:
        for name, make in SETS.items():
            text = json.dumps(make(), indent=1, ensure_ascii=True)
            (FOLDER / f"{name}.json").write_text(text + "\n")
    else:
        found = differences()
        print("\n".join(found) or f"all vectors hold on Python {sys.version.split()[0]}")
        sys.exit(bool(found))
