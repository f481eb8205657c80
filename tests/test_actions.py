"""Actions: started at most once, whatever happens to whom in the middle."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import FULL, count, note_call, write
from test_surface import kachery_command

import kachery
from kachery_store.backend import Capabilities
from kachery_store.errors import Busy, KacheryError, StoreUnavailable, Unsupported
from kachery_store.local_backend import LocalBackend
from kachery_store.remote.s3 import S3Backend
from kachery_store.zone_settings import ZoneSettings
from kachery_tasks import performing, watching
from kachery_tasks.claims import Log, Step, folder_of
from kachery_tasks.resolving import known_of, resolve
from kachery_tasks.settings import current

# What it does, it does in the outside world: a line in a file. `then` says how it ends.
PAYING = """
import os, signal, sys
import kachery

def note(path):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"call\\n")
    os.close(fd)

moment = lambda: None

@kachery.action(version="1", ignore=("path", "then"))
def pay(n, path, then=""):
    moment()
    note(path)
    moment()
    if then == "wait":
        print("inside", flush=True)
        sys.stdin.readline()
    if then == "raise":
        raise ValueError(f"no money for {n}")
    if then == "interrupt":
        raise KeyboardInterrupt
    if then == "kill":
        os.kill(os.getpid(), signal.SIGKILL)

@kachery.action(version="1", ignore=("path", "then"), retry_unknown=True)
def pay_again(n, path, then=""):
    pay.definition.function(n, path, then)

@kachery.action(version="1", ignore=("path", "then"), once=False)
def ring(n, path, then=""):
    pay.definition.function(n, path, then)
"""

# argv: name of the action, path of the file, `then`, the local store, the settings of the zone as JSON,
# the moment at which the process is killed.
CHILD = """
import json, os, signal, sys
import kachery, paying
from kachery_store.local_backend import LocalBackend
from kachery_store.remote.s3 import S3Backend
from kachery_store.zone_settings import ZoneSettings
from kachery_tasks import watching

name, path, then, root, zone, stop = sys.argv[1:]
zone = json.loads(zone)
if zone is not None:
    zone = ZoneSettings("lab", zone[0], tuple(map(tuple, zone[1])))
seen = 0

def moment():
    global seen
    seen += 1
    if seen == int(stop):
        os.kill(os.getpid(), signal.SIGKILL)

def watched(method):
    def call(self, name, *args, **kwargs):
        if not name.startswith("actions/"):
            return method(self, name, *args, **kwargs)
        moment()
        result = method(self, name, *args, **kwargs)
        moment()
        return result
    return call

for kind in (LocalBackend, S3Backend):
    for method in ("create", "replace", "remove"):
        setattr(kind, method, watched(getattr(kind, method)))
paying.moment = moment
if then == "beat":
    watching._BEAT_EVERY, then = 0.05, "wait"

def ask(n):
    try:
        getattr(paying, name)(n, path, then)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return "done"

with kachery.using(dir=root, zone=zone):
    if then == "rounds":
        then = ""
        print("ready", flush=True)
        for line in sys.stdin:
            path = line.strip()
            print(ask(path), flush=True)
    else:
        print(ask(1), flush=True)
