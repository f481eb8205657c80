"""The feed of jobs: each run is in it once, whatever crashed, and it tells the table of jobs alone."""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from conftest import count, run_python, write
from test_surface import ROOT, kachery_command

import kachery
from kachery_store.feeds import Keyring
from kachery_tasks import commit, job_feed, run_journal
from kachery_tasks.feeds import update_job_feed
from kachery_tasks.record import Record
from kachery_tasks.settings import current


@kachery.task(version="1")
def double(x):
    return 2 * x


@kachery.task(version="1", cache_errors=ValueError)
def refused(x):
    raise ValueError(x)


@kachery.query(version="1")
def weather():
    return "rain"


def told():
    """What the feed says, in all its subfeeds."""
    feed = kachery.load_feed("jobs")
    return [
        message
        for name in feed.subfeed_names()
        for message in feed.load_subfeed(name).message_stream(0)
    ]


def jobs_told():
    return sorted(message["job"] for message in told())


def journals(store_dir):
    return sorted((store_dir / "runs").glob("*.log"))


def marks(store_dir):
    (found,) = (store_dir / "runs").glob("*.json")
    return found


def test_each_run_is_told_once(store_dir):
    double(1), double(2)
    assert double(1) == 2  # a hit
    double.refresh(2)
    with pytest.raises(ValueError, match="no"):
        refused("no")
    weather()
    messages = told()
    assert [one["type"] for one in messages] == ["run"] * 5
    assert sorted(one["status"] for one in messages) == ["error", *["finished"] * 4]
    assert sorted(one["kind"] for one in messages) == ["query", *["task"] * 4]
    job = double.job(1)
    (first,) = (one for one in messages if one["job"] == job.id)
    record = job.record
    assert first["task"] == "test_job_feed:double"
    assert first["result"] == record.result.address.hex()
    assert (first["started"], first["seconds"]) == (record.started, record.seconds)
    assert (first["host"], first["user"]) == (record.host, record.user)
    assert (
        bytes.fromhex(first["record"]) in (store_dir / f"jobs/{job.id[:2]}/{job.id}").read_bytes()
    )
    twice = [one["record"] for one in messages if one["job"] == double.job(2).id]
    assert len(set(twice)) == 2
    assert told() == messages


def test_who_shares_nothing_has_no_key(tmp_path, store_dir):
    double(1)
    assert double(1) == 2 and len(journals(store_dir)) == 1
    assert not (tmp_path / "user").exists()


def test_a_store_where_nothing_ran_gets_no_feed(tmp_path):
    with pytest.raises(kachery.NotFound, match="no job has run on this machine so far"):
        kachery.load_feed("jobs")
    with pytest.raises(kachery.NotFound, match="no job has run on this machine so far"):
        kachery.runs()
    kachery.store_text("text")
    assert kachery_command("feed", "list").stdout == "" and not (tmp_path / "user").exists()


def test_a_hit_writes_nothing(store_dir):
    double(1)
    (journal,) = journals(store_dir)
    before = journal.read_bytes()
    double(1), double.job(1).result(), kachery.gather([double.job(1)])
    assert journal.read_bytes() == before


def test_what_the_commands_tell():
    double(1)
    listed = kachery_command("feed", "list").stdout
    assert listed.split()[0] == "jobs"
    double(2)
    assert "2 messages, all signed" in kachery_command("feed", "verify", "jobs").stdout
    double(3)
    (name,) = kachery.load_feed(listed.split()[1]).subfeed_names()  # by its URI
    read = kachery_command("feed", "read", f"jobs/{name}").stdout.splitlines()
    assert [json.loads(line)["job"] for line in read] == [double.job(i).id for i in (1, 2, 3)]


# Where jobs run


def test_runs_in_other_processes(client, cluster):
    double.map(range(10), progress=False)
    kachery.gather(double.map(range(10), progress=False))
    with kachery.using(client=None, executor="processes"):
        kachery.gather(double.map(range(10, 14), progress=False))
    child = os.fork()
    if child == 0:
        double(14)
        os._exit(0)
    os.waitpid(child, 0)
    double(15)
    assert jobs_told() == sorted(double.job(i).id for i in range(16))


def test_several_who_look_at_the_same_time():
    for i in range(20):
        double(i)
    together = threading.Barrier(4)

    def look(_):
        together.wait(60)
        return update_job_feed()

    with ThreadPoolExecutor(4) as pool:
        for turn in range(5):
            for i in range(20 * turn, 20 * turn + 20):
                double(i)
            assert sum(pool.map(look, range(4))) == 20
    assert jobs_told() == sorted(double.job(i).id for i in range(100))
    code = "import kachery; kachery.load_feed('jobs')"
    double(100)
    started = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [one.wait(60) for one in started] == [0] * 3
    assert len(told()) == 101
    assert list(Keyring().names()) == ["jobs"] and len(Keyring().feeds()) == 1


