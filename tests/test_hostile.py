"""What a hostile tester found once, so that nobody finds it again."""

import argparse
import dataclasses
import datetime as dt
import enum
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import uuid
import warnings

import numpy as np
import pandas as pd
import pytest
from conftest import run_python, write
from test_fingerprint import fingerprint
from test_values import there_and_back

import kachery
from kachery_tasks.errors import CannotEncode
from kachery_tasks.values import encode, encoding

# Values


def test_encodings_of_freed_objects_are_not_taken_for_others(monkeypatch):
    monkeypatch.setattr(encoding, "_MAX_CONTAINERS", 10)
    arrays = [np.array([k] * 4, dtype=object) for k in range(50)]
    alone = [encode(a).data for a in arrays]
    together = there_and_back([[[a] for a in arrays]])
    assert [encode(a[0]).data for a in together[0]] == alone
    shared = (0,)
    for _ in range(18):
        shared = (shared, shared)
    assert there_and_back(shared) == shared


def test_sharing_that_explodes_ends():
    shared = (0,)
    for _ in range(60):
        shared = (shared, shared)
    with pytest.raises(CannotEncode, match="larger"):
        encode(shared)


def test_attributes_of_living_objects():
    alike = [argparse.Namespace(data=data) for data in (b"x", bytearray(b"x"), [b"x"], (b"x",))]
    assert len({encode(vars(one)).address for one in alike}) == 4
    for one in alike:
        assert type(there_and_back(vars(one))["data"]) is type(one.data)


def test_random_generators_know_their_children():
    a, b = np.random.default_rng(1), np.random.default_rng(1)
    b.spawn(1)
    assert encode(a).address != encode(b).address
    again = there_and_back(np.random.default_rng(5))
    assert again.spawn(1)[0].integers(10**9) == np.random.default_rng(5).spawn(1)[0].integers(10**9)


@pytest.mark.parametrize("base", [dt.date, np.ndarray])
def test_dataclasses_over_c_types_are_refused(base):
    @dataclasses.dataclass(eq=False, init=False)
    class Over(base):
        name: str = "r"

    arguments = {dt.date: (2024, 1, 1), np.ndarray: (3,)}
    with pytest.raises(CannotEncode):
        encode(Over(*arguments[base]))


def test_records_flags_frequencies_and_other_small_print():
    record = np.array([(1,)], np.dtype((np.record, [("a", "i4")])))
    assert encode(record).address != encode(np.array([(1,)], [("a", "i4")])).address
    assert type(there_and_back(record)[0]) is np.record
    assert type(there_and_back(record[0])) is np.record
    frame = pd.DataFrame({"a": [1]})
    strict = frame.set_flags(allows_duplicate_labels=False)
    assert encode(frame).address != encode(strict).address
    assert not there_and_back(strict).flags.allows_duplicate_labels
    holidays = pd.offsets.CustomBusinessDay(holidays=["2024-01-02"])
    dates = pd.date_range("2024-01-01", periods=3, freq=holidays)
    assert there_and_back(dates).freq == holidays
    assert encode(dates).address != encode(pd.DatetimeIndex(dates, freq=None)).address
    stamp = pd.Timestamp("2024-01-01").replace(fold=1)
    assert there_and_back(stamp).fold == 1
    zone = dt.timezone(dt.timedelta(0), "UTC")
    assert repr(there_and_back(zone)) == repr(zone)
    safe = uuid.UUID(int=1, is_safe=uuid.SafeUUID.safe)
    assert encode(safe).address != encode(uuid.UUID(int=1)).address
    assert there_and_back(safe).is_safe is uuid.SafeUUID.safe
    with_metadata = np.zeros(2, np.dtype("f8", metadata={"unit": "m"}))
    assert encode(with_metadata).address != encode(np.zeros(2)).address
    assert there_and_back(with_metadata).dtype.metadata["unit"] == "m"

    class Odd(enum.Enum):
        NAN = float("nan")

    assert there_and_back(Odd.NAN) is Odd.NAN


# Code