"""


@pytest.fixture
def paying(project):
    write(project / "paying.py", PAYING)
    import paying

    return paying


@pytest.fixture(params=["store", "folder", "bucket"])
def place(request, tmp_path):
    """Where the claims are: the settings of a zone, or None for the local store."""
    if request.param == "store":
        return None
    if request.param == "folder":
        return ZoneSettings("lab", f"{tmp_path}/zone")
    bucket = request.getfixturevalue("bucket")
    return ZoneSettings("lab", bucket.url, (("endpoint_url", bucket.endpoint),))


@pytest.fixture
def lab(tmp_path):
    return ZoneSettings("lab", f"{tmp_path}/zone")


@pytest.fixture
def impatient(monkeypatch):
    """A second without a sign of life is enough in this process."""
    monkeypatch.setattr(watching, "GONE_AFTER", 0.3)


_children = []


@pytest.fixture(autouse=True)
def no_child_left():
    yield
    for process in _children:
        process.kill()
        process.communicate()
    _children.clear()


def child(name, path, then, root, zone=None, stop=0):
    told = None if zone is None else [zone.url, zone.options]
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            CHILD,
            name,
            str(path),
            then,
            str(root),
            json.dumps(told),
            str(stop),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    _children.append(process)
    return process


def ended(process):
    """What a child said, and whether it was killed."""
    said = process.communicate(timeout=120)[0]
    _children.remove(process)
    return said.strip(), process.returncode == -signal.SIGKILL


def asked(action, *args, **kwargs):
    try:
        assert action(*args, **kwargs) is None
    except (kachery.ActionFailed, kachery.OutcomeUnknown) as error:
        return type(error).__name__
    return "done"


def at(tmp_path, name, zone):
    return kachery.using(dir=tmp_path / name, zone=zone)


# Once


@pytest.mark.parametrize(
    ("place", "machines"),
    [("store", 1), ("folder", 16), ("bucket", 16)],
    indirect=["place"],
)
def test_asked_for_by_16_processes_at_once(paying, place, tmp_path, machines):
    """50 times: it runs once each time, and all are told."""
    remote = place is not None and place.url.startswith("s3:")
    processes = 16 if FULL or not remote else 4
    children = [
        child("pay", "-", "rounds", tmp_path / f"machine{i % machines}", place)
        for i in range(processes)
    ]
    for one in children:
        assert one.stdout.readline() == "ready\n"
    for round_ in range(count(50, 5)):
        path = tmp_path / f"calls{round_}"
        for one in children:
            one.stdin.write(f"{path}\n")
            one.stdin.flush()
        assert {one.stdout.readline() for one in children} == {"done\n"}
        assert path.read_text() == "call\n"
    for one in children:
        assert ended(one) == ("", False)


# What becomes of it if a process is killed at each moment: before and after each writing, and before and
# after the deed. A note is written first, and is of no account while nobody else was told.
FATES = {
    "store": ["fresh", *["unknown"] * 4, "done"],
    "zone": ["fresh"] * 3 + ["unknown"] * 4 + ["done"] * 5,
}
# Another machine does not see the notes.
FATES_ELSEWHERE = FATES["zone"][:3] + ["unknown"] * 6 + ["done"] * 3


@pytest.mark.parametrize(
    ("place", "first"),
    [
        ("store", "here"),
        ("folder", "here"),
        ("folder", "elsewhere"),
        ("bucket", "elsewhere"),
        *([("bucket", "here")] if FULL else []),
    ],
    indirect=["place"],
)
def test_killed_at_every_step(paying, place, tmp_path, impatient, first):
    fates = FATES["store" if place is None else "zone"]
    if first == "elsewhere":
        fates = FATES_ELSEWHERE
    steps = range(1, len(fates) + 2)
    for stop in steps:
        folder = tmp_path / str(stop)
        zone = place and place._replace(url=f"{place.url}/{stop}") if place else None
        if zone is not None and not zone.url.startswith("s3:"):
            os.makedirs(place.url, exist_ok=True)
        calls = tmp_path / f"calls{stop}"
        said, killed = ended(child("pay", calls, "", folder / "one", zone, stop))
        if stop == len(fates) + 1:
            assert (said, killed) == ("done", False)
            continue
        assert killed and said == ""
        deeds = len(calls.read_text().splitlines()) if calls.exists() else 0
        with at(folder, "one" if first == "here" else "two", zone):
            fate = asked(paying.pay, 1, calls)
        then = len(calls.read_text().splitlines()) if calls.exists() else 0
        expected = fates[stop - 1]
        if expected == "fresh":
            assert (deeds, fate, then) == (0, "done", 1), stop
        elif expected == "unknown":
            assert (fate, then) == ("OutcomeUnknown", deeds), stop
        else:
            assert (deeds, fate, then) == (1, "done", 1), stop
        for machine in ("one", "two") if zone else ("one",):  # all agree, or know better
            with at(folder, machine, zone):
                again = asked(paying.pay, 1, calls)
            assert again == fate or (again == "done" and then == 1), stop
        assert (len(calls.read_text().splitlines()) if calls.exists() else 0) == then


def test_a_failure_is_told_again(paying, place, tmp_path, calls):
    with at(tmp_path, "one", place):
        with pytest.raises(ValueError, match="no money"):
            paying.pay(1, calls.path, "raise")
        assert paying.pay.job(1, calls.path).status == "error"
    with at(tmp_path, "one" if place is None else "two", place):
        with pytest.raises(kachery.ActionFailed, match="ValueError: no money for 1") as failure:
            paying.pay(1, calls.path)
        error = failure.value
        assert (error.type, error.message) == ("ValueError", "no money for 1")
        assert "raise ValueError(" in error.traceback
        job = paying.pay.submit(1, calls.path)
        assert isinstance(job.exception(), kachery.ActionFailed)
        assert job.status == "error"
    assert calls.count == 1


def test_interrupted_in_the_middle_it_is_unknown(paying, place, tmp_path, calls):
    with at(tmp_path, "one", place):
        with pytest.raises(KeyboardInterrupt):
            paying.pay(1, calls.path, "interrupt")
        assert paying.pay.job(1, calls.path).status == "unknown"
        with pytest.raises(kachery.OutcomeUnknown, match="kachery resolve") as unknown:
            paying.pay(1, calls.path)
        job = paying.pay.job(1, calls.path)
        assert job.id in str(unknown.value) and str(os.getpid()) in str(unknown.value)
        assert unknown.value.job_id == job.id
    assert calls.count == 1


def test_a_holder_that_was_stalled_tells_the_truth(paying, lab, tmp_path, calls, impatient):
    """Nobody takes its claim: after others gave up, its outcome counts."""
    holder = child("pay", calls.path, "wait", tmp_path / "one", lab)
    assert holder.stdout.readline() == "inside\n"
    with at(tmp_path, "two", lab):
        assert asked(paying.pay, 1, calls.path) == "OutcomeUnknown"
        holder.stdin.write("\n")
        assert ended(holder) == ("done", False)
        assert asked(paying.pay, 1, calls.path) == "done"
    assert calls.count == 1


def test_a_stopped_process_is_waited_for(paying, tmp_path, calls):
    holder = child("pay", calls.path, "wait", tmp_path / "one")
    assert holder.stdout.readline() == "inside\n"
    holder.send_signal(signal.SIGSTOP)
    os.waitpid(holder.pid, os.WUNTRACED)
    with at(tmp_path, "one", None):
        job = paying.pay.submit(1, calls.path)
        assert paying.pay.job(1, calls.path).status == "running"
        holder.send_signal(signal.SIGCONT)
        holder.stdin.write("\n")
        assert ended(holder) == ("done", False)
        assert job.result(60) is None and job.status == "finished"
    assert calls.count == 1


def test_a_holder_that_gives_signs_of_life_is_waited_for(paying, lab, tmp_path, calls, impatient):
    holder = child("pay", calls.path, "beat", tmp_path / "one", lab)
    assert holder.stdout.readline() == "inside\n"
    with at(tmp_path, "two", lab), ThreadPoolExecutor(1) as pool:
        place = watching.place_of(current().store, paying.pay.job(1, calls.path).id)
        job = paying.pay.submit(1, calls.path)
        seen = set()
        while len(seen) < 20:  # a second: three times what would be enough without
            seen.add(place.beats.seen())
            time.sleep(0.01)
        assert not job.done() and job.status == "running"
        holder.stdin.write("\n")
        assert ended(holder) == ("done", False)
        assert pool.submit(job.result).result(60) is None
    assert calls.count == 1


def test_who_is_resolved_meanwhile_says_so(paying, lab, tmp_path, calls, impatient):
    holder = child("pay", calls.path, "wait", tmp_path / "one", lab)
    assert holder.stdout.readline() == "inside\n"
    with at(tmp_path, "two", lab):
        job = paying.pay.job(1, calls.path)
        assert resolve(current().store, job.id, done=False).state == "error"
        holder.stdin.write("\n")
        said, _ = ended(holder)
        assert said.startswith("OutcomeNotKept") and "HAS RUN" in said and "has said error" in said
        assert job.status == "error"


def test_the_claim_may_be_there_though_its_writing_failed(
    paying, place, tmp_path, calls, monkeypatch
):
    """Nothing was started, so it is started when it is next asked for, once."""
    kind = S3Backend if place is not None and place.url.startswith("s3:") else LocalBackend
    create = kind.create
    lost = {"answers": 1, "then": ""}

    def create_and_fail(self, name, data, *, durable):
        if lost["then"] == "is down" and name.startswith("actions/"):
            raise StoreUnavailable("there is no answer")
        created = create(self, name, data, durable=durable)
        if name.startswith("actions/") and lost["answers"]:
            lost["answers"] -= 1
            lost["then"] = lost["then"] and "is down"
            raise StoreUnavailable("the answer was lost")
        return created

    monkeypatch.setattr(kind, "create", create_and_fail)
    with at(tmp_path, "one", place):
        with pytest.raises(StoreUnavailable, match="was not started by this request"):
            paying.pay(1, calls.path)
        assert calls.count == 0 and paying.pay.job(1, calls.path).status == "pending"
        assert asked(paying.pay, 1, calls.path) == "done"
        if place is not None:  # neither can it be said that nothing was started
            lost.update(answers=1, then="goes down")
            with pytest.raises(StoreUnavailable, match="was not started by this request"):
                paying.pay(2, calls.path)
            lost["then"] = ""
            assert paying.pay.job(2, calls.path).status == "pending"
            assert asked(paying.pay, 2, calls.path) == "done"
    assert calls.count == (1 if place is None else 2)


@pytest.mark.parametrize("place", ["folder", "bucket"], indirect=True)
def test_when_the_zone_cannot_be_reached_nothing_is_started(paying, place, tmp_path, calls):
    if place.url.startswith("s3:"):
        place = place._replace(options=(("endpoint_url", "http://127.0.0.1:9"),))
    else:
        write(place.url, "a file in the way")
    with at(tmp_path, "one", place):
        with pytest.raises(StoreUnavailable, match="was not started by this request"):
            paying.pay(1, calls.path)
        assert calls.count == 0
        assert paying.ring(1, calls.path) is None  # this one needs no zone
    assert calls.count == 1


def test_what_is_not_allowed_is_not_started(paying, lab, tmp_path, calls, monkeypatch):
    with at(tmp_path, "one", lab._replace(read_only=True)):
        with pytest.raises(Unsupported, match="only read"):
            paying.pay(1, calls.path)
    with at(tmp_path, "one", lab):
        nothing = Capabilities(create=False, swap=False, checksum=False, presign=False)
        monkeypatch.setattr(current().store.zone.backend, "capabilities", nothing)
        with pytest.raises(Unsupported, match="nothing was started"):
            paying.pay(1, calls.path)
    with kachery.using(read_only=True), pytest.raises(kachery.NotStored):
        paying.pay(1, calls.path)
    for refresh in (True, ["pay"]):
        with kachery.using(refresh=refresh), pytest.raises(Unsupported, match="idempotency"):
            paying.pay(1, calls.path)
    with pytest.raises(Unsupported):
        paying.pay.refresh(1, calls.path)
    with pytest.raises(Unsupported):
        paying.pay.explain(1, calls.path)
    with pytest.raises(kachery.NotReproducible):
        paying.pay.reproduce(1, calls.path)
    with pytest.raises(Unsupported, match="not forgotten"):
        paying.pay.job(1, calls.path).forget()
    assert calls.count == 0 and paying.pay.job(1, calls.path).status == "pending"


def test_an_outcome_that_the_zone_does_not_take_is_kept_here(
    lab, tmp_path, calls, impatient, monkeypatch
):
    monkeypatch.setattr(performing, "_KEEP_TRYING", 0.3)

    @kachery.action(version="1", name="paying")
    def paying(n):
        note_call(calls.path)
        os.rename(lab.url, lab.url + ".away")

    with at(tmp_path, "one", lab):
        with pytest.raises(kachery.OutcomeNotKept, match="HAS RUN and finished") as told:
            paying(1)
        assert told.value.state == "finished" and told.value.job_id == paying.job(1).key
    os.rename(lab.url + ".away", lab.url)
    with at(tmp_path, "two", lab):
        assert asked(paying, 1) == "OutcomeUnknown"
    with at(tmp_path, "one", lab):
        assert paying.job(1).status == "finished"
        assert asked(paying, 1) == "done"
    with at(tmp_path, "two", lab):
        assert asked(paying, 1) == "done"
    assert calls.count == 1


# What a person says


def test_resolve(paying, place, tmp_path, calls, impatient):
    for n, done in ((1, True), (2, False)):
        with at(tmp_path, "one", place):
            store, job = current().store, paying.pay.job(n, calls.path)
            with pytest.raises(KeyboardInterrupt):
                paying.pay(n, calls.path, "interrupt")
            assert resolve(store, job.id, done=done).by
            with pytest.raises(KacheryError, match="not unknown"):
                resolve(store, job.id, done=done)
        with at(tmp_path, "one" if place is None else "two", place):
            assert asked(paying.pay, n, calls.path) == ("done" if done else "ActionFailed")
            if not done:
                with pytest.raises(kachery.ActionFailed, match="has said that it failed"):
                    paying.pay(n, calls.path)
    assert calls.count == 2


def test_who_lives_is_not_resolved(paying, tmp_path, calls):
    holder = child("pay", calls.path, "wait", tmp_path / "one")
    assert holder.stdout.readline() == "inside\n"
    with at(tmp_path, "one", None):
        job = paying.pay.job(1, calls.path)
        assert job.status == "running"
        with pytest.raises(Busy):
            resolve(current().store, job.id, done=True)
        holder.kill()
        assert ended(holder)[1]
        assert job.status == "unknown"
        assert resolve(current().store, job.id, done=True).state == "finished"
        assert asked(paying.pay, 1, calls.path) == "done"


def test_the_commands(paying, calls, store_dir):
    assert ended(child("pay", calls.path, "kill", store_dir))[1]
    paying.pay(2, calls.path)
    paying.ring(3, calls.path)
    job = paying.pay.job(1, calls.path)
    table = kachery_command("actions").stdout
    assert len(table.splitlines()) == 4 and f"{job.id[:12]}  paying:pay" in table
    rows = kachery_command("actions", "--state", "unknown", "--json").stdout.splitlines()
    assert [json.loads(row)["job_id"] for row in rows] == [job.id]
    shown = kachery_command("show", job.id[:10])
    assert "state        unknown" in shown.stdout and "n = 1" in shown.stdout
    assert json.loads(kachery_command("show", job.id, "--json").stdout)["state"] == "unknown"
    assert kachery_command("resolve", job.id[:10]).returncode == 2  # done, or failed?
    assert kachery_command("resolve", "ffff", "--done").returncode == 1
    said = kachery_command("resolve", job.uri, "--done")
    assert "finished, as" in said.stdout and said.returncode == 0
    again = kachery_command("resolve", job.id, "--failed")
    assert again.returncode == 1 and "not unknown" in again.stderr
    assert asked(paying.pay, 1, calls.path) == "done" and calls.count == 3


@pytest.mark.parametrize(
    ("place", "machines"),
    [("store", 1), ("folder", 1), ("folder", 2), ("bucket", 2)],
    indirect=["place"],
)
def test_retry_unknown(paying, place, tmp_path, calls, impatient, machines):
    """Of those who ask again at once, one starts it."""
    assert ended(child("pay_again", calls.path, "kill", tmp_path / "machine0", place))[1]

    def ask(i):
        with at(tmp_path, f"machine{i % machines}", place):
            return asked(paying.pay_again, 1, calls.path)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(4))) == ["done"] * 4
    assert calls.count == 2
    with at(tmp_path, "machine0", place):
        step = known_of(current().store, paying.pay_again.job(1, calls.path).id)
        assert step.attempt == 2 and step.state == "finished"


# What an action is


def test_idempotency(paying, calls):
    ids = {paying.pay.job(1, calls.path).id}
    for text in ("2024-05", "2024-06"):
        paying.pay(1, calls.path, idempotency=text)
        paying.pay.submit(1, calls.path, idempotency=text).result()
        kachery.gather(paying.pay.map([1, 1], path=calls.path, idempotency=text))
        ids.add(paying.pay.job(1, calls.path, idempotency=text).id)
    assert calls.count == 2 and len(ids) == 3
    step = known_of(current().store, paying.pay.job(1, calls.path, idempotency="2024-05").id)
    assert [(name, text) for name, _, text in step.arguments] == [
        ("idempotency", "'2024-05'"),
        ("n", "1"),
    ]
    with pytest.raises(TypeError, match="is a text"):
        paying.pay(1, calls.path, idempotency=5)
    with pytest.raises(TypeError):
        paying.pay(1, calls.path, idempotence="5")

    @kachery.action(version="1")
    def own(idempotency, **others):
        assert idempotency == 5 and others == {}
        note_call(calls.path)

    own(idempotency=5)

    class Till:
        def __init__(self):
            self.name = "till"

        @kachery.action(version="1")
        def pay(self, n):
            assert isinstance(self, Till)
            note_call(calls.path)

    for _ in range(2):
        Till().pay(1, idempotency="a")
        Till().pay(1)
    assert calls.count == 5


def test_each_time(paying, calls, store_dir):
    for _ in range(3):
        assert paying.ring(1, calls.path) is None
    assert paying.ring.submit(1, calls.path).result() is None
    job = paying.ring.job(1, calls.path)
    assert calls.count == 4 and job.status == "finished" and not job.cached
    with pytest.raises(ValueError):
        paying.ring(1, calls.path, "raise")
    assert job.status == "error"
    with pytest.raises(KeyboardInterrupt):
        paying.ring(1, calls.path, "interrupt")
    assert job.status == "unknown"
    holder = child("ring", calls.path, "wait", store_dir)
    assert holder.stdout.readline() == "inside\n"
    assert job.status == "running"
    holder.kill()
    assert ended(holder)[1]
    assert job.status == "unknown" and calls.count == 7
    paying.ring(1, calls.path)
    assert job.status == "finished" and calls.count == 8


def test_it_has_no_value(calls):
    @kachery.action(version="1")
    def answered(n):
        note_call(calls.path)
        return n

    with pytest.warns(kachery.KacheryWarning, match="has no value"):
        assert answered(1) is None
    assert answered(1) is None
    with pytest.warns(kachery.KacheryWarning, match="has no value"):
        assert answered.submit(2).result() is None
    assert calls.count == 2


def test_async(calls):
    @kachery.action(version="1")
    async def send(n):
        await asyncio.sleep(0)
        note_call(calls.path)

    async def twice():
        return await asyncio.gather(send(1), send(1), send(1, idempotency="a"))

    assert asyncio.run(twice()) == [None] * 3
    assert send.job(1).result() is None and calls.count == 2


def test_threads_run_it_once(calls):
    barrier = threading.Barrier(8)

    @kachery.action(version="1")
    def send(n):
        note_call(calls.path)

    def ask(_):
        barrier.wait()
        return send(1)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [None] * 8
    assert calls.count == 1


def test_who_asks_for_itself_is_told():
    @kachery.action(version="1")
    def send(n):
        send(n)

    with pytest.raises(KacheryError, match="asks for its own"):
        send(1)


def test_it_may_be_an_argument(calls):
    @kachery.action(version="1")
    def send(n):
        note_call(calls.path)

    @kachery.task(version="1")
    def after(sent, n):
        return [sent, n]

    assert after(send.job(1), 5) == [None, 5]
    assert after.job(send.job(1), 5).result() == [None, 5]
    assert calls.count == 1


def test_inside_a_task_it_must_be_allowed(calls, tmp_path):
    @kachery.action(version="1", name="m:send")
    def send(n):
        note_call(calls.path)

    outside = send.job(3)

    @kachery.task(version="1", ignore="ask")
    def pure(n, ask):
        return ask()

    @kachery.task(version="1", allow="send")
    def allowed(n):
        send(n)
        return n

    ways = [lambda: send(1), lambda: send.job(1), lambda: send.submit(1), outside.result]
    for n, ask in enumerate(ways):
        with pytest.raises(kachery.NotPure, match="send"):
            pure(n, ask)
    assert calls.count == 0
    assert allowed(1) == 1 and calls.count == 1
    assert allowed.job(1).record.asks == ["send"]


def test_on_a_cluster(client, paying, tmp_path, calls):
    folder = os.path.dirname(paying.__file__)
    client.run(lambda folder: __import__("sys").path.insert(0, folder), folder)
    with kachery.using(client=client):
        jobs = [paying.pay.submit(n, calls.path) for n in (1, 1, 2)]
        jobs.append(paying.pay.submit(1, calls.path, idempotency="a"))
        assert kachery.gather(jobs) == [None] * 4 and calls.count == 3
        assert paying.pay.submit(1, calls.path).result() is None and calls.count == 3
        failing = paying.pay.submit(3, calls.path, "raise")
        with pytest.raises(ValueError, match="no money"):
            failing.result()
        again = paying.pay.submit(3, calls.path)
        with pytest.raises(kachery.ActionFailed, match="no money") as failed:
            again.result()
        assert failed.value.type == "ValueError" and "no money" in failed.value.traceback
        assert (jobs[0].status, failing.status, again.status) == ("finished", "error", "error")
        assert paying.ring.submit(1, calls.path).result() is None
        assert paying.ring.submit(1, calls.path).result() is None
    assert calls.count == 6


def test_a_worker_that_dies_leaves_unknown(paying, tmp_path, calls):
    """Dask starts a job again whose worker has died; the action is not."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1"
        ) as cluster,
        Client(cluster) as client,
        kachery.using(client=client),
    ):
        job = paying.pay.submit(1, calls.path, "kill")
        with pytest.raises(kachery.OutcomeUnknown):
            job.result()
        assert job.status == "unknown"
    assert calls.count == 1


