"""`kachery.Memory`: what joblib.Memory promises, asked of kachery's store."""

import ast
import asyncio
import datetime
import functools
import importlib
import os
import pickle
import time

import cloudpickle
import numpy as np
import pytest
from conftest import run_python, write

import kachery
from kachery import Memory, expires_after
from kachery_tasks import memory as memory_module


def ran(*what):
    """Note a run; in a file, for what a function changes in the program counts as its code."""
    with open(os.environ["RUNS_OF_FUNCTIONS"], "a") as file:
        print(repr(what), file=file)


def double(x, y=1):
    ran(x, y)
    return 2 * x + y


def only_keywords(a, *, b, c=3):
    ran(a, b, c)
    return [a, b, c]


class Runs:
    def __init__(self, path):
        self.path = path

    def list(self):
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [what if len(what) > 1 else what[0] for what in map(ast.literal_eval, lines)]

    def __len__(self):
        return len(self.list())

    def __eq__(self, other):
        return self.list() == other

    def count(self, what):
        return self.list().count(what)


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNS_OF_FUNCTIONS", str(tmp_path / "runs"))
    return Runs(tmp_path / "runs")


@pytest.fixture
def memory(tmp_path):
    return Memory(tmp_path / "memory", verbose=0)


def count_in(memory):
    return len(list(memory.settings.store.jobs.names()))


def test_a_call_runs_once_and_its_results_are_in_the_folder(memory, store_dir, runs):
    f = memory.cache(double)
    assert [f(1), f(1), f(1, y=1), f(x=1), f(2)] == [3, 3, 3, 3, 5]
    assert runs == [(1, 1), (2, 1)]
    assert os.path.isdir(memory.location) and not store_dir.exists()
    assert Memory(memory.location).cache(double)(1) == 3 and len(runs) == 2


def test_results_are_there_in_the_next_process(memory, project):
    write(project / "steps.py", "def slow(x):\n    print('ran')\n    return x + 1\n")
    code = """
    import sys, kachery, steps
    print(kachery.Memory(sys.argv[1]).cache(steps.slow)(1))
    """
    assert run_python(code, memory.location).stdout == "ran\n2\n"
    assert run_python(code, memory.location).stdout == "2\n"


def test_a_memory_without_a_location_keeps_nothing(runs):
    memory = Memory(location=None, verbose=0)
    f = memory.cache(double)
    assert [f(1), f(1)] == [3, 3] and len(runs) == 2
    assert f.call(1) == (3, {}) and not f.check_call_in_cache(1)
    shelved = f.call_and_shelve(1)
    assert shelved.get() == 3 and pickle.loads(pickle.dumps(shelved)).get() == 3
    shelved.clear()
    with pytest.raises(kachery.NotFound, match="call the function again"):
        shelved.get()
    assert memory.eval(double, 1) == 3
    f.clear()
    memory.clear()
    memory.reduce_size(items_limit=0)
    assert f.func is double and repr(memory) == "Memory(location=None)"


def test_a_decorator_bare_and_with_options(memory, runs):
    @memory.cache
    def bare(x):
        """What it does."""
        ran(x)
        return x

    @memory.cache(ignore=["loud"], verbose=0, mmap_mode="r")
    def with_options(x, loud=False):
        ran(x)
        return x

    assert [bare(1), bare(1), with_options(2), with_options(2, loud=True)] == [1, 1, 2, 2]
    assert runs == [1, 2]
    assert bare.__name__ == "bare" and bare.__doc__ == "What it does."
    assert with_options.ignore == ["loud"]


def test_ignored_parameters_do_not_count(memory, runs):
    f = memory.cache(double, ignore=["y"])
    assert [f(1, y=1), f(1, y=2), f(1)] == [3, 3, 3] and len(runs) == 1
    with pytest.raises(ValueError, match="ignore= names 'z'"):
        memory.cache(double, ignore=["z"])


