"""In a zone, too, nothing goes that is needed, whoever writes there meanwhile; and damage is mended."""

import contextlib
import datetime
import functools
import io
import os
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import msgpack
import numpy as np
import pytest
from conftest import run_python

import kachery as ka
import kachery.cli
from kachery_store import Store, collecting, renewal, survey, transfer, zone_gc
from kachery_store.backend import Status
from kachery_store.digest import Digest, hash_buffer
from kachery_store.errors import Busy, ConfigError, NotFound, StoreUnavailable, ZoneWarning
from kachery_store.inventory import Held
from kachery_store.local_backend import LocalBackend
from kachery_store.remote import s3
from kachery_store.zone_gc import collect_zone
from kachery_store.zone_pins import ZonePins
from kachery_store.zone_plan import ZonePolicy
from kachery_store.zone_settings import ZoneSettings
from kachery_tasks import keeping, zone_keeping
from kachery_tasks.holdings import check_entry, zone_holdings
from kachery_tasks.settings import current

DAY = 86_400.0
LONG_AGO = 40 * DAY
PART = 20_000_000

_ages = {}  # (url, name) -> seconds by which an object of a bucket looks older than it is


class AgedS3(s3.S3Backend):
    """A bucket in which objects can be old: S3 does not let anybody set a time."""

    def status(self, name):
        found = super().status(name)
        return None if found is None else self._aged(name, found)

    def entries(self, folder):
        for name, found in super().entries(folder):
            yield name, self._aged(name, found)

    def _aged(self, name, found):
        return found._replace(modified=found.modified - _ages.get((self.url, name), 0))

    def _put(self, name, body, **condition):
        done = super()._put(name, body, **condition)
        if done:
            _ages.pop((self.url, name), None)
        return done


@pytest.fixture(params=["bucket", "folder", "memory"])
def lab(request, tmp_path, monkeypatch):
    """The settings of a zone named lab, in force."""
    monkeypatch.setattr(s3, "S3Backend", AgedS3)
    monkeypatch.setattr(collecting, "_POLL_SECONDS", 0.01)
    _ages.clear(), renewal._clocks.clear(), looking.cache_clear()
    if request.param == "bucket":
        bucket = request.getfixturevalue("bucket")
        settings = ZoneSettings("lab", bucket.url, (("endpoint_url", bucket.endpoint),))
        toml = bucket.toml
    else:
        url = f"{tmp_path}/zone" if request.param == "folder" else f"memory://{tmp_path}/zone"
        settings, toml = ZoneSettings("lab", url), f'url = "{url}"\n'
    (tmp_path / "kachery.toml").write_text(f"[zones.lab]\n{toml}")
    monkeypatch.setenv("KACHERY_CONFIG", str(tmp_path / "kachery.toml"))
    monkeypatch.setenv("KACHERY_ZONE", "lab")
    return settings


in_parts = pytest.mark.parametrize("lab", ["bucket", "memory"], indirect=True)
in_memory = pytest.mark.parametrize("lab", ["memory"], indirect=True)


@pytest.fixture
def machine(tmp_path, lab):
    """A function that gives the store of another machine, with the same zone behind it."""
    return lambda name: Store(tmp_path / name, lab.open())


@functools.cache
def looking(lab):
    """A backend for the eyes and hands of a test: opened once in a test, with nothing hooked into it."""
    return lab.open().backend


def age(lab, seconds=LONG_AGO, names=None):
    """Make objects of a zone look so old."""
    backend = looking(lab)
    for name in list(backend.names("")) if names is None else names:
        if isinstance(backend, AgedS3):
            _ages[backend.url, name] = seconds
        elif isinstance(backend, LocalBackend):
            then = time.time() - seconds
            os.utime(backend.path(name), (then, then))
        else:
            fs = backend._file_system()
            then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)
            fs.store[backend._prefix + name].created = then


def names(lab, *folders):
    backend = looking(lab)
    found = (name for folder in folders or ("",) for name in backend.names(folder))
    return sorted(name.lstrip("/") for name in found)


def stored(lab):
    """The names of what a collection may take."""
    return set(names(lab, "blake3", "sha1", "sha256", "manifests", "jobs", "code", "differing"))


def collect(lab, zone=None, **policy):
    zone = zone or lab.open()
    return collect_zone(zone, zone_holdings(zone.backend), ZonePolicy(**policy))


@ka.task(version="1")
def array(i, size=20_000):
    return np.full(size, i, dtype="f8")


@ka.task(version="1")
def pair(i):
    return {"own": np.full(20_000, i, dtype="f8"), "shared": np.zeros(50_000)}


@ka.task(version="1")
def total(a):
    return float(a.sum())


@ka.task(version="1")
def filed(text):
    return {"uri": ka.store_text(text)}


@ka.task(version="1")
def wordy(i):
    return {f"{i} {j}": "x" * 100 for j in range(2000)}  # an encoding that is a blob