EDITS = {
    "np.vectorize": (
        "import numpy as np\ndef h(x):\n    return x + 1\nv = np.vectorize(h)\ndef f(x):\n    return v(x)\n",
        ("x + 1", "x + 2"),
    ),
    "a decorator class": (
        "import functools\nclass D:\n    def __init__(self, g):\n        functools.update_wrapper(self, g)\n"
        "        self.g, self.k = g, 1\n    def __call__(self, x):\n        return self.g(x) * self.k\n"
        "@D\ndef h(x):\n    return x\ndef f(x):\n    return h(x)\n",
        ("* self.k", "+ self.k"),
    ),
    "state of a decorator class": (
        "class D:\n    def __init__(self, g):\n        self.g, self.k = g, 1\n    def __call__(self, x):\n"
        "        return self.g(x) * self.k\n@D\ndef h(x):\n    return x\ndef f(x):\n    return h(x)\n",
        ("= g, 1", "= g, 2"),
    ),
    "a metaclass": (
        "class M(type):\n    def __getitem__(cls, x):\n        return x + 1\nclass C(metaclass=M):\n    pass\n"
        "def f(x):\n    return C[x]\n",
        ("x + 1", "x + 2"),
    ),
    "an attribute of a function": (
        "def h(x):\n    return x * h.K\nh.K = 1\ndef f(x):\n    return h(x)\n",
        ("h.K = 1", "h.K = 2"),
    ),
    "a constant of a named tuple": (
        "from typing import NamedTuple\nclass N(NamedTuple):\n    a: int\n    @property\n    def s(self):\n"
        "        return self.a * self.SCALE\nN.SCALE = 3\ndef f(x):\n    return N(x).s\n",
        ("SCALE = 3", "SCALE = 4"),
    ),
    "a cached method of an enum": (
        "import enum, functools\nclass E(enum.Enum):\n    A = 1\n    @functools.cache\n    def m(self, x):\n"
        "        return x + 1\ndef f(x):\n    return E.A.m(x)\n",
        ("x + 1", "x + 2"),
    ),
    "the boundary of flags": (
        "import enum\nclass E(enum.Flag, boundary=enum.KEEP):\n    A = 1\ndef f(x):\n    return E(x)\n",
        ("enum.KEEP", "enum.CONFORM"),
    ),
    "__match_args__": (
        "class C:\n    __match_args__ = ('a', 'b')\n    def __init__(self, x):\n        self.a, self.b = x, 2\n"
        "def f(x):\n    match C(x):\n        case C(y):\n            return y\n",
        ("('a', 'b')", "('b', 'a')"),
    ),
    "a class variable of a dataclass": (
        "import dataclasses\nfrom typing import ClassVar\n@dataclasses.dataclass\nclass C:\n    k: int = 3\n"
        "def f(x):\n    return repr(C())\n",
        ("k: int", "k: ClassVar[int]"),
    ),
    "metadata of a field": (
        "import dataclasses\n@dataclasses.dataclass\nclass C:\n    k: int = dataclasses.field(default=1, metadata={'u': 1})\n"
        "def f(x):\n    return dataclasses.fields(C)[0].metadata['u']\n",
        ("'u': 1", "'u': 2"),
    ),
    "an instance in a module imported in the body": (
        "def f(x):\n    import tables_h\n    return tables_h.M.p(x)\n",
        None,
    ),
    "the second of two constant lambdas": (
        "A, B = (lambda: 1), (lambda: 2)\ndef f(x):\n    return B()\n",
        ("lambda: 2", "lambda: 3"),
    ),
}


@pytest.mark.parametrize("case", EDITS)
def test_edits_that_went_unnoticed(project, case):
    text, edit = EDITS[case]
    tables = "class T:\n    def p(self, x):\n        return x + 1\nM = T()\n"
    write(project / "tables_h.py", tables)
    before = fingerprint(project, text)
    sys.modules.pop("tables_h", None)
    assert fingerprint(project, text) == before
    if edit is None:
        write(project / "tables_h.py", tables.replace("x + 1", "x + 2"))
        sys.modules.pop("tables_h", None)
        assert fingerprint(project, text) != before
    else:
        assert edit[0] in text
        assert fingerprint(project, text.replace(*edit)) != before


