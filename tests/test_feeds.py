"""Feeds: the surface, durability, one writer at a time, following, copies, commands."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import count, run_python
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kachery
from kachery_store.feeds import Keyring
from kachery_store.feeds import writing as feed_writing
from kachery_store.feeds.log import Log
from kachery_store.feeds.memory import Memory
from kachery_store.feeds.names import Place
from kachery_store.feeds.writing import append, integrate
from kachery_store.local_backend import LocalBackend
from kachery_store.remote import open_backend
from kachery_store.signing import Signer


@pytest.fixture(autouse=True)
def user_dir(tmp_path, monkeypatch):
    folder = tmp_path / "user"
    monkeypatch.setenv("KACHERY_USER_DIR", str(folder))
    return folder


def numbers(messages):
    return [message["i"] for message in messages]


def folder_of(store_dir, subfeed):
    return store_dir / "feeds" / subfeed.feed_id / subfeed.subfeed_name


def add_zone(store_dir, name, toml):
    store_dir.mkdir(parents=True, exist_ok=True)
    with open(store_dir / "kachery.toml", "a") as file:
        file.write(f"[zones.{name}]\n{toml}\n")


def test_the_surface_of_kachery_client():
    feed = kachery.create_feed("notes")
    assert feed.uri == f"feed://{feed.feed_id}" and len(feed.feed_id) == 64 and feed.is_writeable
    main = feed.load_subfeed("main")
    assert main.uri == f"{feed.uri}/main" and main.position == 0
    assert main.get_num_local_messages() == 0
    assert main.get_next_message() is None and main.get_next_messages(wait_msec=0) == []
    main.append_message({"i": 0})
    main.append_messages([{"i": 1}, {"i": 2, "text": "ü", "deep": [{"a": None}, 1.5]}])
    main.append_messages([])
    assert main.get_num_local_messages() == 3 and main.position == 0
    assert numbers(main.get_next_messages(max_num_messages=2)) == [0, 1] and main.position == 2
    assert main.get_next_message(advance_position=False)["deep"] == [{"a": None}, 1.5]
    assert numbers(main.get_next_messages()) == [2] and main.get_next_messages() == []
    main.set_position(1)
    assert numbers(main.message_stream(wait_msec=0)) == [1, 2]
    again = kachery.load_feed("notes").load_subfeed("main")
    assert numbers(again.get_next_messages()) == [0, 1, 2]
    assert numbers(kachery.load_subfeed(main.uri).get_next_messages()) == [0, 1, 2]
    assert kachery.get_feed_id("notes") == feed.feed_id and kachery.get_feed_id("other") is None
    assert kachery.load_feed(feed.uri).feed_id == feed.feed_id
    assert kachery.load_feed("new", create=True).is_writeable
    assert feed.subfeed_names() == ["main"]
    kachery.delete_feed("notes")
    with pytest.raises(kachery.NotFound, match="notes"):
        kachery.load_feed("notes")
    assert not kachery.load_feed(feed.uri).is_writeable


def test_signed_messages_can_be_checked_by_themselves():
    import hashlib

    from kachery_store.merkle import leaf_hash, root_of_inclusion
    from kachery_store.note import open_note, parse_checkpoint
    from kachery_store.signing import verify

    main = kachery.create_feed().load_subfeed("main")
    main.append_messages([{"i": i} for i in range(600)])
    main.integrate()
    main.append_messages([{"i": i} for i in range(600, 610)])
    for message in main.get_next_messages(signed=True)[::50]:
        number = message["body"]["messageNumber"]
        assert message["body"]["message"] == {"i": number}
        assert json.loads(message["entry"])["time"] == message["body"]["timestamp"]
        origin = f"kachery/feed/{main.feed_id}/main"
        text = open_note(
            message["checkpoint"].encode(), origin, bytes.fromhex(main.feed_id), verify
        )
        head = parse_checkpoint(text)
        proof = [bytes.fromhex(one) for one in message["proof"]]
        leaf = leaf_hash(message["entry"].encode())
        assert leaf == hashlib.sha256(b"\0" + message["entry"].encode()).digest()
        assert root_of_inclusion(number + 1, head.size, leaf, proof) == head.root


def test_print_messages(capsys):
    main = kachery.create_feed().load_subfeed("main")
    main.append_messages([{"i": 1}, {"i": 2}])
    main.print_messages()
    assert capsys.readouterr().out == '{"i": 1}\n{"i": 2}\n'


def test_what_is_no_message():
    main = kachery.create_feed().load_subfeed("main")
    loop = {}
    loop["loop"] = loop
    for wrong in (
        None,
        [1],
        "text",
        {1: 2},
        {"a": {2: 3}},
        {"a": [{2: 3}]},
        {"a": float("nan")},
        {"a": {1}},
        loop,
        {"a": "x" * 21_000_000},
    ):
        with pytest.raises(kachery.BadMessage):
            main.append_messages([{"good": 1}, wrong])
    assert main.get_num_local_messages() == 0


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "../x",
        ".hidden",
        "-x",
        "a b",
        "ü",
        "x" * 101,
        "a\n",
        "~x",
        None,
        5,
        b"x",
    ],
)
def test_what_is_no_subfeed(name):
    feed = kachery.create_feed()
    with pytest.raises(kachery.BadFeed):
        feed.load_subfeed(name)


@pytest.mark.parametrize(
    "uri",
    [
        "feed://",
        "feed://abc",
        f"feed://{'AB' * 32}",
        f"feed://{'ab' * 32}/..",
        f"feed://{'ab' * 32}/../../keys",
        f"feed://{'ab' * 32}/a/b",
        f"feed://../{'ab' * 32}/a",
    ],
)
def test_what_is_no_feed(uri):
    with pytest.raises(kachery.BadFeed):
        kachery.load_subfeed(uri)
    with pytest.raises((kachery.BadFeed, kachery.NotFound)):
        kachery.load_feed(uri)


def test_subfeeds_named_by_objects():
    feed = kachery.create_feed()
    one, same, other = ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1})
    feed.load_subfeed(one).append_message({"i": 1})
    assert numbers(feed.load_subfeed(same).get_next_messages()) == [1]
    assert feed.load_subfeed(other).get_next_messages(wait_msec=0) == []
    assert kachery.load_subfeed(feed.load_subfeed(one).uri).get_next_message() == {"i": 1}


def test_names_are_local_and_taken_once():
    feed = kachery.create_feed("../../etc/name with anything ü")
    with pytest.raises(kachery.BadFeed, match="already"):
        kachery.create_feed("../../etc/name with anything ü")
    kachery.set_feed_name("second", feed.uri)
    with pytest.raises(kachery.BadFeed, match="already"):
        kachery.set_feed_name("second", feed.uri)
    assert kachery.load_feed("second").feed_id == feed.feed_id
    assert len(Keyring().feeds()) == 1
    for wrong in ("", "x" * 201, "a://b", "\ud800"):
        with pytest.raises(kachery.BadFeed):
            kachery.create_feed(wrong)
    assert len(Keyring().feeds()) == 1


def test_large_messages_are_blobs_that_nothing_collects(store_dir):
    main = kachery.create_feed().load_subfeed("main")
    main.append_messages([{"x": "a" * 59_000}, {"x": "b" * 200_000}, {"x": "c"}])
    blobs = [path for path in (store_dir / "blake3").rglob("*") if path.is_file()]
    assert [path.stat().st_size for path in blobs] == [200_008]
    kachery.gc(files=True, orphans=True, grace=0)
    kachery.gc(max_size=0, files=True, orphans=True, grace=0)
    again = kachery.load_subfeed(main.uri)
    assert [len(m["x"]) for m in again.get_next_messages()] == [59_000, 200_000, 1]
    blobs[0].chmod(0o644)
    blobs[0].write_bytes(b"y" * 200_008)
    with pytest.raises(kachery.DigestMismatch):
        kachery.load_subfeed(main.uri).get_next_messages()
    blobs[0].unlink()
    with pytest.raises(kachery.FeedDamaged, match="missing"):
        kachery.load_subfeed(main.uri).get_next_messages()


def test_finalize(store_dir):
    main = kachery.create_feed().load_subfeed("main")
    reader = kachery.load_subfeed(main.uri)
    main.append_message({"i": 0})
    assert not main.is_finalized and not reader.is_finalized
    main.finalize()
    main.finalize()
    assert numbers(reader.message_stream()) == [0] and reader.is_finalized
    assert reader.get_num_local_messages() == 1
    with pytest.raises(kachery.FeedFinalized):
        main.append_message({"i": 1})
    with pytest.raises(kachery.FeedFinalized):
        kachery.load_feed(f"feed://{main.feed_id}").load_subfeed("main").append_message({"i": 1})


def test_snapshots():
    feed = kachery.create_feed("f")
    feed.load_subfeed("a").append_messages([{"i": i} for i in range(700)])
    feed.load_subfeed("b").append_messages([{"x": "y" * 100_000}])
    snapshot = feed.create_snapshot(["a", "b", "empty"])
    feed.load_subfeed("a").append_message({"i": 700})
    assert snapshot.uri.startswith("sha1://") and not snapshot.is_writeable
    loaded = kachery.load_feed(snapshot.uri)
    assert loaded.feed_id == feed.feed_id
    assert numbers(loaded.load_subfeed("a").get_next_messages()) == list(range(700))
    assert len(loaded.load_subfeed("b").get_next_message()["x"]) == 100_000
    assert loaded.load_subfeed("empty").get_next_messages(wait_msec=0) == []
    with pytest.raises(kachery.NotWriteable):
        loaded.load_subfeed("a").append_message({})
    for content in ({}, [], {"format": "kachery feed snapshot 1"}, {"subfeeds": {}}):
        uri = kachery.store_json(content)
        with pytest.raises(kachery.BadFeed):
            kachery.load_feed(uri)


def test_a_changed_snapshot_is_refused():
    feed = kachery.create_feed("f")
    feed.load_subfeed("a").append_messages([{"i": i} for i in range(3)])
    content = kachery.load_json(feed.create_snapshot(["a"]).uri)
    entries = content["subfeeds"]["a"]["entries"]
    for change in (
        lambda: entries.reverse(),
        lambda: entries.pop(),
        lambda: entries.append("AA=="),
    ):
        original = list(entries)
        change()
        with pytest.raises(kachery.FeedDamaged):
            kachery.load_feed(kachery.store_json(content)).load_subfeed("a").get_next_messages()
        entries[:] = original
    assert kachery.load_feed(kachery.store_json(content)).load_subfeed("a").get_next_messages()


def test_watching_several():
    feed = kachery.create_feed()
    feed.load_subfeed("a").append_messages([{"i": 0}, {"i": 1}])
    feed.load_subfeed("b").append_message({"i": 5})
    watched = {
        "a": {"feedId": feed.feed_id, "subfeedName": "a", "position": 1},
        "b": {"feedId": feed.feed_id, "subfeedName": "b", "position": 1},
    }
    assert kachery.watch_for_new_messages(watched) == {"a": [{"i": 1}]}
    watched["a"]["position"] = 2
    assert kachery.watch_for_new_messages(watched, wait_msec=5) == {}
    thread = threading.Timer(0.05, lambda: feed.load_subfeed("b").append_message({"i": 6}))
    thread.start()
    assert kachery.watch_for_new_messages(watched, wait_msec=60_000) == {"b": [{"i": 6}]}
    thread.join()


FOLLOWER = """
import sys, kachery
for message in kachery.load_subfeed(sys.argv[1]).message_stream():
    print(message["i"], flush=True)