def needs(job):
    """The names of the objects that a job consists of."""
    record = current().store.jobs.read(job.id)
    held = zone_holdings(current().store.zone.backend)(job.id, record)
    blobs = {digest.path for digest, _ in (*held.blobs, *((d, 0) for d in held.files))}
    return {f"jobs/{job.id[:2]}/{job.id}", *blobs, *(f"code/{c[:2]}/{c}" for c in held.codes)}


def blob_of(job):
    """The name of the one blob that has the result of a job."""
    (blob,) = zone_holdings(current().store.zone.backend)(
        job.id, current().store.jobs.read(job.id)
    ).blobs
    return blob[0].path


def record_name(job):
    return f"jobs/{job.id[:2]}/{job.id}"


# What goes and what stays


def test_old_records_go_with_what_only_they_hold(lab):
    old, shared, kept = array.job(1), pair.job(11), pair.job(12)
    for job in (old, shared, kept):
        job.result()
    uri = ka.store_text("a file of somebody")
    expected = {*needs(kept), Digest(*uri.split("://")).path}
    going = (needs(old) | needs(shared)) - expected
    age(lab)
    age(lab, 3600, [record_name(kept)])
    done = collect(lab, older_than=30 * DAY)
    assert stored(lab) == expected
    assert done.records == 2 and done.others == len(going) - 2 >= 3 and done.spared == 0
    assert done.freed > 320_000 and done.objects > 5
    assert names(lab, "tmp", "gc.lock", "quarantine") == []


def test_nothing_goes_without_a_reason(lab):
    array(1), ka.store_text("x"), ka.store_text("y", digest="blake3")
    age(lab)
    before = stored(lab)
    collect(lab)
    collect(lab, grace=0)
    assert stored(lab) == before


def test_a_dry_run_changes_nothing_and_tells_all(lab):
    array(1)
    age(lab)
    before, told = names(lab), []
    zone = lab.open()
    policy = ZonePolicy(older_than=DAY)
    holdings = zone_holdings(zone.backend)
    foreseen = collect_zone(
        zone, holdings, policy, dry_run=True, tell=lambda name, size: told.append(name)
    )
    assert names(lab) == before
    done = collect(lab, older_than=DAY)
    assert foreseen == done and set(told) == set(before) - set(names(lab)) and len(told) == 4


def test_young_blobs_stay_though_their_record_goes(lab):
    job = array.job(1)
    job.result()
    blobs = names(lab, "blake3")
    age(lab)
    age(lab, DAY - 100, blobs)
    collect(lab, older_than=DAY)
    assert names(lab, "blake3") == blobs and names(lab, "jobs") == []
    age(lab, DAY + 100, blobs)
    collect(lab, older_than=DAY)  # nothing tells any more whose they were
    assert names(lab, "blake3") == blobs
    collect(lab, orphans=True)
    assert names(lab, "blake3") == []


def test_named_files_go_only_when_that_is_said(lab):
    uris = [ka.store_text("one"), ka.store_text("two", digest="sha256")]
    job = filed.job("named by a result")
    paths = {Digest(*uri.split("://")).path for uri in (*uris, job.result()["uri"])}
    age(lab)
    collect(lab, older_than=DAY)
    assert paths == set(names(lab, "sha1", "sha256"))
    array(2)
    pinned = ka.store_text("pinned")
    zone_keeping.pin("lab", pinned)
    age(lab, names=[Digest(*pinned.split("://")).path])
    filed.job("named by a result").forget()
    filed("named by a result")
    age(lab, names=[Digest(*job.result()["uri"].split("://")).path])
    collect(lab, older_than=DAY, files=True)
    kept = (pinned, job.result()["uri"])
    assert set(names(lab, "sha1", "sha256")) == {Digest(*u.split("://")).path for u in kept}


def test_what_expires_goes(lab):
    array(1), ka.store_text("old")
    age(lab)
    job = array.job(2)
    job.result()
    young = ka.store_text("young")
    scratch = lab._replace(expires=30 * DAY).open()
    collect(lab, scratch)
    assert stored(lab) == {*needs(job), Digest(*young.split("://")).path}


@in_parts
def test_large_files_go_and_stay_with_their_parts(lab, machine):
    one = machine("one")
    rng = np.random.default_rng(1)
    kept, going = (rng.bytes(n) for n in (PART + 5, PART + 6))
    uris = [one.files.store_bytes(data) for data in (kept, going)]
    made = array.job(3, 5_000_000)
    made.result()
    age(lab)
    age(lab, 3600, [transfer.manifest_name(Digest(*uris[0].split("://")))])
    collect(lab, older_than=DAY)  # the job and its parts
    assert names(lab, "blake3", "jobs", "manifests/blake3") == []
    assert machine("two").files.load_bytes(uris[1]) == going
    collect(lab, older_than=DAY, files=True)
    assert len(names(lab, "sha1", "manifests")) == 4  # two parts, the manifest, and that as a file
    assert machine("three").files.load_bytes(uris[0]) == kept
    with pytest.raises(NotFound):
        machine("three").files.load_bytes(uris[1])