def test_two_constant_lambdas_on_one_line():
    first, second = kachery.task(lambda x: 0.0), kachery.task(lambda x: -0.0)
    assert [repr(first(1)), repr(second(1))] == ["0.0", "-0.0"]


def test_methods_of_classes_given_to_python_c():
    code = """
    import kachery
    class C:
        def m(self, x):
            return x + {}
    @kachery.task
    def f(x):
        return C().m(x)
    print(f(1))
    """
    ignore = {"PYTHONWARNINGS": "ignore"}
    assert [run_python(code.format(n), env=ignore).stdout for n in (1, 2)] == ["2\n", "3\n"]


def test_a_name_put_into_builtins(monkeypatch):
    import builtins

    def helper(x):
        return x + 1

    def other(x):
        return x + 2

    monkeypatch.setattr(builtins, "shady", helper, raising=False)

    @kachery.task
    def f(x):
        return shady(x)  # noqa: F821

    assert f(1) == 2
    monkeypatch.setattr(builtins, "shady", other)
    assert f(1) == 3


def test_a_module_that_was_dropped_and_imported_again(project):
    path = write(project / "dropped.py", "def h(x):\n    return 1\n")

    @kachery.task
    def f(x):
        from dropped import h

        return h(x)

    assert f(0) == 1
    write(path, "def h(x):\n    return 2\n")
    del sys.modules["dropped"]
    assert f(0) == 2


def test_asserts_that_are_left_out(project):
    write(
        project / "asserting.py",
        "import kachery\n@kachery.task\ndef f(x):\n    assert x\n    return 1\n",
    )
    plain = run_python("import asserting; print(asserting.f.job(1).id)").stdout
    command = [sys.executable, "-O", "-c", "import asserting; print(asserting.f.job(1).id)"]
    assert subprocess.run(command, capture_output=True, text=True).stdout != plain


# Running


@kachery.task
def leaf(i):
    return i


@kachery.task(ignore="started")
def fans_out(x, started):
    started.touch()
    time.sleep(0.2)
    return sum(kachery.gather([leaf.job(i) for i in range(4)]))


@kachery.task(ignore="started")
def calls_it(i, started):
    return i + fans_out(1, started)


def test_nested_jobs_of_a_direct_call_find_threads(tmp_path):
    jobs = calls_it.map(range(8), started=tmp_path / "started")
    assert fans_out(1, tmp_path / "started") == 6
    assert kachery.gather(jobs) == [i + 6 for i in range(8)]


def _gather_in_child(queue):
    queue.put(kachery.gather(leaf.map(range(30, 40))))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_gather_in_a_forked_child():
    kachery.gather(leaf.map(range(20)))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_gather_in_child, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == list(range(30, 40))
    child.join(60)


@kachery.task
def ping(n):
    time.sleep(0.1)
    return 0 if n == 0 else pong(n)


@kachery.task
def pong(n):
    time.sleep(0.1)
    return ping(n)


def test_tasks_that_ask_for_each_other():
    outcomes = kachery.gather([ping.job(2), pong.job(2)], return_exceptions=True)
    assert all(isinstance(one, kachery.KacheryError) for one in outcomes)
    assert "ask" in str(outcomes[0])


def test_a_leases_folder_that_goes_away(store_dir):
    @kachery.task(version="1", ignore="folder")
    def destroying(x, folder):
        os.rename(folder / "leases", folder / "gone")
        (folder / "leases").write_text("in the way")
        return x

    assert destroying(1, store_dir) == 1
    (store_dir / "leases").unlink()
    assert destroying.job(1, store_dir).result(30) == 1


def test_an_argument_that_cannot_be_sent_fails_alone(client):
    @kachery.task(ignore="lock")
    def with_lock(x, lock):
        return x

    @kachery.task
    def failing(x):
        raise ValueError("no")

    failed = failing.submit(1)
    failed.exception()
    jobs = [leaf.job(70), with_lock.job(78, threading.Lock()), leaf.job(failed), leaf.job(71)]
    outcomes = kachery.gather(jobs, return_exceptions=True)
    assert outcomes[0] == 70 and outcomes[3] == 71
    assert isinstance(outcomes[1], TypeError) and isinstance(outcomes[2], ValueError)


