"""Near misses: what differs from a value in one thing only, or in nothing that counts."""

import collections
import datetime as dt
import decimal
import enum
import fractions
import pathlib
import pickle
import struct
import uuid

import numpy as np
import pandas as pd
from hypothesis import strategies as st
from strategies import (
    STRINGS,
    ZONES,
    Frozen,
    Level,
    Pair,
    Plain,
    Setting,
    Slotted,
    Word,
    drawn_from,
    float_of,
    laid_out,
    objects,
    with_metadata,
)


def _again(value):
    """A copy that shares nothing; by pickle, because deepcopy of NumPy 1.26 dies of some arrays."""
    try:
        return pickle.loads(pickle.dumps(value))
    except Exception:  # such as a member of an enum whose value is NaN
        return value


def _flipped(x):
    return float_of(struct.unpack("<Q", struct.pack("<d", x))[0] ^ 1)


def _changed(array):
    """One bit of one item changed, or of what is between the items."""
    other = array.copy(order="K")
    other.reshape(-1).view("u1")[-1] ^= 1
    return other


def _set_last(array):
    other = array.copy()
    other[-1] = other[0]
    return other


def _under_the_mask(masked):
    other = masked.copy()
    other.data[...] = np.where(np.ma.getmaskarray(other), other.data + 1, other.data)
    return other


def _noted(**notes):
    def change(holder):
        other = holder.copy()
        for name, value in notes.items():
            setattr(other, name, value)
        return other

    return change