def test_pins_of_the_zone_keep_what_they_reach(lab):
    source, other = array.job(1), array.job(2)
    job = total.job(source)
    assert job.result() == 20_000
    other.result()
    uri = ka.store_text("pinned")
    zone_keeping.pin("lab", job.uri, "figure 3")
    zone_keeping.pin("lab", uri)
    ka.pin(other)  # locally, which does not count
    assert [one.reason for one in zone_keeping.pins("lab")] == ["figure 3", ""]
    assert [one.uri for one in keeping.pins()] == [other.uri]
    age(lab)
    collect(lab, older_than=DAY, files=True, orphans=True)
    assert stored(lab) == {*needs(job), *needs(source), Digest(*uri.split("://")).path}
    assert zone_keeping.unpin("lab", job.uri) and not zone_keeping.unpin("lab", job.uri)
    collect(lab, older_than=DAY)
    assert names(lab, "jobs", "blake3") == []


def test_what_is_not_whole_in_the_zone_cannot_be_pinned(lab):
    job = array.job(1)
    job.result()
    with pytest.raises(NotFound, match="cannot be pinned"):
        zone_keeping.pin("lab", "sha1://" + "0" * 40)
    looking(lab).remove(blob_of(job))
    with pytest.raises(NotFound, match=r"lacks blake3://.*kachery push"):
        zone_keeping.pin("lab", job.uri)
    assert names(lab, "pins") == []


def test_the_oldest_go_until_it_is_small_enough(lab):
    jobs = [array.job(i) for i in range(4)]
    for job in jobs:
        job.result()
    ka.store_text("stays")
    for i, job in enumerate(jobs):
        age(lab, LONG_AGO - i * DAY, needs(job) - set(names(lab, "code")))
    collect(lab, max_size=2 * 165_000)
    assert set(names(lab, "jobs")) == set(map(record_name, jobs[2:]))
    assert set(names(lab, "blake3")) == {n for j in jobs[2:] for n in needs(j) if "blake3" in n}
    collect(lab, max_size=0)
    assert names(lab, "jobs", "blake3", "code") == names(lab, "code")
    assert len(names(lab, "sha1")) == 1
    age(lab)
    collect(lab, max_size=0, files=True)
    assert stored(lab) == set()


def test_what_a_later_kachery_or_damage_hides_is_left_alone(lab):
    array(1)
    backend = looking(lab)
    (code,) = names(lab, "code")
    later = msgpack.packb(["kachery record", 99, b"?", b"", []])
    backend.create("jobs/ab/" + "ab" * 32, b"damaged", durable=True)
    age(lab)
    collect(lab, older_than=DAY)
    assert names(lab, "jobs") == ["jobs/ab/" + "ab" * 32] and names(lab, "code") == [code]
    array.job(1).forget()
    array(1)
    from kachery_tasks.sealed import _digest

    later = msgpack.packb(["kachery record", 99, b"?", _digest("kachery record", 99, b"?"), []])
    backend.replace("jobs/ab/" + "ab" * 32, later)
    age(lab)
    collect(lab, older_than=DAY, orphans=True)
    assert names(lab, "jobs") == ["jobs/ab/" + "ab" * 32] and len(names(lab, "blake3")) == 1


def test_leftovers_of_others_go(lab):
    array(1)
    backend = looking(lab)
    backend.create("tmp/probe.1", b"", durable=True)
    backend.create("tmp/probe.2", b"", durable=True)
    backend.create("leases/" + "ab" * 32, b"of a killed process", durable=True)
    backend.create("leases/" + "cd" * 32, b"of a living one", durable=True)
    backend.create("code/ab/" + "ab" * 32, b"of nobody", durable=True)
    job = array.job(1)
    for other in (job.id, "cd" * 32):
        name = f"differing/{other[:2]}/{other}-0123456789abcdef"
        backend.create(name, job.record._replace(job_id=other).to_bytes(), durable=True)
    age(lab)
    age(lab, 3600, ["tmp/probe.2", "leases/" + "cd" * 32])
    collect(lab)
    assert names(lab, "leases") == ["leases/" + "cd" * 32]
    assert names(lab, "tmp") == ["tmp/probe.2"] and len(names(lab, "code")) == 1
    assert names(lab, "differing") == [f"differing/{job.id[:2]}/{job.id}-0123456789abcdef"]


def test_read_only_zones_and_wrong_zones_are_refused(lab):
    with pytest.raises(ConfigError, match="read_only"):
        collect(lab, lab._replace(read_only=True).open())
    with pytest.raises(ConfigError, match="no zone 'other'"):
        zone_keeping.gc("other", ZonePolicy())
    with pytest.warns(ZoneWarning, match="grace period below a day"):
        zone_keeping.gc("lab", ZonePolicy(grace=0))


# Others write meanwhile


class Writer:
    """Another machine that stores a result whose blob the zone has had for long."""

    def __init__(self, machine, data):
        self.store = machine("writer")
        self.backend = self.store.zone.backend
        self.digest = Digest("blake3", hash_buffer("blake3", data))
        self.data = data

    def store_blob(self):
        self.store.blobs.put(self.digest, self.data, durable=False)

    def write_record(self):
        """A record of a job of its own that holds the blob."""
        record = array.job(1).record
        result = record.result._replace(inline=None, address=bytes.fromhex(self.digest.hex))
        self.record = record._replace(job_id="ef" * 32, result=result)
        self.store.jobs.create("ef" * 32, self.record.to_bytes())