def test_ignored_parameters_of_a_wrapped_function(memory, runs):
    def as_it_is(function):
        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapped

    @memory.cache
    @as_it_is
    def f(x, y):
        ran(x, y)
        return x

    assert [f(1, y=2), f(1, y=2), f(1, y=3)] == [1, 1, 1] and runs == [(1, 2), (1, 3)]


def test_keyword_only_parameters(memory, runs):
    f = memory.cache(only_keywords)
    assert f(1, b=2) == f(1, b=2, c=3) == [1, 2, 3] and len(runs) == 1
    with pytest.raises(TypeError):
        f(1, 2)
    assert len(runs) == 1


def test_lambdas_and_functions_of_one_name_are_told_apart(memory):
    one, other = memory.cache(lambda x: x + 1), memory.cache(lambda x: x + 2)
    assert [one(1), other(1), one(1), other(1)] == [2, 3, 2, 3]

    def made(n):
        def same_name(x):
            return x * n

        return memory.cache(same_name)

    assert [made(2)(5), made(3)(5), made(2)(5)] == [10, 15, 10]


def test_functions_of_one_name_do_not_throw_each_other_out(memory, runs):
    def made(n):
        def same_name(x):
            ran(n)
            return x * n

        return memory.cache(same_name)

    assert [made(2)(5), made(3)(5), made(2)(5), made(3)(5)] == [10, 15, 10, 15]
    assert runs == [2, 3]


def test_a_change_of_the_code_counts_and_the_old_results_stay(memory, project):
    def run(body):
        write(
            project / "steps.py",
            f"def part(x):\n    return {body}\n\ndef f(x):\n    return part(x)\n",
        )
        import steps

        importlib.invalidate_caches()
        f = memory.cache(importlib.reload(steps).f)
        known = f.check_call_in_cache(1)
        return known, f(1)

    assert [run("x + 1"), run("x + 2"), run("x + 1")] == [(False, 2), (False, 3), (True, 2)]


def test_eval_is_a_call(memory, runs):
    assert [memory.eval(double, 1), memory.eval(double, 1, y=1)] == [3, 3] and len(runs) == 1


def test_a_memorized_function_is_taken_as_it_was(memory, tmp_path, runs):
    other = Memory(tmp_path / "other")
    f = other.cache(memory.cache(double))
    assert f.func is double and f(1) == 3
    assert (count_in(other), count_in(memory)) == (1, 0)
    assert memory.cache(kachery.task(double)).func is double


def test_exceptions_are_raised_each_time(memory, runs):
    @memory.cache
    def fails(x):
        ran(x)
        raise ArithmeticError(x)

    for _ in range(2):
        with pytest.raises(ArithmeticError):
            fails(1)
    assert runs == [1, 1]


def test_what_has_no_encoding_is_pickled(memory, runs):
    @memory.cache
    def seeded(seed):
        ran("seeded")
        return np.random.RandomState(seed)

    @memory.cache
    def first(state):
        ran("first")
        return int(state.get_state()[1][0])

    for _ in range(2):
        assert seeded(1).randint(1000) == np.random.RandomState(1).randint(1000)
        assert first(np.random.RandomState(5)) == 5 and first(seeded(7)) == 7
    assert runs == ["seeded", "first", "seeded", "first"]


@pytest.mark.parametrize("mmap_mode", [None, "r", "c"])
def test_arrays_come_back_and_what_the_caller_writes_stays_with_it(tmp_path, mmap_mode, runs):
    memory = Memory(tmp_path / "memory", mmap_mode=mmap_mode)

    @memory.cache
    def numbers(n):
        ran(n)
        return np.arange(n)

    numbers(100_000)
    found = numbers(100_000)
    assert found.sum() == 4_999_950_000 and len(runs) == 1
    found[0] = 17
    assert numbers(100_000)[0] == 0