# Crashes

KILLED = """
    import os, signal, sys
    import kachery
    from crashing import double
    from kachery_tasks import commit, job_feed

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    if sys.argv[1] == "between":
        double(0)
        commit.note_run = die
        double.refresh(0) if sys.argv[2] == "refresh" else double(1)
    elif sys.argv[1].startswith("appended"):
        if sys.argv[1] == "appended again":
            kachery.load_feed("jobs") if double(7) else None
        for i in range(5):
            double(i)
        job_feed._Integration._note_progress = die
        kachery.load_feed("jobs")
    elif sys.argv[1] == "wrote":
        job_feed._Integration._remove_old = die
        double(7)
        kachery.load_feed("jobs")
    print("survived")
    """


def killed(*args):
    done = run_python(KILLED, *args, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.fixture
def named(project):
    """A task that the process that is killed has as well."""
    write(
        project / "crashing.py",
        """
        import kachery
        @kachery.task(version="1")
        def double(x):
            return 2 * x
        """,
    )
    return importlib.import_module("crashing").double


@pytest.mark.parametrize("looked", [False, True])
@pytest.mark.parametrize("how", ["new", "refresh"])
def test_killed_between_the_record_and_its_line(store_dir, named, how, looked):
    if looked:  # so that the store has been compared before
        named(5)
        assert len(told()) == 1
    killed("between", how)
    lines = b"".join(one.read_bytes() for one in journals(store_dir)).count(b"\n")
    assert lines == 1 + looked
    assert named.job(0).cached and named.job(1).cached == (how == "new")
    found = told()
    assert len(found) == 2 + looked
    records = {
        one["record"] for one in found if one["job"] == named.job(0 if how == "refresh" else 1).id
    }
    assert len(records) == (2 if how == "refresh" else 1)
    assert told() == found


def test_forgotten_run_again_and_killed(named):
    named(1)
    assert len(told()) == 1
    named.job(1).forget()
    killed("between", "new")
    assert [one["job"] for one in told()].count(named.job(1).id) == 2


@pytest.mark.parametrize(
    ("where", "ran"),
    [("appended", range(5)), ("appended again", [*range(5), 7]), ("wrote", [7])],
)
def test_killed_after_appending(named, where, ran):
    killed(where)
    found = jobs_told()
    assert found == sorted(named.job(i).id for i in ran)
    named(20)
    assert len(told()) == len(found) + 1


def test_killed_at_any_moment():
    """Workers are killed again and again while somebody looks: each record is told once."""
    code = """\
        import itertools, sys, kachery
        @kachery.task(name="double", version="1")
        def double(x):
            return 2 * x
        for i in itertools.count(int(sys.argv[1])):
            double(i)
            if i % 1000 == 3:
                print("begun", flush=True)
            if i % 7 == 0:
                kachery.load_feed("jobs")
        """
    for turn in range(count(40, 4)):
        worker = subprocess.Popen(
            [
                sys.executable,
                "-c",
                textwrap.dedent(code),
                str(turn * 10_000),
            ],
            stdout=subprocess.PIPE,
        )
        assert worker.stdout.readline() == b"begun\n"
        update_job_feed()
        worker.kill()
        worker.wait()
        worker.stdout.close()
        stored = sorted(current().store.jobs.names())
        assert jobs_told() == stored and stored


def test_journals_are_read_in_pieces(monkeypatch, store_dir):
    for i in range(30):
        double(i)
    monkeypatch.setattr(job_feed, "_PIECE", 1000)
    assert [one["job"] for one in told()] == [double.job(i).id for i in range(30)]
    assert len(told()) == 30


def test_golden_lines():
    for vector in json.loads((ROOT / "docs/formats/vectors/runs.json").read_text()):
        data, line = bytes.fromhex(vector["file"]), vector["line"].encode()
        record = Record.from_bytes(data, vector["job_id"])
        message = run_journal.run_message(record, data)
        assert list(run_journal.lines_from(line)) == [message]
        assert (message["started"], message["seconds"]) == (record.started, record.seconds)
        assert run_journal.line_of(run_journal._run_text(record, message["record"])) == line


def test_torn_lines(store_dir):
    for i in range(3):
        double(i)
    (journal,) = journals(store_dir)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0][:100] + lines[1] + b"\0" * 50 + lines[2][:-1])
    assert len(list(run_journal.lines_from(journal.read_bytes()))) == 2
    assert jobs_told() == sorted(double.job(i).id for i in range(3))
    flipped = lines[0].replace(b'"finished"', b'"finishex"')
    assert list(run_journal.lines_from(flipped)) == []
    assert list(run_journal.lines_from(b"00000000 {nonsense}\n" + lines[0])) != []


