"""What waits for a zone: nothing is sent that would not be whole there, nothing is lost, all is said."""

import errno
import fcntl
import json
import logging
import os
import shutil
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kachery as ka
from kachery_store import Store, meaning, sweep, transfer, uplink
from kachery_store.digest import Digest, hash_buffer
from kachery_store.errors import (
    DamagedWarning,
    DigestMismatch,
    NotFound,
    StoreTooNew,
    StoreUnavailable,
    Unsupported,
    ZoneWarning,
)
from kachery_store.local_backend import LocalBackend
from kachery_store.outbox import Item
from kachery_store.remote import open_backend
from kachery_store.remote.bounded import bounded_session
from kachery_store.renewal import RENEW_AFTER
from kachery_store.zone import Zone
from kachery_store.zone_settings import ZoneSettings
from kachery_tasks.carrying import pull, push
from kachery_tasks.record import MAGIC, VERSION, Record
from kachery_tasks.sealed import seal
from kachery_tasks.settings import current
from kachery_tasks.trust import Trust, outgoing

JOB = "ab" * 32


class Faulty(LocalBackend):
    """A folder whose operations fail when `fault(operation, name)` gives an error."""

    def __init__(self, root, fault=lambda operation, name: None):
        super().__init__(str(root), shared=True)
        self.fault = fault

    def _maybe(self, operation, name):
        error = self.fault(operation, name)
        if error is not None:
            raise error

    def read(self, name, start=0, end=None):
        self._maybe("read", name)
        return super().read(name, start, end)

    def status(self, name):
        self._maybe("status", name)
        return super().status(name)

    def create(self, name, data, *, durable):
        self._maybe("create", name)
        return super().create(name, data, durable=durable)


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A zone in a folder, named lab and in force."""
    (tmp_path / "kachery.toml").write_text(f'[zones.lab]\nurl = "{tmp_path}/zone"\n')
    monkeypatch.setenv("KACHERY_CONFIG", str(tmp_path / "kachery.toml"))
    monkeypatch.setenv("KACHERY_ZONE", "lab")
    return ZoneSettings("lab", f"{tmp_path}/zone")


@ka.task(version="1")
def large(n):
    return [np.arange(float(n)), "text"]


@ka.task(version="1")
def text(said):
    return said


def waiting(tmp_path, n=100_000):
    """A job that waits for the zone with all that it consists of; its blob of `n` numbers."""
    store = current().store
    with ka.using(zone=None):
        large(n)
        record = large.job(n).record
    digest = next(
        Digest("blake3", name.rpartition("/")[2])
        for name, status in store.backend.entries("blake3")
        if status.size >= 8 * n
    )
    store.uplink.outbox.add(Item("blake3", digest.hex), durable=False)
    store.uplink.outbox.add(Item("jobs", record.job_id), durable=False)
    return store, record.job_id, digest


def spoil(path):
    os.chmod(path, 0o600)
    with open(path, "r+b") as file:
        file.write(b"DAMAGE")
    os.chmod(path, 0o444)


def in_zone(lab):
    return {name.lstrip("/") for name in lab.open().backend.names("")}


# 1, 3: what is sent, and in which order


def test_a_record_whose_blob_is_damaged_here_is_not_sent(tmp_path, lab):
    store, job_id, digest = waiting(tmp_path)
    spoil(store.backend.path(digest.path))
    with pytest.warns(DamagedWarning):
        failed = dict(store.uplink.push())
    assert not any(name.startswith("jobs/") for name in in_zone(lab))
    assert "damaged" in failed[Item("blake3", digest.hex)]
    assert "waits" in failed[Item("jobs", job_id)]
    assert store.uplink.outbox.items() == [Item("jobs", job_id)]
    assert list(dict(store.uplink.push())) == [Item("jobs", job_id)]  # said each time


def test_a_record_goes_with_blobs_that_do_not_wait(tmp_path, lab):
    store, job_id, digest = waiting(tmp_path)
    store.uplink.outbox.remove(Item("blake3", digest.hex))
    assert store.uplink.push() == []
    assert {digest.path, f"jobs/{job_id[:2]}/{job_id}"} <= in_zone(lab)


def test_a_record_goes_when_the_zone_has_its_blobs(tmp_path, lab):
    store, job_id, digest = waiting(tmp_path)
    lab.open().backend.create(digest.path, store.blobs.read(digest), durable=True)
    store.backend.remove(digest.path)
    failed = dict(store.uplink.push())
    assert list(failed) == [Item("blake3", digest.hex)]
    assert f"jobs/{job_id[:2]}/{job_id}" in in_zone(lab)
    assert store.uplink.outbox.is_empty()


def test_a_record_waits_behind_a_blob_that_waits(tmp_path, lab):
    """The zone came back between the two."""
    store, job_id, digest = waiting(tmp_path)
    store.uplink.outbox.remove(Item("jobs", job_id))
    data = store.jobs.read(job_id)
    store.backend.remove(f"jobs/{job_id[:2]}/{job_id}")
    assert store.jobs.create(job_id, data)
    assert not any(name.startswith("jobs/") for name in in_zone(lab))
    assert set(store.uplink.outbox.items()) == {Item("blake3", digest.hex), Item("jobs", job_id)}
    assert store.uplink.push() == []
    assert {digest.path, f"jobs/{job_id[:2]}/{job_id}"} <= in_zone(lab)


def test_a_damaged_record_is_not_sent_and_does_not_wait(tmp_path, lab):
    store, job_id, _ = waiting(tmp_path)
    spoil(store.backend.path(f"jobs/{job_id[:2]}/{job_id}"))
    assert "does not wait" in dict(store.uplink.push())[Item("jobs", job_id)]
    assert store.uplink.outbox.is_empty() and not any("jobs" in one for one in in_zone(lab))


@pytest.mark.parametrize("error", [NotFound("gone there"), DigestMismatch("damaged there")])
def test_what_the_zone_lacks_is_no_reason_to_forget_what_is_here(tmp_path, error):
    fault = lambda operation, name: error if name.startswith("sha1") else None
    store = Store(tmp_path / "one", Zone("lab", Faulty(tmp_path / "zone", fault)))
    uri = Store(tmp_path / "one").files.store_text("intact")
    item = Item("sha1", uri.partition("://")[2])
    store.uplink.outbox.add(item, durable=False)
    ((what, why),) = store.uplink.push()
    assert what == item and "there" in why
    assert store.uplink.outbox.items() == [item]
    store.zone.backend.fault = lambda operation, name: None
    assert store.uplink.push() == [] and store.uplink.outbox.is_empty()


def test_what_is_lost_here_does_not_wait(tmp_path, lab):
    store = Store(tmp_path / "one", lab.open())
    lost = [Item("sha1", "00" * 20), Item("code", "ab" * 32)]
    for item in lost:
        store.uplink.outbox.add(item, durable=False)
    failed = dict(store.uplink.push())
    assert set(failed) == set(lost) and all("does not wait" in why for why in failed.values())
    assert store.uplink.outbox.is_empty()


# 2: in the background


def pushed(store):
    thread = threading.Thread(target=store.uplink._push_quietly)
    thread.start()
    thread.join(60)


@pytest.fixture
def no_traceback(monkeypatch):
    met = []
    monkeypatch.setattr(threading, "excepthook", met.append)
    yield
    assert met == []


@pytest.mark.filterwarnings("ignore::kachery_store.errors.ZoneWarning")
@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailable("nobody there"),
        StoreTooNew("of the year 3000"),
        StoreUnavailable("the disk is gone", errno.EIO, "LOCAL"),
        RuntimeError("nobody thought of this"),
    ],
)
def test_failures_in_the_background_are_logged_once(tmp_path, caplog, no_traceback, error):
    store = Store(tmp_path / "one", Zone("lab", Faulty(tmp_path / "zone")))
    Store(tmp_path / "one").files.store_text("x")
    item = Item("sha1", hash_buffer("sha1", b"x"))
    store.uplink.outbox.add(item, durable=False)
    if getattr(error, "place", "") == "LOCAL":
        error.place = store.backend.root
    store.zone.backend.fault = lambda operation, name: error
    caplog.set_level(logging.DEBUG, "kachery")
    for _ in range(3):
        pushed(store)
    said = [one for one in caplog.records if one.name == "kachery.store"]
    assert [one.levelname for one in said if one.levelno >= logging.WARNING] == ["WARNING"]
    assert "zone lab" in said[0].getMessage() and str(error) in said[0].getMessage()
    assert store.uplink.outbox.items() == [item]


def test_what_is_dropped_in_the_background_is_logged(tmp_path, lab, caplog, no_traceback):
    store = Store(tmp_path / "one", lab.open())
    store.uplink.outbox.add(Item("sha1", "00" * 20), durable=False)
    pushed(store)
    (said,) = [one for one in caplog.records if one.name == "kachery.store"]
    assert "00" * 20 in said.getMessage() and "does not wait" in said.getMessage()


def test_records_wait_for_a_process_that_knows_them(tmp_path, lab, monkeypatch):
    store, job_id, _ = waiting(tmp_path)
    monkeypatch.setattr(meaning, "_tell", None)
    store.uplink._held_by = None
    ((item, why),) = store.uplink.push()
    assert item == Item("jobs", job_id) and "cannot tell what the records" in why
    assert store.uplink.outbox.items() == [item]


# 4, 10, 11: forgetting


def test_what_is_forgotten_is_not_sent_later(tmp_path, lab):
    store, job_id, _ = waiting(tmp_path)
    large.job(100_000).forget()
    assert Item("jobs", job_id) not in store.uplink.outbox.items()
    assert store.uplink.push() == []
    assert not any(name.startswith("jobs/") for name in in_zone(lab))


@pytest.mark.filterwarnings("ignore::kachery_store.errors.DamagedWarning")
def test_a_zone_of_a_later_kachery_is_not_changed_by_forgetting(tmp_path, lab):
    backend = lab.open().backend
    backend.replace("layout.json", b'{"kachery": "store", "layout": 99}')
    backend.create(f"jobs/ab/{JOB}", b"theirs", durable=True)
    for change in ("remove", "set_aside"):
        store = Store(tmp_path / change, lab.open())
        Store(tmp_path / change).jobs.create(JOB, b"theirs")
        with pytest.raises(StoreTooNew, match="layout 99"):
            getattr(store.jobs, change)(JOB)
    assert backend.read(f"jobs/ab/{JOB}") == b"theirs"


def test_what_a_read_only_zone_has_is_said_to_stay_known(tmp_path, lab, recwarn):
    Store(tmp_path / "one", lab.open()).jobs.create(JOB, b"known")
    reader = Store(tmp_path / "two", lab._replace(read_only=True).open())
    assert reader.jobs.read(JOB) == b"known"
    with pytest.warns(ZoneWarning, match="forgotten here, but zone lab.*read_only = true.* has it"):
        assert reader.jobs.remove(JOB)
    assert reader.jobs.read(JOB) == b"known"
    recwarn.clear()
    assert not reader.jobs.remove("cd" * 32)
    assert not [one for one in recwarn if issubclass(one.category, ZoneWarning)]


# 5: after a refusal


@pytest.mark.filterwarnings("ignore::kachery_store.errors.ZoneWarning")
@pytest.mark.parametrize("what", ["write", "read"])
def test_writing_is_tried_again_some_time_after_a_refusal(tmp_path, what):
    refused = StoreUnavailable("not you", errno.EACCES, "zone")
    backend = Faulty(tmp_path / "zone")
    zone = Zone("lab", backend)
    store = Store(tmp_path / "one", zone)
    store.files.store_text("the first answer")
    backend.fault = lambda operation, name: refused if operation == "create" else None
    uri = store.files.store_text("waits")
    assert zone.is_closed and len(store.uplink.outbox.items()) == 1
    store.files.store_text("waits, too")
    backend.fault = lambda operation, name: None
    zone._closed_until = time.monotonic() - 1
    if what == "write":
        store.files.store_text("goes")
    else:
        with pytest.raises(NotFound):
            store.files.load_bytes("sha1://" + "00" * 20)
    for thread in threading.enumerate():
        if thread.name == "kachery-push":
            thread.join(60)
    assert store.uplink.outbox.is_empty()
    assert Store(tmp_path / "two", Zone("lab", backend)).files.load_text(uri) == "waits"


def test_a_refusal_is_said_once_until_writing_works(tmp_path):
    zone = Zone("lab", LocalBackend(str(tmp_path / "zone"), shared=True))
    refusal = StoreUnavailable("not you", errno.EACCES)
    with pytest.warns(ZoneWarning) as told:
        zone.refused(refusal)
        zone._closed_until = time.monotonic() - 1
        assert zone.is_back() and not zone.is_back()
        zone.refused(refusal)
    assert len(told) == 1
    zone.accepted()
    assert not zone.is_closed
    with pytest.warns(ZoneWarning):
        zone.refused(refusal)


# 6: push and pull of jobs


def test_a_uri_that_is_only_mentioned_is_left_out(tmp_path, lab):
    uri = "sha1://" + "12" * 20
    with ka.using(zone=None):
        text(f"see {uri}")
    job = text.job(f"see {uri}")
    with pytest.warns(ZoneWarning, match=f"mentions {uri}.*left out"):
        sent = push(job)
    assert sent.lost == [] and sent.things >= 1
    with ka.using(dir=tmp_path / "two"):
        with pytest.warns(ZoneWarning, match="left out"):
            pull(job.id)
    with ka.using(dir=tmp_path / "two", zone=None):
        assert text.job(f"see {uri}").cached
    with pytest.raises(NotFound):
        push(uri)


def test_what_only_the_zone_has_need_not_be_sent(tmp_path, lab):
    store, job_id, digest = waiting(tmp_path)
    push("job://" + job_id)
    store.backend.remove(digest.path)
    for name in list(store.backend.names("code")):
        store.backend.remove(name)
    push("job://" + job_id)
    assert store.backend.status(digest.path) is None


# 7, 16: other file systems


class Web:
    """A server that answers with what `answer(handler)` writes."""

    def __init__(self, answer):
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                answer(self)

            do_HEAD = do_GET

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/zone"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def cut_short(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{")


@pytest.mark.filterwarnings("ignore::kachery.UnverifiedWarning")
def test_errors_of_other_file_systems_do_not_end_a_task(tmp_path):
    with Web(cut_short) as web:
        backend = open_backend(web.url)
        with pytest.raises(StoreUnavailable, match="cannot be used"):
            backend.read("x")
        with ka.using(dir=tmp_path / "one", zone=ZoneSettings("web", web.url)):
            with pytest.warns(ZoneWarning, match="zone web"):
                assert text("computed") == "computed"


@pytest.mark.filterwarnings("ignore::kachery.UnverifiedWarning")
@pytest.mark.parametrize("error", [RuntimeError("of a service"), KeyError("size"), OSError("?")])
def test_any_error_of_a_file_system_is_typed(error):
    class Broken:
        def __getattr__(self, name):
            raise error

    backend = open_backend("dummy://x")
    backend._file_system = lambda: Broken()
    for go in (
        lambda: backend.read("a"),
        lambda: backend.status("a"),
        lambda: backend.create("a", b"", durable=True),
        lambda: backend.remove("a"),
        lambda: list(backend.names("a")),
        lambda: backend.quarantine("a"),
    ):
        with pytest.raises(StoreUnavailable, match=type(error).__name__) as caught:
            go()
        assert caught.value.__cause__ is error


@pytest.mark.filterwarnings("ignore::kachery.UnverifiedWarning")
@pytest.mark.parametrize("status", [200, 206])
def test_what_never_ends_does_not_fill_the_memory(status):
    sent = []

    def endless(handler):
        handler.send_response(status)
        handler.end_headers()
        if handler.command == "HEAD":
            return
        try:
            while len(sent) < 400:
                handler.wfile.write(b"x" * (1 << 20))
                sent.append(1)
        except OSError:
            pass

    with Web(endless) as web:
        backend = open_backend(web.url)
        with pytest.raises(DigestMismatch, match="more than"):
            backend.read("x")
        assert len(sent) < 200
        del sent[:]
        assert backend.read("x", 2, 10) == b"x" * 8
        assert len(sent) < 100


@pytest.mark.filterwarnings("ignore::kachery.UnverifiedWarning")
def test_ranges_of_an_unverified_file_system(monkeypatch):
    from kachery_store.remote import generic

    backend = open_backend("memory://ranges")
    backend.create("x", b"0123456789", durable=True)
    monkeypatch.setattr(generic, "_VERIFIED", ())
    assert backend.read("x") == b"0123456789" and backend.read("x", 3) == b"3456789"
    assert backend.read("x", 3, 5) == b"34" and backend.read("x", 8, 99) == b"89"
    assert backend.read("x", 10, 20) == b"" == backend.read("x", 5, 5)
    with pytest.raises(NotFound):
        backend.read("y")


# 8: records


def scalars():
    return (
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63)
        | st.floats()
        | st.text()
        | st.binary()
    )


def anything():
    return st.recursive(
        scalars(),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=20,
    )


GOOD = [
    JOB, "task", "m:f", None, "cd" * 32, [["x", b"a" * 32, "1"]],
    [b"a" * 32, 5, "int", [["m:C", "ef" * 32]], b"x", [[JOB, 0, b"b" * 32, b"c" * 32, 9]]],
    "finished", 1.7e9, 0.25, "host", "user", 1, "3.11.7", "3.0.0", [["m:C", "ef" * 32]], ["m:q"],
]  # fmt: skip


def sealed(fields):
    return seal(MAGIC, VERSION, msgpack.packb(fields))


@st.composite
def nearly_records(draw):
    """A record in which something, at whatever depth, is anything."""
    fields = json.loads(json.dumps(GOOD, default=lambda one: {"bytes": one.decode()}))

    def spoiled(value, depth):
        if isinstance(value, dict):
            value = value["bytes"].encode()
        if isinstance(value, list):
            return [spoiled(one, depth + 1) for one in value]
        return draw(anything()) if draw(st.integers(0, 24)) == 0 else value

    fields = spoiled(fields, 0)
    if draw(st.integers(0, 3)) == 0:
        fields[draw(st.integers(0, len(fields) - 1))] = draw(anything())
    return fields[: draw(st.integers(10, 18))]


@settings(max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(anything() | nearly_records())
def test_a_sealed_record_is_one_or_is_damaged(fields):
    try:
        record = Record.from_bytes(sealed(fields), JOB)
    except DigestMismatch:
        return
    assert Record.from_bytes(record.to_bytes(), JOB) == record
    assert all(address.hex() or not address for _, address, _ in record.arguments)
    time.localtime(record.started)
    assert Trust("lab").objection("jobs", JOB, outgoing(sealed(fields))) is None


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (4, "../../../x"),
        (4, ""),
        (8, float("nan")),
        (8, 1e300),
        (8, "now"),
        (15, [["m:C", "../x"]]),
    ],
)
def test_what_would_lead_elsewhere_is_damaged(place, value):
    assert Record.from_bytes(sealed(GOOD), JOB).task == "m:f"
    assert Record.from_bytes(sealed(GOOD[:16]), JOB).asks == []
    fields = [*GOOD[:place], value, *GOOD[place + 1 :]]
    with pytest.raises(DigestMismatch, match="damaged"):
        Record.from_bytes(sealed(fields), JOB)


# 9, 17: folders


def unmounted(lab, how):
    os.rename(lab.url, lab.url + ".away")
    if how == "empty":
        os.mkdir(lab.url)


@pytest.mark.parametrize("how", ["gone", "empty"])
@pytest.mark.parametrize("same_process", [True, False])
def test_a_folder_that_is_not_mounted_is_not_made_anew(tmp_path, lab, how, same_process):
    store = Store(tmp_path / "one", lab.open())
    uri = store.files.store_text("in the zone")
    unmounted(lab, how)
    if not same_process:
        store = Store(tmp_path / "one", lab.open())
    with pytest.warns(ZoneWarning, match="zone lab: the zone at .* has gone") as told:
        later = store.files.store_text("while it is away")
        with pytest.raises(ka.OutOfReach):
            store.files.load_bytes("sha1://" + "00" * 20)
        assert store.jobs.create(JOB, b"record")
    assert len(told) == 1
    assert not os.path.exists(lab.url) if how == "gone" else os.listdir(lab.url) == []
    if how == "empty":
        os.rmdir(lab.url)
    os.rename(lab.url + ".away", lab.url)
    again = Store(tmp_path / "one", lab.open())
    assert again.uplink.push() == []
    two = Store(tmp_path / "two", lab.open())
    assert two.files.load_text(uri) and two.files.load_text(later)


def test_a_zone_that_was_deleted_on_purpose_begins_anew(tmp_path, lab):
    from click.testing import CliRunner

    from kachery.zone_commands import check_zone

    Store(tmp_path / "one", lab.open()).files.store_text("x")
    shutil.rmtree(lab.url)
    assert CliRunner().invoke(check_zone, ["lab"], catch_exceptions=False).exit_code == 0
    store = Store(tmp_path / "one", lab.open())
    uri = store.files.store_text("y")
    assert Store(tmp_path / "two", lab.open()).files.load_text(uri) == "y"


def test_a_read_only_zone_that_is_not_mounted_is_out_of_reach(tmp_path, lab):
    uri = Store(tmp_path / "one", lab.open()).files.store_text("x")
    settings = lab._replace(read_only=True)
    assert Store(tmp_path / "two", settings.open()).files.load_text(uri) == "x"
    unmounted(lab, "empty")
    with pytest.warns(ZoneWarning), pytest.raises(ka.OutOfReach):
        Store(tmp_path / "two", settings.open()).files.load_bytes("sha1://" + "00" * 20)


def test_a_zone_is_not_made_below_folders_that_are_not_there(tmp_path):
    settings = ZoneSettings("lab", f"{tmp_path}/mnt/lab/zone")
    with pytest.warns(ZoneWarning, match="no folder .*mnt/lab"):
        Store(tmp_path / "one", settings.open()).files.store_text("x")
    assert not os.path.exists(tmp_path / "mnt")


@pytest.mark.parametrize("name", ["sha1/ab", "tmp", "jobs", "quarantine"])
def test_links_do_not_lead_out_of_a_shared_folder(tmp_path, name):
    zone, outside = tmp_path / "zone", tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_text("theirs")
    backend = open_backend(str(zone))
    backend.create("there", b"", durable=True)
    (zone / "tmp/x").unlink(missing_ok=True)
    if name == "tmp":
        os.rmdir(zone / "tmp")
    (zone / name).parent.mkdir(exist_ok=True)
    (zone / name).symlink_to(outside)
    for go in (
        lambda: backend.create(f"{name}/new", b"", durable=True),
        lambda: backend.replace(f"{name}/new", b""),
        lambda: backend.remove(f"{name}/x"),
        lambda: backend.quarantine(f"{name}/x"),
        lambda: sweep.refresh(backend, f"{name}/x"),
    ):
        with pytest.raises(StoreUnavailable, match="symbolic link"):
            go()
    assert os.listdir(outside) == ["x"]


def test_links_in_a_store_of_ones_own_are_ones_own_business(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "store/sha1").symlink_to(tmp_path / "elsewhere")
    uri = Store(tmp_path / "store").files.store_text("x")
    assert Store(tmp_path / "store").files.load_text(uri) == "x"


# 12: descriptions of code


def test_code_that_the_zone_has_lost_is_sent_again(tmp_path, lab, monkeypatch):
    text("one")
    backend, store = lab.open().backend, current().store
    (name,) = backend.names("code")
    backend.remove(name)
    text("two")
    store.uplink._kept.clear()  # as in another process, or much later
    text("three")
    assert list(backend.names("code")) == [name]
    assert backend.read(name) == store.backend.read(name)
    asked = []
    monkeypatch.setattr(uplink, "put_unless_there", lambda *_: asked.append(1))
    text("four")
    assert asked == []  # not each time
    now = time.monotonic()
    monkeypatch.setattr(uplink.time, "monotonic", lambda: now + RENEW_AFTER + 1)
    text("five")
    assert asked == [1]


# 13: quarantine


@pytest.fixture(params=["folder", "memory", "bucket"])
def backend(request, tmp_path):
    if request.param == "bucket":
        bucket = request.getfixturevalue("bucket")
        return ZoneSettings("z", bucket.url, (("endpoint_url", bucket.endpoint),)).open().backend
    url = f"{tmp_path}/zone" if request.param == "folder" else f"memory://{tmp_path}/zone"
    return open_backend(url)


def test_what_was_repaired_meanwhile_stays(backend):
    backend.replace("q", b"damaged")
    seen = backend.status("q")
    backend.replace("q", b"repaired")
    assert backend.quarantine("q", seen) is None
    assert backend.read("q") == b"repaired" and list(backend.names("quarantine")) == []
    assert backend.quarantine("q", backend.status("q")) is not None
    assert backend.status("q") is None and backend.quarantine("q", seen) is None


def test_a_blob_repaired_while_it_was_found_damaged_stays(tmp_path, backend, monkeypatch):
    data = b"intact" * 100
    digest = Digest("sha1", hash_buffer("sha1", data))
    backend.replace(digest.path, b"damage" * 100)
    reads = []
    read = backend.read

    def reading(name, *args):
        found = read(name, *args)
        if name == digest.path:
            reads.append(name)
            if len(reads) == 2:
                backend.replace(name, data)  # by somebody else
        return found

    monkeypatch.setattr(backend, "read", reading)
    local = LocalBackend(str(tmp_path / "one"))
    with pytest.raises(DigestMismatch):
        transfer.fetch(backend, digest, local)
    assert read(digest.path) == data
    transfer.fetch(backend, digest, local)
    assert local.read(digest.path) == data


# 14, 15


def test_an_old_aiobotocore_is_refused(monkeypatch):
    config = pytest.importorskip("aiobotocore.config")

    class Old:
        def __init__(self, connector_args=None, **kwargs):
            pass

    monkeypatch.setattr(config, "AioConfig", Old)
    with pytest.raises(Unsupported, match=r"aiobotocore 2\.12\.2 or later.*pip install"):
        bounded_session()
    backend = open_backend("s3://lab/x", {"endpoint_url": "http://127.0.0.1:9"})
    with pytest.raises(Unsupported, match="aiobotocore"):
        backend.read("x")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EIO])
def test_nothing_goes_on_without_the_lock(tmp_path, monkeypatch, number):
    store = Store(tmp_path / "one")
    uri = store.files.store_text("x")
    opened = os.open

    def failing(path, *args, **kwargs):
        if str(path).endswith(sweep.LOCK_FILE):
            raise OSError(number, os.strerror(number), path)
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(sweep.os, "open", failing)
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        with sweep.locked(store.backend, fcntl.LOCK_EX):
            raise AssertionError("went on")
    name = Digest("sha1", uri.partition("://")[2]).path
    file = sweep.file_of(name, store.backend.stat(name))
    with pytest.raises(StoreUnavailable):
        sweep.take_away(store.backend, file, lambda status: True)
    assert store.files.load_text(uri) == "x"


def test_a_lock_that_cannot_be_had_is_a_typed_error(tmp_path, monkeypatch):
    store = Store(tmp_path / "one")
    store.files.store_text("x")

    def refused(fd, kind):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(sweep.fcntl, "flock", refused)
    with pytest.raises(StoreUnavailable), sweep.locked(store.backend, fcntl.LOCK_SH):
        raise AssertionError("went on")


@pytest.mark.skipif(sys.platform == "win32" or os.getuid() == 0, reason="root may write anywhere")
def test_where_nothing_can_be_written_no_lock_is_needed(tmp_path):
    folder = tmp_path / "one"
    folder.mkdir(mode=0o500)
    with sweep.locked(LocalBackend(str(folder)), fcntl.LOCK_SH):
        pass