def _explode():
    raise RuntimeError("cannot be unpickled")


class Unloadable:
    def __init__(self):
        self.lock = threading.Lock()  # so that it cannot be stored

    def __reduce__(self):
        return _explode, ()


def test_results_that_cannot_travel(client):
    @kachery.task
    def odd(i):
        if i == 0:
            return Unloadable()
        return threading.Lock() if i == 1 else [i]

    with warnings.catch_warnings(action="ignore"):
        outcomes = kachery.gather(odd.map(range(4)), return_exceptions=True)
    assert isinstance(outcomes[0], RuntimeError)
    assert isinstance(outcomes[1], kachery.KacheryError) and "sent back" in str(outcomes[1])
    assert outcomes[2:] == [[2], [3]]


def test_a_task_that_exits_does_not_end_the_worker(client):
    @kachery.task
    def leaving(x):
        sys.exit(3)

    with pytest.raises(RuntimeError, match=r"sys.exit\(3\)"):
        leaving.submit(1).result()


@pytest.mark.filterwarnings("ignore::kachery.DamagedWarning")
def test_a_damaged_blob_under_a_forgotten_record(client, store_dir):
    @kachery.task
    def made(i):
        return np.full(50_000, float(i))

    @kachery.task
    def summed(x):
        return float(x.sum())

    made(3)
    blob = next(p for p in (store_dir / "blake3").rglob("*") if p.is_file())
    data = bytearray(blob.read_bytes())
    data[100] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(data)
    made.job(3).forget()
    inner = made.job(3)
    assert kachery.gather([summed.job(inner), inner])[0] == 150_000.0


def test_enum_members_of_a_script_on_a_cluster(tmp_path):
    script = write(
        tmp_path / "modes.py",
        """
        import enum
        import kachery

        class Mode(enum.Enum):
            FAST = 1
            SLOW = 2

        @kachery.task
        def choose(x):
            return Mode.FAST

        @kachery.task
        def run(mode):
            return "fast" if mode is Mode.FAST else "slow"

        if __name__ == "__main__":
            from distributed import Client, LocalCluster
            with LocalCluster(
                n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0"
            ) as cluster, Client(cluster):
                print(run.job(choose.job(1)).result(), run.job(choose.job(1)).cached)
            print(run(Mode.FAST))
        """,
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.stdout == "fast True\nfast\n", done.stdout + done.stderr


def test_a_job_that_was_forgotten_while_the_cluster_remembers_it(client, calls):
    from test_dask import counted

    first = counted.submit(500, calls.path)
    first.result()
    other = counted.job(500, calls.path)
    other.forget()
    again = counted.job(500, calls.path)
    assert again.result()[1] == 500 and again.cached and calls.count == 2


@pytest.mark.filterwarnings("ignore::kachery.DamagedWarning")
def test_a_forgotten_job_with_a_damaged_blob_that_the_cluster_remembers(client, store_dir):
    @kachery.task
    def made(i):
        return np.full(50_000, float(i))

    @kachery.task
    def summed(x):
        return float(x.sum())

    first = made.submit(4)
    first.result()
    blob = next(p for p in (store_dir / "blake3").rglob("*") if p.is_file())
    blob.chmod(0o644)
    blob.write_bytes(b"x" * blob.stat().st_size)
    made.job(4).forget()
    again = made.job(4)
    assert kachery.gather([again, summed.job(again)])[1] == 200_000.0


def test_a_folder_in_the_place_of_a_record(store_dir):
    job = leaf.job(900)
    (store_dir / "jobs" / job.id[:2] / job.id).mkdir(parents=True)
    with warnings.catch_warnings(action="ignore"):
        assert kachery.gather([job, leaf.job(901)]) == [900, 901]
        assert leaf(900) == 900
