"""Between us and the bucket things go wrong: the answer is right in the end, or a typed error."""

import random

import numpy as np
import pytest
from conftest import count
from faultproxy import FAULTS, FaultProxy

from kachery_store import Store
from kachery_store.errors import NotFound, StoreUnavailable
from kachery_store.remote import open_backend, s3
from kachery_store.zone_settings import ZoneSettings


@pytest.fixture(autouse=True)
def short_timeouts(monkeypatch):
    """A stalled request is given up after one second, not twenty."""
    monkeypatch.setattr(s3, "_READ_SECONDS", 1)
    monkeypatch.setattr(s3, "_LONGEST_PAUSE", 0.1)


@pytest.mark.timeout(count(1500, 600))
def test_operations_succeed_or_say_why(bucket):
    """What is read is what was written last; what failed was done, or not."""
    chance = random.Random(7)
    names = [f"n/{i}" for i in range(20)]
    may_be = {name: {None} for name in names}  # what may be under a name
    failed = 0
    with FaultProxy(bucket.endpoint, share=0.1, seed=3) as proxy:
        backend = open_backend(bucket.url, {"endpoint_url": proxy.endpoint})
        for step in range(count(1000, 100)):
            name, data = chance.choice(names), f"{step} ".encode() * 300
            operation = chance.choice((_create, _replace, _remove, _read, _read))
            try:
                operation(backend, name, data, may_be)
            except StoreUnavailable as error:
                failed += 1
                assert "asked" in str(error)
                if operation in (_create, _replace):
                    may_be[name].add(data)
                elif operation is _remove:
                    may_be[name].add(None)
    assert sum(proxy.met.values()) >= count(80, 6)
    assert failed < count(20, 4)  # a request is asked often enough
    plain = open_backend(bucket.url, {"endpoint_url": bucket.endpoint})
    for name in names:
        _read(plain, name, b"", may_be)


def _create(backend, name, data, may_be):
    if backend.create(name, data, durable=True):
        assert None in may_be[name]
        may_be[name] = {data}
    else:
        may_be[name].discard(None)
        assert may_be[name]


def _replace(backend, name, data, may_be):
    backend.replace(name, data)
    may_be[name] = {data}


def _remove(backend, name, data, may_be):
    backend.remove(name)
    may_be[name] = {None}


def _read(backend, name, data, may_be):
    try:
        found = backend.read(name)
    except NotFound:
        found = None
    assert found in may_be[name]
    may_be[name] = {found}


@pytest.mark.parametrize("fault", FAULTS)
def test_large_files_travel_through_each_fault(bucket, tmp_path, fault):
    data = np.random.default_rng(0).bytes(45_000_000)
    path = tmp_path / "file"
    path.write_bytes(data)
    share = 0.3 if fault != "stall" else count(0.3, 0.1)  # each takes a second
    with FaultProxy(bucket.endpoint, share, seed=5, faults=(fault,)) as proxy:
        zone = ZoneSettings("lab", bucket.url, (("endpoint_url", proxy.endpoint),))
        uri = Store(tmp_path / "one", zone.open()).files.store_file(path)
        assert Store(tmp_path / "two", zone.open()).files.load_bytes(uri) == data
        assert proxy.met[fault]
    assert not (tmp_path / "one/outbox").exists()


def test_a_put_whose_answer_is_lost_counts_once(bucket):
    """The second attempt finds the name taken, by the first one."""
    with FaultProxy(bucket.endpoint, share=0.5, seed=1, faults=("lost",)) as proxy:
        backend = open_backend(bucket.url, {"endpoint_url": proxy.endpoint})
        created = [backend.create(f"x/{i}", b"%d" % i, durable=True) for i in range(20)]
        again = [backend.create(f"x/{i}", b"%d" % i, durable=True) for i in range(20)]
        assert proxy.met["lost"] > 10
    assert all(created) and not any(again)


def test_a_server_that_only_stalls_is_given_up(bucket, monkeypatch):
    monkeypatch.setattr(s3, "_READ_SECONDS", 0.2)
    with FaultProxy(bucket.endpoint, share=1.0, faults=("stall",)) as proxy:
        backend = open_backend(bucket.url, {"endpoint_url": proxy.endpoint})
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            backend.read("x")
        assert 1 < proxy.met["stall"] < 10