def test_a_memory_takes_what_it_can_do_and_refuses_the_rest(tmp_path):
    assert Memory(str(tmp_path), backend="local", compress=False, backend_options={}).cache(double)
    for refused in [
        {"backend": "s3"},
        {"compress": ("zlib", 3)},
        {"compress": True},
        {"mmap_mode": "r+"},
        {"mmap_mode": "w+"},
        {"backend_options": {"bucket": "lab"}},
    ]:
        with pytest.raises(kachery.Unsupported):
            Memory(tmp_path, **refused)
    with pytest.raises(kachery.Unsupported, match="would let a caller change"):
        Memory(tmp_path).cache(double, mmap_mode="r+")
    with pytest.raises(ValueError, match="mmap_mode="):
        Memory(tmp_path, mmap_mode="x")
    with pytest.raises(TypeError, match="location="):
        Memory(17)
    with pytest.raises(TypeError, match="17 is none"):
        Memory(tmp_path).cache(17)


def test_call_runs_anew_and_stores(memory, runs):
    f = memory.cache(double)
    before = time.time()
    assert f(1) == 3
    value, metadata = f.call(1)
    assert value == 3 and len(runs) == 2
    assert metadata["time"] >= before and metadata["duration"] >= 0
    assert f(1) == 3 and len(runs) == 2 and count_in(memory) == 1


def test_check_call_in_cache(memory, runs):
    f = memory.cache(double)
    assert not f.check_call_in_cache(1)
    f(1)
    assert f.check_call_in_cache(1) and f.check_call_in_cache(x=1, y=1)
    assert not f.check_call_in_cache(2) and len(runs) == 1
    f.clear()
    assert not f.check_call_in_cache(1)


def test_shelved_results(memory, runs):
    f = memory.cache(double)
    shelved = f.call_and_shelve(1)
    assert shelved.get() == 3 and f.call_and_shelve(1).get() == 3 and len(runs) == 1
    again = pickle.loads(pickle.dumps(shelved))
    assert again.get() == 3 and "double" in repr(again) and memory.location in repr(again)
    shelved.clear()
    for one in (shelved, again):
        with pytest.raises(kachery.NotFound, match="call the function again"):
            one.get()
    shelved.clear()
    assert f(1) == 3 and len(runs) == 2 and again.get() == 3


def test_a_shelved_result_is_not_loaded_before_it_is_wanted(memory, runs, monkeypatch):
    f = memory.cache(double)
    f(1)
    monkeypatch.setattr("kachery_tasks.cache.load", lambda *_: pytest.fail("loaded"))
    monkeypatch.setattr("kachery_tasks.served.load", lambda *_: pytest.fail("loaded"))
    shelved = f.call_and_shelve(1)
    monkeypatch.undo()
    assert shelved.get() == 3 and len(runs) == 1


def test_shelved_results_are_arguments(memory, runs):
    f = memory.cache(double)

    @memory.cache
    def total(shelved):
        ran("total")
        return sum(one.get() for one in shelved)

    assert [total([f.call_and_shelve(1), f.call_and_shelve(2)]) for _ in range(2)] == [8, 8]
    assert runs.count("total") == 1


def test_clearing_one_function(memory, runs):
    f, g = memory.cache(double), memory.cache(only_keywords)
    f(1), f(2), g(1, b=2)
    f.clear(warn=False)
    f(1), g(1, b=2)
    assert runs == [(1, 1), (2, 1), (1, 2, 3), (1, 1)]


def test_clearing_the_memory_leaves_files_and_pins(memory, runs):
    f = memory.cache(double)
    f(1), f(2)
    with kachery.using(dir=memory.location):
        uri = kachery.store_text("mine")
        kachery.pin(f.task.job(2))
    memory.clear(warn=False)
    f(2)
    assert count_in(memory) == 1 and len(runs) == 2
    with kachery.using(dir=memory.location):
        assert kachery.load_text(uri) == "mine"
    assert f(1) == 3 and len(runs) == 3


