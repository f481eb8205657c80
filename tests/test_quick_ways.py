"""What is done quickly comes to the same as what is done slowly."""

import json
import os
import shutil

import numpy as np
import pytest
from blake3 import blake3
from conftest import count, run_python
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Frozen, floats, integers, texts
from test_values import there_and_back

import kachery
from kachery_tasks.errors import CannotEncode
from kachery_tasks.values import Encoder, encode, encoding

scalars = st.one_of(st.none(), st.booleans(), integers, floats, texts, st.binary(max_size=8))
names = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)
nested = st.recursive(
    scalars | st.sampled_from([b"x" * encoding.BLOB_FROM, "x" * encoding.BLOB_FROM, 2**64]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(names, inner, max_size=4),
        st.sets(names, max_size=4),
        inner.map(lambda shared: (shared, [shared], {"a": (shared,)})),
    ),
    max_leaves=12,
)


class Slowly(Encoder):
    """Walks everything."""

    def _is_plain(self, value):
        return False


@settings(max_examples=count(50_000, 500), deadline=None)
@pytest.mark.timeout(3600)
@given(nested)
def test_plain_data_has_the_encoding_that_walking_gives(value):
    quick, slow = encode(value), Slowly().encode(value)
    assert quick.data == slow.data and quick.address == slow.address
    assert [one.digest for one in quick.blobs] == [one.digest for one in slow.blobs]


def deep(levels, inside=0):
    for level in range(levels):
        inside = (inside,) if level % 2 else [inside]
    return inside


def test_the_limits_of_tuples_are_those_of_lists():
    limit = encoding.MAX_DEPTH
    assert there_and_back(deep(limit)) == deep(limit)
    for outside, inside in ((0, limit + 1), (150, 51)):
        value = deep(inside)
        for _ in range(outside):
            value = frozenset((Frozen(0),)), value
        with pytest.raises(CannotEncode, match="levels deep"):
            encode(value)
    cycle = ([],)
    cycle[0].append({"again": cycle})
    with pytest.raises(CannotEncode, match="contains itself"):
        encode(cycle)


def test_an_encoder_goes_on_after_a_value_that_it_refuses(monkeypatch):
    """One that another thread changed after it was looked at, so that msgpack meets what it does not know."""
    encoder = Encoder()
    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "_is_plain", lambda self, value: True)
        with pytest.raises(CannotEncode, match="came in while"):
            encoder.encode([1, (2, (3, {4}))])
    value = [(1, (2, 2**70)), "a"]
    assert encoder.encode(value).data == Slowly().encode(value).data


LIBRARIES = ("numpy.ma", "numpy.random", "numpy.polynomial")


def test_an_array_needs_no_more_of_numpy_than_arrays():
    code = """
    import sys, json, kachery
    import numpy as np
    before = set(sys.modules)
    @kachery.task(version="1")
    def f(a):
        return {"a": a + np.float64(1), "b": a.view(np.recarray)}
    f(np.arange(3.0)); f(np.arange(3.0))
    print(json.dumps(sorted(set(sys.modules) - before)))
    """
    loaded = json.loads(run_python(code).stdout)
    assert not set(LIBRARIES) & set(loaded)


def test_what_is_decoded_brings_its_part_of_numpy_along():
    """In processes that have not used it; what they have is found as soon as a value is met."""
    code = """
    import sys, kachery
    import numpy as np
    @kachery.task(version="1")
    def f(what):
        return {
            "masked": lambda: np.ma.MaskedArray([1.0, 2.0], [0, 1]),
            "hidden": lambda: np.ma.masked,
            "generator": lambda: np.random.default_rng(1),
            "state": lambda: np.random.RandomState(1),
            "bits": lambda: np.random.PCG64(1),
            "seeds": lambda: np.random.SeedSequence(1),
            "series": lambda: np.polynomial.Chebyshev([1.0, 2.0]),
        }[what]()
    @kachery.task(version="1")
    def name(value):
        return type(value).__name__
    print(f(sys.argv[1]).__class__.__name__, name(f(sys.argv[1])), kachery.stats().misses)
    """
    for what, kind in {
        "masked": "MaskedArray",
        "hidden": "MaskedConstant",
        "generator": "Generator",
        "state": "RandomState",
        "bits": "PCG64",
        "seeds": "SeedSequence",
        "series": "Chebyshev",
    }.items():
        assert run_python(code, what).stdout.split() == [kind, kind, "2"]
        assert run_python(code, what).stdout.split() == [kind, kind, "0"]