@pytest.fixture
def old_job(lab):
    """A job that goes in the next collection; the bytes of its blob."""
    job = wordy.job(1)
    job.result()
    array(1)
    blob = blob_of(job)
    data = looking(lab).read(blob)
    age(lab)
    age(lab, 3600, needs(array.job(1)))
    return data


def is_whole(lab, writer):
    """Whether the writer's record is in the zone, and its blob is there and intact."""
    backend = looking(lab)
    assert backend.read("jobs/ef/" + "ef" * 32) == writer.record.to_bytes()
    return transfer.load(backend, writer.digest) == writer.data


def before(backend, method, name, act):
    """Have something done when a method is about to be called for a condemned name, once."""
    real, done = getattr(backend, method), []

    def hooked(given, *args, **kwargs):
        if given == name and not done and name in collecting.condemned(backend)[0]:
            done.append(1)
            act()
        return real(given, *args, **kwargs)

    setattr(backend, method, hooked)
    return done


def test_a_blob_counted_on_before_a_collection_whose_record_comes_after(lab, machine, old_job):
    writer = Writer(machine, old_job)
    writer.store_blob()
    collect(lab, older_than=DAY, orphans=True)
    writer.write_record()
    assert is_whole(lab, writer)


def test_a_large_blob_counted_on_before_a_collection(lab, machine, tmp_path):
    one = machine("one")
    data = np.random.default_rng(3).bytes(PART + 1000)
    uri = one.files.store_bytes(data, digest="blake3")
    age(lab)
    machine("two").files.store_bytes(data, digest="blake3")
    collect(lab, older_than=DAY, files=True, orphans=True)
    assert machine("three").files.load_bytes(uri) == data


@in_parts
def test_old_parts_of_an_upload_that_was_cut_are_renewed(lab, machine):
    data = np.random.default_rng(4).bytes(PART + 1000)
    uri = machine("one").files.store_bytes(data, digest="blake3")
    looking(lab).remove(transfer.manifest_name(Digest(*uri.split("://"))))
    age(lab)
    machine("two").files.store_bytes(data, digest="blake3")
    collect(lab, orphans=True)
    assert machine("three").files.load_bytes(uri) == data


def test_young_things_are_not_sent_again(lab, machine):
    data = np.random.default_rng(5).bytes(PART + 1000)
    one = machine("one")
    one.files.store_bytes(data), one.files.store_text("small")
    age(lab, DAY / 2 - 300)
    two = machine("two")
    sent = []
    for method in ("replace", "create"):
        real = getattr(two.zone.backend, method)

        def hooked(name, data, real=real, **options):
            done = real(name, data, **options)
            if done is not False and not name.startswith("tmp/"):
                sent.append(name)
            return done

        setattr(two.zone.backend, method, hooked)
    two.files.store_bytes(data), two.files.store_text("small")
    assert sent == []
    age(lab, DAY / 2 + 300)
    two.files.store_text("small")
    if not isinstance(
        two.zone.backend, LocalBackend
    ):  # there its time is renewed, which sends nothing
        assert sent == [Digest("sha1", hash_buffer("sha1", b"small")).path]


def test_a_blob_counted_on_after_the_listing(lab, machine, old_job):
    writer, zone = Writer(machine, old_job), lab.open()
    hit = before(zone.backend, "status", writer.digest.path, writer.store_blob_aside)
    done = collect(lab, zone, older_than=DAY)
    assert hit and done.spared == 1
    writer.finish()
    assert is_whole(lab, writer)


def store_blob_aside(self):
    """Renew the blob from another thread; return when that is done, but for the verdict."""
    renewed = threading.Event()
    for method in ("replace", "status"):  # in a folder the time is renewed; then it is looked at
        real = getattr(self.backend, method)

        def hooked(name, *args, real=real, method=method, **kwargs):
            answer = real(name, *args, **kwargs)
            if name == self.digest.path and (method == "replace" or self.renewing):
                renewed.set()
            return answer

        setattr(self.backend, method, hooked)
    self.renewing = False
    real_verdict = renewal.await_verdict

    def verdict(backend, name=None):
        renewed.set()
        real_verdict(backend, name)

    renewal.await_verdict, self._restore = verdict, real_verdict
    self.thread = ThreadPoolExecutor(1).submit(self._store_all)
    assert renewed.wait(60)


def _store_all(self):
    self.store_blob()
    self.write_record()


def finish(self):
    try:
        self.thread.result(60)
    finally:
        renewal.await_verdict = self._restore


Writer.store_blob_aside, Writer._store_all, Writer.finish = store_blob_aside, _store_all, finish


def test_a_blob_counted_on_between_the_last_look_and_its_end(lab, machine, old_job):
    """It is deleted after it was renewed; who renewed it sees that, and writes it once more."""
    writer, zone = Writer(machine, old_job), lab.open()
    hit = before(zone.backend, "remove", writer.digest.path, writer.store_blob_aside)
    done = collect(lab, zone, older_than=DAY)
    assert hit and done.spared == 0
    writer.finish()
    assert is_whole(lab, writer)


