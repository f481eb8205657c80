"""Equal jobs at the same moment run once: stopped, killed and slow holders, in one store and through a zone."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import count, note_call, write

import kachery
from kachery_store.errors import ConfigError, StoreUnavailable
from kachery_store.zone_settings import ZoneSettings
from kachery_tasks import file_lease, holder
from kachery_tasks.settings import current

pytestmark = pytest.mark.timeout(300)  # a pipe that nobody opens is waited for

JOBS = """
import json, os, sys, time, warnings
from pathlib import Path
import kachery

@kachery.task(version="1", ignore=("calls", "started", "go", "seconds"))
def made(x, calls, started=None, go=None, seconds=0):
    fd = os.open(calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{x}\\n".encode())
    os.close(fd)
    if started:
        Path(started).write_text("")    # a pipe: whoever waits for us reads it
    if go and Path(go).read_text() == "fail":  # another: until we are let go
        raise ValueError("on purpose")
    time.sleep(seconds)
    return [x, os.getpid()]             # so that every run has another result

if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        print("asking", flush=True)
        sys.stdin.readline()
        values = [made(*one[0], **one[1]) for one in given]
    print(json.dumps([values, [f"{w.category.__name__}: {w.message}" for w in caught]]))
"""


class Machine:
    """Starts processes that ask for jobs; each machine has a store of its own."""

    def __init__(self, folder, script, env):
        self.folder = folder
        self.script = script
        self.env = env
        self.running = []

    def ask(self, *jobs, now=True):
        """A process that asks for `made(*args, **options)` in turn, now or when it gets a line."""
        process = subprocess.Popen(
            [sys.executable, self.script, json.dumps(jobs)],
            env={**os.environ, **self.env, "KACHERY_DIR": str(self.folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.running.append(process)
        assert process.stdout.readline() == "asking\n", process.stderr.read()
        if now:
            begin(process)
        return process

    def names(self, folder):
        return sorted(p.name for p in (self.folder / folder).rglob("*") if p.is_file())


def begin(process):
    process.stdin.write("\n")
    process.stdin.flush()


def answer(process):
    out, err = process.stdout.read(), process.stderr.read()
    assert process.wait(100) == 0, err
    return json.loads(out)


@pytest.fixture
def machine(tmp_path, project, request):
    """A function that gives machines: with `lab`, or one store for all of them."""
    write(project / "once_jobs.py", JOBS)
    lab = "zone" if "lab" in request.fixturenames else None

    def machine(name, seconds=1):
        env = {"KACHERY_LEASE_SECONDS": str(seconds)}
        if lab is None:
            name = "store"
        else:
            env |= {"KACHERY_ZONE": "lab", "KACHERY_CONFIG": str(tmp_path / "kachery.toml")}
        machines.append(Machine(tmp_path / name, project / "once_jobs.py", env))
        return machines[-1]

    machines = []
    yield machine
    for process in [process for one in machines for process in one.running]:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            pipe.close()


@pytest.fixture(params=["bucket", "folder"])
def lab(request, tmp_path):
    """A zone named lab, for machines."""
    if request.param == "bucket":
        bucket = request.getfixturevalue("bucket")
        settings = ZoneSettings("lab", bucket.url, (("endpoint_url", bucket.endpoint),))
        toml = bucket.toml
    else:
        settings = ZoneSettings("lab", f"{tmp_path}/zone")
        toml = f'url = "{tmp_path}/zone"\n'
    (tmp_path / "kachery.toml").write_text(f"[zones.lab]\n{toml}")
    return settings.open().backend


@pytest.fixture
def pipes(tmp_path):
    """Two pipes: one tells that a job has started, one lets it go."""
    paths = [str(tmp_path / name) for name in ("started", "go")]
    for path in paths:
        os.mkfifo(path)
    return paths


def stopped_holder(machine, calls, pipes):
    """A process that is stopped in the middle of a job."""
    started, go = pipes
    process = machine.ask([[1], {"calls": calls.path, "started": started, "go": go}])
    Path(started).read_text()
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    return process


def let_go(process, pipes, word=""):
    process.send_signal(signal.SIGCONT)
    Path(pipes[1]).write_text(word)


def test_a_stopped_holder_is_replaced_and_comes_late(machine, calls, pipes):
    one = machine("one")
    late = stopped_holder(one, calls, pipes)
    others = [one.ask([[1], {"calls": calls.path}]) for _ in range(3)]
    values = [answer(process) for process in others]
    assert calls.count == 2
    assert values == [values[0]] * 3 and values[0][1] == []
    let_go(late, pipes)
    value, told = answer(late)
    assert len(told) == 1, told
    warning = told[0]
    assert value == values[0][0]  # the first result counts
    assert warning.startswith("LeaseLostWarning: once_jobs:made gave no sign of life")
    assert len(one.names("jobs")) == len(one.names("differing")) == 1
    assert one.names("leases") == one.names("tmp") == []


def test_a_stopped_holder_on_another_machine(machine, lab, calls, pipes):
    late = stopped_holder(machine("one"), calls, pipes)
    others = [machine(name).ask([[1], {"calls": calls.path}]) for name in ("two", "three")]
    values = [answer(process) for process in others]
    assert calls.count == 2
    assert values == [values[0]] * 2 and values[0][1] == []
    let_go(late, pipes)
    value, told = answer(late)
    assert len(told) == 1, told
    warning = told[0]
    assert value == values[0][0]
    assert warning.startswith("LeaseLostWarning: once_jobs:made gave no sign of life")
    assert len(list(lab.names("jobs"))) == len(list(lab.names("differing"))) == 1
    assert list(lab.names("leases")) == []


def stopped_and_replaced(machine, calls, pipes, tmp_path):
    """A stopped process, and one that took its job over and runs it: on another machine, if there is
    a zone; the pipe that lets the second one go.
    """
    late = stopped_holder(machine("one"), calls, pipes)
    more = [str(tmp_path / name) for name in ("started2", "go2")]
    for path in more:
        os.mkfifo(path)
    started, go = more
    second = machine("two").ask([[1], {"calls": calls.path, "started": started, "go": go}])
    Path(started).read_text()
    return late, second, go


def check_who_was_replaced_is_first(late, second, go, pipes, leases):
    """The lease of the other one stays, also when the stopped one commits before it, and ends."""
    there = leases()
    let_go(late, pipes)
    assert answer(late) == [[[1, late.pid]], []]
    assert leases() == there != []
    Path(go).write_text("")
    assert answer(second) == [[[1, late.pid]], []]
    assert leases() == []


def test_who_was_replaced_leaves_the_lease_alone(machine, calls, pipes, tmp_path):
    processes = stopped_and_replaced(machine, calls, pipes, tmp_path)
    check_who_was_replaced_is_first(*processes, pipes, lambda: machine("one").names("leases"))
    assert len(machine("one").names("differing")) == 1


def test_who_was_replaced_leaves_the_lease_in_the_zone_alone(machine, lab, calls, pipes, tmp_path):
    processes = stopped_and_replaced(machine, calls, pipes, tmp_path)
    check_who_was_replaced_is_first(*processes, pipes, lambda: sorted(lab.names("leases")))
    assert len(list(lab.names("differing"))) == len(list(lab.names("jobs"))) == 1


def test_who_was_stopped_alone_has_lost_nothing(machine, lab, calls, pipes):
    process = stopped_holder(machine("one"), calls, pipes)
    let_go(process, pipes)
    assert answer(process) == [[[1, process.pid]], []]
    assert list(lab.names("leases")) == []


def test_a_killed_holder_of_this_machine_is_replaced_at_once(machine, calls, pipes):
    """Long before its lease has passed, which would take longer than the test may."""
    one = machine("one", seconds=3600)
    holder = stopped_holder(one, calls, pipes)
    waiting = one.ask([[1], {"calls": calls.path}])
    holder.kill()
    assert answer(waiting) == [[[1, waiting.pid]], []]
    assert calls.count == 2 and one.names("leases") == []


def test_a_killed_holder_of_another_machine_is_replaced(machine, lab, calls, pipes):
    holder = stopped_holder(machine("one"), calls, pipes)
    holder.kill()
    waiting = machine("two").ask([[1], {"calls": calls.path}])
    assert answer(waiting) == [[[1, waiting.pid]], []]
    assert calls.count == 2
    assert len(list(lab.names("jobs"))) == 1 and list(lab.names("leases")) == []


def test_signs_of_life_keep_the_lease_of_a_long_job(machine, calls, pipes):
    one = machine("one")
    holder = one.ask([[1], {"calls": calls.path, "started": pipes[0], "seconds": 3.5}])
    Path(pipes[0]).read_text()
    waiting = one.ask([[1], {"calls": calls.path}])
    assert answer(waiting) == answer(holder) == [[[1, holder.pid]], []]
    assert calls.count == 1


def test_signs_of_life_in_a_zone(machine, lab, calls, pipes):
    holder = machine("one").ask([[1], {"calls": calls.path, "started": pipes[0], "seconds": 3.5}])
    Path(pipes[0]).read_text()
    waiting = machine("two").ask([[1], {"calls": calls.path}])
    assert answer(waiting) == answer(holder) == [[[1, holder.pid]], []]
    assert calls.count == 1 and list(lab.names("leases")) == []


def test_a_holder_says_how_long_it_may_be_silent(machine, calls, pipes):
    """Who is less patient itself waits as long as the holder said."""
    started = pipes[0]
    holder = machine("one", seconds=60).ask(
        [[1], {"calls": calls.path, "started": started, "seconds": 4}]
    )
    Path(started).read_text()
    waiting = machine("one", seconds=1).ask([[1], {"calls": calls.path}])
    assert answer(waiting) == answer(holder) == [[[1, holder.pid]], []]
    assert calls.count == 1


def test_two_clusters_run_the_same_jobs_once(machine, lab, calls):
    """Two machines with two processes each, each with an order of its own."""
    numbers = range(count(200, 20))
    rng = random.Random(1)
    asking = []
    for name in ("one", "one", "two", "two"):
        jobs = [[[x], {"calls": calls.path, "seconds": 0.05}] for x in numbers]
        rng.shuffle(jobs)
        asking.append(machine(name, seconds=30).ask(*jobs, now=False))
    for process in asking:
        begin(process)
    answers = [answer(process) for process in asking]
    assert [told for _, told in answers] == [[]] * 4
    values = {tuple(sorted(map(tuple, values))) for values, _ in answers}
    assert len(values) == 1  # all four have the same
    assert sorted(Path(calls.path).read_text().split()) == sorted(map(str, numbers))
    assert list(lab.names("leases")) == []


def test_a_failed_run_lets_the_next_begin(machine, lab, calls, pipes):
    """Long before its lease has passed."""
    holder = {"calls": calls.path, "started": pipes[0], "go": pipes[1]}
    failing = machine("one", seconds=3600).ask([[1], holder])
    Path(pipes[0]).read_text()
    waiting = machine("two", seconds=3600).ask([[1], {"calls": calls.path}])
    let_go(failing, pipes, "fail")
    assert "on purpose" in failing.stderr.read()
    assert answer(waiting) == [[[1, waiting.pid]], []]
    assert calls.count == 2


@kachery.task(version="1", ignore=("calls", "started", "go"))
def piped(x, calls, started, go):
    note_call(calls)
    Path(started).write_text("")
    Path(go).read_text()
    return [x, os.getpid()]


def test_a_worker_of_dask_and_this_process(calls, pipes, client, monkeypatch):
    looked = threading.Event()
    usual = file_lease._Watch.is_over
    monkeypatch.setattr(file_lease._Watch, "is_over", lambda *given: looked.set() or usual(*given))
    job = piped.submit(1, calls.path, *pipes)
    Path(pipes[0]).read_text()
    with kachery.using(client=None):
        here = piped.submit(1, calls.path, *pipes)
    assert looked.wait(60)
    Path(pipes[1]).write_text("")
    assert here.result(100) == job.result(100) != [1, os.getpid()]
    assert calls.count == 1


def test_waiting_can_be_interrupted(machine, calls, pipes):
    one = machine("one", seconds=60)
    holder = stopped_holder(one, calls, pipes)
    waiting = one.ask([[1], {"calls": calls.path}])
    waiting.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in waiting.stderr.read()
    holder.kill()
    assert calls.count == 1


@kachery.task(version="1", ignore=("calls", "during"))
def work(x, calls, during=None):
    note_call(calls)
    if during is not None:
        during()
    return x


@pytest.mark.parametrize("moment", ["create", "replace", "remove"])
def test_a_zone_that_does_not_take_leases(tmp_path, monkeypatch, calls, moment):
    """Acquired, renewed, given back: what fails is said at most once, and the job is done."""
    monkeypatch.setenv("KACHERY_LEASE_SECONDS", "1")
    zone = ZoneSettings("lab", f"{tmp_path}/zone")
    with kachery.using(dir=tmp_path / "one", zone=zone):
        backend = current().store.zone.backend
        usual = getattr(backend, moment)
        failed = []

        def failing(name, *args, **given):
            if name.startswith("leases/"):
                failed.append(name)
                raise StoreUnavailable("as if the network were gone", place=backend.url)
            return usual(name, *args, **given)

        monkeypatch.setattr(backend, moment, failing)
        if moment == "create":
            with pytest.warns(kachery.ZoneWarning, match="as if the network"):
                assert work(1, calls.path) == 1
        else:  # said in the log
            during = until(lambda: failed) if moment == "replace" else None
            assert work(1, calls.path, during=during) == 1
        assert failed
        assert current().store.jobs.has(work.job(1, calls.path).id)
    assert calls.count == 1


def until(condition):
    def wait():
        while not condition():
            time.sleep(0.01)

    return wait


def test_a_zone_that_goes_away_while_a_job_runs(tmp_path, monkeypatch, calls):
    zone = tmp_path / "zone"
    with kachery.using(dir=tmp_path / "one", zone=ZoneSettings("lab", str(zone))):
        assert work(1, calls.path) == 1
        with pytest.warns(kachery.ZoneWarning, match="has gone"):
            assert work(2, calls.path, during=lambda: zone.rename(tmp_path / "gone")) == 2
        (tmp_path / "gone").rename(zone)
        assert work(2, calls.path) == 2
    assert calls.count == 2


def test_what_only_the_zone_answers_takes_no_lease_there(tmp_path, calls, monkeypatch):
    """A hit asks for no lease; nor does a run on purpose, for which nobody waits."""
    zone = ZoneSettings("lab", f"{tmp_path}/zone")
    with kachery.using(dir=tmp_path / "one", zone=zone):
        work(1, calls.path)
    monkeypatch.setattr(file_lease, "lock_file", lambda *_, **__: pytest.fail("a lease"))
    monkeypatch.setattr("kachery_tasks.lease.lock_file", file_lease.lock_file)
    for name in ("one", "two"):
        with kachery.using(dir=tmp_path / name, zone=zone):
            assert work(1, calls.path) == 1
    assert calls.count == 1


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf", "1e9"])
def test_a_lease_time_that_is_none(monkeypatch, calls, text):
    monkeypatch.setenv("KACHERY_LEASE_SECONDS", text)
    with pytest.raises(ConfigError, match=r"KACHERY_LEASE_SECONDS is .* from 1 to 3600"):
        work(1, calls.path)
    assert calls.count == 0


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"7", b"[" * 4096, b"\xff" * 20, b'{"token": 1}', b"9" * 4096],
)
def test_what_is_no_lease(data):
    assert holder.holder_of(data) is None


def test_a_lease_of_somebody_strange():
    me = holder.this_process()
    assert holder.holder_of(me.to_bytes()) == me
    told = json.loads(me.to_bytes())
    assert holder.holder_of(json.dumps(told | {"seconds": 1e300}).encode()).seconds == 3600
    assert holder.holder_of(json.dumps(told | {"seconds": float("nan")}).encode()).seconds == 30
    assert holder.holder_of(json.dumps(told | {"seconds": -1}).encode()).seconds == 1
    assert holder.holder_of(
        json.dumps(told | {"host": "\x1b[2J" * 100}).encode()
    ).host.isprintable()
    assert holder.holder_of(json.dumps(told | {"pid": "1"}).encode()) is None
    assert holder.holder_of(json.dumps(told | {"seconds": 10**400}).encode()) is not None


def test_strange_leases_in_a_zone_delay_a_job_for_a_while_only(
    tmp_path, monkeypatch, calls, caplog
):
    monkeypatch.setenv("KACHERY_LEASE_SECONDS", "1")
    with kachery.using(dir=tmp_path / "one", zone=ZoneSettings("lab", f"{tmp_path}/zone")):
        backend = current().store.zone.backend
        job_id = work.job(1, calls.path).id
        backend.create(f"leases/{job_id}", b"\x00nonsense", durable=False)
        assert work(1, calls.path) == 1
        assert list(backend.names("leases")) == []
    assert "taken over" in caplog.text


def test_a_fork_keeps_no_lease_of_its_parent(tmp_path, calls):
    """The child of a process that holds leases leaves them alone when it comes to their ends."""
    zone = ZoneSettings("lab", f"{tmp_path}/zone")
    folders = [tmp_path / name / "leases" for name in ("one", "zone")]
    parent = os.getpid()

    def fork():
        child = os.fork()
        if child == 0:
            raise RuntimeError("in the child")
        assert os.waitpid(child, 0)[1] == 0
        assert [len(list(folder.iterdir())) for folder in folders] == [1, 1]

    with kachery.using(dir=tmp_path / "one", zone=zone):
        try:
            assert work(1, calls.path, during=fork) == 1
        finally:
            if os.getpid() != parent:
                os._exit(0)
    assert [list(folder.iterdir()) for folder in folders] == [[], []]


def test_a_lease_that_came_in_between_gets_its_name_back(tmp_path, monkeypatch):
    """Two that wait presume the same holder dead; the slower one meets the lease of the faster one."""
    (tmp_path / "leases").mkdir()
    path = tmp_path / "leases" / "job"
    path.write_text("dead")
    dead = path.stat().st_ino
    usual = os.rename

    def rename(source, target):
        other = tmp_path / "other"
        other.write_text("alive")
        usual(other, path)
        usual(source, target)

    monkeypatch.setattr(file_lease.os, "rename", rename)
    file_lease._put_away(str(path), dead)
    assert path.read_text() == "alive"
    file_lease._put_away(str(path), dead)
    assert path.read_text() == "alive"
    assert list((tmp_path / "tmp").iterdir()) == []
