"""What is collected and what is not, also while others write, read, deduplicate, and die."""

import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import count, run_python, write

import kachery
from kachery_store import Digest, amounts, gc, limit, running, sweep
from kachery_store.errors import BadAmount, Busy, ConfigError, ConfigWarning
from kachery_tasks import keeping
from kachery_tasks.lease import lease
from kachery_tasks.record import Record
from kachery_tasks.settings import current
from kachery_tasks.values import encode
from kachery_tasks.values.blob_walk import blobs_in

LONG_AGO = 30 * 86_400


@kachery.task(version="1")
def array(i, size=20_000):
    return np.full(size, i, dtype="f8")


@kachery.task(version="1")
def pair(i):
    return {"own": np.full(20_000, i, dtype="f8"), "shared": np.zeros(50_000)}


@kachery.task(version="1")
def total(a):
    return float(a.sum())


@kachery.task(version="1")
def files_of(text):
    return {"uri": kachery.store_text(text)}


def age(path, seconds=LONG_AGO):
    then = time.time() - seconds
    os.utime(path, (then, then))


def record_path(job):
    store = Path(current().root)
    return store / "jobs" / job.id[:2] / job.id


def file_path(uri):
    return Path(kachery.load_file(uri))


def costing(job, seconds):
    """Make the record of a job say that it took so long."""
    job.result()
    store = current().store
    record = Record.from_bytes(store.jobs.read(job.id), job.id)._replace(seconds=seconds)
    store.jobs.remove(job.id)
    store.jobs.create(job.id, record.to_bytes())
    return job


def blob_files(store_dir):
    """Those of results; what records tell of where jobs ran is small, and goes like a file."""
    found = [p for p in (store_dir / "blake3").rglob("*") if p.is_file()]
    return [p for p in found if b"\xabenvironment" not in p.read_bytes()[:32]]


def size_of(store_dir):
    folders = ("jobs", "code", "differing", "blake3", "sha1", "sha256")
    return sum(p.stat().st_size for f in folders for p in (store_dir / f).rglob("*") if p.is_file())


# What goes, and in which order


def test_cheap_per_byte_goes_first(store_dir):
    costs = [5.0, 0.1, 50.0, 1.0]
    jobs = [costing(array.job(i), cost) for i, cost in enumerate(costs)]
    size = size_of(store_dir)
    keeping.gc(max_size=size - 170_000)  # two arrays of 160 kB have to go
    assert [job.cached for job in jobs] == [True, False, True, False]
    assert len(blob_files(store_dir)) == 2
    assert size_of(store_dir) <= size - 170_000


def test_a_large_result_goes_before_a_small_one_of_the_same_cost(store_dir):
    small, large = costing(array.job(2), 5.0), costing(array.job(1, 100_000), 5.0)
    keeping.gc(max_items=1)
    assert (large.cached, small.cached) == (False, True)


def test_long_unused_goes_first_and_reading_is_use(store_dir):
    jobs = [costing(array.job(i), 1.0) for i in range(4)]
    for job in jobs:
        age(record_path(job))
    then = time.time() - LONG_AGO
    os.utime(record_path(jobs[2]), (time.time(), then))  # read today, as the system notes it
    keeping.gc(max_items=1)
    assert [job.cached for job in jobs] == [False, False, True, False]


def test_older_than(store_dir):
    jobs = [costing(array.job(i), 1.0) for i in range(3)]
    age(record_path(jobs[1]), 91 * 86_400)
    age(record_path(jobs[2]), 89 * 86_400)
    keeping.gc(older_than="90d")
    assert [job.cached for job in jobs] == [True, False, True]


def test_looking_at_records_does_not_count_as_use(store_dir):
    job = costing(array.job(1), 1.0)
    age(record_path(job))
    before = record_path(job).stat()
    keeping.gc(max_items=5)
    assert record_path(job).stat().st_atime_ns == before.st_atime_ns


def test_a_shared_blob_stays_with_the_last_that_holds_it(store_dir):
    jobs = [costing(pair.job(i), i + 1.0) for i in range(3)]
    keeping.gc(max_items=1)
    assert [job.cached for job in jobs] == [False, False, True]
    assert len(blob_files(store_dir)) == 2
    assert np.array_equal(pair(2)["shared"], np.zeros(50_000))
    keeping.gc(max_items=0)
    assert blob_files(store_dir) == []