# What is on the disk


def test_what_is_damaged_is_not_started(paying, place, tmp_path, calls, impatient):
    with at(tmp_path, "one", place):
        job = paying.pay.job(1, calls.path)
        paying.pay(1, calls.path)
        backend = watching.Place(current().store, job.id).backend
        name = f"{folder_of(job.id)}/2"
        good = backend.read(name)
        for bad in (b"", good[:-40], good.replace(b"finished", b"finishes"), b"x" * 2_000_000):
            backend.replace(name, bad)
            assert job.status == "unknown"
            with pytest.raises(kachery.OutcomeUnknown, match=r"damaged|bytes"):
                paying.pay(1, calls.path)
        assert resolve(current().store, job.id, done=True).state == "finished"
        assert asked(paying.pay, 1, calls.path) == "done"
    assert calls.count == 1


def test_collection_forgets_no_action(paying, calls, tmp_path):
    paying.pay(1, calls.path)
    kachery.gc(max_size=0)
    assert asked(paying.pay, 1, calls.path) == "done" and calls.count == 1


def test_secret_arguments_are_not_told(calls, store_dir):
    @kachery.action(version="1", secret="password")
    def login(user, password):
        raise ValueError("refused")

    with pytest.raises(ValueError):
        login("me", "tiger1234")
    for folder, _, names in os.walk(store_dir):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                assert b"tiger1234" not in file.read()
    assert [
        a[::2] for a in known_of(current().store, login.job("me", "tiger1234").id).arguments
    ] == [
        ("password", "secret"),
        ("user", "'me'"),
    ]


