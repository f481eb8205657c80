"""What a record tells: of the run, of what it was made of and asked for, of where it ran."""

import asyncio
import json
import subprocess
import sys
import textwrap
import threading

import click.testing
import msgpack
import numpy as np
import pytest
import vectors
from conftest import run_python, write

import kachery
from kachery.cli import cli
from kachery_store.digest import Digest
from kachery_store.errors import DigestMismatch
from kachery_store.gc import collect_garbage
from kachery_store.removal import Policy
from kachery_store.repair import repair
from kachery_store.zone_settings import ZoneSettings
from kachery_tasks import environment
from kachery_tasks.carrying import pull, push
from kachery_tasks.environment import environment_at
from kachery_tasks.holdings import holdings
from kachery_tasks.record import MAGIC, MOST_CHILDREN, VERSION, Record, wrong_field
from kachery_tasks.sealed import seal
from kachery_tasks.settings import current
from kachery_tasks.values import decode, encode

EXECUTORS = ("threads", "processes", "dask")


@pytest.fixture(params=EXECUTORS)
def executor(request):
    """Jobs of the test run there."""
    if request.param == "dask":
        request.getfixturevalue("client")
        yield request.param
    else:
        with kachery.using(client=None, executor=request.param):
            yield request.param


@kachery.task(version="1")
def double(x):
    return x * 2


@kachery.task(version="1")
def add(x, y):
    return x + y


@kachery.task(version="1")
def total(items, more=0):
    return items["a"] + sum(items["b"]) + more


@kachery.task(version="1")
def asks_for_many(x):
    first = double(x)
    again = double(x)
    jobs = double.map([x + 1, x + 2])
    nested = add.submit(double.job(x), double.job(x + 3))
    return [first, again, kachery.gather([*jobs, nested])]


@kachery.task(version="1")
async def doubled_later(x):
    return x * 2


@kachery.task(version="1")
async def asks_later(x):
    return (
        await doubled_later(x)
        + await double.submit(x)
        + sum(await asyncio.gather(doubled_later(x + 1), doubled_later(x)))
    )


@kachery.query(version="1")
def asked(x):
    return ["answer", x]


@kachery.query(version="1", max_age="1h")
def lately(x):
    return ["answer", x]


@kachery.task(version="1", allow=("asked", "lately"))
def asks_queries(x):
    return [asked(x), lately(x), lately(x), lately.submit(x + 1).result(), double(x)]


def ids(jobs):
    return [job.id for job in jobs]


def record_of(job):
    job.result()
    return job.record