def test_a_line_that_comes_after_its_record_was_found(monkeypatch):
    """Somebody looks between the record and its line, which is no crash."""
    real = commit.note_run

    def looked_between(*args):
        assert update_job_feed() == 1
        real(*args)

    monkeypatch.setattr(commit, "note_run", looked_between)
    double(1)
    assert len(told()) == 1
    double.refresh(1)
    assert len(told()) == 2


# What happens to files


def test_lost_journals_and_marks(store_dir):
    double(1)
    assert len(told()) == 1
    for path in (store_dir / "runs").iterdir():
        path.unlink()
    double(2)
    shutil.rmtree(store_dir / "runs")
    double(3)
    assert jobs_told() == sorted(double.job(i).id for i in (1, 2, 3))
    marks(store_dir).write_text("{}")
    assert len(told()) == 3
    double(4)
    assert len(told()) == 4


def test_a_journal_whose_folder_is_gone_is_begun_anew(store_dir, monkeypatch):
    now = 1_800_000_000
    clock = SimpleNamespace(time=lambda: now, strftime=run_journal.time.strftime)
    clock.gmtime = run_journal.time.gmtime
    monkeypatch.setattr(run_journal, "time", clock)
    double(1)
    shutil.rmtree(store_dir / "runs")
    now += 1
    double(2)
    assert len(journals(store_dir)) == 1
    now += 86_400
    double(3)
    assert len(journals(store_dir)) == 2  # a new day
    assert {one.name.split(".")[0] for one in journals(store_dir)} == {"2027-01-15", "2027-01-16"}


def test_journals_of_past_days_go(store_dir):
    double(1)
    (journal,) = journals(store_dir)
    old = journal.with_name("2020-01-01" + journal.name[10:])
    journal.rename(old)
    somebody_elses = journal.with_name("2020-01-01.host.somebody.log")
    somebody_elses.write_bytes(b"")
    assert len(told()) == 1 and not old.exists() and somebody_elses.exists()
    assert len(told()) == 1


@pytest.mark.parametrize("call", ["open", "write"])
def test_a_journal_that_cannot_be_written_fails_nothing(monkeypatch, call):
    def full(*_):
        raise OSError(28, "No space left on device")

    real = SimpleNamespace(**vars(os))
    setattr(real, call, full)
    with monkeypatch.context() as patched:
        patched.setattr(run_journal, "os", real)
        assert double(1) == 2 and double(2) == 4
    assert jobs_told() == sorted(double.job(i).id for i in (1, 2))


def test_what_others_wrote_is_not_signed(monkeypatch):
    double(1)
    with monkeypatch.context() as patched:
        patched.setattr(job_feed.os, "getuid", lambda: 12345)
        assert update_job_feed() == 0
    assert len(told()) == 1


def test_a_task_of_a_very_long_name(store_dir):
    long = kachery.task(name="x" * 5000, version="1")(double.definition.function)
    long(1)
    assert journals(store_dir) == [] and [one["task"] for one in told()] == ["x" * 5000]


def test_a_store_that_begins_anew(store_dir):
    double(1)
    assert len(told()) == 1
    shutil.rmtree(store_dir)
    double(2)
    assert [one["job"] for one in told()] == [double.job(2).id]  # and no rollback


def test_two_stores_of_one_user(tmp_path):
    double(1)
    first = kachery.load_feed("jobs")
    with kachery.using(dir=tmp_path / "other"):
        double(2)
        second = kachery.load_feed("jobs")
        assert [one["job"] for one in told()] == [double.job(2).id]
    assert first.uri == second.uri
    assert not set(first.subfeed_names()) & set(second.subfeed_names())


def test_a_copy_of_a_store(tmp_path, store_dir):
    double(1)
    before = set(kachery.load_feed("jobs").subfeed_names())
    shutil.copytree(store_dir, tmp_path / "copy")
    with kachery.using(dir=tmp_path / "copy"):
        double(2)
        assert set(kachery.load_feed("jobs").subfeed_names()) - before
        assert jobs_told() == sorted(double.job(i).id for i in (1, 2))
    double(3)
    assert jobs_told() == sorted(double.job(i).id for i in (1, 3))  # and no fork