def test_any_error_can_be_kept(calls):
    class Odd(Exception):
        def __str__(self):
            raise RuntimeError

    errors = [Odd(), ValueError("\udcff"), ValueError("x" * 1_000_000), StopIteration(1)]

    @kachery.action(version="1", ignore="error")
    def send(n, error):
        raise error

    for n in range(len(errors)):
        with pytest.raises(type(errors[n])):
            send(n, errors[n])
        with pytest.raises(kachery.ActionFailed) as failed:
            send(n, None)
        assert failed.value.type == type(errors[n]).__qualname__
        assert len(str(failed.value)) < 50_000


def test_a_child_that_was_forked_inside_tells_nothing(store_dir):
    @kachery.action(version="1")
    def forking(n):
        if os.fork() == 0:
            raise ValueError("the child")

    code_of_child = 7
    try:
        forking(1)
    except ValueError:
        os._exit(code_of_child)  # that is the child
    _, status = os.wait()
    assert os.waitstatus_to_exitcode(status) == code_of_child
    assert asked(forking, 1) == "done"


def test_a_step_is_read_back():
    step = Step("ab", "m:f", "error", 2, "c0", [("n", b"1" * 32, "1")], 1.5, 2.5, "h", "u", 3)
    assert Step.from_bytes(step.to_bytes(), "ab") == step
    with pytest.raises(kachery.DigestMismatch):
        Step.from_bytes(step.to_bytes(), "cd")


def test_two_logs_agree_on_who_was_first(tmp_path):
    backend = LocalBackend(str(tmp_path / "s"))
    step = Step("ab" * 32, "m:f", "running", 1, "r1", [], 1.0, 1.0, "h", "u", 3)
    one, two = Log(backend, step.job_id), Log(backend, step.job_id)
    assert one.add(step) and not two.add(step._replace(run="r2"))
    assert two.look() == step and two.add(step._replace(state="finished"))
    assert one.look().is_final and one.look() is one.last


def test_a_step_that_cannot_be_read_ends_in_an_error(tmp_path, monkeypatch):
    backend = LocalBackend(str(tmp_path / "s"))
    step = Step("ab" * 32, "m:f", "running", 1, "r1", [], 1.0, 1.0, "h", "u", 3)
    monkeypatch.setattr(backend, "create", lambda *_, **__: False)
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        Log(backend, step.job_id).add(step)