TWINS = [
    (bool, [int, str, np.bool_, lambda v: not v]),
    (int, [float, bool, str, np.int64, np.int32, decimal.Decimal, lambda v: v + 1, lambda v: -v, Level]),
    (float, [int, str, np.float64, np.float32, complex, _flipped, lambda v: -v, decimal.Decimal]),
    (complex, [np.complex128, lambda v: v.conjugate(), lambda v: v.real]),
    (str, [np.str_, pathlib.PurePosixPath, str.encode, str.upper, lambda v: v + "\0", lambda v: [v], Word]),
    (bytes, [bytearray, np.bytes_, bytes.decode, lambda v: v + b"\0"]),
    (decimal.Decimal, [int, float, lambda v: v.normalize(), lambda v: -v]),
    (fractions.Fraction, [int, float]),
    (pathlib.PurePath, [str, pathlib.PureWindowsPath, pathlib.PosixPath, lambda v: type(v)(str(v).swapcase())]),
    (dt.datetime, [lambda v: v.date(), lambda v: v.replace(fold=1 - v.fold), lambda v: v.replace(tzinfo=dt.UTC), pd.Timestamp, np.datetime64]),
    (dt.time, [lambda v: v.replace(fold=1 - v.fold), lambda v: v.replace(tzinfo=ZONES[1])]),
    (dt.timedelta, [pd.Timedelta, np.timedelta64]),
    (enum.Enum, [lambda v: v.value, lambda v: v.name, lambda v: next(iter(type(v)))]),
    (uuid.UUID, [lambda v: uuid.UUID(int=v.int), lambda v: v.int]),
    (range, [list, lambda v: range(v.start, v.stop + 1, v.step), lambda v: slice(v.start, v.stop, v.step)]),
    (list, [tuple, np.array, lambda v: v + [None], lambda v: v[::-1], collections.deque, set, objects]),
    (tuple, [list, tuple, set, lambda v: v[::-1], lambda v: Pair(*v)]),
    ((set, frozenset), [frozenset, set, list, lambda v: type(v)(sorted(v, key=repr, reverse=True))]),
    (dict, [dict, collections.OrderedDict, lambda v: dict(reversed(v.items())), lambda v: list(v.items()), Plain, lambda v: collections.defaultdict(list, v)]),
    ((Setting, Plain, Slotted, Frozen), [lambda v: {"x": getattr(v, "x", 0)}, lambda v: Plain(v.x), lambda v: Frozen(v.x)]),
    (np.ma.MaskedArray, [lambda v: v.data, lambda v: v.filled(), _under_the_mask, lambda v: np.ma.array(v, hard_mask=not v.hardmask), lambda v: np.ma.array(v, fill_value=1), lambda v: np.ma.array(v.data, mask=True), lambda v: laid_out(v, "F"), lambda v: v[...]]),
    (np.ndarray, [_changed, lambda v: laid_out(v, "F"), lambda v: laid_out(v, "strided"), lambda v: laid_out(v, "reversed"), lambda v: v.T, lambda v: v.astype(v.dtype.newbyteorder()), lambda v: v.reshape(-1), lambda v: v[None], lambda v: v.tolist(), lambda v: v.astype(object), lambda v: v.view(f"V{v.dtype.itemsize}"), np.ma.array, lambda v: v.view(np.recarray), lambda v: v.astype(with_metadata(v.dtype, {"unit": "s"})), lambda v: v[()], lambda v: np.broadcast_to(v.flat[0], v.shape), lambda v: v.view(np.matrix), lambda v: v.astype(np.dtype(v.dtype.descr))]),
    (np.generic, [np.asarray, lambda v: v.item(), bytes, lambda v: v.astype(v.dtype.newbyteorder())]),
    (np.dtype, [str, lambda v: v.newbyteorder(), lambda v: with_metadata(v, {"unit": 2}), lambda v: np.dtype((v, (1,))), lambda v: np.dtype(v.descr), lambda v: np.dtype(v.descr, align=True)]),
    ((np.random.Generator, np.random.RandomState), [lambda v: drawn_from(_again(v), 1)]),
    (np.random.Generator, [lambda v: (w := _again(v)).spawn(1) and w]),
    (pd.DataFrame, [lambda v: v.copy(), lambda v: v.iloc[:, 0], lambda v: v.rename_axis("other"), lambda v: v.T.T, lambda v: v.iloc[::-1], lambda v: v.astype(object), lambda v: v.convert_dtypes(), lambda v: v.iloc[:, ::-1], lambda v: v.reset_index(drop=True), lambda v: v.set_flags(allows_duplicate_labels=not v.flags.allows_duplicate_labels), _noted(attrs={"unit": "V"}), lambda v: pd.concat([v.iloc[:, [i]] for i in range(v.shape[1])], axis=1), lambda v: v.rename_axis("other", axis=1), lambda v: v.set_axis([*v.columns[:-1], "new"], axis=1)]),
    (pd.Series, [lambda v: v.copy(), lambda v: v.rename("other"), lambda v: v.to_frame(), lambda v: v.array, lambda v: v.astype(object), lambda v: v.convert_dtypes(), lambda v: v.astype("category"), lambda v: v.iloc[::-1], lambda v: v.reset_index(drop=True), lambda v: v.rename_axis("other"), lambda v: v.set_flags(allows_duplicate_labels=not v.flags.allows_duplicate_labels), _noted(attrs={"unit": "V"}), lambda v: v.shift(), pd.Index, lambda v: v.astype(STRINGS[-1]), lambda v: v.set_axis(v.index.remove_unused_levels())]),
    (pd.Index, [lambda v: v.copy(), lambda v: v.rename("other"), lambda v: v.astype(object), lambda v: v[::-1], lambda v: v.to_series(), lambda v: v.array, lambda v: v.remove_unused_levels(), lambda v: v.swaplevel(), lambda v: v._with_freq(None), lambda v: v.as_unit("ms"), lambda v: v.tz_localize(None), lambda v: pd.Index(v.to_numpy()), lambda v: pd.Index(list(v)), lambda v: v.astype("category"), lambda v: v.set_codes(-1 * np.ones(len(v), int), level=0)]),
    (pd.api.extensions.ExtensionArray, [lambda v: v.copy(), _set_last, lambda v: v.astype(object), pd.Series, pd.Index, lambda v: v.as_ordered(), lambda v: v.rename_categories(list("xyz")), lambda v: v.remove_unused_categories(), lambda v: v.astype(STRINGS[0]), lambda v: v.astype(STRINGS[-1]), lambda v: v[::-1][::-1], lambda v: v.set_closed("left"), lambda v: v.to_numpy(), lambda v: pd.array(np.asarray(v)), lambda v: v.as_unit("ms"), lambda v: pd.arrays.SparseArray(v)]),
    (pd.Timestamp, [lambda v: v.as_unit("ms"), lambda v: v.tz_localize(None), lambda v: v.tz_convert("Europe/Berlin"), lambda v: v.tz_localize(None).to_pydatetime(), lambda v: v.to_datetime64(), lambda v: v.replace(fold=1 - v.fold), lambda v: v + pd.Timedelta(1, "s")]),
    (pd.Timedelta, [lambda v: v.as_unit("ms"), lambda v: v.to_pytimedelta(), lambda v: v.to_timedelta64()]),
    (pd.Interval, [lambda v: pd.Interval(v.left, v.right, "left"), lambda v: pd.Interval(float(v.left), v.right, v.closed)]),
    (pd.offsets.BaseOffset, [lambda v: v * 2, lambda v: type(v)(v.n, normalize=True), lambda v: type(v)(v.n), lambda v: v.freqstr]),
]  # fmt: skip


def near(draw, value):
    """A value that is like another one, in a container perhaps; it may be identical."""
    inner = _member(value)
    if inner is not None and draw(st.booleans()):
        return _with_member(value, near(draw, inner))
    changes = [_again] + [c for kinds, some in TWINS if isinstance(value, kinds) for c in some]
    try:
        other = changes[draw(st.integers(0, len(changes) - 1))](value)
    except Exception:  # not every change can be made to every value
        return _again(value)
    return _again(value) if isinstance(other, np.ma.core.mvoid) else other


def _member(value):
    if isinstance(value, list) and value:
        return value[0]
    if type(value) is tuple and value:
        return value[-1]
    if type(value) is dict and value:
        return next(iter(value.values()))
    return getattr(value, "x", None) if isinstance(value, Plain | Frozen) else None


def _with_member(value, member):
    if isinstance(value, list):
        return [member, *value[1:]]
    if isinstance(value, tuple):
        return (*value[:-1], member)
    if isinstance(value, dict):
        return {**value, next(iter(value)): member}
    return type(value)(member)


@st.composite
def pairs(draw, of):
    """Pairs of values, most of them as near to each other as can be."""
    value = draw(of)
    return value, near(draw, value) if draw(st.integers(0, 5)) else draw(of)