def test_a_subfeed_that_is_damaged_or_ended(store_dir):
    double(1)
    feed = kachery.load_feed("jobs")
    (name,) = feed.subfeed_names()
    feed.load_subfeed(name).finalize()
    double(2)
    with pytest.warns(kachery.DamagedWarning, match="another subfeed"):
        feed = kachery.load_feed("jobs")
    assert len(feed.subfeed_names()) == 2
    assert jobs_told() == sorted(double.job(i).id for i in (1, 2))


def test_a_feed_that_was_deleted_begins_anew():
    double(1)
    first = kachery.load_feed("jobs").uri
    kachery.delete_feed("jobs")
    double(2)
    assert kachery.load_feed("jobs").uri != first
    assert jobs_told() == sorted(double.job(i).id for i in (1, 2))


def test_somebody_elses_feed_of_that_name(tmp_path, monkeypatch):
    kachery.set_feed_name("jobs", "feed://" + "ab" * 32)
    double(1)
    assert kachery.load_feed("jobs").uri == "feed://" + "ab" * 32 and update_job_feed() == 0


def test_the_journal_stays_when_others_tidy_up(store_dir):
    double(1)
    told()
    double(2)
    before = {path: path.read_bytes() for path in (store_dir / "runs").iterdir()}
    kachery.gc(max_items=0, orphans=True, grace=0)
    assert "runs" not in kachery_command("verify").stdout
    assert "runs" not in kachery_command("doctor").stdout
    assert {path: path.read_bytes() for path in (store_dir / "runs").iterdir()} == before
    assert len(told()) == 2  # though no record is left


# Zones, and the table of jobs


@pytest.fixture
def lab(tmp_path, monkeypatch):
    (tmp_path / "kachery.toml").write_text(f'[zones.lab]\nurl = "{tmp_path}/zone"\n')
    monkeypatch.setenv("KACHERY_CONFIG", str(tmp_path / "kachery.toml"))


def test_records_that_came_from_a_zone_are_no_runs_of_here(tmp_path, lab):
    with kachery.using(zone="lab"):
        double(1)
    with kachery.using(dir=tmp_path / "other", zone="lab"):
        assert double.job(1).cached and double(1) == 2
        double(2)
        assert [one["job"] for one in told()] == [double.job(2).id]


def test_the_table_from_the_feed_alone(tmp_path, store_dir, lab, monkeypatch):
    for i in (1, 2, 3):
        double(i)
    double.refresh(1)
    assert double.reproduce(2)
    expected = {one.job_id: one.result.address.hex() for one in map(_record, (1, 2, 3))}
    uri = kachery.load_feed("jobs").uri
    kachery.publish_feed("jobs", "lab")
    shutil.rmtree(store_dir)
    monkeypatch.setenv("KACHERY_USER_DIR", str(tmp_path / "colleague"))
    table = kachery.runs(uri, zone="lab")
    assert {run.job_id: run.result for run in table} == expected
    assert [run.job_id for run in table][0] == double.job(1).id  # the newest
    assert len(kachery.runs(uri, zone="lab", every=True)) == 4
    assert kachery.runs(uri, zone="lab", task="other") == []
    assert len(kachery.runs(uri, zone="lab", task="double")) == 3
    verdicts = {run.job_id: [one.verdict for one in run.verdicts] for run in table if run.verdicts}
    assert verdicts == {double.job(2).id: ["same"]}
    shown = kachery_command("runs", "--feed", uri, "--zone", "lab").stdout
    assert shown.count("test_job_feed:double") == 3 and "same when run again" in shown
    rows = kachery_command("runs", "--feed", uri, "--zone", "lab", "--json").stdout.splitlines()
    assert {json.loads(row)["job_id"] for row in rows} == expected.keys()
    assert not (store_dir / "jobs").exists()


def _record(i):
    return double.job(i).record


def test_a_table_of_odd_messages():
    feed = kachery.create_feed("odd")
    good = {
        **dict.fromkeys(("job", "record", "result"), "ab" * 32),
        **dict.fromkeys(("task", "kind", "status", "host", "user"), "text"),
        **{"type": "run", "started": 1.0, "seconds": 2.0},
    }
    odd = [{**good, name: odd} for name in good for odd in (None, [], "x" if name == "job" else -1)]
    verdict = {
        "type": "verdict",
        "job": "ab" * 32,
        "verdict": "same",
        "why": [],
        "time": 1,
        "host": "h",
    }
    feed.load_subfeed("s").append_messages([*odd, {"text": "hello"}, verdict, good, good])
    (run,) = kachery.runs("odd", every=True)
    assert run.started == 1.0 and run.verdicts == [] and run.uri == "job://" + "ab" * 32
    feed.load_subfeed("s").append_message({**verdict, "user": "u"})
    (run,) = kachery.runs(feed.load_subfeed("s").uri)
    assert [one.verdict for one in run.verdicts] == ["same"]