"""


def test_another_process_follows():
    main = kachery.create_feed().load_subfeed("main")
    main.append_message({"i": 0})
    follower = subprocess.Popen(
        [sys.executable, "-c", FOLLOWER, main.uri], stdout=subprocess.PIPE, text=True
    )
    try:
        assert follower.stdout.readline() == "0\n"
        for i in range(1, 200):
            main.append_message({"i": i})
            if i % 50 == 0:
                assert follower.stdout.readline()
        main.finalize()
        assert len(follower.stdout.read().split()) == 196
        assert follower.wait() == 0
    finally:
        follower.kill()
        follower.wait()
        follower.stdout.close()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.sampled_from([1, 2, 5, 255, 256, 257, 600])),
        st.tuples(st.just("integrate"), st.just(0)),
        st.tuples(st.just("reopen"), st.just(0)),
        st.tuples(st.just("read"), st.integers(0, 700)),
    ),
    max_size=12,
)


@settings(
    max_examples=count(200, 15),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps)
def test_whatever_is_done_messages_come_back_in_order(steps):
    feed = kachery.create_feed()
    writer, reader = feed.load_subfeed("s"), kachery.load_subfeed(f"{feed.uri}/s")
    total = 0
    for kind, n in steps:
        if kind == "append":
            writer.append_messages([{"i": total + i} for i in range(n)])
            total += n
        elif kind == "integrate":
            writer.integrate()
        elif kind == "reopen":
            writer = feed.load_subfeed("s")
        else:
            start = min(n, total)
            reader.set_position(start)
            wanted = list(range(start, total))
            assert numbers(reader.get_next_messages(wait_msec=0)) == wanted
    assert kachery.verify_feed(feed.uri) == {"s": total} if total else True


def test_many_processes_append_to_one_subfeed(store_dir):
    feed = kachery.create_feed("f")
    code = """
    import sys, kachery
    main = kachery.load_feed("f").load_subfeed("main")
    for i in range(int(sys.argv[2])):
        main.append_message({"who": sys.argv[1], "i": i})
    """
    each = count(300, 60)
    threads = [threading.Thread(target=run_python, args=(code, who, each)) for who in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    messages = feed.load_subfeed("main").get_next_messages()
    for who in "abc":
        assert [m["i"] for m in messages if m["who"] == who] == list(range(each))
    assert kachery.verify_feed("f") == {"main": 3 * each}


def test_threads_append_to_one_subfeed():
    feed = kachery.create_feed("f")

    def write(who):
        main = kachery.load_feed("f").load_subfeed("main")
        for i in range(30):
            main.append_messages([{"who": who, "i": i}])

    threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    messages = feed.load_subfeed("main").get_next_messages()
    for who in range(4):
        assert [m["i"] for m in messages if m["who"] == who] == list(range(30))


WRITER = """
import sys, kachery
main = kachery.load_feed("f").load_subfeed("main")
who = sys.argv[1]
i = 0
while True:
    size = 1 + i % 40
    main.append_messages([{"who": who, "i": i + k} for k in range(size)])
    i += size
    print(i, flush=True)