def test_reduce_size(memory, runs):
    @memory.cache
    def numbers(n, size):
        return np.full(size, n)

    for n in range(5):
        numbers(n, 50_000)
    memory.reduce_size()
    assert count_in(memory) == 5
    memory.reduce_size(items_limit=3)
    assert count_in(memory) == 3
    memory.reduce_size(age_limit=datetime.timedelta(days=1))
    assert count_in(memory) == 3
    memory.reduce_size(bytes_limit="1M")
    assert count_in(memory) == 2
    memory.reduce_size(age_limit=datetime.timedelta(0))
    assert count_in(memory) == 0
    with pytest.raises(kachery.BadAmount):
        memory.reduce_size(bytes_limit="much")
    with pytest.raises(kachery.BadAmount):
        memory.reduce_size(age_limit=datetime.timedelta(days=-1))


@pytest.mark.parametrize("valid", [True, False])
def test_a_callback_says_what_counts(memory, runs, valid):
    told = []

    def callback(metadata):
        told.append(metadata)
        return valid

    f = memory.cache(double, cache_validation_callback=callback)
    assert f(1) == 3 and told == []
    assert f.check_call_in_cache(1) is valid and f(1) == 3
    assert len(runs) == (1 if valid else 2)
    assert f.call_and_shelve(1).get() == 3 and len(runs) == (1 if valid else 3)
    assert all({"time", "duration"} <= one.keys() for one in told) and len(told) == 3
    with pytest.raises(TypeError, match="cache_validation_callback="):
        memory.cache(double, cache_validation_callback=17)


def test_results_expire(memory, runs, monkeypatch):
    class Clock:
        later = 0.0
        time = staticmethod(lambda: time.time() + Clock.later)

    f = memory.cache(double, cache_validation_callback=expires_after(hours=1))
    f(1), f(1)
    monkeypatch.setattr(memory_module, "time", Clock)
    Clock.later = 3500.0
    assert f.check_call_in_cache(1)
    Clock.later = 3700.0
    assert not f.check_call_in_cache(1) and f(1) == 3 and len(runs) == 2
    monkeypatch.undo()
    assert f(1) == 3 and len(runs) == 2


def test_a_result_that_is_computed_again_counts_from_then(memory):
    times = []
    f = memory.cache(double, cache_validation_callback=lambda told: times.append(told["time"]))
    for _ in range(4):
        f(1)
    assert times == sorted(set(times)) and len(times) == 3


class Model:
    def __init__(self, factor):
        self.factor = factor

    def times(self, x):
        ran(x)
        return x * self.factor

    def plus(self, x):
        ran(x)
        return x + 1


def test_methods_of_an_instance(memory, runs):
    one, other = Model(2), Model(3)
    f, g, f_again = (memory.cache(model.times) for model in (one, other, Model(2)))
    assert [f(1), g(1), f(1), f_again(1)] == [2, 3, 2, 2] and runs == [1, 1]
    assert f.func == one.times
    one.plus, other.plus = (memory.cache(m.plus, ignore=["self"]) for m in (one, other))
    assert [one.plus(7), other.plus(7)] == [8, 8] and runs == [1, 1, 7]


def test_an_instance_may_keep_its_memorized_methods(memory, runs):
    def made(factor):
        one = Model(factor)
        one.times, one.plus = memory.cache(one.times), memory.cache(one.plus)
        return one

    assert [made(2).times(1), made(3).times(1), made(2).times(1)] == [2, 3, 2]
    assert runs == [1, 1]
    one = made(2)
    one.factor = 3
    assert one.times(1) == 3 and len(runs) == 2