def test_a_record_that_comes_during_the_collection_keeps_its_blobs(lab, machine, old_job):
    """Even if its writer did not renew what it names, as one may that took longer than half a day."""
    writer, zone = Writer(machine, old_job), lab.open()
    backend = writer.backend
    act = lambda: backend.create("jobs/ef/" + "ef" * 32, _record(writer), durable=True)
    hit = before(zone.backend, "status", record_name(wordy.job(1)), act)
    done = collect(lab, zone, older_than=DAY)
    assert hit and done.spared == 1 and done.records == 1
    assert is_whole(lab, writer)


def _record(writer):
    record = array.job(1).record
    address = bytes.fromhex(writer.digest.hex)
    result = record.result._replace(inline=None, address=address)
    writer.record = record._replace(job_id="ef" * 32, result=result)
    return writer.record.to_bytes()


def test_a_pin_that_comes_during_the_collection_counts(lab, old_job, monkeypatch):
    job, zone = wordy.job(1), lab.open()
    blob = blob_of(job)
    other = lab.open()
    pins = ZonePins(other, zone_holdings(other.backend))
    real = zone_gc.plan_zone
    monkeypatch.setattr(zone_gc, "plan_zone", lambda *args: (real(*args), pins.add(job.uri)))
    done = collect(lab, zone, older_than=DAY)
    assert done.records == 0 and done.spared == 3
    assert {record_name(job), blob} <= stored(lab)


def test_a_pin_that_comes_too_late_is_refused(lab, old_job):
    """The record is deleted while the pin waits for what is condemned; then it is not there."""
    job, zone, other = wordy.job(1), lab.open(), lab.open()
    pins = ZonePins(other, zone_holdings(other.backend))
    written = threading.Event()
    real = pins.write
    pins.write = lambda pin: (real(pin), written.set())
    pool = ThreadPoolExecutor(1)
    waiting = []

    def pin_now():
        waiting.append(pool.submit(pins.add, job.uri))
        assert written.wait(60)

    hit = before(zone.backend, "remove", record_name(job), pin_now)
    collect(lab, zone, older_than=DAY)
    assert hit
    with pytest.raises(NotFound, match="cannot be pinned in zone lab"):
        waiting[0].result(60)
    assert names(lab, "pins") == []


def test_many_write_while_it_collects(lab, machine, monkeypatch):
    """Results that share blobs come and go; whoever stored one finds it whole."""
    monkeypatch.setattr(zone_gc, "_BATCH", 7)
    datas = [np.random.default_rng(i).bytes(3000) for i in range(20)]
    first = machine("first")
    for data in datas:
        first.files.store_bytes(data, digest="blake3")
    age(lab)
    stop, failures, rounds = threading.Event(), [], []

    def write(number):
        store = machine(f"writer {number}")
        for turn in range(1000):
            if stop.is_set():
                return
            chosen = [datas[(number * 5 + turn + k) % len(datas)] for k in range(3)]
            for data in chosen:
                store.blobs.put(Digest("blake3", hash_buffer("blake3", data)), data, durable=False)
            backend = store.zone.backend
            lost = [d for d in chosen if not _reads(backend, d)]
            failures.extend(lost)
            rounds.append(turn)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    collections = 0
    while collections < 6 or (len(rounds) <= 10 and any(one.is_alive() for one in threads)):
        collect(lab, older_than=DAY, orphans=True)
        collections += 1
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == [] and len(rounds) > 10


def _reads(backend, data):
    try:
        return backend.read(Digest("blake3", hash_buffer("blake3", data)).path) == data
    except NotFound:
        return False


# One at a time


def test_one_collection_at_a_time(lab):
    array(1)
    age(lab)
    with collecting.OnlyCollection(lab.open().backend, DAY):
        with pytest.raises(Busy, match=rf"process {os.getpid()} on .*gc.lock"):
            collect(lab, older_than=DAY)
        assert len(names(lab, "jobs")) == 1
    assert names(lab, "gc.lock") == [] and looking(lab).status("gc.lock") is None
    collect(lab, older_than=DAY)
    assert names(lab, "jobs") == []


def test_an_old_lock_is_taken_over_and_its_owner_stops(lab):
    array(1)
    age(lab)
    backend = lab.open().backend
    first = collecting.OnlyCollection(backend, DAY).__enter__()
    age(lab, DAY + 100, ["gc.lock"])
    second = collecting.OnlyCollection(lab.open().backend, DAY)
    with second:
        with pytest.raises(Busy, match="taken over"):
            first.condemn(["jobs/x"])
        first.__exit__(None, None, None)  # does not remove the lock of the other
        second.condemn(["jobs/y"])
        assert collecting.condemned(backend)[0] == {"jobs/y"}
    assert backend.status("gc.lock") is None