"""


@pytest.mark.parametrize(("where", "times"), [("here", (100, 4)), ("bucket", (20, 2))])
def test_kill_9_loses_nothing_acknowledged(where, times, store_dir, user_dir, request):
    """Two writers at a time, killed at random points; a reader follows all the while."""
    import random

    if where == "bucket":
        add_zone(store_dir, "lab", request.getfixturevalue("bucket").toml)
    feed = kachery.create_feed("f", zone="lab" if where == "bucket" else None)
    reader = kachery.load_subfeed(f"{feed.uri}/main")
    rng = random.Random(5)
    acknowledged = {}
    for attempt in range(count(*times)):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, f"{attempt}.{n}"], stdout=subprocess.PIPE, text=True
            )
            for n in range(2)
        ]
        try:
            for writer in writers:
                for _ in range(rng.randrange(1, 40)):
                    acknowledged[writer.args[-1]] = int(writer.stdout.readline())
        finally:  # also when a writer failed: then its line is empty
            for writer in writers:
                writer.send_signal(signal.SIGKILL)
        for writer in writers:
            for line in writer.stdout.read().splitlines():
                acknowledged[writer.args[-1]] = int(line)
            writer.wait()
            writer.stdout.close()
        reader.get_next_messages(wait_msec=0)  # would raise FeedForked
    everything = kachery.load_subfeed(reader.uri).get_next_messages()
    for who, least in acknowledged.items():
        mine = [m["i"] for m in everything if m["who"] == who]
        assert mine == list(range(len(mine))) and len(mine) >= least
    main = kachery.load_feed("f").load_subfeed("main")
    main.append_message({"who": "last", "i": 0})
    main.integrate()
    assert kachery.verify_feed("f") == {"main": len(everything) + 1}
    assert list(folder_of(store_dir, main).glob("staged/*")) == []


KILLED_AT = """
import os, signal, sys, kachery
from kachery_store import local_backend
calls = 0
def counted(method):
    def run(*args, **kwargs):
        global calls
        calls += 1
        if calls == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*args, **kwargs)
    return run