def test_a_direct_call_tells_what_it_took():
    @kachery.task(version="1")
    def busy(n):
        held = bytearray(n)
        return sum(i * i for i in range(n // 100)) + len(held)

    busy(30_000_000)
    record = busy.job(30_000_000).record
    assert 0 < record.cpu_seconds and 30_000_000 < record.peak_memory < 1 << 40
    assert (record.attempt, record.worker, record.parent) == (1, "", "")
    assert (record.inputs, record.children, record.reads) == ([], [], [])
    facts = environment_at(current().store, record.environment)
    assert facts["host"] == record.host and facts["user"] == record.user
    assert facts["packages"]["numpy"] == np.__version__
    assert facts["packages"]["msgpack"] == ".".join(map(str, msgpack.version))
    assert facts["command"] == sys.argv and facts["platform"].startswith(("Linux", "macOS"))
    assert not {"kachery", "sys", "conftest", "json"} & facts["packages"].keys()


def test_where_a_job_ran(executor, request):
    job = double.submit(4)
    record = record_of(job)
    workers = {""}
    if executor == "dask":
        workers = set(request.getfixturevalue("client").scheduler_info()["workers"])
    assert record.worker in workers and record.attempt == 1 and record.peak_memory > 1 << 20
    assert environment_at(current().store, record.environment)["python"] == record.python
    inner = asks_for_many.submit(4)
    inner.result()
    assert double.job(5).record.worker in workers


def test_the_jobs_among_the_arguments(executor):
    makers = [double.job(i) for i in range(3)]
    job = total.job({"a": makers[0], "b": [makers[1], makers[2], makers[0]]}, more=makers[1])
    record = record_of(job)
    assert [tuple(one) for one in record.inputs] == [
        *(("items", job_id) for job_id in ids(makers)),
        ("more", makers[1].id),
    ]
    values = {name: decode(data, None, None) for name, data in record.values}
    assert values == {"items": {"a": 0, "b": [2, 4, 0]}, "more": 2}
    assert total.job(**values).id == job.id


def test_the_jobs_that_a_function_asks_for(executor):
    double(11)  # a hit does count
    job = asks_for_many.submit(10)
    record = record_of(job)
    children = ids(
        [double.job(10), double.job(11), double.job(12), double.job(13), add.job(20, 26)]
    )
    assert record.children == children
    assert [double.job(10).record.parent, add.job(20, 26).record.parent] == [job.id] * 2
    assert double.job(11).record.parent == ""
    assert [tuple(one) for one in add.job(20, 26).record.inputs] == [
        ("x", children[0]),
        ("y", children[3]),
    ]


def test_the_parent_of_what_runs_in_another_process():
    with kachery.using(client=None, executor="processes"):
        asks_for_many(50)
    record = asks_for_many.job(50).record
    assert double.job(51).record.pid != record.pid == double.job(50).record.pid
    assert [double.job(n).record.parent for n in (50, 51, 53)] == [record.job_id] * 3
    assert record.children[1] == double.job(51).id


def test_the_jobs_that_an_async_function_asks_for(executor):
    job = asks_later.submit(1)
    assert job.result() == 2 + 2 + 4 + 2
    expected = [doubled_later.job(1), double.job(1), doubled_later.job(2)]
    assert job.record.children == ids(expected)


def test_children_of_a_direct_call_of_an_async_function():
    async def main():
        return await asks_later(2)

    assert asyncio.run(main()) == 4 + 4 + 6 + 4
    assert asks_later.job(2).record.children == ids(
        [doubled_later.job(2), double.job(2), doubled_later.job(3)]
    )


def test_no_more_children_than_a_record_may_have(monkeypatch):
    monkeypatch.setattr("kachery_tasks.purity.MOST_CHILDREN", 3)

    @kachery.task(version="1")
    def asks(n):
        return [double(i) for i in range(n)]

    asks(5)
    assert asks.job(5).record.children == ids(double.job(i) for i in range(3))


def test_the_answers_that_a_task_gets(executor):
    lately(5)
    job = asks_queries.submit(5)
    record = record_of(job)
    (answer,) = asked.history(5)
    (known,) = lately.history(5)
    (submitted,) = lately.history(6)
    assert [tuple(one) for one in record.reads] == [
        ("query", one.record.job_id, one.record.result.address)
        for one in (answer, known, submitted)
    ]
    assert record.children == [double.job(5).id]
    assert answer.record.parent == job.id and known.record.parent == ""


def test_an_answer_among_the_arguments_is_told_by_its_own_record(executor):
    question = lately.job(8)
    record = record_of(double.job(question))
    (answer,) = lately.history(8)
    assert [tuple(one) for one in record.inputs] == [("x", answer.record.job_id)]


def test_the_mutables_that_a_task_reads():
    @kachery.task(version="1")
    def reads():
        found = [kachery.get_mutable({"k": 1}, 7), kachery.get_mutable("null", 7)]
        kachery.set_mutable({"k": 1}, [2])
        found += [kachery.get_mutable({"k": 1}), kachery.get_mutable_local("@a/b", "none")]
        kachery.set_mutable_local("@a/b", "text")
        return [*found, kachery.get_mutable_local("@a/b"), kachery.get_mutable_local("@a/b")]

    kachery.set_mutable("null", None)
    kachery.get_mutable("null")  # no task runs here
    assert reads() == [7, None, [2], "none", "text", "text"]
    assert [tuple(one) for one in reads.job().record.reads] == [
        ("mutable", '{"k":1}', b""),
        ("mutable", '"null"', encode(None).address),
        ("mutable", '{"k":1}', encode([2]).address),
        ("mutable", "@a/b", b""),
        ("mutable", "@a/b", encode("text").address),
    ]


def test_a_mutable_that_is_nested_more_deeply_than_values_are():
    deep = json.loads("[" * 600 + "]" * 600)
    kachery.set_mutable("deep", deep)

    @kachery.task(version="1")
    def reads():
        return len(kachery.get_mutable("deep"))

    reads()
    assert reads.job().record.reads[0][2] == encode(json.dumps(deep)).address


TRIED = []
GO_ON, LATE = threading.Event(), threading.Event()


@kachery.task(version="1", retries=2)
def moody(x):
    TRIED.append(x)
    kachery.get_mutable(len(TRIED))
    double(len(TRIED))
    if len(TRIED) < 3:
        raise OSError("not now")
    return x


@kachery.task(version="1", retries=1, timeout=1)
def slow(x):
    TRIED.append(x)
    if len(TRIED) == 1:
        GO_ON.wait()
        double(100)
        LATE.set()
    else:
        double(1)
        GO_ON.set()
        LATE.wait()
    return x


def test_another_attempt_begins_with_nothing(monkeypatch):
    monkeypatch.setattr("kachery_tasks.calling.FIRST_WAIT", 0.0)
    TRIED.clear()
    moody(1)
    record = moody.job(1).record
    assert record.attempt == 3 and record.children == [double.job(3).id]
    assert [name for _, name, _ in record.reads] == ["3"]


def test_what_took_too_long_no_longer_counts(monkeypatch):
    monkeypatch.setattr("kachery_tasks.calling.FIRST_WAIT", 0.0)
    TRIED.clear()
    GO_ON.clear()
    LATE.clear()
    slow(1)
    assert double.job(100).cached
    assert slow.job(1).record.children == [double.job(1).id]


def test_an_exception_that_is_kept_tells_the_same():
    @kachery.task(version="1", cache_errors=KeyError)
    def refuses(x):
        raise KeyError(double(x))

    with pytest.raises(KeyError):
        refuses(3)
    record = refuses.job(3).record
    assert record.is_error and record.children == [double.job(3).id] and record.attempt == 1


def test_small_arguments_are_kept_with_the_record():
    @kachery.task(version="1", secret="word", ignore="loud")
    def takes(word, small, array, function, tail=(), loud=True):
        return 1

    takes("hidden", {"a": (1, None)}, np.zeros(1000), len, loud=False)
    job = takes.job("hidden", {"a": (1, None)}, np.zeros(1000), len)
    values = dict(job.record.values)
    assert values == {"small": encode({"a": (1, None)}).data, "tail": encode(()).data}
    assert b"hidden" not in job.record.to_bytes()


def test_the_maker_of_a_secret_is_not_told():
    @kachery.task(version="1", secret="word")
    def takes(word, other):
        return 1

    job = takes.job(double.job("ab"), double.job("cd"))
    assert [tuple(one) for one in record_of(job).inputs] == [("other", double.job("cd").id)]


def test_of_many_small_arguments_those_that_fit_are_kept():
    @kachery.task(version="1")
    def takes(**values):
        return 1

    @kachery.task(version="1")
    def takes_many(a, b, c, d, e, f, g, h, i, j):
        return 1

    takes(**{f"v{i}": "x" * 100 for i in range(20)})
    assert takes.job(**{f"v{i}": "x" * 100 for i in range(20)}).record.values == []
    texts = [str(i) * 1000 for i in range(10)]
    takes_many(*texts)
    kept = takes_many.job(*texts).record.values
    assert [name for name, _ in kept] == list("abcdefgh")
    assert sum(len(data) for _, data in kept) <= 8192


# Formats


def records_of_vectors():
    found = json.loads((vectors.FOLDER / "record.json").read_text())
    return [(one["job_id"], bytes.fromhex(one["file"]), one.get("older")) for one in found]


def test_records_of_all_times_are_read():
    new = [
        Record.from_bytes(data, job_id) for job_id, data, older in records_of_vectors() if not older
    ]
    old = [Record.from_bytes(data, job_id) for job_id, data, older in records_of_vectors() if older]
    assert [record.attempt for record in new] == [1, 1, 3] and len(old) == 4
    for record in old:
        assert record[18:] == ([], [], [], 0.0, 0, 0, "", b"", [])
        assert record.task == "golden:f" and record.kachery == "3.0.0"
    assert [record.asks for record in old] == [[], [], ["golden:q"], ["golden:q"]]
    assert [record.parent for record in old] == ["", "", "", "02" * 32]
    full = new[2]
    assert full.children == ["03" * 32, "04" * 32] and full.worker == "tcp://127.0.0.1:8786"
    assert full.reads[2] == ["mutable", "@folder/key", b""]


DIGEST = bytes(32)
HOSTILE = [
    ("inputs", [["x", "../../etc"]]),
    ("inputs", [["x"]]),
    ("inputs", "x"),
    ("inputs", [[1, "ab"]]),
    ("children", ["../x"]),
    ("children", [b"ab"]),
    ("children", "ab"),
    ("children", ["ab"] * (MOST_CHILDREN + 1)),
    ("reads", [["query", "../x", DIGEST]]),
    ("reads", [["query", "ab", b""]]),
    ("reads", [["mutable", "x", b"short"]]),
    ("reads", [["mutable", 1, DIGEST]]),
    ("reads", [["feed", "x", DIGEST]]),
    ("reads", [["query", "ab"]]),
    ("reads", {}),
    ("cpu_seconds", -1.0),
    ("cpu_seconds", float("nan")),
    ("cpu_seconds", "1"),
    ("peak_memory", -1),
    ("peak_memory", 1.5),
    ("attempt", "1"),
    ("attempt", True),
    ("worker", b"tcp"),
    ("environment", b"short"),
    ("environment", "ab" * 32),
    ("values", [["x", "text"]]),
    ("values", [["x"]]),
    ("values", None),
]


@pytest.mark.parametrize(("field", "value"), HOSTILE, ids=repr)
def test_a_field_that_is_not_what_it_should_be(field, value):
    job_id, data, _ = records_of_vectors()[2]
    fine = Record.from_bytes(data, job_id)
    assert wrong_field(fine) is None
    body = msgpack.packb(list(fine._replace(**{field: value})))
    with pytest.raises(DigestMismatch, match=field):
        Record.from_bytes(seal(MAGIC, VERSION, body), job_id)


# Environments

CODE = """
    import json
    from numpy.linalg import norm
    import lab_more, kachery
    @kachery.task(version="1")
    def f(x): return lab_more.later(x)
"""
MORE = """
    def later(x):
        if x == 77:
            import polars
        def inside():
            import msgpack
        inside()
        return x
"""
RUN = """
    import sys, json
    import lab_code
    from kachery_tasks.environment import environment_at
    from kachery_tasks.settings import current
    for text in sys.argv[1].split():
        lab_code.f(int(text))
        record = lab_code.f.job(int(text)).record
        facts = environment_at(current().store, record.environment)
        print(json.dumps([record.environment.hex(), facts]))
"""


@pytest.fixture
def lab_code(project):
    write(project / "lab_code.py", CODE)
    write(project / "lab_more.py", MORE)
    return project


def run_lab(*numbers, **options):
    done = run_python(RUN, " ".join(map(str, numbers)), **options)
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def blobs(store_dir):
    return sorted(path.name for path in (store_dir / "blake3").rglob("*") if path.is_file())


def git(folder, *words):
    done = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def test_processes_of_one_kind_have_one_environment(lab_code, store_dir):
    ((first, facts),) = run_lab(1)
    ((again, _),) = run_lab(1, env={"PYTHONHASHSEED": "7"})
    assert first == again and blobs(store_dir) == [first]
    assert set(facts["packages"]) == {"numpy", "msgpack"}
    assert facts["command"] == ["-c", "1"] and "git" not in facts
    ((third, other),) = run_lab(2)
    assert other["command"] == ["-c", "2"] and blobs(store_dir) == sorted([first, third])


def test_a_package_that_is_imported_later_is_told(lab_code):
    pytest.importorskip("polars")
    (_, before), (same, _), (_, after), (kept, _) = run_lab(1, 2, 77, 3)
    assert "polars" not in before["packages"] and "polars" in after["packages"]
    assert same != kept


def test_the_state_of_the_repository(lab_code):
    git(lab_code, "init", "-q")
    ((_, facts),) = run_lab(1)
    assert "git" not in facts  # there is no commit
    git(lab_code, "add", ".")
    git(lab_code, "commit", "-q", "-m", "first")
    commit = git(lab_code, "rev-parse", "HEAD")
    (lab_code / "data").write_text("not known to git")
    ((_, facts),) = run_lab(2)
    assert facts["git"] == {"commit": commit, "dirty": False}
    write(lab_code / "lab_more.py", MORE + "    # changed")
    ((_, facts),) = run_lab(3, env={"GIT_DIR": "/nowhere"})
    assert facts["git"] == {"commit": commit, "dirty": True}


@pytest.mark.parametrize("trouble", ["no git", "git fails", "git hangs"])
def test_git_is_never_in_the_way(lab_code, tmp_path, trouble):
    git(lab_code, "init", "-q")
    git(lab_code, "commit", "-q", "--allow-empty", "-m", "first")
    folder = tmp_path / "bin"
    folder.mkdir()
    if trouble != "no git":
        fake = folder / "git"
        fake.write_text("#!/bin/sh\n" + ("exit 3" if trouble == "git fails" else "exec sleep 600"))
        fake.chmod(0o755)
    path = str(folder) if trouble == "no git" else f"{folder}:/bin:/usr/bin"
    code = "from kachery_tasks import repository; repository._PATIENCE = 0.2\n"
    done = run_python(code + textwrap.dedent(RUN), "1", env={"PATH": path})
    assert "git" not in json.loads(done.stdout)[1]


def test_an_environment_that_cannot_be_told_is_left_out(monkeypatch):
    def fails(_):
        raise RuntimeError("odd modules")

    monkeypatch.setattr(environment, "packages_of", fails)

    @kachery.task(version="1")
    def f(x):
        return x

    assert f(1) == 1
    assert f.job(1).record.environment == b""


def test_an_environment_is_stored_again_in_time(store_dir, monkeypatch):
    add(1, 1)
    path = store_dir / Digest("blake3", add.job(1, 1).record.environment.hex()).path
    path.unlink()
    add(1, 2)
    assert not path.exists()  # it is not looked for each time
    monkeypatch.setattr(environment, "_AGAIN_AFTER", -1.0)
    add(1, 3)
    assert path.exists()


def test_collecting_keeps_what_records_name(store_dir):
    add(2, 1)
    record = add.job(2, 1).record
    store = current().store
    path = store_dir / Digest("blake3", record.environment.hex()).path
    everything = Policy(orphans=True, grace=-10.0)
    collect_garbage(store.backend, holdings(store), everything)
    assert path.exists() and add.job(2, 1).cached
    add.job(2, 1).forget()
    collect_garbage(store.backend, holdings(store), everything)
    assert not path.exists()


def test_a_result_is_none_the_worse_without_its_environment(store_dir):
    add(3, 1)
    record = add.job(3, 1).record
    store = current().store
    (store_dir / Digest("blake3", record.environment.hex()).path).unlink()
    repair(store.backend, holdings(store))
    assert add.job(3, 1).cached
    assert environment_at(store, record.environment) is None
    shown = show(record.job_id)
    assert "result" in shown and "packages" not in shown


def test_push_and_pull_bring_the_environment(tmp_path):
    add(4, 1)
    record = add.job(4, 1).record
    zone = ZoneSettings("lab", f"{tmp_path}/zone")
    with kachery.using(zone=zone):
        push(record)
    with kachery.using(zone=zone, dir=tmp_path / "other"):
        pull(record.uri)
    with kachery.using(zone=None, dir=tmp_path / "other"):
        assert add.job(4, 1).cached
        assert environment_at(current().store, record.environment)["host"] == record.host


def test_what_is_no_environment(store_dir):
    store = current().store
    for value in (["a"], {1: 2}, {"x": np.zeros(100_000)}, "x", {"x": "x" * (1 << 21)}):
        encoded = encode(value)
        store.blobs.put(Digest("blake3", encoded.address.hex()), encoded.data, durable=False)
        assert environment_at(store, encoded.address) is None


def show(*args):
    done = click.testing.CliRunner().invoke(cli, ["show", *args])
    assert done.exit_code == 0, done.output
    return done.output


def test_show_tells_it(lab_code):
    git(lab_code, "init", "-q")
    git(lab_code, "commit", "-q", "--allow-empty", "-m", "first")
    double(1)
    job = asks_queries.job(double.job(1))
    job.result()
    run_lab(1)
    shown = show(job.id)
    (answer,) = asked.history(2)
    for text in (
        "CPU time",
        "peak memory",
        f"numpy {np.__version__}",
        f"input        x = job://{double.job(1).id}",
        f"asked for    job://{double.job(2).id}",
        f"read         an answer, job://{answer.record.job_id}",
    ):
        assert text in shown
    import lab_code as module

    shown = show(module.f.job(1).id)
    assert f"git          {git(lab_code, 'rev-parse', 'HEAD')}\n" in shown
    assert "command      -c 1" in shown
    told = json.loads(show(job.id, "--json"))
    assert told["environment"]["packages"]["numpy"] == np.__version__
    assert told["inputs"] == [{"name": "x", "job": double.job(1).id}]
    assert told["reads"][0]["name"] == answer.record.job_id and told["values"] == {
        "x": "c16b763102"
    }
    assert "attempts" not in shown