def test_what_was_stored_a_moment_ago_can_go(store_dir):
    for i in range(20):
        array(i)
        os.utime(*blob_files(store_dir))
        keeping.gc(max_size=0)
        assert blob_files(store_dir) == []


def test_named_files_go_last_old_and_large_first(store_dir):
    uris = [kachery.store_text(f"{i}" * 1000 * (i + 1)) for i in range(4)]
    paths = [file_path(uri) for uri in uris]
    job = costing(array.job(1), 1e6)
    for path, days in zip(paths, [10, 10, 40, 10], strict=True):
        age(path, days * 86_400)
    keeping.gc(max_size=size_of(store_dir) - 165_000)
    assert not job.cached and kachery.load_text(uris[2]) is None  # its 3 kB for 40 days
    keeping.gc(max_size=2500)
    assert [path.exists() for path in paths] == [True, False, False, False]


def test_named_files_go_by_age_only_when_that_is_asked_for(store_dir):
    path = file_path(kachery.store_text("old"))
    age(path)
    keeping.gc(older_than="1d", max_items=0)
    assert path.exists()
    keeping.gc(older_than="1d", files=True)
    assert not path.exists()


def test_what_nothing_holds_is_left_alone_for_an_hour(store_dir):
    path = file_path(kachery.store_text("new"))
    array(1)
    array.job(1).forget()
    (blob,) = blob_files(store_dir)
    keeping.gc(max_size=0, files=True, orphans=True, older_than=0)
    assert path.exists() and blob.exists()
    keeping.gc(orphans=True, grace=0)
    assert path.exists() and not blob.exists()


def test_a_file_that_a_result_names_stays_as_long_as_the_result(store_dir):
    job = files_of.job("named by a result")
    path = file_path(job.result()["uri"])
    age(path)
    keeping.gc(older_than="1d", files=True)
    assert path.exists()
    keeping.gc(max_size=0)
    assert not path.exists()


def test_code_and_other_results_go_with_the_jobs(store_dir):
    job = array.job(1)
    job.result()
    record = job.record
    store = current().store
    store.differing.create(f"{job.id}-0123456789abcdef", record.to_bytes())
    store.code.create("ab" * 32, b"nobody names this")
    for path in [*(store_dir / "code").rglob("*"), *(store_dir / "differing").rglob("*")]:
        age(path)
    keeping.gc()
    assert not store.code.has("ab" * 32)
    assert store.code.has(record.fingerprint) and list(store.differing.names())
    keeping.gc(max_items=0)
    assert not store.code.has(record.fingerprint) and not list(store.differing.names())


def test_a_dry_run_says_what_goes_and_changes_nothing(store_dir):
    jobs = [costing(array.job(i), i + 1.0) for i in range(3)]
    before = sorted(p for p in store_dir.rglob("*"))
    plan = keeping.gc(max_items=1, dry_run=True).plan
    assert [one.job_id for one in plan.going] == [jobs[0].id, jobs[1].id]
    assert plan.freed > 320_000 and plan.items == 3
    assert sorted(p for p in store_dir.rglob("*")) == before


def test_records_that_cannot_be_read_stay(store_dir):
    job = array.job(1)
    job.result()
    path = record_path(job)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-3])
    keeping.gc(max_size=0)
    assert path.exists()


def test_what_a_later_kachery_wrote_keeps_its_blobs(store_dir):
    from kachery_tasks.sealed import seal

    job = array.job(1)
    job.result()
    path = record_path(job)
    path.chmod(0o644)
    path.write_bytes(seal("kachery record", 99, b"something new"))
    keeping.gc(max_size=0, orphans=True, grace=0)
    assert path.exists() and len(blob_files(store_dir)) == 1


# Pins


def test_pins_and_what_they_reach_stay(store_dir):
    first = array.job(1)
    job, other = total.job(first), total.job(array.job(2))
    kachery.gather([job, other])
    uri = kachery.store_text("pinned")
    named = files_of.job("named by a pinned result")
    for path in (file_path(uri), file_path(named.result()["uri"])):
        age(path)
    assert keeping.pin(job, "figure 3") == job.uri
    keeping.pin(uri + "?label=name.txt")
    keeping.pin(named.id[:20])
    keeping.gc(max_size=0, files=True, older_than=0, max_items=0)
    assert first.cached and job.cached and not other.cached
    assert np.array_equal(array(1), np.full(20_000, 1.0))
    assert kachery.load_text(uri) == "pinned"
    assert kachery.load_text(named.result()["uri"]) == "named by a pinned result"
    assert [pin.reason for pin in keeping.pins()] == ["figure 3", "", ""]