def test_a_collection_that_fails_gives_the_lock_back(lab):
    array(1)
    age(lab)
    zone = lab.open()

    def fail():
        raise StoreUnavailable("no more", place=zone.backend.url)

    before(zone.backend, "remove", record_name(array.job(1)), fail)
    with pytest.raises(StoreUnavailable, match="no more"):
        collect(lab, zone, older_than=DAY)
    assert looking(lab).status("gc.lock") is None
    assert collect(lab, older_than=DAY).records == 1


def test_who_died_while_it_collected_is_waited_for_once(lab, machine, old_job, monkeypatch):
    monkeypatch.setattr(collecting, "_PATIENCE", 0.3)
    writer = Writer(machine, old_job)
    collecting.OnlyCollection(lab.open().backend, DAY).__enter__().condemn([writer.digest.path])
    writer.store_blob()
    age(lab, names=[writer.digest.path])
    monkeypatch.setattr(collecting, "_PATIENCE", 1e9)
    writer.store_blob()
    writer.write_record()
    assert is_whole(lab, writer)


def test_a_damaged_lock_keeps_nobody_from_writing(lab, machine):
    looking(lab).replace("gc.lock", b"{")
    age(lab, 10 * DAY)
    machine("one").files.store_text("x")
    age(lab)
    machine("two").files.store_text("x")
    assert collect(lab).records == 0


@in_memory
def test_twenty_thousand_objects_with_bounded_memory(lab):
    """fsspec's own listing of memory:// makes one dict of everything, and looks at every name for the
    status of one; these do not."""
    zone = lab.open()
    zone.prepare(writing=True)
    fs = zone.backend._file_system()
    records, blobs = 2000, 9
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=100)

    def put(name, data):
        zone.backend.replace(name, data)
        fs.store[zone.backend._prefix + name].created = then

    for i in range(records):
        job_id = hash_buffer("blake3", b"job %d" % i)
        for k in range(blobs):
            data = b"%d %d" % (i, k)
            put(Digest("blake3", hash_buffer("blake3", data)).path, data)
        put(f"jobs/{job_id[:2]}/{job_id}", b"%d" % i)
    kept = hash_buffer("blake3", b"job 7")
    fs.store[f"{zone.backend._prefix}jobs/{kept[:2]}/{kept}"].created += datetime.timedelta(
        days=99.9
    )

    def held_by(job_id, data):
        i = int(data)
        named = [Digest("blake3", hash_buffer("blake3", b"%d %d" % (i, k))) for k in range(blobs)]
        return Held("m:f", [(one, 5) for one in named], [], 1.0, [], "00" * 32, [])

    def all_of_it():
        return (path for path in fs.store if path.startswith(zone.backend._prefix))

    def entries(folder):
        start = f"{zone.backend._prefix}{folder}/"
        for path in sorted(path for path in fs.store if path.startswith(start)):
            name = path.removeprefix(zone.backend._prefix)
            found = status(name)
            if found is not None:
                yield name, found

    def status(name):
        file = fs.store.get(zone.backend._prefix + name)
        if file is None:
            return None
        return Status(file.size, file.created.timestamp(), f"{file.created}")

    zone.backend.entries, zone.backend.status = entries, status
    assert len(list(all_of_it())) == records * (blobs + 1) + 1
    tracemalloc.start()
    try:
        done = collect_zone(zone, held_by, ZonePolicy(older_than=DAY))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert done.records == records - 1 and done.others == blobs * (records - 1)
    assert len(list(all_of_it())) == blobs + 1 + 1
    if "COVERAGE_RUN" not in os.environ:  # which takes memory itself
        assert peak < 2_000_000  # the names alone have 1.6


# Verify and repair


def flip(lab, name, position=3):
    backend = looking(lab)
    data = bytearray(backend.read(name))
    data[position % len(data)] ^= 1
    backend.replace(name, bytes(data))


def verify(**options):
    return zone_keeping.verification("lab", **options).run()


def test_a_sound_zone_is_sound(lab):
    array(1), wordy(1), ka.store_text("x"), ka.store_bytes(os.urandom(PART + 10))
    seen = []
    run = zone_keeping.verification("lab")
    done = run.run(progress=seen.append)
    assert done.damaged == () and sum(seen) == run.bytes == done.bytes > PART
    assert done.files == len(stored(lab)) and done.rate > 0
    assert zone_keeping.repair("lab") == ([], [], [], [], 0)


def test_damage_is_found_and_sent_again(lab):
    jobs = [array.job(1), wordy.job(1)]
    for job in jobs:
        job.result()
    uri = ka.store_text("a file")
    chosen = [
        *names(lab, "blake3"),
        *names(lab, "sha1"),
        *names(lab, "jobs"),
        names(lab, "code")[0],
    ]
    intact = {name: looking(lab).read(name) for name in chosen}
    for name in chosen:
        flip(lab, name, 40)
    done = verify()
    assert sorted(one.name for one in done.damaged) == sorted(chosen)
    assert len(names(lab, "quarantine")) == len(chosen) and not set(chosen) & stored(lab)
    repaired = zone_keeping.repair("lab")
    assert len(repaired.fetched) == len(chosen) and uri in repaired.fetched
    assert repaired.forgotten == repaired.lost == [] and repaired.cleared == len(chosen)
    assert {name: looking(lab).read(name) for name in chosen} == intact
    assert names(lab, "quarantine") == [] and verify().damaged == ()


