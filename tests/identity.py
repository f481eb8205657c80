"""What being identical means, written down without a look at the encoding; and the way there and back."""

import collections
import datetime as dt
import decimal
import enum
import pathlib
import random
import re
import struct
import uuid
import zoneinfo

import numpy as np
import pandas as pd

try:
    import pyarrow as pa
except ImportError:
    pa = None

from kachery_tasks.values import decode, encode

StringDType = getattr(np.dtypes, "StringDType", None)


def there_and_back(value):
    """What decoding makes of the encoding of a value."""
    encoded = encode(value)
    blobs = {blob.digest: bytes(blob.memory) for blob in encoded.blobs}

    def load(digest, size):
        assert len(blobs[digest]) == size
        return memoryview(bytearray(blobs[digest]))

    return decode(encoded.data, load)


def identical(a, b):
    """Identity as the format defines it."""
    if a is b:
        return True
    if _kind(a) != _kind(b):
        return False
    for kinds, rule in _RULES:
        if isinstance(a, kinds):
            return rule(a, b)
    if type(a).__eq__ is object.__eq__ or hasattr(a, "__dataclass_fields__"):
        return _all(_state(a), _state(b))
    return bool(a == b)


def _kind(value):
    if isinstance(value, np.memmap):
        return np.ndarray
    if isinstance(value, np.dtype):
        return np.dtype
    if isinstance(value, pd.StringDtype):  # however the strings are held
        return pd.StringDtype
    if isinstance(getattr(value, "dtype", None), pd.StringDtype) and hasattr(value, "isna"):
        return pd.StringDtype, isinstance(value, pd.api.extensions.ExtensionArray) or type(value)
    if isinstance(value, np.integer):  # `longlong` is another name for `int64`
        return value.dtype.str
    return type(value)


def _all(a, b):
    a, b = list(a), list(b)
    return len(a) == len(b) and all(map(identical, a, b))


def members(get):
    return lambda a, b: _all(get(a), get(b))


def _bits(a, b):
    return struct.pack("d", a) == struct.pack("d", b)


def _sets(a, b):
    rest = list(b)
    for item in a:
        match = next((i for i, other in enumerate(rest) if identical(item, other)), None)
        if match is None:
            return False
        del rest[match]
    return not rest


def _mapping(d):
    return [*d.keys(), *d.values(), *sorted(getattr(d, "__dict__", {}).items())]


def _state(value):
    slots = [n for c in type(value).__mro__ for n in getattr(c, "__slots__", ())]
    names = [f"_{type(value).__name__}{n}" if n.startswith("__") else n for n in slots]
    state = {n: getattr(value, n) for n in names if hasattr(value, n)}
    return sorted((state | getattr(value, "__dict__", {})).items())


def _zone(zone):
    return [] if zone is None else [getattr(zone, "key", None), repr(zone)]


def _time(t):
    return [t.replace(tzinfo=None).isoformat(), t.fold, type(t.tzinfo), *_zone(t.tzinfo)]


def order(array):
    return "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"


def _dtype(d):
    metadata = dict(d.metadata or {})
    if StringDType is not None and isinstance(d, StringDType):
        return ["T", d.coerce, hasattr(d, "na_object"), getattr(d, "na_object", None)]
    if d.subdtype is not None:
        return [metadata, *d.subdtype]
    if d.names is None:
        return [metadata, d.str, d.type is np.record]
    fields = [[name, *d.fields[name]] for name in d.names]
    return [metadata, fields, d.itemsize, d.isalignedstruct, d.type]


def _content(array):
    """What an array holds, in C order, without what nobody can rely on."""
    flat = np.asarray(array).reshape(-1)
    if flat.dtype.names is not None:
        return [_content(flat[name]) for name in flat.dtype.names]
    if flat.dtype.hasobject:
        return flat.tolist()
    if flat.dtype.char in "gG":
        swapped = flat.dtype.str[0] == ">"
        floats = flat.astype(flat.dtype.newbyteorder("=")).view(np.longdouble)
        return [swapped, floats.view("u1").reshape(-1, 16)[:, :10].tobytes()]
    return [np.ascontiguousarray(flat).tobytes()]


def _array(a):
    return [a.dtype, a.shape, order(a), _content(a)]


def _scalar(s):
    if isinstance(s, np.str_):  # its dtype says how long it is, or one
        return [str(s)]
    return [bytes(s)] if isinstance(s, np.bytes_) else _array(np.asarray(s))


def _shown(data, mask):
    """The content of a masked array that can be seen."""
    if data.dtype.names is not None:
        return [_shown(data[name], mask[name]) for name in data.dtype.names]
    return [_content(data[~mask]), mask.tobytes()]


def _masked(m):
    data, mask = np.asarray(m.data), np.ma.getmaskarray(m)
    fill = vars(m)["_fill_value"]  # a view would have another one, once this one was looked at
    fill = _default_fill(data.dtype) if fill is None else repr(fill[()])
    return [
        *(type(m.data), data.dtype, data.shape, order(data), _shown(data, mask)),
        *(
            m.mask is np.ma.nomask,
            order(mask),
            m.hardmask,
            None if fill == _default_fill(data.dtype) else fill,
        ),
    ]