def test_unpinned_goes(store_dir):
    job = array.job(1)
    job.result()
    keeping.pin(job)
    assert keeping.unpin(job.record) and not keeping.unpin(job)
    keeping.gc(max_size=0)
    assert not job.cached and keeping.pins() == []


def test_pins_that_cannot_be(store_dir):
    with pytest.raises(kachery.NotFound, match="cannot be pinned"):
        keeping.pin("sha1://" + "0" * 40)
    with pytest.raises(kachery.BadURI):
        keeping.pin("sha1://no")
    with pytest.raises(TypeError):
        keeping.pin(3)


def test_a_damaged_pin_still_protects(store_dir):
    job = array.job(1)
    job.result()
    keeping.pin(job)
    (pin,) = (store_dir / "pins").iterdir()
    pin.chmod(0o644)
    pin.write_bytes(b"\0\0")
    keeping.gc(max_size=0)
    assert job.cached and keeping.pins()[0].uri == job.uri


# Others at work, at exactly the wrong moment


@pytest.fixture
def between(monkeypatch):
    """Has something happen after the plan is made and before it is carried out."""

    def arrange(action):
        real = gc.plan_removal

        def plan(*args):
            made = real(*args)
            action()
            return made

        monkeypatch.setattr(gc, "plan_removal", plan)

    return arrange


def test_a_blob_that_is_stored_again_meanwhile_stays(store_dir, between):
    value = np.full(20_000, 7.0)
    encoded = encode(value)
    (blob,) = encoded.blobs
    array(7)

    def another_job_stores_the_same():
        store = current().store
        store.blobs.put(Digest("blake3", blob.digest.hex()), blob.memory, durable=False)

    between(another_job_stores_the_same)
    done = keeping.gc(max_size=0)
    assert not array.job(7).cached and done.spared == 1
    assert len(blob_files(store_dir)) == 1


@pytest.mark.parametrize("store", ["text", "file"])
def test_a_file_that_is_stored_again_meanwhile_stays(store_dir, between, tmp_path, store):
    (tmp_path / "source").write_text("again")
    uri = kachery.store_text("again")
    age(file_path(uri))
    again = {
        "text": lambda: kachery.store_text("again"),
        "file": lambda: kachery.store_file(tmp_path / "source"),
    }
    between(again[store])
    keeping.gc(max_size=0)
    assert kachery.load_text(uri) == "again"
    keeping.gc(max_size=0)  # and it is as new
    assert kachery.load_text(uri) == "again"


def test_what_is_pinned_meanwhile_stays(store_dir, between):
    job = total.job(array.job(1))
    job.result()
    between(lambda: keeping.pin(job))
    keeping.gc(max_size=0)
    assert job.cached and array.job(1).cached
    assert np.array_equal(array(1), np.full(20_000, 1.0))


def test_a_job_that_begins_meanwhile_stays(store_dir, between):
    job = array.job(1)
    job.result()
    held = lease(current().store, job.id)
    between(held.__enter__)
    try:
        keeping.gc(max_size=0)
        assert job.cached and np.array_equal(array(1), np.full(20_000, 1.0))
    finally:
        held.__exit__(None, None, None)


def test_what_a_running_job_has_stored_so_far_stays(store_dir):
    """Its record is still to come, and may name any blob that was stored or counted on since."""
    array(1)
    job = array.job(2)
    with lease(current().store, job.id):
        assert set(running.running_jobs(current().store.backend)) == {job.id}
        array(3)
        keeping.gc(max_size=0)
        assert not array.job(1).cached and not array.job(3).cached
        assert len(blob_files(store_dir)) == 1
    assert running.running_jobs(current().store.backend) == {}


def test_what_made_the_inputs_of_a_running_job_stays(store_dir):
    job = total.job(array.job(1))
    job.result()
    with lease(current().store, job.id):  # computed again, as by reproduce
        keeping.gc(max_size=0)
        assert job.cached and array.job(1).cached
    keeping.gc(max_size=0)
    assert not job.cached and not array.job(1).cached


def test_one_collection_at_a_time(store_dir, between):
    array(1)
    refused = []

    def second():
        with pytest.raises(Busy, match="already"):
            keeping.gc(max_size=0)
        refused.append(True)

    between(second)
    keeping.gc(max_size=0)
    assert refused and not array.job(1).cached