@in_parts
def test_truncated_and_missing_parts_are_found_and_sent_again(lab):
    data = [os.urandom(PART + 10), os.urandom(PART + 11)]
    uris = [ka.store_bytes(one) for one in data]
    backend = looking(lab)
    manifests = [transfer.manifest_of_blob(backend, Digest(*uri.split("://"))) for uri in uris]
    truncated, missing = manifests[0].parts[0].digest.path, manifests[1].parts[1].digest.path
    backend.replace(truncated, backend.read(truncated)[:-7])
    backend.remove(missing)
    done = verify()
    told = {(one.name, one.why) for one in done.damaged}
    listed = [transfer.manifest_name(one.digest) for one in manifests]
    assert (listed[1], f"its part {manifests[1].parts[1].digest} is missing") in told
    assert any(name == listed[0] and "bytes instead of" in why for name, why in told)
    assert any(name == truncated and "it is not" in why for name, why in told) and len(told) == 3
    repaired = zone_keeping.repair("lab")
    assert sorted(repaired.fetched) == sorted(uris) and not repaired.lost
    assert verify().damaged == ()
    for uri, one in zip(uris, data, strict=True):
        assert transfer.load(backend, Digest(*uri.split("://"))) == one


def test_what_is_nowhere_is_forgotten_or_named(lab, tmp_path):
    made, kept = array.job(1), array.job(2)
    made.result(), kept.result()
    large = array.job(3, 3_000_000)
    large.result()
    uri, uri_of_large = ka.store_text("a file"), ka.store_bytes(os.urandom(PART + 10))
    for name in {*needs(made), Digest(*uri.split("://")).path} - {record_name(made)}:
        if name.startswith(("blake3", "sha1")):
            flip(lab, name)
    backend = looking(lab)
    lost_by_kind = [
        part.digest.path
        for digest in (Digest("blake3", ""), Digest(*uri_of_large.split("://")))
        for name in names(lab, f"manifests/{digest.algorithm}")
        for part in survey.manifest_in(name, backend.read(name)).parts[:1]
    ] or [Digest(*uri_of_large.split("://")).path, *(n for n in needs(large) if n[:6] == "blake3")]
    for name in lost_by_kind:
        backend.remove(name)
    verify()
    with ka.using(dir=tmp_path / "another machine"):
        repaired = zone_keeping.repair("lab")
        expected = [uri] if backend.part_size is None else sorted([uri, uri_of_large])
        assert repaired.lost == expected and repaired.fetched == []
        forgotten = sorted(f"{job.uri} ({job.task})" for job in (made, large))
        assert repaired.forgotten == forgotten
        assert record_name(made) not in stored(lab) and record_name(kept) in stored(lab)
        assert len(repaired.salvage) == len(expected)
        assert zone_keeping.repair("lab", discard=True).lost == expected
        assert names(lab, "quarantine") == []
        assert array(1)[0] == 1 and array(2)[0] == 2  # one computed, one from the zone
    assert verify().damaged == ()


def test_an_interrupted_verification_goes_on(lab, store_dir, monkeypatch):
    for i in range(12):
        ka.store_text(f"text {i}")
    flip(lab, names(lab, "sha1")[0])
    from kachery_store import zone_verify

    monkeypatch.setattr(zone_verify, "_NOTE_SECONDS", 0)
    monkeypatch.setattr(zone_verify, "_BATCH", 4)
    run = zone_keeping.verification("lab")
    eighth = names(lab, "sha1")[8]

    real = run._backend.read

    def read(name, *args):
        if name == eighth:
            raise StoreUnavailable("gone", place=lab.url)
        return real(name, *args)

    run._backend.read = read
    with pytest.raises(StoreUnavailable):
        run.run()
    assert (store_dir / "verify-lab.json").exists()
    run = zone_keeping.verification("lab")
    assert run.before.files == 8 and len(run.before.damaged) == 1
    done = run.run()
    assert done.files == 12 and len(done.damaged) == 1
    assert not (store_dir / "verify-lab.json").exists()


def test_who_may_only_read_verifies_without_moving_anything(lab):
    ka.store_text("x")
    (name,) = names(lab, "sha1")
    flip(lab, name, 0)
    zone = lab._replace(read_only=True).open()
    from kachery_store.zone_verify import ZoneVerification

    done = ZoneVerification(zone, current().store.backend, check_entry).run()
    assert [(one.name, one.moved) for one in done.damaged] == [(name, "")]
    assert names(lab, "sha1") == [name]


@pytest.mark.filterwarnings("ignore::kachery.DamagedWarning")
def test_local_damage_is_fetched_from_the_zone_before_a_job_is_forgotten(lab, store_dir):
    array(1), wordy(1)
    uri = ka.store_text("a file")
    for path in [p for f in ("blake3", "sha1") for p in (store_dir / f).rglob("*") if p.is_file()]:
        path.chmod(0o644)
        path.write_bytes(b"X" + path.read_bytes()[1:])
    damaged = len(keeping.verification().run().damaged)  # also what tells where the jobs ran
    done = keeping.repair()
    assert len(done.fetched) == damaged >= 4 and uri in done.fetched
    assert done.forgotten == done.lost == []
    with ka.using(zone=None):
        assert ka.load_text(uri) == "a file" and array.job(1).cached


