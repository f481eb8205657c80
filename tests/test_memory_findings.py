"""What hostile users of joblib.Memory found in `kachery.Memory`."""

import functools
import os
import pickle
import random
import shutil
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from conftest import note_call, run_python, write

import kachery
from kachery import Memory, expires_after
from kachery_tasks import adopted
from kachery_tasks import memory as memory_module


@pytest.fixture
def memory(tmp_path):
    return Memory(tmp_path / "memory", verbose=0)


def count_in(memory):
    return len(list(memory.settings.store.jobs.names()))


def serves(memorized, *args, **kwargs):
    """The value of a call, which has to be served from the store when it is asked for again."""
    value = memorized(*args, **kwargs)
    assert memorized.check_call_in_cache(*args, **kwargs)
    assert repr(memorized(*args, **kwargs)) == repr(value)
    return value


# Functions of libraries


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a library as pip does with a wheel, whose only module is `name`."""
    folder = tmp_path / "site-packages"
    monkeypatch.syspath_prepend(str(folder))

    def install(name, text):
        shutil.rmtree(folder, ignore_errors=True)
        (folder / f"{name}-1.0.dist-info").mkdir(parents=True)
        module = write(folder / f"{name}.py", text)
        information = folder / f"{name}-1.0.dist-info"
        (information / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        )
        digest = kachery.store_text(module.read_text())[7:]
        (information / "RECORD").write_text(
            f"{name}.py,sha256={digest},9\n{name}-1.0.dist-info/R,,\n"
        )
        sys.modules.pop(name, None)
        adopted._edition.cache_clear()
        return __import__(name)

    yield install
    sys.modules.pop("labkit", None)


LIBRARY = """
endless = iter(int, 1)  # nothing that code with an identity may read

def scaled(x, factor=2):
    next(endless)
    note(x)
    return x * factor

class Model:
    coefficient = None

    def fit(self, x):
        self.coefficient = sum(x)
        return self

def fitted(model, x, log=None):
    note(x)
    if log is not None:
        log.append(x)
    return model.fit(x).coefficient, model

def note(x):
    with open(RUNS, "a") as file:
        print(x, file=file)