def test_what_is_mapped_outlives_its_file(store_dir):
    array(1)
    value = array(1)  # from the store
    keeping.gc(max_size=0)
    assert blob_files(store_dir) == []
    assert np.array_equal(value, np.full(20_000, 1.0))
    assert np.array_equal(array(1), value)  # and it is computed again


def test_what_waits_for_a_zone_stays(store_dir):
    uri = kachery.store_text("to be sent")
    age(file_path(uri))
    waiting = store_dir / "outbox" / "lab" / "sha1" / file_path(uri).name
    waiting.parent.mkdir(parents=True)
    waiting.touch()
    keeping.gc(max_size=0)
    assert kachery.load_text(uri) == "to be sent"


def test_counting_on_a_file_and_taking_it_exclude_each_other(store_dir, monkeypatch):
    backend = current().store.backend
    path = file_path(kachery.store_text("x"))
    file = sweep.file_of(str(path.relative_to(store_dir)), path.stat())
    fd = os.open(store_dir / "sweep.lock", os.O_RDONLY | os.O_CREAT)
    seen = []

    def excluded(kind):
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            seen.append(kind)
        else:
            fcntl.flock(fd, fcntl.LOCK_UN)
        return False

    real = os.utime
    monkeypatch.setattr(os, "utime", lambda path: (excluded(fcntl.LOCK_EX), real(path)))
    assert not sweep.take_away(backend, file, lambda _: excluded(fcntl.LOCK_SH))
    assert sweep.refresh(backend, file.name)
    os.close(fd)
    assert seen == [fcntl.LOCK_SH, fcntl.LOCK_EX] and path.exists()


def test_a_file_that_came_into_use_under_a_lock_that_does_not_count_is_put_back(store_dir):
    backend = current().store.backend
    path = file_path(kachery.store_text("x"))
    age(path)
    file = sweep.file_of(str(path.relative_to(store_dir)), path.stat())

    def used_elsewhere(_):
        os.utime(path)
        return True

    assert not sweep.take_away(backend, file, used_elsewhere)
    assert path.read_text() == "x" and list((store_dir / "tmp").iterdir()) == []
    gone = sweep.file_of(file.name, path.stat())
    assert sweep.take_away(backend, gone, lambda _: True) and not path.exists()


def test_storing_again_renews_and_a_hit_does_not(store_dir):
    uri = kachery.store_text("x")
    age(file_path(uri))
    kachery.load_text(uri)
    assert file_path(uri).stat().st_mtime < time.time() - 86_400
    kachery.store_text("x")
    assert file_path(uri).stat().st_mtime > time.time() - 86_400


def test_another_users_file_is_replaced_by_a_copy(store_dir, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can be two users")
    code = """
    import hashlib, os, sys, time, tqdm.auto, kachery, kachery_tasks.files, kachery_store.zone_settings
    os.umask(0)
    os.setgid(65534), os.setuid(int(sys.argv[2]))
    kachery.configure(dir=sys.argv[1])
    uri = kachery.store_text("of two users")
    print(kachery.load_file(uri))
    """
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o777)
        env = {"KACHERY_DIR": folder + "/store"}
        path = Path(run_python(code, folder + "/store", 65533, env=env).stdout.strip())
        age(path)
        run_python(code, folder + "/store", 65532, env=env)
        assert path.stat().st_uid == 65532 and path.stat().st_mtime > time.time() - 86_400
        assert path.read_text() == "of two users"


# The limit in the configuration