# Doctor, info, commands


def found(match):
    return [one for one in zone_keeping.findings() if match in one.what]


def test_the_doctor_looks_at_the_zone(lab, tmp_path, monkeypatch):
    array(1)
    (sound,) = zone_keeping.findings()
    assert sound.severity == "sound" and "reading works, writing works; create yes" in sound.what
    backend = looking(lab)
    whole = backend.read("layout.json")
    backend.replace("layout.json", whole[:9])
    (finding,) = found("layout.json of zone lab is damaged")
    finding.fix()
    assert backend.read("layout.json") == whole
    backend.replace("layout.json", b"what is this?")
    assert found("damaged")[0].fix is None
    backend.replace("layout.json", b'{"kachery": "store", "layout": 99}')
    assert found("layout 99")[0].severity == "problem"
    backend.replace("layout.json", whole)
    flip(lab, names(lab, "blake3")[0])
    verify()
    assert "repair --zone lab" in found("quarantine of zone lab")[0].advice
    collecting.OnlyCollection(backend, DAY).__enter__()
    age(lab, 2 * DAY, ["gc.lock"])
    assert found("was killed 48 hours ago")


def test_the_doctor_tells_what_waits_and_for_whom(tmp_path, monkeypatch, store_dir):
    (tmp_path / "kachery.toml").write_text(f'[zones.lab]\nurl = "{tmp_path}/file/zone"\n')
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("KACHERY_CONFIG", str(tmp_path / "kachery.toml"))
    monkeypatch.setenv("KACHERY_ZONE", "lab")
    with pytest.warns(ZoneWarning):
        ka.store_text("x")
    waiting, unreachable = found("things wait for zone lab, since 20"), found("zone lab: ")
    assert waiting[0].advice == "kachery push --zone lab"
    assert unreachable[0].severity == "problem"
    with ka.using(zone=None):
        assert found("zone lab: ")[0].severity == "notice"
    (tmp_path / "kachery.toml").write_text("")
    with ka.using(zone=None):
        assert "not configured any more" in found("wait for zone lab")[0].advice


def kachery_command(*args):
    code = "import sys, kachery.cli; sys.argv[0] = 'kachery'; kachery.cli.run()"
    return run_python(code, *args, check=False)


def command_here(*args):
    """The same in this process, which has everything imported."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["kachery", *args]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
        pytest.raises(SystemExit) as ended,
    ):
        warnings.simplefilter("default")
        kachery.cli.run()
    return subprocess.CompletedProcess(args, ended.value.code, out.getvalue(), err.getvalue())


@pytest.mark.parametrize("lab", ["bucket"], indirect=True)
def test_the_commands(lab, store_dir):
    job = array.job(1)
    job.result()
    uri, large = ka.store_text("a file"), ka.store_bytes(os.urandom(PART + 10))
    blob = blob_of(job)
    blob_uri = f"blake3://{blob.rpartition('/')[2]}"
    shown = command_here("info", blob_uri).stdout
    assert "in zone    lab, whole, 160 kB" in shown and f"held by    {job.uri}" in shown
    assert "in zone    lab, 2 of 2 parts, 20 MB" in command_here("info", large).stdout
    assert kachery_command("pin", job.id[:10], "--zone", "lab").stdout.strip() == job.uri
    assert "pinned     yes, in lab" in command_here("info", job.uri).stdout
    assert job.uri in command_here("pins", "--zone", "lab").stdout
    assert command_here("pins").stdout == ""
    planned = command_here("gc", "--zone", "lab", "--max-size", "1kB", "--files", "--dry-run")
    assert "would free 0 B with 0 records" in planned.stdout, planned.stderr
    assert command_here("unpin", job.uri, "--zone", "lab").returncode == 0
    done = kachery_command("gc", "--zone", "lab", "--older-than", "0", "--grace", "0")
    assert done.returncode == 0 and "nobody may write" in done.stderr
    assert command_here("gc", "--zone", "lab", "--max-items", "3").returncode == 2
    sound = command_here("verify", "--zone", "lab")
    assert sound.returncode == 0 and "GB/s; 0 damaged" in sound.stdout
    flip(lab, Digest(*uri.split("://")).path)
    damaged = kachery_command("verify", "--zone", "lab")
    assert damaged.returncode == 1 and "kachery repair --zone lab" in damaged.stdout
    repaired = kachery_command("repair", "--zone", "lab")
    assert repaired.returncode == 0 and f"sent again: {uri}" in repaired.stdout
    healthy = kachery_command("doctor")
    assert healthy.returncode == 0 and "sound: zone lab at s3://" in healthy.stdout
    os.rename(store_dir / "sha1", store_dir / "not here")
    shown = command_here("info", uri).stdout
    assert "local      no" in shown and "in zone    lab, whole" in shown