def _default_fill(dtype):
    with np.errstate(all="ignore"):
        return repr(np.ma.MaskedArray(np.zeros(0, dtype)).fill_value)


def _seeds(g):
    s = getattr(g, "bit_generator", g).seed_seq
    return None if s is None else [s.entropy, s.spawn_key, s.pool_size, s.n_children_spawned]


def _generator(g):
    return [getattr(g, "bit_generator", g).state, _seeds(g)]


def _offset(o):
    kwds = {k: v for k, v in sorted(o.kwds.items()) if k != "calendar"}
    calendar = o.kwds.get("calendar")
    days = [] if calendar is None else [calendar.weekmask, calendar.holidays]
    return [o.n, o.normalize, kwds, days]


def _column(a):
    """A pandas array: its dtype, its items, and what else can be seen."""
    if isinstance(a, pd.Categorical):
        return [a.dtype, a.codes]
    if isinstance(a, pd.arrays.SparseArray):
        return [a.dtype, a.kind, a.sp_values, a.sp_index.to_int_index().indices, len(a)]
    if isinstance(a.dtype, pd.ArrowDtype):
        return [a.dtype, a.__arrow_array__().to_pylist()]
    if isinstance(a.dtype, pd.StringDtype):
        return [a.dtype, [x if isinstance(x, str) else None for x in a.tolist()]]
    return [a.dtype, list(a)]


def _pandas_dtype(d):
    names = ("categories", "ordered", "unit", "freq", "subtype", "closed", "fill_value")
    parts = [getattr(d, n, None) for n in (*names, "numpy_dtype", "pyarrow_dtype")]
    zone = getattr(d, "tz", None)
    return [*map(_safe, parts), str(zone), isinstance(d, pd.StringDtype) and d.na_value is pd.NA]


def _safe(part):
    return str(part) if pa is not None and isinstance(part, pa.DataType) else part


def _values(holder):
    return holder.to_numpy() if isinstance(holder.dtype, np.dtype) else holder.array


def _index(i):
    if isinstance(i, pd.MultiIndex):
        return [list(i.levels), [np.asarray(c, "i8") for c in i.codes], list(i.names), i.sortorder]
    if isinstance(i, pd.RangeIndex):
        return [i.start, i.stop, i.step, i.name]
    freq = None if isinstance(i, pd.PeriodIndex) else getattr(i, "freq", None)
    return [i.name, freq, _values(i)]


def _notes(p):
    return [p.attrs, p.flags.allows_duplicate_labels, p.index]


def _frame(f):
    return [*_notes(f), f.columns, *[_values(f.iloc[:, i]) for i in range(f.shape[1])]]


def _pandas_scalar(t):
    return [t.unit, t.asm8.view("i8"), *(_time(t) if isinstance(t, pd.Timestamp) else [])]


_RULES = [
    (enum.Enum, lambda a, b: a._value_ == b._value_),
    (np.ma.MaskedArray, members(_masked)),
    (np.ndarray, members(_array)),
    (np.generic, members(_scalar)),
    (np.dtype, members(_dtype)),
    (np.random.SeedSequence, members(lambda s: [s.entropy, s.spawn_key, s.pool_size])),
    ((np.random.Generator, np.random.BitGenerator), members(_generator)),
    (np.random.RandomState, members(lambda r: [r.get_state(legacy=False)])),
    (pd.DataFrame, members(_frame)),
    (pd.Series, members(lambda s: [*_notes(s), s.name, _values(s)])),
    (pd.Index, members(_index)),
    (pd.api.extensions.ExtensionArray, members(_column)),
    (pd.api.extensions.ExtensionDtype, members(_pandas_dtype)),
    (pd.offsets.BaseOffset, members(_offset)),
    ((pd.Timestamp, pd.Timedelta), members(_pandas_scalar)),
    (pd.Period, members(lambda p: [p.ordinal, p.freqstr])),
    (pd.Interval, members(lambda i: [i.left, i.right, i.closed])),
    (float, _bits),
    (complex, members(lambda z: [z.real, z.imag])),
    (collections.deque, members(lambda d: [list(d), d.maxlen])),
    (collections.defaultdict, members(lambda d: [d.default_factory, *_mapping(d)])),
    (dict, members(_mapping)),
    ((list, tuple), _all),
    ((set, frozenset), _sets),
    ((dt.datetime, dt.time), members(_time)),
    ((dt.timezone, zoneinfo.ZoneInfo), members(_zone)),
    (slice, members(lambda s: [s.start, s.stop, s.step])),
    (range, members(lambda r: [r.start, r.stop, r.step])),
    ((decimal.Decimal, pathlib.PurePath), lambda a, b: str(a) == str(b)),
    (re.Pattern, members(lambda p: [p.pattern, p.flags])),
    (uuid.UUID, lambda a, b: a == b and a.is_safe is b.is_safe),
    (random.Random, lambda a, b: a.getstate() == b.getstate()),
]