"""


def test_a_function_of_a_library_is_known_by_what_is_installed(memory, install, tmp_path):
    runs = tmp_path / "runs"
    text = LIBRARY.replace("RUNS", repr(str(runs)))
    scaled = memory.cache(install("labkit", text).scaled)
    assert [serves(scaled, 3), scaled(x=3, factor=2), scaled(4)] == [6, 6, 8]
    assert runs.read_text() == "3\n4\n"
    assert memory.cache(install("labkit", text).scaled).check_call_in_cache(3)
    newer = memory.cache(install("labkit", text.replace("x * factor", "x + factor")).scaled)
    assert not newer.check_call_in_cache(3) and newer(3) == 5
    assert newer.func is sys.modules["labkit"].scaled and newer.__name__ == "scaled"
    assert memory.cache(newer.func, ignore=["factor"])(3, factor=9) == 12


class Own:
    coefficient = None

    def fit(self, x):
        self.coefficient = sum(x)
        return self


@pytest.mark.parametrize("model", ["Model", "Own"])
def test_a_function_of_a_library_works_on_copies_of_models(memory, install, tmp_path, model):
    runs, log = tmp_path / "runs", []
    labkit = install("labkit", LIBRARY.replace("RUNS", repr(str(runs))))
    fitted = memory.cache(labkit.fitted, ignore=["log"])
    for _ in range(2):
        mine = labkit.Model() if model == "Model" else Own()
        coefficient, copy = fitted(mine, [1, 2], log=log)
        assert (coefficient, copy.coefficient, mine.coefficient) == (3, 3, None)
    assert runs.read_text() == "[1, 2]\n" and log == [[1, 2]]


def test_a_method_of_a_library_is_told_when_it_changes_its_instance(memory, install, tmp_path):
    labkit = install("labkit", LIBRARY.replace("RUNS", repr(str(tmp_path / "runs"))))
    for _ in range(2):
        model = labkit.Model()
        model.fit = memory.cache(model.fit)
        with pytest.warns(kachery.ImpureTaskWarning):
            assert model.fit([1, 2]) is model
        assert model.coefficient == 3


def test_what_a_library_changes_in_arrays_is_told(memory):
    put = memory.cache(np.put)
    for _ in range(2):
        array = np.zeros(3)
        with pytest.warns(kachery.ImpureTaskWarning):
            put(array, [0], [9])
        assert array[0] == 9


class Scaled:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, x):
        return x * self.factor


def two(x, y, z=0):
    return [x, y, z]


def test_whatever_can_be_called(memory):
    assert serves(memory.cache(np.sin), 0.0) == 0
    assert serves(memory.cache(np.linalg.svd), np.eye(2))[1].tolist() == [1, 1]
    assert serves(memory.cache(sorted), [3, -5], key=abs) == [3, -5]
    assert serves(memory.cache(sorted), [3, -5]) == [-5, 3]
    assert serves(memory.cache("abc".upper)) == "ABC" and memory.cache("abd".upper)() == "ABD"
    assert serves(memory.cache(functools.partial(two, 1, z=5)), 2) == [1, 2, 5]
    assert memory.cache(functools.partial(two, 2, z=5))(2) == [2, 2, 5]
    assert serves(memory.cache(Scaled(2)), 3) == 6 and memory.cache(Scaled(3))(3) == 9
    for refused in (17, "sorted", [sorted]):
        with pytest.raises(TypeError, match="is none"):
            memory.cache(refused)


def test_what_a_callable_holds_may_change(memory):
    scaled, options = Scaled(2), {"z": 1}
    f = memory.cache(scaled)
    g = memory.cache(functools.partial(lambda x, options: (x, options["z"]), options=options))
    assert serves(f, 3) == 6 and serves(g, 1) == (1, 1)
    scaled.factor = options["z"] = 5
    assert f(3) == 15 and g(1) == (1, 5)


@pytest.mark.filterwarnings("ignore::kachery.ImpureTaskWarning")
def test_random_numbers_are_not_frozen(memory):
    for generator in (np.random.default_rng(0), np.random.RandomState(0), random.Random(0)):
        draw = memory.cache(generator.random)
        assert draw() != draw()


@pytest.mark.parametrize(
    "called", [np.sin, functools.partial(two, 1), Scaled(2)], ids=["ufunc", "partial", "instance"]
)
def test_whatever_can_be_called_can_travel(memory, called):
    f = memory.cache(called)
    f(0.5)
    again = pickle.loads(pickle.dumps(f))
    assert again.check_call_in_cache(0.5) and again.definition.name == f.definition.name
    assert type(again.func) is type(f.__wrapped__) is type(called)


# Other processes


def test_workers_with_another_main_store_what_the_script_finds(memory, tmp_path):
    """As those of joblib.Parallel, which get functions of `__main__` by value."""
    script = write(
        tmp_path / "analysis.py",
        f"""
        import copy, sys, cloudpickle, kachery
        memory = kachery.Memory({memory.location!r}, verbose=0)

        def part(x):
            return x.width + 1

        def plain(x):
            return part(x)

        @memory.cache
        def decorated(x):
            return part(x)

        class Settings:
            width = 3

        def memorized(memory):
            return memory.cache(plain), decorated, memory.cache(copy.copy)

        if sys.argv[1] == "send":
            with open(sys.argv[2], "wb") as file:
                cloudpickle.dump((memory, memorized, Settings()), file)
        print(*(f.check_call_in_cache(Settings()) for f in memorized(memory)))
        """,
    )

    def run(*args):
        return subprocess.check_output([sys.executable, script, *args], text=True)

    sent = tmp_path / "sent"
    assert run("send", sent) == "False False False\n"
    code = """
    import sys, cloudpickle
    with open(sys.argv[1], "rb") as file:
        memory, memorized, settings = cloudpickle.load(file)
    functions = memorized(memory)
    print(functions[0](settings), functions[1](settings), functions[2](settings).width)
    """
    assert run_python(code, sent).stdout == "4 4 3\n"
    assert run("look") == "True True True\n" and count_in(memory) == 3


def test_a_cell_of_a_notebook_in_a_worker(memory, monkeypatch):
    """Its source is nowhere in the worker."""
    import linecache

    text = "def cell(x):\n    return x + 1\n"
    names = {"__name__": "__main__"}
    exec(compile(text, "<cell 1>", "exec"), names)
    monkeypatch.setitem(
        linecache.cache, "<cell 1>", (len(text), None, text.splitlines(True), "<cell 1>")
    )
    f = memory.cache(names["cell"])
    sent = cloudpickle.dumps(f)
    code = """
    import sys, cloudpickle
    print(cloudpickle.loads(bytes.fromhex(sys.argv[1]))(1))
    """
    assert run_python(code, sent.hex()).stdout == "2\n"
    assert f.check_call_in_cache(1)


def test_fork(memory):
    f = memory.cache(two)
    f(1, 1)
    child = os.fork()
    if not child:
        os._exit(0 if (f(1, 1), f(1, 2)) == ([1, 1, 0], [1, 2, 0]) else 1)
    assert os.waitpid(child, 0)[1] == 0 and f.check_call_in_cache(1, 2)


# Instances that keep their memorized methods


class Kept:
    def __init__(self, memory, factor):
        self.factor = factor
        self.times, self.me = memory.cache(self.times), memory.cache(self.me)

    def times(self, x):
        return self.factor * x

    def me(self):
        return self

    def both(self, x):
        return self.times(x) + self.factor


def test_methods_that_an_instance_keeps_are_those_of_their_code(memory):
    both = memory.cache(Kept(memory, 2).both)
    assert serves(both, 3) == 8 and memory.cache(Kept(memory, 3).both)(3) == 12
    other = Kept(memory, 2)
    other.times = other.me
    assert not memory.cache(other.both).check_call_in_cache(3)


def test_a_method_does_not_come_back_as_that_of_a_copy(memory):
    one = Kept(memory, 2)
    for _ in range(2):
        with pytest.warns(kachery.NotStoredWarning, match="the method of a copy"):
            same = one.me()
        assert same.times.instance is same


# The folder


def test_results_stay_out_of_git(memory, tmp_path):
    memory.cache(two)(1, 1)
    assert "*" in Path(memory.location, ".gitignore").read_text().splitlines()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / ".gitignore").write_text("/jobs\n")
    other = Memory(mine)
    other.cache(two)(1, 1)
    other.clear()
    assert (mine / ".gitignore").read_text() == "/jobs\n"
    assert not os.path.exists(Memory(tmp_path / "unused").location)


def test_a_folder_that_disappears(memory):
    numbers = memory.cache(lambda n: np.arange(n))
    numbers(100_000)
    found = numbers(100_000)
    shutil.rmtree(memory.location)
    assert found[99_999] == 99_999
    assert not numbers.check_call_in_cache(100_000) and serves(numbers, 100_000)[-1] == 99_999


def test_a_relative_location_is_that_of_the_beginning(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    memory = Memory("cache")
    monkeypatch.chdir(tmp_path / "elsewhere")
    memory.cache(two)(1, 1)
    assert (tmp_path / "cache").exists() and os.listdir() == []


@pytest.mark.filterwarnings("ignore:.*has lost its result.*moved away already")
def test_clearing_while_others_call(memory):
    numbers = memory.cache(lambda n: np.full(20_000, n))
    ended, wrong = threading.Event(), []

    def ask():
        for turn in range(40):
            n = turn % 4
            shelved = numbers.call_and_shelve(n)
            try:
                found = [numbers(n), shelved.get()]
            except (kachery.ResultGone, kachery.DigestMismatch):
                found = []
            except BaseException as error:
                wrong.append(error)
                raise
            wrong.extend(one for one in found if (one != n).any())

    def clear():
        while not ended.is_set():
            memory.clear(warn=False)
            numbers.clear()

    threads = [threading.Thread(target=ask) for _ in range(3)]
    clearing = threading.Thread(target=clear)
    for thread in (*threads, clearing):
        thread.start()
    for thread in threads:
        thread.join()
    ended.set()
    clearing.join()
    assert wrong == []


# Answers


def test_a_loaded_array_that_was_written_to_is_another_argument(memory):
    numbers, total = memory.cache(lambda n: np.arange(n)), memory.cache(lambda a: int(a.sum()))
    numbers(100_000)
    for loaded in (numbers(100_000), numbers.call_and_shelve(100_000).get()):
        assert serves(total, loaded) == 4_999_950_000
        loaded[0] = 7
        assert total(loaded) == 4_999_950_007
    assert numbers(100_000)[0] == 0


def test_memories_that_ignore_differently(memory):
    every, not_y = memory.cache(two), memory.cache(two, ignore=["y"])
    assert [every(1, 2), not_y(1, 3), every(1, 3), not_y(1, 9)] == [
        [1, 2, 0],
        [1, 3, 0],
        [1, 3, 0],
        [1, 3, 0],
    ]


def test_a_default_that_changes_counts(memory):
    def f(x, y=1):
        return x + y

    memorized = memory.cache(f)
    assert serves(memorized, 1) == 2
    f.__defaults__ = (5,)
    assert memorized(1) == 6


def test_a_result_from_the_future_has_expired(memory, monkeypatch, calls):
    """A clock has gone back: how old the result is cannot be told."""

    class Clock:
        now = time.time()
        time = staticmethod(lambda: Clock.now)

    path = calls.path
    f = memory.cache(
        lambda x: note_call(path) or x, cache_validation_callback=expires_after(hours=1)
    )
    f(1)
    monkeypatch.setattr(memory_module, "time", Clock)
    Clock.now = time.time() - 1000
    assert not f.check_call_in_cache(1)
    f(1)
    assert calls.count == 2
    for age, valid in [(0, True), (3599.9, True), (3600, False)]:
        assert expires_after(hours=1)({"time": Clock.now - age, "duration": 0}) is valid


def test_what_has_gone_is_a_key_error(memory):
    shelved = memory.cache(two).call_and_shelve(1, 1)
    shelved.clear()
    with pytest.raises(KeyError) as caught:
        shelved.get()
    assert isinstance(caught.value, kachery.NotFound)
    assert str(pickle.loads(pickle.dumps(caught.value))).startswith("the result of job")


def test_no_warnings_where_nothing_is_wrong(memory):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for called in (np.mean, sorted, functools.partial(two, 1, 2), Scaled(2)):
            serves(memory.cache(called), [1, 2])