STORING = """
import numpy as np, kachery, kachery_tasks.keeping
@kachery.task(version="1")
def f(i):
    return np.full(200_000, i, dtype="f8")
for i in range(10):
    f(i)
print("done")
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("kachery.toml", "maxCacheSizeGiB = 0.005\n"),
        ("kachery.toml", "[store]\nmaxCacheSizeGiB = 0.005\n"),
        ("kachery.yaml", "# of kachery-client\nmaxCacheSizeGiB: 0.005\n"),
    ],
)
def test_the_limit_is_enforced_by_itself(store_dir, name, text):
    store_dir.mkdir()
    (store_dir / name).write_text(text)
    run_python(STORING)
    assert 0 < size_of(store_dir) <= 0.005 * 2**30


def test_the_limit_in_a_file_elsewhere(store_dir, tmp_path):
    (tmp_path / "mine.toml").write_text("maxCacheSizeGiB = 0.005")
    run_python(STORING, env={"KACHERY_CONFIG": str(tmp_path / "mine.toml")})
    assert 0 < size_of(store_dir) <= 0.005 * 2**30


def test_the_limit_is_enforced_while_a_process_lives(store_dir):
    store_dir.mkdir()
    (store_dir / "kachery.toml").write_text("maxCacheSizeGiB = 0.0005")
    code = """
    import kachery_store.limit as limit
    limit._FIRST_SECONDS = limit._EVERY_SECONDS = 0.05
    import os, numpy as np, kachery, kachery_tasks.keeping
    @kachery.task(version="1")
    def f(i):
        return np.full(200_000, i, dtype="f8")
    for i in range(3):
        f(i)
    while any(f.job(i).cached for i in range(3)):
        pass
    print("all gone", flush=True)
    os._exit(0)
    """
    assert run_python(code).stdout == "all gone\n"


def test_without_a_limit_there_is_no_thread(store_dir):
    code = """
    import threading, kachery, kachery_tasks.keeping
    kachery.store_text("x")
    print([t.name for t in threading.enumerate()])
    """
    assert "kachery-limit" not in run_python(code).stdout
    assert limit._thread is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("maxCacheSizeGiB = 'much'", r"kachery\.toml: maxCacheSizeGiB is a number of GiB"),
        ("maxCacheSizeGiB = -1", "maxCacheSizeGiB"),
        ("maxCacheSizeGiB = true", "maxCacheSizeGiB"),
        ("maxCacheSizeGiB = nan", "maxCacheSizeGiB"),
        ("[store]\nmaxCacheSizeGiB = 'x'", r"store\.maxCacheSizeGiB"),
        ("store = 3", r"\[store\]"),
        ("maxCacheSizeGiB =", "is not TOML"),
    ],
)
def test_wrong_configuration_is_named(store_dir, text, message):
    store_dir.mkdir()
    (store_dir / "kachery.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        kachery.store_text("x")


def test_unknown_configuration_is_one_sentence(store_dir, monkeypatch):
    store_dir.mkdir()
    (store_dir / "kachery.toml").write_text("maxCacheSize = 3")
    with pytest.warns(ConfigWarning, match="maxCacheSize is not known"):
        kachery.store_text("x")
    other = store_dir.with_name("other")
    other.mkdir()
    (other / "kachery.yaml").write_text("useBrotli: true")
    with pytest.warns(ConfigWarning, match="'useBrotli: true' is not understood"):
        with kachery.using(dir=other):
            kachery.store_text("x")
    monkeypatch.setenv("KACHERY_CONFIG", str(other / "nowhere"))
    with pytest.raises(ConfigError, match="no such file"), kachery.using(dir=other / "third"):
        kachery.store_text("x")


def test_sizes_and_spans():
    assert [amounts.parse_size(t) for t in ("100GB", "1.5TiB", "5000", "2 kb", "1KiB", "0")] == [
        100 * 10**9,
        3 * 2**39,
        5000,
        2000,
        1024,
        0,
    ]
    assert [amounts.parse_span(t) for t in ("90d", "12h", "30min", "45s", "2w", 7, "0")] == [
        90 * 86_400,
        12 * 3600,
        1800,
        45,
        14 * 86_400,
        7,
        0,
    ]
    for text in ("", "x", "-1GB", "1e400", "10 d", "nanGB", "1GBB"):
        with pytest.raises(BadAmount, match="write it like"):
            amounts.parse_size(text)
    for text in ("5GB", "90"):  # seconds, or days?
        with pytest.raises(BadAmount, match="write it like"):
            amounts.parse_span(text)
    with pytest.raises(BadAmount):
        amounts.parse_size(float("inf"))


def test_the_walker_finds_every_blob():
    large = np.arange(20_000, dtype="f8")
    values = [
        large,
        b"x" * 70_000,
        [large, {"a": (large + 1, {b"y" * 65_536, frozenset({b"z" * 65_536})})}],
        {b"k" * 65_536: 1},
        {"text \xc7\x28\x05": "\xc7\x28\x06" * 50, "raw": bytes((0xC7, 40, 5)) * 50},
        np.ma.masked_array(large, large > 5),
        1,
    ]
    for value in values:
        encoded = encode(value)
        expected = {(blob.digest, blob.memory.nbytes) for blob in encoded.blobs}
        assert set(blobs_in(encoded.data)) == expected
    with pytest.raises(kachery.CannotDecode):
        blobs_in(b"nothing")
    with pytest.raises(kachery.CannotDecode):
        blobs_in(encode(values[2]).data[:-1])


# Real processes


SAME_BLOBS = """
import random, sys
import kachery
order = list(range(300))
random.Random(int(sys.argv[1])).shuffle(order)
print("ready", flush=True)
sys.stdin.readline()
for i in order:
    text = f"blob {i} " * 100
    assert kachery.load_text(kachery.store_text(text)) == text