def test_settings_of_the_call_hold_for_its_run(tmp_path, monkeypatch):
    """Where the environment names another store meanwhile, the result goes where it was asked for."""
    here, other = kachery.get_kachery_dir(), str(tmp_path / "other")
    monkeypatch.setenv("KACHERY_DIR", here)

    @kachery.task(version="1")
    def moving(x):
        os.environ["KACHERY_DIR"] = other
        return (x, [(x,)])

    assert moving(1) == (1, [(1,)])
    assert os.environ["KACHERY_DIR"] == other and not os.path.exists(other)
    monkeypatch.setenv("KACHERY_DIR", here)
    kachery.stats(reset=True)
    assert moving(1) == (1, [(1,)]) and kachery.stats().hits == 1


LARGE = 1 << 20


@pytest.fixture
def while_hashed(monkeypatch):
    """Buffers of LARGE and more are stored while they are hashed."""
    monkeypatch.setattr(encoding, "KEPT_FROM", LARGE)


@kachery.task(version="1")
def large(seed):
    first = np.full(LARGE + seed, seed, np.uint8)
    return {"first": first, "again": first, "small": b"x" * encoding.BLOB_FROM}


@kachery.task(version="1")
def never_the_same(_):
    return os.urandom(LARGE)


def blobs(store_dir):
    """The contents of all large blobs, by their digests."""
    found = [
        path for path in (store_dir / "blake3").glob("*/*") if path.stat().st_size > LARGE // 2
    ]
    return {path.name: path.read_bytes() for path in found}


@pytest.mark.usefixtures("while_hashed")
def test_what_is_stored_while_it_is_hashed_is_what_the_digest_says(store_dir):
    job = large.job(7)
    value = large(7)
    assert job.record.result.address == encode(value).address
    stored = blobs(store_dir)
    assert {name: blake3(data).hexdigest() for name, data in stored.items()} == {
        name: name for name in stored
    }
    assert list(stored.values()) == [bytes(value["first"])], "equal bytes are stored once"
    assert list((store_dir / "tmp").iterdir()) == []
    assert (large(7)["again"] == value["again"]).all()


@pytest.mark.usefixtures("while_hashed")
def test_a_damaged_blob_is_replaced_by_what_is_stored_while_it_is_hashed(store_dir):
    large(3)
    (name,) = blobs(store_dir)
    path = store_dir / "blake3" / name[:2] / name
    path.chmod(0o644)
    path.write_bytes(b"y" * path.stat().st_size)
    with pytest.warns(kachery.DamagedWarning), kachery.using(refresh=True):
        large(3)
    assert blake3(blobs(store_dir)[name]).hexdigest() == name


@pytest.mark.usefixtures("while_hashed")
def test_what_is_only_compared_is_not_stored(store_dir):
    never_the_same(1)
    assert not kachery.reproduce(never_the_same.job(1)).same
    assert len(blobs(store_dir)) == 1


@pytest.mark.usefixtures("while_hashed")
def test_a_large_result_that_cannot_be_stored_is_returned(store_dir):
    large(1)
    shutil.rmtree(store_dir / "blake3")
    (store_dir / "blake3").write_text("in the way")
    with pytest.warns(kachery.NotStoredWarning):
        assert large(2)["first"][0] == 2
    assert not large.job(2).cached
    assert list((store_dir / "tmp").iterdir()) == []