main = kachery.load_feed("f").load_subfeed("main")
for cls, name in (
    (local_backend.TemporaryFile, "_link"),
    (local_backend.TemporaryFile, "discard"),
    (local_backend.LocalBackend, "replace"),
    (local_backend.LocalBackend, "remove"),
):
    setattr(cls, name, counted(getattr(cls, name)))
main.append_messages([{"i": i} for i in range(300)])
print("acknowledged", flush=True)
main.integrate()
print("done", flush=True)
"""


def test_kill_9_at_each_step_of_integration(store_dir):
    kachery.create_feed("f")
    total, step, done = 0, 0, False
    while not done:
        step += 1
        ran = run_python(KILLED_AT, step, check=False)
        done = "done" in ran.stdout
        main = kachery.load_feed("f").load_subfeed("main")
        now = main.get_num_local_messages()
        assert now in ((total + 300,) if "acknowledged" in ran.stdout else (total, total + 300))
        total = now
        main.integrate()
        assert total == 0 or kachery.verify_feed("f") == {"main": total}
    assert step > 12
    assert list(folder_of(store_dir, main).glob("staged/*")) == []
    assert numbers(main.get_next_messages()) == [i % 300 for i in range(total)]


def test_a_second_integrator_writes_the_same_bytes(tmp_path):
    """Without the key, from the same batches, on another machine."""
    import shutil

    signer = Signer(b"k" * 32)
    place = Place(signer.public.hex(), "s")
    log = Log(LocalBackend(str(tmp_path / "a")), place)
    for i in range(10):
        append(log, signer, [b'{"message":{"i":%d},"time":1}' % (i * 100 + k) for k in range(100)])
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert integrate(log)
    assert integrate(Log(LocalBackend(str(tmp_path / "b")), place))

    def files(name):
        root = tmp_path / name / "feeds"
        return {
            str(p.relative_to(root)): p.read_bytes()
            for p in root.rglob("*")
            if p.is_file() and p.name != "writer.lock"
        }

    assert files("a") == files("b") and len(files("a")) == 10


def test_a_writer_that_slept_is_fenced(tmp_path, monkeypatch):
    """It stages at an old place after others integrated and took the batch there away."""
    signer = Signer(b"k" * 32)
    place = Place(signer.public.hex(), "s")
    backend = LocalBackend(str(tmp_path / "a"))
    awake, asleep = Log(backend, place), Log(backend, place)
    append(awake, signer, [b'{"message":{"i":0},"time":1}'])
    asleep.refresh()
    append(awake, signer, [b'{"message":{"i":1},"time":1}'])
    integrate(awake)
    assert backend.status(place.staged(asleep.size)) is None
    append(asleep, signer, [b'{"message":{"i":2},"time":1}'])
    found = list(awake.entries(0, 9)) if awake.refresh() else []
    assert [json.loads(e)["message"]["i"] for e in found[1:]] == [0, 1, 2]
    integrate(awake)
    assert list(backend.names(place.file("staged"))) == []


def test_of_two_writers_at_one_place_one_is_first(tmp_path):
    """The other one finds the name taken, and goes on behind the first; no lock has a part in it."""
    signer = Signer(b"k" * 32)
    place = Place(signer.public.hex(), "s")
    backend = LocalBackend(str(tmp_path / "a"))
    one, two = Log(backend, place), Log(backend, place)
    append(one, signer, [b'{"message":{"i":0},"time":1}'])
    two.refresh()
    append(one, signer, [b'{"message":{"i":1},"time":1}'])
    append(two, signer, [b'{"message":{"i":2},"time":1}'])
    one.refresh()
    found = [json.loads(e)["message"]["i"] for e in one.entries(1, 9)]
    assert found == [0, 1, 2] and one.head == two.head


def test_a_reader_does_not_take_what_a_fenced_writer_staged(tmp_path):
    """The batch of a writer that slept, and was killed before it saw that it was too late."""
    from kachery_store.feeds.batch import make_batch

    signer = Signer(b"k" * 32)
    place = Place(signer.public.hex(), "s")
    backend = LocalBackend(str(tmp_path / "a"))
    writer, reader = Log(backend, place), Log(backend, place)
    append(writer, signer, [b'{"message":{"i":0},"time":1}'])
    reader.refresh()
    stale, _ = make_batch(place, signer, writer.frontier, [b'{"message":{"i":"no"},"time":1}'])
    start = writer.size
    append(writer, signer, [b'{"message":{"i":1},"time":1}'])
    integrate(writer)
    assert backend.create(place.staged(start), stale, durable=True)
    assert reader.refresh() and reader.head == writer.head
    assert b"no" not in b"".join(reader.entries(0, 9))


def test_a_writer_waits_for_the_lock_and_gives_up(store_dir, monkeypatch):
    import fcntl

    main = kachery.create_feed().load_subfeed("main")
    main.append_message({"i": 0})
    monkeypatch.setattr(feed_writing, "_WAIT_SECONDS", 0.05)
    with open(folder_of(store_dir, main) / "writer.lock") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(kachery.Busy, match=r"writer\.lock"):
            main.append_message({"i": 1})
        with pytest.raises(kachery.Busy):
            main.integrate()
    main.append_message({"i": 2})
    assert numbers(main.get_next_messages()) == [0, 2]


def test_what_is_acknowledged_is_on_the_disk(store_dir, monkeypatch):
    """The file, its folder, and once all folders above it; tiles before the checkpoint before removal."""
    events = []
    real_fsync, real_unlink, real_replace = os.fsync, os.unlink, os.replace

    def fsync(fd):
        status = os.fstat(fd)
        events.append(("fsync", (status.st_dev, status.st_ino)))
        real_fsync(fd)

    def unlink(path, **options):
        events.append(("unlink", str(path)))
        real_unlink(path, **options)

    def replace(a, b):
        events.append(("replace", str(b)))
        real_replace(a, b)

    def synced(path):
        status = os.stat(path)
        return ("fsync", (status.st_dev, status.st_ino)) in events

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "unlink", unlink)
    monkeypatch.setattr(os, "replace", replace)
    main = kachery.create_feed().load_subfeed("main")
    for number in range(2):
        events.clear()
        main.append_message({"i": number})
        last = max((folder_of(store_dir, main) / "staged").iterdir())
        assert synced(last) and synced(last.parent)
        if number == 0:
            assert all(synced(f) for f in last.parents if f.is_relative_to(store_dir))
    main.append_messages([{"i": i} for i in range(300)])
    events.clear()
    main.integrate()
    tiles = [p for p in (folder_of(store_dir, main) / "tile").rglob("*") if p.is_file()]
    checkpoint = str(folder_of(store_dir, main) / "checkpoint")
    put = events.index(("replace", checkpoint))
    before, after = events[:put], events[put:]
    for path in [p for tile in tiles for p in (tile, tile.parent)]:
        status = path.stat()
        assert ("fsync", (status.st_dev, status.st_ino)) in before
    assert not [e for e in before if e[0] == "unlink" and "staged" in e[1]]
    removed = [at for at, e in enumerate(after) if e[0] == "unlink" and "staged" in e[1]]
    status = os.stat(os.path.dirname(checkpoint))
    assert after.index(("fsync", (status.st_dev, status.st_ino))) < removed[0]


def test_without_room_nothing_is_acknowledged(store_dir, monkeypatch):
    main = kachery.create_feed().load_subfeed("main")
    main.append_message({"i": 0})

    def full(*args, **kwargs):
        raise OSError(28, "the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(kachery.StoreUnavailable, match="Free some space"):
            main.append_message({"i": 1})
    main.append_message({"i": 2})
    assert numbers(main.get_next_messages()) == [0, 2]


def test_staged_batches_are_integrated_by_themselves(store_dir, monkeypatch):
    monkeypatch.setattr(feed_writing, "INTEGRATE_BATCHES", 8)
    main = kachery.create_feed().load_subfeed("main")
    for i in range(30):
        main.append_message({"i": i})
    assert len(list(folder_of(store_dir, main).glob("staged/*"))) == 6
    assert (folder_of(store_dir, main) / "checkpoint").read_text().split("\n")[1] == "25"


def test_a_feed_in_a_shared_folder(store_dir, tmp_path):
    (tmp_path / "lab").mkdir()
    add_zone(store_dir, "lab", f'url = "{tmp_path}/lab/zone"')
    feed = kachery.create_feed("f", zone="lab")
    feed.load_subfeed("s").append_messages([{"i": i} for i in range(300)])
    assert (tmp_path / f"lab/zone/feeds/{feed.feed_id}/s/staged").exists()
    assert not (store_dir / "feeds").exists()
    assert numbers(kachery.load_feed("f").load_subfeed("s").get_next_messages()) == list(range(300))


def test_publish_and_subscribe(store_dir, tmp_path, monkeypatch):
    (tmp_path / "lab").mkdir()
    zone = f'url = "{tmp_path}/lab/zone"'
    add_zone(store_dir, "lab", zone)
    feed = kachery.create_feed("f")
    main = feed.load_subfeed("main")
    main.append_messages([{"i": i} for i in range(1000)] + [{"i": 1000, "x": "y" * 100_000}])
    assert kachery.publish_feed("f", "lab") == {"main": 1002}
    assert kachery.publish_feed("f", "lab") == {"main": 0}
    main.append_message({"i": 1001})
    feed.load_subfeed("second").append_message({"i": 0})
    assert kachery.publish_feed("f", "lab") == {"main": 1, "second": 1 + 1}

    other = tmp_path / "other"
    monkeypatch.setenv("KACHERY_DIR", str(other))
    monkeypatch.setenv("KACHERY_USER_DIR", str(tmp_path / "other user"))
    add_zone(other, "lab", zone)
    with pytest.raises(kachery.NotFound, match="which zone"):
        kachery.subscribe_feed(feed.uri)
    with kachery.using(zone="lab"):
        remote = kachery.load_feed(feed.uri)
        assert not remote.is_writeable and remote.subfeed_names() == ["main", "second"]
        assert numbers(remote.load_subfeed("main").get_next_messages()) == list(range(1002))
    assert kachery.subscribe_feed(feed.uri, "lab") == {"main": 1003, "second": 2}
    assert kachery.subscribe_feed(f"{feed.uri}/main", "lab") == {"main": 0}
    assert numbers(kachery.load_subfeed(main.uri).get_next_messages()) == list(range(1002))
    assert kachery.verify_feed(feed.uri) == {"main": 1002, "second": 1}
    with pytest.raises(kachery.NotWriteable, match="elsewhere"):
        kachery.load_subfeed(main.uri).append_message({})


def test_a_zone_that_cannot_keep_feeds(store_dir):
    add_zone(store_dir, "memory", 'url = "memory://feeds"')
    with pytest.raises(kachery.Unsupported, match="conditionally"):
        kachery.create_feed("f", zone="memory").load_subfeed("s").append_message({"i": 0})


def test_a_feed_in_a_bucket(store_dir, bucket, tmp_path, monkeypatch):
    add_zone(store_dir, "lab", bucket.toml)
    feed = kachery.create_feed("f", zone="lab")
    main = feed.load_subfeed("main")
    main.append_messages([{"i": i} for i in range(300)] + [{"i": 300, "x": "y" * 100_000}])
    main.integrate()
    main.append_messages([{"i": 301}])
    two = kachery.load_feed("f").load_subfeed("main")
    two.append_message({"i": 302})
    main.append_message({"i": 303})
    assert numbers(kachery.load_subfeed(main.uri).get_next_messages()) == list(range(304))
    assert two.integrate() and main.get_num_local_messages() == 304
    assert kachery.verify_feed("f") == {"main": 304}
    monkeypatch.setenv("KACHERY_DIR", str(tmp_path / "other"))
    monkeypatch.setenv("KACHERY_USER_DIR", str(tmp_path / "other user"))
    add_zone(tmp_path / "other", "lab", bucket.toml)
    assert kachery.subscribe_feed(feed.uri, "lab") == {"main": 305}
    assert numbers(kachery.load_subfeed(main.uri).get_next_messages()) == list(range(304))


def test_writers_race_in_a_bucket(store_dir, bucket):
    """Without locks: the conditional writes alone keep the order."""
    add_zone(store_dir, "lab", bucket.toml)
    feed = kachery.create_feed("f", zone="lab")
    code = """
    import sys, kachery
    main = kachery.load_feed("f").load_subfeed("main")
    for i in range(20):
        main.append_message({"who": sys.argv[1], "i": i})
        if i % 4 == 3:
            main.integrate()
    """
    threads = [threading.Thread(target=run_python, args=(code, who)) for who in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    messages = feed.load_subfeed("main").get_next_messages()
    for who in "ab":
        assert [m["i"] for m in messages if m["who"] == who] == list(range(20))
    feed.load_subfeed("main").integrate()
    assert kachery.verify_feed("f") == {"main": 40}


def test_requests_to_a_bucket(store_dir, bucket, monkeypatch):
    """One PUT acknowledges a batch; who follows asks for two objects each time, and lists nothing."""
    url, options = bucket.url, {"endpoint_url": bucket.endpoint}
    asked = []

    class Counting:
        def __init__(self, backend):
            self._backend = backend

        def __getattr__(self, name):
            found = getattr(self._backend, name)
            if name in (
                "read",
                "status",
                "create",
                "replace",
                "swap",
                "names",
                "entries",
                "remove",
            ):
                return lambda *a, **k: (asked.append(name), found(*a, **k))[1]
            return found

    signer = Signer(b"k" * 32)
    place = Place(signer.public.hex(), "s")
    backend = Counting(open_backend(url, options))
    assert backend.capabilities.swap
    log, reader = Log(backend, place), Log(backend, place)
    append(log, signer, [b'{"message":{"i":0},"time":1}'])
    reader.refresh()
    asked.clear()
    batches = 60  # fewer than are integrated by themselves
    for _ in range(batches):
        append(log, signer, [b'{"message":{"i":1},"time":1}'] * 8)
    assert asked.count("create") == batches and set(asked) == {"create", "read"}
    integrate(log)
    writes = sum(asked.count(name) for name in ("create", "replace", "swap"))
    assert writes <= 1.2 * batches
    reader.refresh()
    asked.clear()
    assert not reader.refresh()
    assert asked == ["read", "read"]


def test_a_checkpoint_in_a_bucket_never_goes_back(bucket):
    """Somebody integrates between the moment that another looks at the checkpoint and replaces it."""
    backend = open_backend(bucket.url, {"endpoint_url": bucket.endpoint})
    signer = Signer(b"k" * 32)
    place = Place(signer.public.hex(), "s")
    slow, fast = Log(backend, place), Log(backend, place)
    append(slow, signer, [b'{"message":{"i":0},"time":1}'])
    integrate(slow)
    append(slow, signer, [b'{"message":{"i":1},"time":1}'])

    class Overtaken:
        def __getattr__(self, name):
            return getattr(backend, name)

        def read(self, name, *span):
            found = backend.read(name, *span)
            append(fast, signer, [b'{"message":{"i":2},"time":1}'])
            integrate(fast)
            return found

    known, note = slow.checkpoint, slow.note
    assert not feed_writing.put_checkpoint(Overtaken(), place, note, known)
    assert backend.read(place.checkpoint) == fast.note
    slow.refresh()
    assert slow.size == 4


def test_what_others_append_while_it_is_read_is_no_rollback(tmp_path):
    """They remember their head after the end was looked for, and before it is compared."""
    signer, memory = Signer(b"k" * 32), Memory(str(tmp_path / "memory"))
    place = Place(signer.public.hex(), "s")
    backend = LocalBackend(str(tmp_path / "a"))
    other = Log(backend, place, memory)
    append(other, signer, [b'{"message":{"i":0},"time":1}'])

    class Overtaken:
        def __getattr__(self, name):
            return getattr(backend, name)

        def read(self, name, *span):
            try:
                return backend.read(name, *span)
            except kachery.NotFound:
                if "staged" in name and other.size == 2:
                    append(other, signer, [b'{"message":{"i":1},"time":1}'])
                raise

    reader = Log(Overtaken(), place, memory)
    assert reader.refresh() and reader.size == 2 and other.size == 3
    assert reader.refresh() and reader.size == 3


def kachery_command(*args, input=None):
    command = os.path.join(os.path.dirname(sys.executable), "kachery")
    return subprocess.run(
        [command, "feed", *args], capture_output=True, text=True, timeout=120, input=input
    )


def test_commands(store_dir, tmp_path):
    (tmp_path / "lab").mkdir()
    add_zone(store_dir, "lab", f'url = "{tmp_path}/lab/zone"')
    uri = kachery_command("create", "notes").stdout.strip()
    assert kachery.load_feed("notes").uri == uri
    assert kachery_command("list").stdout.split() == ["notes", uri]
    assert kachery_command("append", "notes/main", '{"i": 0}', '{"i": 1}').returncode == 0
    lines = "".join(f'{{"i": {i}}}\n' for i in range(2, 600))
    assert "appended 598" in kachery_command("append", f"{uri}/main", input=lines).stderr
    read = kachery_command("read", "notes/main", "--from", "590").stdout.splitlines()
    assert [json.loads(line)["i"] for line in read] == list(range(590, 600))
    signed = kachery_command("read", "notes/main", "--from", "599", "--signed").stdout
    assert json.loads(signed)["body"]["messageNumber"] == 599
    assert kachery_command("append", "notes/main", "--final").returncode == 0
    followed = kachery_command("read", "notes/main", "--follow").stdout
    assert len(followed.splitlines()) == 600
    assert kachery_command("verify", "notes").stdout.startswith("main: 600 messages")
    assert "main: 602 new" in kachery_command("publish", "notes", "--zone", "lab").stdout
    assert kachery_command("verify", "notes/main", "--zone", "lab").returncode == 0
    for wrong in (
        ("append", "notes/main", "{}"),
        ("append", "notes/other", "nonsense"),
        ("append", "notes", "{}"),
        ("read", "unknown/main"),
        ("create", "notes"),
        ("verify", "notes/empty"),
    ):
        failed = kachery_command(*wrong)
        if wrong[0] == "verify":
            assert failed.stdout.startswith("empty: 0 messages")
            continue
        assert failed.returncode == 1 and failed.stderr.startswith("kachery: "), wrong
        assert "Traceback" not in failed.stderr


def test_subscribe_command(store_dir, tmp_path, monkeypatch):
    (tmp_path / "lab").mkdir()
    zone = f'url = "{tmp_path}/lab/zone"'
    add_zone(store_dir, "lab", zone)
    feed = kachery.create_feed("f", zone="lab")
    feed.load_subfeed("s").append_message({"i": 0})
    monkeypatch.setenv("KACHERY_DIR", str(tmp_path / "other"))
    monkeypatch.setenv("KACHERY_USER_DIR", str(tmp_path / "other user"))
    add_zone(tmp_path / "other", "lab", zone)
    done = kachery_command("subscribe", feed.uri, "--zone", "lab", "--name", "theirs")
    assert done.stdout == "s: 2 new entries\n"
    assert kachery_command("read", "theirs/s").stdout == '{"i": 0}\n'
    assert "(only read)" in kachery_command("list").stdout


def test_import_is_light():
    loaded = run_python(
        "import sys, kachery; kachery.load_feed; print('cryptography' in sys.modules)"
    )
    assert loaded.stdout.strip() == "False"


def test_private_keys_are_out_of_reach(store_dir, user_dir, tmp_path):
    feed = kachery.create_feed("f")
    feed.load_subfeed("s").append_message({"i": 0})
    (key,) = (user_dir / "keys").iterdir()
    private = json.loads(key.read_text())["private"]
    assert key.stat().st_mode & 0o777 == 0o600 and (user_dir / "keys").stat().st_mode & 0o077 == 0
    for path in Path(tmp_path).rglob("*"):
        if path.is_file() and path != key:
            assert private.encode() not in path.read_bytes()
    for name in ("keys", "@keys/x", f"../user/keys/{key.name}", "@../keys"):
        try:
            assert kachery.get_mutable_local(name) is None
        except kachery.BadMutable:
            pass
    key.chmod(0o640)
    with pytest.raises(kachery.BadKey, match="no secret"):
        kachery.load_feed("f")