print("done", flush=True)
"""


def test_sixteen_processes_store_the_same_blobs_while_garbage_is_collected(store_dir):
    """All blobs are old, and about to go, when everybody stores them again."""
    uris = [kachery.store_text(f"blob {i} " * 100) for i in range(300)]
    for uri in uris:
        age(file_path(uri))
    children = [_python("-c", SAME_BLOBS, str(i), stdin=subprocess.PIPE) for i in range(16)]
    assert [child.stdout.readline() for child in children] == ["ready\n"] * 16
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    gone = keeping.gc(max_size=0).files
    while any(child.poll() is None for child in children):
        keeping.gc(max_size=0)
    assert [child.communicate()[0] for child in children] == ["done\n"] * 16
    assert gone > 0
    for i, uri in enumerate(uris):
        assert kachery.load_text(uri) == f"blob {i} " * 100
    assert list((store_dir / "tmp").iterdir()) == []


WORKING = """
import random, sys, warnings
import numpy as np
import kachery

warnings.simplefilter("ignore", kachery.DamagedWarning)  # a result that went while it was read

@kachery.task
def made(i):
    return {"i": i, "own": np.full(10_000, i, dtype="f8"), "shared": np.zeros(10_000)}

if __name__ == "__main__":
    rng = random.Random(int(sys.argv[1]))
    for _ in range(int(sys.argv[2])):
        i = rng.randrange(40)
        text = f"text {i} " * 50
        uri = kachery.store_text(text)
        print(uri, i, flush=True)
        value = made(i)
        assert value["i"] == i and np.array_equal(value["own"], np.full(10_000, i))
        assert not value["shared"].any()
        assert kachery.load_text(uri) == text
"""

COLLECTING = """
from kachery_tasks import keeping
print("begins", flush=True)
while True:
    keeping.gc(max_size=0, progress=lambda _: print("gone", flush=True))
    print("again", flush=True)
"""


def _python(*args, **options):
    return subprocess.Popen([sys.executable, *args], stdout=subprocess.PIPE, text=True, **options)


def _kill_after(process, lines):
    for _ in range(lines):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    return process.communicate()[0]


@pytest.mark.timeout(1200)  # 100 rounds took 166 s on two busy cores
def test_kill_collections_and_writers_at_random_moments(project, store_dir):
    """Nothing reads wrong; what is pinned, and what store_text has acknowledged, is there."""
    write(project / "working.py", WORKING)
    import working

    rng = random.Random(3)
    kept = working.made.job(1000)
    kept.result()
    keeping.pin(kept)
    pinned = kachery.store_text("pinned")
    keeping.pin(pinned)
    for _ in range(count(100, 10)):
        for path in (store_dir / "sha1").rglob("*"):
            if path.is_file():
                age(path)
        writers = [_python(project / "working.py", str(rng.randrange(10**6)), "60") for _ in "ab"]
        collector = _python("-c", COLLECTING)
        _kill_after(collector, rng.randrange(1, 60))
        second = _python("-c", COLLECTING)
        lines = [writers[1].stdout.readline() for _ in range(rng.randrange(1, 50))]
        rest = _kill_after(writers[1], 0)
        acknowledged = [*lines, *rest.splitlines(keepends=True)]
        acknowledged += writers[0].communicate()[0].splitlines(keepends=True)
        _kill_after(second, 0)
        assert writers[0].returncode == 0
        for line in acknowledged:
            if line.endswith("\n"):
                uri, i = line.split()
                assert kachery.load_text(uri) == f"text {i} " * 50
        assert kept.cached and working.made(1000)["own"][0] == 1000
        assert kachery.load_text(pinned) == "pinned"
    keeping.gc(max_size="1GB")  # one that is not killed still works
    for path in (store_dir / "tmp").iterdir():
        age(path)
    run_python(
        "import kachery.cli; import sys; sys.argv = ['kachery', 'doctor', '--fix']; kachery.cli.run()",
        check=False,
    )
    assert list((store_dir / "tmp").iterdir()) == []
    assert list((store_dir / "leases").iterdir()) == []
    assert keeping.verification().run().damaged == ()
