"""Lineage: how a value was made, back to the raw inputs, and what was made from it."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from conftest import count, run_python

import kachery
from kachery_tasks.lineage import index_file
from kachery_tasks.lineage.circles import without_circles
from kachery_tasks.lineage.dot import dot
from kachery_tasks.lineage.json_format import to_json
from kachery_tasks.lineage.model import ARGUMENT, CHILD, MUTABLE, Input, JobNode, Lineage, Link
from kachery_tasks.record import Record, Result
from kachery_tasks.settings import current
from kachery_tasks.values import encode

TIMES = "\N{MULTIPLICATION SIGN}"
VECTOR = Path(__file__).parent.parent / "docs/formats/vectors/lineage.json"


@kachery.task
def load(path, n=100):
    return np.arange(float(n)) + len(path)


@kachery.task
def denoise(recording, cutoff=300.0):
    return recording * cutoff


@kachery.task
def moments(recording):
    return {"mean": float(recording.mean()) / 7, "around": recording[:5] - recording.mean()}


@kachery.task
def compared(a, b):
    return float(np.sum(a) - np.sum(b)) + 0.123456789


@kachery.task
def total(parts):
    return sum(float(np.sum(part)) for part in parts)


@kachery.task
def same(x):
    return x


def tasks_of(found):
    return sorted(short(node.task) for node in found.jobs.values())


def short(task):
    return task.rpartition(":")[2].rpartition(".")[2]


def linked(found):
    """The links between jobs, by the names of their tasks."""
    name = lambda end: short(found.jobs[end].task)
    return {
        (name(link.source), name(link.target), link.label)
        for link in found.links
        if link.source in found.jobs
    }


def kachery_command(*args, **options):
    command = os.path.join(os.path.dirname(sys.executable), "kachery")
    return subprocess.run([command, *args], capture_output=True, text=True, timeout=120, **options)


def test_a_chain_of_values_in_hand():
    recording = load("/data/a.dat")
    clean = denoise(recording)
    found = kachery.lineage(clean)
    assert tasks_of(found) == ["denoise", "load"] and found.up
    assert linked(found) == {("load", "denoise", "recording")}
    assert found.asked == (denoise.job(recording).id,)
    assert sorted(one.summary for one in found.inputs.values()) == ["'/data/a.dat'", "100", "300.0"]
    asked = [denoise.job(recording), denoise.job(recording).record, denoise.job(recording).uri]
    for x in (*asked, found.asked[0], found.asked[0][:6].upper(), "job://" + found.asked[0][:9]):
        again = kachery.lineage(x)
        assert (again.jobs, again.links, again.asked) == (found.jobs, found.links, found.asked)


def test_a_diamond_is_told_once():
    recording = load("/data/a.dat")
    value = compared(denoise(recording), denoise(recording, 200.0))
    found = kachery.lineage(value)
    assert tasks_of(found) == ["compared", "denoise", "denoise", "load"]
    text = str(found)
    assert text.count("load(n=100, path='/data/a.dat')") == 2 and text.count("(as above)") == 1
    assert "compared(a=<- denoise, b=<- denoise)" in text and "cutoff=200.0" in text
    assert text.endswith("4 jobs, 4 raw inputs") and repr(found) == text


def test_jobs_as_arguments_are_told_by_the_record():
    """Also where content cannot tell: many jobs return 5."""

    @kachery.task(version="1")
    def five(name):
        return 5

    @kachery.task(version="1")
    def sum_of(numbers, offset):
        return sum(numbers) + offset

    assert five("a") == five("b") == 5
    job = sum_of.job([five.job("b"), five.job("a")], five("b"))
    assert job.result() == 15
    found = kachery.lineage(job)
    assert set(found.jobs) == {job.id, five.job("a").id, five.job("b").id}
    assert {link.label for link in found.links if link.source in found.jobs} == {"numbers"}
    assert "5" in [
        one.summary for one in found.inputs.values()
    ]  # of offset: by chance is not by origin
    assert set(kachery.lineage(five.job("a"), down=True).jobs) == {five.job("a").id, job.id}
    by_value = kachery.lineage(5)  # who asks for it is told who made it first
    assert by_value.asked == (five.job("a").id,)
    assert by_value.also == {five.job("a").id: (five.job("b").id,)}


def test_values_in_containers():
    found = moments(load("/data/a.dat"))
    value = compared(found["around"], load("/data/bb.dat"))
    told = kachery.lineage(value)
    assert ("moments", "compared", "a") in linked(told) and ("load", "compared", "b") in linked(
        told
    )
    assert tasks_of(kachery.lineage(found["around"])) == ["load", "moments"]
    assert tasks_of(kachery.lineage(found["mean"])) == ["load", "moments"]
    small = [denoise(load("/a", n), 2.0) for n in (3, 4)]
    assert linked(kachery.lineage(total(small))) == {
        ("denoise", "total", "parts"),
        ("load", "denoise", "recording"),
    }


def test_attributes_of_the_projects_own_classes():
    value = analysis("/data/a.dat")
    told = kachery.lineage(denoise(value.trace))
    assert linked(told) == {("analysis", "denoise", "recording")}


@dataclass
class Analysis:
    trace: np.ndarray
    name: str


@kachery.task
def analysis(path):
    return Analysis(np.arange(50.0) + len(path), path)


def test_what_a_task_passes_on_was_made_before():
    raw = np.arange(30.0)
    packed = same({"raw": raw})["raw"]
    assert tasks_of(kachery.lineage(denoise(packed))) == [
        "denoise"
    ]  # as a part it is none of its making
    recording = load("/data/a.dat")
    assert same(recording) is not None
    assert linked(kachery.lineage(denoise(recording))) == {("load", "denoise", "recording")}


def test_no_circles():
    @kachery.task(version="1")
    def also(x):
        return x

    value = np.arange(40.0)
    same(value), also(value), same.refresh(value), also.refresh(value)
    for x in (same.job(value), also.job(value), value):
        for down in (False, True):
            assert_no_circles(kachery.lineage(x, down=down))
    up = kachery.lineage(same.job(value))
    assert [one.summary for one in up.inputs.values()] == ["numpy.ndarray float64 (40,)"]


def assert_no_circles(found):
    left = list(found.links)
    while left:
        ends = {link.target for link in left}
        kept = [link for link in left if link.source in ends]
        assert len(kept) < len(left), kept
        left = kept


def test_links_that_close_a_circle_are_dropped():
    link = lambda a, b: Link(a, b, ARGUMENT, "x")
    ring = [link("b", "a"), link("c", "b"), link("a", "c"), link("d", "c"), link("y", "z")]
    kept, dropped = without_circles("a", ring, up=True)
    assert kept == [ring[0], ring[1], ring[3]] and dropped == [ring[2]]
    kept, dropped = without_circles("a", ring, up=False)
    assert kept == [ring[0], ring[1], ring[2]][1:] + [ring[0]] or dropped == [ring[0]]


def record_of(number, task, arguments, value, *, started, **more):
    encoded = encode(value)
    result = Result(encoded.address, encoded.size, type(value).__name__, [], encoded.data, [])
    taken = [(name, encode(one).address, repr(one)) for name, one in arguments.items()]
    fields = (f"{number:064x}", "task", task, None, "ab" * 32, taken, result, "finished")
    record = Record(*fields, started, 0.5, "host", "user", 1, "3.11.7", "3.0.0", [])._replace(
        **more
    )
    jobs, data = current().store.jobs, record.to_bytes()
    if not jobs.create(record.job_id, data):
        jobs.replace(record.job_id, data)
    return record


def test_circles_of_records():
    """Records of a zone, or of clocks that are wrong, may say what cannot be."""
    a, b = f"{1:064x}", f"{2:064x}"
    record_of(
        1,
        "m:a",
        {"x": "what b returns, at last"},
        "what a returns in the end",
        started=50,
        inputs=[("x", b)],
    )
    record_of(
        2,
        "m:b",
        {"x": "what a returns in the end"},
        "what b returns, at last",
        started=50,
        children=[a, b],
    )
    for x in (a, b):
        for down in (False, True):
            found = kachery.lineage(x, down=down)
            assert_no_circles(found)
            assert set(found.jobs) == {a, b}
    address = encode("what b returns, at last").address.hex()
    assert list(kachery.lineage(b).inputs.values()) == [
        Input(address, repr("what b returns, at last"))
    ]


def test_the_first_that_made_it_before_it_was_taken():
    text = "something that two jobs return"
    record_of(1, "m:late", {}, text, started=900)
    record_of(2, "m:first", {}, text, started=100)
    record_of(3, "m:second", {}, text, started=200)
    user = record_of(4, "m:user", {"x": text}, 1, started=500)
    early = record_of(5, "m:early", {"x": text}, 2, started=50)
    found = kachery.lineage(user.uri)
    assert linked(found) == {("first", "user", "x")}
    assert json.loads(found.to_json())["jobs"][1]["also_made_by"] == [f"{3:064x}"]
    assert "(also made by 00000000)" in str(found)
    assert linked(kachery.lineage(early.uri)) == {
        ("first", "early", "x")
    }  # it was computed again since
    assert tasks_of(kachery.lineage(f"{2:064x}", down=True)) == ["early", "first", "user"]
    assert tasks_of(kachery.lineage(f"{3:064x}", down=True)) == ["early", "second", "user"]
    assert tasks_of(kachery.lineage(f"{1:064x}", down=True)) == ["early", "late"]


def test_down_goes_by_what_the_record_tells():
    text = "something that two jobs return"
    first = record_of(1, "m:first", {}, text, started=100)
    second = record_of(2, "m:second", {}, text, started=200)
    told = [("x", second.job_id)]
    record_of(3, "m:user", {"x": text}, 1, started=500, inputs=told)
    assert tasks_of(kachery.lineage(first.uri, down=True)) == ["first"]
    assert tasks_of(kachery.lineage(second.uri, down=True)) == ["second", "user"]


def test_down_by_one_way_where_several_made_the_same():
    root = record_of(9, "m:root", {}, "the beginning of it all", started=1)
    for number, task in ((2, "m:first"), (1, "m:second")):
        taken = {"x": "the beginning of it all", "number": number}
        record_of(number, task, taken, "something that two jobs return", started=100 - number)
    record_of(3, "m:user", {"x": "something that two jobs return"}, 1, started=500)
    assert linked(kachery.lineage(root.uri, down=True)) == {
        ("root", "first", "x"),
        ("root", "second", "x"),
        ("first", "user", "x"),
    }


def test_down_to_what_was_made():
    recording = load("/data/a.dat")
    clean, other = denoise(recording), load("/data/other.dat")
    compared(clean, other), moments(clean), denoise(other)
    found = kachery.lineage(recording, down=True)
    assert not found.up and tasks_of(found) == ["compared", "denoise", "load", "moments"]
    assert linked(found) == {
        ("load", "denoise", "recording"),
        ("denoise", "compared", "a"),
        ("denoise", "moments", "recording"),
    }
    raw = np.arange(12.0)
    denoise(raw)
    told = kachery.lineage(raw, down=True)
    assert tasks_of(told) == ["denoise"] and told.asked == (encode(raw).address.hex(),)
    assert str(told).startswith("input ") and "denoise(cutoff=300.0, recording=" in str(told)
    # Of a part, only what was made of that
    parts = moments(recording)
    same(parts["around"]), same([parts["mean"]] * 2)
    assert tasks_of(kachery.lineage(parts["around"], down=True)) == ["moments", "same"]


@kachery.query
def weather(city):
    return {"temperature": 20.123456}


@kachery.task(allow=("weather",))
def whole(n):
    kachery.get_mutable("limit")
    return total([load(str(i), 3) for i in range(n)]) + weather("here")["temperature"]


def test_jobs_inside_jobs_queries_and_mutables():
    kachery.set_mutable("limit", 4)

    whole(2)
    found = kachery.lineage(whole.job(2))
    assert tasks_of(found) == ["load", "load", "total", "weather", "whole"]
    roles = {
        (
            link.role,
            short(found.jobs[link.source].task) if link.source in found.jobs else link.label,
        )
        for link in found.links
        if link.target == whole.job(2).id
    }
    assert {(CHILD, "load"), (CHILD, "total"), (MUTABLE, '"limit"')} <= roles
    assert any(role == CHILD and name.endswith("weather") for role, name in roles)
    assert any(name.startswith('mutable:"limit":') for name in found.inputs)
    assert 'read the mutable "limit"' in str(found) and "asked for by it" in str(found)
    down = kachery.lineage(weather.job("here"), down=True)
    assert "whole" in tasks_of(down)[-1] and len(down.jobs) == 2
    assert len(kachery.lineage(load.job("0", 3), down=True).jobs) == 3


def test_children_of_records_that_do_not_tell_them():
    parent = record_of(1, "m:parent", {}, "of the parent", started=100)
    record_of(2, "m:child", {}, "of the child", started=100, parent=parent.job_id)
    assert linked(kachery.lineage(parent.uri)) == {("child", "parent", "")}
    assert linked(kachery.lineage(f"job://{2:064x}", down=True)) == {("child", "parent", "")}


def test_files(tmp_path):
    @kachery.task(version="1")
    def figure(value):
        return {"figure": kachery.store_bytes(b"x" * value, label="figure.png")}

    raw = kachery.store_text("a recording", label="raw.txt")
    told = same(raw)
    uri = figure(100_000)["figure"]
    path = tmp_path / "figure.png"
    path.write_bytes(b"x" * 100_000)
    for x in (path, str(path), uri, uri.partition("?")[0], f"kachery:default:sha1:{uri[7:47]}:a"):
        found = kachery.lineage(x)
        assert tasks_of(found) == ["figure"] and found.asked == (figure.job(100_000).id,)
    assert str(path) in kachery.lineage(path).about
    assert same(uri.partition("?")[0]) == uri.partition("?")[0]  # without its label
    assert tasks_of(kachery.lineage(path, down=True)) == ["figure", "same"]
    # A file that no task made, but one took
    recording = tmp_path / "raw.txt"
    recording.write_text("a recording")
    down = kachery.lineage(recording, down=True)
    assert tasks_of(down) == ["same"] and down.inputs[down.asked[0]].summary == repr(raw)
    up = kachery.lineage(same.job(told))
    assert list(up.inputs) == [raw.partition("?")[0]]
    # Bytes that are a result themselves
    blob = same(b"y" * 70_000)
    path.write_bytes(blob)
    assert kachery.lineage(path).asked == (same.job(blob).id,)


def test_what_is_not_known(tmp_path, monkeypatch):
    load("/data/a.dat")
    root = current().root
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "file"
    path.write_text("x")
    for x in (
        np.arange(7.0),
        path,
        "sha1://" + "a" * 40,
        "blake3://" + "b" * 64,
        "job://" + "c" * 64,
        "d" * 64,
    ):
        with pytest.raises(kachery.NotFound, match="nothing in ") as caught:
            kachery.lineage(x)
        assert root in str(caught.value)
    with pytest.raises(kachery.NotFound, match=r"no URI and no file.*kachery\.lineage\(value="):
        kachery.lineage("some text")
    with pytest.raises(kachery.NotFound, match="folder"):
        kachery.lineage(tmp_path)
    with pytest.raises(kachery.NotFound, match="no job abcdef"):
        kachery.lineage("abcdef")
    with pytest.raises(kachery.NotFound, match="6 digits"):
        kachery.lineage("job://abc")
    with pytest.raises(kachery.BadURI):
        kachery.lineage("sha1://abc")
    with pytest.raises(kachery.CannotEncode):
        kachery.lineage(object())
    with pytest.raises(FileNotFoundError):
        kachery.lineage(tmp_path / "none")
    for wrong in ({}, {"x": 1, "value": 1}):
        with pytest.raises(TypeError, match="one thing"):
            kachery.lineage(**wrong)
    with pytest.raises(kachery.NotFound, match="has not finished"):
        kachery.lineage(load.job("/not/run"))
    (tmp_path / "abcdef").write_text("named like a job")
    with pytest.raises(kachery.NotFound, match="the file abcdef"):
        kachery.lineage("abcdef")


def test_text_as_a_value():
    text = same("a text that is no path")
    assert kachery.lineage(value=text).asked == (same.job(text).id,)


def test_an_empty_store_is_left_alone(store_dir):
    with pytest.raises(kachery.NotFound):
        kachery.lineage(3)
    assert not store_dir.exists()


def test_arrays_in_chunks():
    zarr = pytest.importorskip("zarr")
    da = pytest.importorskip("dask.array")

    @kachery.task(version="1")
    def lazy(n):
        return {"rows": da.ones((n, 4), chunks=(10, 4)) * 3.5}

    @kachery.task(version="1")
    def group(n):
        root = zarr.create_group({})
        root.create_array("x", shape=(n,), chunks=(3,), dtype="i4")[:] = range(n)
        return root

    rows = lazy(30)["rows"]
    assert kachery.lineage(rows).asked == (lazy.job(30).id,)
    mean = same([float(rows.mean().compute()), rows])
    assert mean[0] == 3.5
    member = group(9)["x"]
    assert kachery.lineage(member).asked == (group.job(9).id,)
    uri = kachery.store_zarr(member)
    assert kachery.lineage(uri).asked == (group.job(9).id,)
    reduced = same(member)
    assert tasks_of(kachery.lineage(reduced)) == tasks_of(kachery.lineage(member))  # it is the same
    assert kachery.lineage(same.job(member)).links[0].source == group.job(9).id
    assert same.job(member).id in kachery.lineage(uri, down=True).jobs


@kachery.task(version="1", secret=("password",))
def fetched(name, password):
    return f"what {name} could read here"


def test_secret_arguments_are_not_told():
    fetched("ada", "tiger")
    found = kachery.lineage(fetched.job("ada", "tiger"))
    assert [one.summary for one in found.inputs.values()] == ["'ada'"]
    assert "password=(secret)" in str(found) and "tiger" not in found.to_json() + str(found)


def test_a_record_that_is_gone():
    clean = denoise.job(load.job("/data/a.dat"))
    compared.job(clean, load.job("/data/b.dat")).result()
    clean.forget()
    found = kachery.lineage(compared.job(clean.result(), load("/data/b.dat")))
    assert tasks_of(found) == ["compared", "denoise", "load", "load"]
    id, job = clean.id, compared.job(clean, load.job("/data/b.dat"))
    root = job.id
    current().store.jobs.remove(id)
    found = kachery.lineage(f"job://{root}")
    assert found.jobs[id] == JobNode(id, None) and tasks_of(found) == ["", "compared", "load"]
    assert "a job whose record is gone" in str(found) and "of 1 job the record is gone" in str(
        found
    )
    assert json.loads(found.to_json())["jobs"][1] == {"id": id, "gone": True}
    assert "record is gone" in found.to_dot()
    assert kachery.lineage(id).jobs == {id: JobNode(id, None)}
    assert set(kachery.lineage(id, down=True).jobs) == {id, root}


def index_path(store_dir):
    return store_dir / index_file.FILE


def test_the_index_follows_the_records(store_dir):
    value = denoise(load("/data/a.dat"))
    path = index_path(store_dir)
    assert not path.exists()
    before = kachery.lineage(value).to_json()
    for harm in (
        lambda: path.unlink(),
        lambda: path.write_bytes(b"no database" * 1000),
        lambda: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        lambda: path.write_bytes(b""),
        lambda: foreign(path),
        lambda: of_another_version(path),
        lambda: shutil.rmtree(path.parent),
        lambda: (path.unlink(), path.mkdir()),
    ):
        harm()
        assert kachery.lineage(value).to_json() == before
    shutil.rmtree(path)
    kachery.lineage(value)
    load.job("/data/a.dat").forget()
    assert tasks_of(kachery.lineage(value)) == ["denoise"]
    load("/data/a.dat")
    assert tasks_of(kachery.lineage(value)) == ["denoise", "load"]
    user = total.job([load.job("/data/a.dat")])
    user.result()
    assert user.id in kachery.lineage(load.job("/data/a.dat"), down=True).jobs
    user.forget()
    assert tasks_of(kachery.lineage(load.job("/data/a.dat"), down=True)) == ["denoise", "load"]


def foreign(path):
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE job (something TEXT)")
    db.close()


def of_another_version(path):
    with sqlite3.connect(path) as db:
        db.executescript("DELETE FROM made; DELETE FROM took; PRAGMA user_version = 2")
    db.close()


def test_damage_that_is_found_when_it_is_asked(store_dir):
    for i in range(300):
        record_of(i, "m:f", {"x": f"argument number {i}"}, f"result number {i}", started=i)
    before = kachery.lineage(f"job://{7:064x}", down=True).to_json()
    path = index_path(store_dir)
    data = path.read_bytes()
    page = 4096
    for start in range(page, len(data), page):
        path.write_bytes(data[:start] + b"\xff" * page + data[start + page :])
        assert kachery.lineage(f"job://{7:064x}", down=True).to_json() == before


def test_a_record_that_was_replaced():
    store = current().store
    record_of(1, "m:f", {}, "the first result", started=1)
    assert kachery.lineage(value="the first result").asked == (f"{1:064x}",)
    record_of(1, "m:f", {}, "another result of it", started=2)
    assert kachery.lineage(value="another result of it").asked == (f"{1:064x}",)
    with pytest.raises(kachery.NotFound):
        kachery.lineage(value="the first result")
    path = Path(store.backend.path(f"jobs/00/{1:064x}"))
    path.chmod(0o644), path.write_bytes(b"damaged")
    with pytest.raises(kachery.NotFound):
        kachery.lineage(value="another result of it")


def test_many_at_once(store_dir, tmp_path):
    for i in range(200):
        record_of(i, "m:f", {"x": f"result number {i - 1}"}, f"result number {i}", started=i * 10)
    code = "import kachery; print(len(kachery.lineage('job://' + '%064x' % 199).jobs))"
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [one.communicate(timeout=120)[0] for one in running] == ["200\n"] * 4


def test_killed_while_it_was_made(store_dir):
    for i in range(50):
        record_of(i, "m:f", {"x": f"result number {i - 1}"}, f"result number {i}", started=i * 10)
    code = """
    import os, kachery
    from kachery_tasks.lineage import index
    real, seen = index.made_by, []
    def made_by(*args):
        seen.append(1)
        if len(seen) == 30:
            os.kill(os.getpid(), 9)
        return real(*args)
    index.made_by = made_by
    kachery.lineage("job://" + "0" * 64)
    """
    assert run_python(code, check=False).returncode == -9
    assert index_path(store_dir).exists()
    assert len(kachery.lineage(f"job://{49:064x}").jobs) == 50


def test_where_nothing_can_be_written(store_dir, monkeypatch):
    value = denoise(load("/data/a.dat"))

    def refuse(*_):
        raise PermissionError("read-only")

    monkeypatch.setattr(index_file, "_lock_file", refuse)
    assert tasks_of(kachery.lineage(value)) == ["denoise", "load"]
    assert not index_path(store_dir).exists()


def test_somebody_who_keeps_the_index(store_dir, monkeypatch):
    value = denoise(load("/data/a.dat"))
    monkeypatch.setattr(index_file, "_PATIENCE", 0.0)
    with index_file._locked(current().store) as mine:
        assert mine and tasks_of(kachery.lineage(value)) == ["denoise", "load"]
    assert not index_path(store_dir).exists()


def test_the_index_is_no_business_of_the_store(store_dir):
    value = denoise(load("/data/a.dat"))
    kachery.lineage(value)
    path = index_path(store_dir)
    before = path.read_bytes()
    kachery.gc(max_items=1, grace=0)
    assert len(list(current().store.jobs.names())) == 1
    for command in ("verify", "doctor", "repair"):
        done = kachery_command(command)
        assert done.returncode == 0, done
        assert "lineage" not in done.stdout + done.stderr and path.read_bytes() == before
    kachery.gc(max_items=0, grace=0, orphans=True)
    assert path.read_bytes() == before
    with pytest.raises(kachery.NotFound):
        kachery.lineage(value)


@pytest.fixture(params=["bucket", "folder"])
def lab(request, tmp_path, monkeypatch):
    """A zone named lab, in force."""
    toml = f'url = "{tmp_path}/zone"\n'
    if request.param == "bucket":
        toml = request.getfixturevalue("bucket").toml
    (tmp_path / "kachery.toml").write_text(f"[zones.lab]\n{toml}")
    monkeypatch.setenv("KACHERY_CONFIG", str(tmp_path / "kachery.toml"))
    monkeypatch.setenv("KACHERY_ZONE", "lab")


def test_records_that_only_the_zone_has(lab, tmp_path, monkeypatch):
    final = compared.job(denoise.job(load.job("/data/a.dat")), load.job("/data/b.dat"))
    final.result()
    id = final.id
    monkeypatch.setenv("KACHERY_DIR", str(tmp_path / "elsewhere"))
    found = kachery.lineage(f"job://{id}")
    assert tasks_of(found) == ["compared", "denoise", "load", "load"]
    assert all(node.record is not None for node in found.jobs.values())
    assert not any(name.startswith("index") for name in zone_names(tmp_path))


def test_what_the_zone_brings_tells_of_content(lab, tmp_path, monkeypatch):
    """A record that comes as the input of one may have made what another has taken."""
    recording = load("/data/a.dat")
    job = total.job([denoise.job(load.job("/data/a.dat")), second_of.job(recording)])
    job.result()
    id = job.id
    monkeypatch.setenv("KACHERY_DIR", str(tmp_path / "elsewhere"))
    found = kachery.lineage(f"job://{id}")
    assert ("load", "second_of", "recording") in linked(found)


@kachery.task
def second_of(recording):
    return recording[1::2] + 0.5


def zone_names(tmp_path):
    zone = tmp_path / "zone"
    return [file.relative_to(zone).as_posix() for file in zone.rglob("*")] if zone.exists() else []


def made_many(number):
    for i in range(number):
        record_of(
            i,
            "lab.steps:load",
            {"path": f"/data/recording {i}"},
            f"recording number {i}",
            started=i,
        )
        record_of(
            number + i,
            "lab.steps:denoise",
            {"recording": f"recording number {i}", "cutoff": 300.0},
            f"clean number {i}",
            started=3e6 + i,
        )
    ids = [("parts", f"{number + i:064x}") for i in range(number)]
    return record_of(
        2 * number, "lab.steps:joined", {"parts": "all"}, "joined", started=6e6, inputs=ids
    )


def test_two_thousand_jobs_are_a_few_lines():
    number = count(1000, 1000)
    found = kachery.lineage(made_many(number).uri)
    assert len(found.jobs) == 2 * number + 1
    lines = found.to_text(width=130).splitlines()
    assert lines[0].startswith(f"joined(parts=<- denoise {TIMES}{number})")
    assert lines[1].startswith(
        f"↑ denoise(recording=<- load {TIMES}{number}, cutoff=300.0) {TIMES}{number}  "
    )
    assert lines[2].startswith(f"↑ load(path=...) {TIMES}{number}  ") and len(lines) == 5
    everything = found.to_text(every=True).splitlines()
    assert len(everything) == 2 * number + 3
    assert all(len(line) <= 100 for line in everything + str(found).splitlines())
    assert len(kachery.lineage(f"job://{3:064x}", down=True).jobs) == 3
    page = json.loads(found.to_json())
    assert len(page["jobs"]) == 2 * number + 1 and len(page["links"]) == 4 * number


def test_a_long_chain_stays_readable():
    for i in range(3000):
        record_of(
            i, "m:step", {"x": f"result number {i - 1}"}, f"result number {i}", started=i * 10
        )
    found = kachery.lineage(f"job://{2999:064x}")
    lines = found.to_text(width=80).splitlines()
    assert len(found.jobs) == 3000 and len(lines) == 3002 and max(map(len, lines)) <= 80
    assert len(kachery.lineage(f"job://{0:064x}", down=True).jobs) == 3000


def test_a_sum_step_by_step_stays_readable():
    """Each step takes the one before and something of its own."""
    for i in range(400):
        record_of(i, "m:load", {"i": i}, f"recording number {i}", started=i)
        taken = {"before": f"the sum up to {i - 1}", "recording": f"recording number {i}"}
        record_of(1000 + i, "m:added", taken, f"the sum up to {i}", started=1000 + i)
    found = kachery.lineage(f"job://{1399:064x}")
    for text in (str(found), found.to_text(every=True)):
        assert len(text.splitlines()) == 802 and max(map(len, text.splitlines())) <= 100
        assert text.count("(as above)") == 0
        lines = text.splitlines()
        assert lines[1].startswith("├─ load(i=399)") and lines[2].startswith("↑ added(before=")


def test_text_that_somebody_else_wrote():
    nasty = 'm:a"];\n"b\\ -> \x1b[31m\u202e</script>'
    record_of(1, nasty, {}, "something to be taken", started=1, user="eve\n\x1b[2J", host="h\r")
    reads = [("mutable", '"\x1b[2J"', b"")]
    record_of(2, "m:user", {"x": "something to be taken"}, "y" * 30, started=5, reads=reads)
    found = kachery.lineage(f"job://{2:064x}")
    for text in (str(found), found.to_dot()):
        assert not any(bad in text for bad in ("\x1b", "\u202e", "\r"))
    assert found.to_dot().count("\n") == 4 + 2 + 1 + 1 + 1  # a line for each thing, and none more
    assert "\\n" in found.to_dot() and '\\"' in found.to_dot()
    assert json.loads(found.to_json())["jobs"][1]["task"] == nasty
    if shutil.which("dot"):
        done = subprocess.run(
            ["dot", "-Tsvg"], input=found.to_dot(), capture_output=True, text=True
        )
        assert done.returncode == 0


def golden():
    first = Record(
        *("ab" * 32, "task", "lab.steps:load", None, "cd" * 32, [("path", bytes(32), "'/data/a'")]),
        Result(bytes(range(32)), 5, "str", [], None, []),
        *("finished", 1_700_000_000.5, 0.25, "host", "ada", 1234, "3.11.7", "3.0.0", []),
    )
    second = first._replace(
        job_id="12" * 32,
        task="lab.steps:denoise \u2603",
        arguments=[("recording", bytes(range(32)), "str"), ("password", b"", "secret")],
        environment=bytes(32),
    )
    nodes = [
        JobNode(second.job_id, second, ("ef" * 32,)),
        JobNode(first.job_id, first),
        JobNode("34" * 32, None),
    ]
    return Lineage(
        about="job://" + second.job_id,
        up=True,
        asked=(second.job_id,),
        jobs={node.job_id: node for node in nodes},
        inputs={
            "00" * 32: Input("00" * 32, "'/data/a'"),
            'mutable:"x":': Input('mutable:"x":', "the mutable"),
        },
        links=(
            Link(first.job_id, second.job_id, ARGUMENT, "recording"),
            Link("34" * 32, second.job_id, CHILD, ""),
            Link('mutable:"x":', second.job_id, MUTABLE, '"x"'),
            Link("00" * 32, first.job_id, ARGUMENT, "path"),
        ),
    )


def test_the_golden_vector():
    also = {"ab" * 32: ("56" * 32,)}
    assert to_json(golden(), also) == VECTOR.read_text()


def test_dot_of_the_golden_vector():
    lines = dot(golden()).splitlines()
    assert lines[0] == "digraph lineage {" and lines[-1] == "}" and len(lines) == 4 + 3 + 2 + 4
    assert any("style=dashed" in line for line in lines) and any(
        "penwidth=2" in line for line in lines
    )


def test_save_by_the_end_of_the_name(tmp_path):
    found = kachery.lineage(denoise(load("/data/a.dat")))
    for name, start in (("a.txt", "denoise("), ("a.dot", "digraph"), ("a.json", "{")):
        found.save(tmp_path / name)
        assert (tmp_path / name).read_text().startswith(start)
    found.save(tmp_path / "other", "json")
    assert (tmp_path / "other").read_text() == found.to_json()
    with pytest.raises(ValueError, match="what format"):
        found.save(tmp_path / "a.docx")
    with pytest.raises(ValueError, match="format is one of"):
        found.told("svg")
    assert "denoise" in found._repr_html_()


def test_a_missing_library_is_named(monkeypatch, tmp_path):
    found = kachery.lineage(denoise(load("/data/a.dat")))
    monkeypatch.setitem(sys.modules, "prov", None)
    monkeypatch.setitem(sys.modules, "prov.model", None)
    with pytest.raises(kachery.Unsupported, match="pip install"):
        found.to_prov()


def test_the_command(tmp_path):
    recording = load("/data/a.dat")
    denoise(recording)
    id = denoise.job(recording).id
    done = kachery_command("lineage", id[:8])
    assert done.returncode == 0 and done.stdout == str(kachery.lineage(id)) + "\n", done
    assert "denoise(" in kachery_command("lineage", load.job("/data/a.dat").uri, "--down").stdout
    assert (
        json.loads(kachery_command("lineage", id, "--format", "json").stdout)["kachery lineage"]
        == 1
    )
    assert kachery_command("lineage", id, "--format", "dot", "--up").stdout.startswith("digraph")
    done = kachery_command("lineage", id, "-o", str(tmp_path / "x.dot"))
    assert (tmp_path / "x.dot").read_text().startswith("digraph") and done.stdout == ""
    plain = kachery_command("lineage", id, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert plain.returncode == 0 and "\n^ load(" in plain.stdout
    for wrong in (["--format", "ro-crate"], ["-o", "x.docx"], ["--format", "svg"]):
        assert kachery_command("lineage", id, *wrong).returncode == 2
    failed = kachery_command("lineage", "some text")
    assert failed.returncode == 1 and failed.stderr.startswith("kachery: 'some text' is no job")
    uri = kachery.store_text("a file that no task has made")
    file = kachery.load_file(uri)
    failed = kachery_command("lineage", file)
    assert failed.returncode == 1 and "is stored in " in failed.stderr and "no job" in failed.stderr


def test_others_who_ran_it_are_named():
    record_of(1, "m:f", {}, "what somebody made", started=1)
    assert "user@host" in str(kachery.lineage(f"job://{1:064x}"))
    value = load("/data/a.dat")
    assert "@" not in str(kachery.lineage(value))


def test_opaque_results_and_kept_errors():
    @kachery.task(version="1", opaque=("return",))
    def model(n):
        return Model(n)

    @kachery.task(version="1", cache_errors=(ValueError,))
    def broken(x):
        raise ValueError("there are no spikes in it")

    found = model(3)
    assert kachery.lineage(found).asked == (model.job(3).id,)
    with pytest.raises(ValueError, match="no spikes"):
        broken(found)
    told = kachery.lineage(broken.job(found))
    assert len(told.jobs) == 2 and "raised ValueError" in str(told)


class Model:
    """Something that only pickle takes."""

    __slots__ = ("_lock", "n")

    def __init__(self, n):
        self.n = n

    def __reduce__(self):
        return Model, (self.n,)
