"""A call that is repeated is answered from what the process remembers of it: never with another answer."""

import math
import pickle
import random

import cloudpickle
import pytest
from conftest import note_call
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kachery
from kachery_tasks import lookup
from kachery_tasks.job_ids import JobIds
from kachery_tasks.settings import current

PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from([0.0, -0.0]),
)


@kachery.task
def told(x, y=1):
    return f"{type(x).__name__} {x!r} {y!r}"


@kachery.task(ignore="path")
def counted(x, path):
    note_call(path)
    return x + 1


def helper(x):
    return x


@kachery.task
def helped(x):
    return helper(x)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(PLAIN, max_size=6))
def test_each_call_gets_its_own_answer_however_often(store_dir, values):
    asked = values * 3
    random.Random(0).shuffle(asked)
    for value in asked:
        assert told(value) == f"{type(value).__name__} {value!r} 1"


def test_values_that_are_equal_and_of_other_types():
    for _ in range(3):
        assert [told(x) for x in (1, True, 1.0, "1", 0.0, -0.0, 0, False)] == [
            *("int 1 1", "bool True 1", "float 1.0 1", "str '1' 1", "float 0.0 1"),
            *("float -0.0 1", "int 0 1", "bool False 1"),
        ]
        assert told(math.nan) == "float nan 1"
        assert told(x="a", y="b") == "str 'a' 'b'" == told(y="b", x="a")
        assert told("b", "a") == "str 'b' 'a'"


def test_subclasses_of_plain_types_are_hashed_as_what_they_are():
    class Length(float):
        pass

    assert told(2.0) == told(2.0) == "float 2.0 1"
    assert told(Length(2.0)).startswith("Length")


def test_another_default_is_another_call():
    assert told(1) == told(1) == "int 1 1"
    told.definition.function.__defaults__ = (2,)
    try:
        assert told(1) == "int 1 2"
    finally:
        told.definition.function.__defaults__ = (1,)
    assert told(1) == "int 1 1"


def test_another_helper_is_another_call(monkeypatch):
    monkeypatch.setitem(globals(), "helper", lambda x: x + 1)
    assert helped(1) == helped(1) == 2
    monkeypatch.setitem(globals(), "helper", lambda x: x + 2)
    assert helped(1) == helped(1) == 3


def test_a_remembered_record_that_is_damaged_now_is_not_served(store_dir, tmp_path):
    path = tmp_path / "calls"
    assert counted(1, path) == counted(1, path) == 2
    store = current().store
    job_id = counted.job(1, path).id
    data = bytearray(store.jobs.read(job_id))
    data[len(data) // 2] ^= 1
    file = store_dir / "jobs" / job_id[:2] / job_id
    file.chmod(0o644)
    file.write_bytes(data)
    with pytest.warns(kachery.KacheryWarning, match="damaged"):
        assert counted(1, path) == 2
    assert path.read_text().count("\n") == 2


def test_what_was_forgotten_or_is_in_another_store_runs(tmp_path):
    path = tmp_path / "calls"
    assert counted(1, path) == counted(1, path) == 2
    current().store.jobs.remove(counted.job(1, path).id)
    assert counted(1, path) == counted(1, path) == 2
    with kachery.using(dir=tmp_path / "other"):
        assert counted(1, path) == counted(1, path) == 2
    with kachery.using(refresh=True):
        assert counted(1, path) == 2
    assert path.read_text().count("\n") == 4


def test_ignored_arguments_do_not_count(tmp_path):
    assert counted(1, tmp_path / "one") == counted(1, tmp_path / "two") == 2
    assert not (tmp_path / "two").exists()


def test_arguments_are_still_checked():
    assert told(1) == "int 1 1"
    with pytest.raises(TypeError):
        told(1, 1, 1)
    with pytest.raises(TypeError):
        told(1, z=1)


def test_hits_are_counted_each_time(tmp_path):
    counted(5, tmp_path / "calls")
    kachery.stats(reset=True)
    for _ in range(3):
        counted(5, tmp_path / "calls")
    assert kachery.stats().hits == 3


def test_what_is_remembered_is_bounded_and_not_sent(store_dir, monkeypatch):
    monkeypatch.setattr("kachery_tasks.job_ids._MOST", 10)
    monkeypatch.setattr(lookup, "_MOST", 10)
    for x in range(25):
        assert told(x) == told(x)
    assert len(told._job_ids._known) <= 10 and len(lookup._read) <= 10
    told("x" * 5000)
    assert all(len(call) <= 1024 for call in told._job_ids._known)
    assert pickle.loads(pickle.dumps(JobIds(told.definition)))._known == {}
    task = kachery.task(lambda x: x)
    task(1), task(1)
    assert task._job_ids._known
    assert cloudpickle.loads(cloudpickle.dumps(task))._job_ids._known == {}


def test_secrets_are_not_remembered():
    @kachery.task(secret="word", version="1")
    def keeps(word):
        return len(word)

    assert keeps("abc") == keeps("abc") == 3
    assert keeps._job_ids._known == {}


def test_a_task_inside_a_task_is_noted_also_when_it_is_remembered():
    @kachery.task(version="1")
    def outer(n):
        return told(7) + str(n)

    told(7), told(7)
    outer(1), outer(2)
    assert outer.job(2).record.children == [told.job(7).id]