@pytest.mark.parametrize("keeps", [True, False])
def test_decorated_methods(tmp_path, keeps, runs):
    memory = Memory(tmp_path / "memory" if keeps else None)

    class Scaled:
        def __init__(self, factor):
            self.factor = factor

        @memory.cache
        def times(self, x):
            ran("times")
            return x * self.factor

        @memory.cache(ignore=["self"])
        def plus(self, x):
            ran("plus")
            return x + 1

        @memory.cache
        @classmethod
        def name(cls):
            ran("name")
            return cls.__name__

        @memory.cache
        @staticmethod
        def half(x):
            ran("half")
            return x / 2

    for _ in range(2):
        assert [Scaled(2).times(3), Scaled(4).times(3)] == [6, 12]
        assert [Scaled(2).plus(3), Scaled(4).plus(3)] == [4, 4]
        assert [Scaled.name(), Scaled(1).half(4)] == ["Scaled", 2]
        assert Scaled(2).times.check_call_in_cache(3) is keeps
    assert [runs.count(one) for one in ("times", "plus", "name", "half")] == (
        [2, 1, 1, 1] if keeps else [4, 4, 2, 2]
    )


def test_functions_and_memories_travel(memory, project, runs):
    write(
        project / "steps.py",
        f"""
        import kachery
        memory = kachery.Memory({memory.location!r})

        @memory.cache(cache_validation_callback=kachery.expires_after(days=1))
        def f(x):
            return x + 1
        """,
    )
    import steps

    steps.f(1)
    assert cloudpickle.loads(cloudpickle.dumps(steps.f))(1) == 2
    again = pickle.loads(pickle.dumps(steps.f))
    assert again(1) == 2 and again.check_call_in_cache(1) and repr(again) == repr(steps.f)
    moved = pickle.loads(pickle.dumps(memory))
    assert moved.location == memory.location and moved.cache(double)(1) == 3
    assert pickle.loads(pickle.dumps(memory.cache(double)))(1) == 3 and len(runs) == 1


def test_async_functions(memory, runs):
    @memory.cache
    async def f(x):
        ran(x)
        return x + 1

    async def use(f):
        assert [await f(1), await f(1)] == [2, 2]
        assert (await (await_shelved := f.call_and_shelve(1))).get() == 2 and await_shelved
        assert (await f.call_and_shelve(2)).get() == 3
        return await f.call(1)

    assert asyncio.run(use(f))[0] == 2 and runs == [1, 2, 1]
    assert f.check_call_in_cache(2)

    async def g(x):
        return x + 1

    assert asyncio.run(use(Memory(None).cache(g))) == (2, {})


def test_memorized_functions_in_tasks_count_with_their_code(memory, runs, project):
    def program(body):
        text = f"""
        import kachery
        memory = kachery.Memory({memory.location!r})
        off = kachery.Memory(None)

        @memory.cache
        def part(x):
            return {body}

        @off.cache
        def other(x):
            return {body}

        @kachery.task
        def whole(x):
            return part(x) + other(x) + memory.eval(other.func, x)
        """
        import steps

        return importlib.reload(steps).whole if write(project / "steps.py", text) else None

    write(project / "steps.py", "")
    first = program("x + 1")
    assert first(1) == 6 and first.job(1).cached
    second = program("x + 2")
    assert not second.job(1).cached and second(1) == 9


def test_settings_in_force_count(memory, runs):
    f = memory.cache(double)
    with kachery.using(read_only=True), pytest.raises(kachery.NotStored):
        f(1)
    f(1)
    with kachery.using(refresh=True):
        assert f(1) == 3 and f.call_and_shelve(1).get() == 3 and len(runs) == 3
    f(1)
    assert len(runs) == 3


def test_a_damaged_result_is_computed_again(memory, runs):
    @memory.cache
    def numbers(n):
        ran(n)
        return np.arange(n)

    shelved = numbers.call_and_shelve(100_000)
    (blob,) = [
        os.path.join(folder, name)
        for folder, _, names in os.walk(os.path.join(memory.location, "blake3"))
        for name in names
        if os.path.getsize(os.path.join(folder, name)) > 100_000
    ]
    os.chmod(blob, 0o600)
    with open(blob, "r+b") as file:
        file.write(b"damage")
    with pytest.warns(kachery.DamagedWarning), pytest.raises(kachery.DigestMismatch):
        shelved.get()
    assert numbers(100_000)[0] == 0 and len(runs) == 2
