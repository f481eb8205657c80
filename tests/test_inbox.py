"""Inboxes: many write to a feed without its key, nothing is lost, nothing is there twice."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import submission_vectors
from conftest import count, run_python
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kachery
from kachery_store.feeds import inbox as inbox_module
from kachery_store.feeds import integrating
from kachery_store.feeds.entries import parse_entry
from kachery_store.feeds.inbox import listed
from kachery_store.feeds.looking import writer_of
from kachery_store.feeds.names import Place
from kachery_store.feeds.source import Source
from kachery_store.feeds.submission import parse_name, parse_submission
from kachery_store.feeds.writing import append
from kachery_store.identity import own_identity
from kachery_store.remote import open_backend
from kachery_tasks.trusted_keys import Trusted, trust

VECTORS = json.loads(submission_vectors.FILE.read_text())
PLACE = Place(VECTORS["feed"], VECTORS["subfeed"])


def numbers(subfeed):
    again = kachery.load_subfeed(subfeed.uri, zone="lab")
    return [message["i"] for message in again.get_next_messages(wait_msec=0)]


class Lab(NamedTuple):
    """A zone, an owner with a feed in it, and others, who have folders of their own."""

    monkeypatch: object
    tmp_path: Path
    zone: str  # what kachery.toml says of it
    folder: Path  # where it is, if it is one

    def become(self, who):
        """Go on as another user, on another machine."""
        self.monkeypatch.setenv("KACHERY_DIR", str(self.tmp_path / who / "store"))
        self.monkeypatch.setenv("KACHERY_USER_DIR", str(self.tmp_path / who / "user"))
        config = self.tmp_path / who / "store/kachery.toml"
        if not config.exists():
            config.parent.mkdir(parents=True)
            config.write_text(f"[zones.lab]\n{self.zone}\n")
        return own_identity().public.hex()

    def environment(self, who):
        """What the processes of that user get."""
        return {
            **os.environ,
            "KACHERY_DIR": str(self.tmp_path / who / "store"),
            "KACHERY_USER_DIR": str(self.tmp_path / who / "user"),
        }

    def owned(self):
        """The owner's subfeed."""
        self.become("owner")
        return kachery.load_feed("f", create=True, zone="lab").load_subfeed("main")

    def theirs(self, who, uri):
        """The subfeed as somebody else has it; who that is."""
        key = self.become(who)
        return kachery.load_subfeed(uri, zone="lab"), key

    def waiting(self, main):
        """The files in the inbox."""
        return sorted((self.folder / f"feeds/{main.feed_id}/main/inbox").rglob("*-*"))


@pytest.fixture
def lab(tmp_path, monkeypatch):
    (tmp_path / "lab").mkdir()
    folder = tmp_path / "lab/zone"
    return Lab(monkeypatch, tmp_path, f'url = "{folder}"', folder)


@pytest.fixture(params=["folder", "bucket"])
def anywhere(request, tmp_path, monkeypatch):
    if request.param == "folder":
        return request.getfixturevalue("lab")
    bucket = request.getfixturevalue("bucket")
    return Lab(monkeypatch, tmp_path, bucket.toml, tmp_path)


def test_from_submission_to_message(anywhere):
    lab, main = anywhere, anywhere.owned()
    main.append_message({"i": 0})
    theirs, bob = lab.theirs("bob", main.uri)
    theirs.submit_messages([{"i": 1}, {"i": 2, "large": "x" * 100_000}])
    theirs.submit_message({"i": 3})
    with pytest.raises(kachery.NotWriteable, match="submit_messages, or kachery feed submit"):
        theirs.append_message({"i": 4})
    main = lab.owned()
    assert [(one.writer, len(one.messages)) for one in main.inbox()] == [(bob, 2), (bob, 1)]
    assert list(main.inbox(["ab" * 32])) == []
    assert main.integrate_inbox().waiting == {bob: 2}  # nobody is trusted
    assert numbers(main) == [0]
    assert main.integrate_inbox(writers=[bob]).accepted == 3
    assert numbers(main) == [0, 1, 2, 3] and list(main.inbox()) == []
    assert main.integrate_inbox(writers=[bob]) == integrating.Integrated()
    signed = kachery.load_subfeed(main.uri, zone="lab").get_next_messages(signed=True)
    assert [one["body"].get("writer") for one in signed] == [None, bob, bob, bob]
    main.integrate()
    assert kachery.verify_feed(main.uri, zone="lab") == {"main": 4}


def test_whom_the_owner_trusts(lab):
    main = lab.owned()
    keys = {}
    for number, who in enumerate(["ann", "bob", "cai", "dan", "eve"]):
        theirs, keys[who] = lab.theirs(who, main.uri)
        theirs.submit_message({"i": number})
    main = lab.owned()
    trust(Trusted(keys["ann"]))
    trust(Trusted(keys["bob"], until=1.0))
    trust(Trusted(keys["cai"], task="*"))  # for records of tasks, not for messages
    trust(Trusted(keys["dan"], zone="elsewhere"))
    trust(Trusted(keys["eve"], zone="lab"))
    main.submit_message({"i": 9})  # one's own
    done = main.integrate_inbox()
    assert numbers(main) == [0, 4, 9] and done.accepted == 3
    assert done.waiting == {keys["bob"]: 1, keys["cai"]: 1, keys["dan"]: 1}


def test_a_policy_decides(lab):
    main = lab.owned()
    theirs, bob = lab.theirs("bob", main.uri)
    theirs.submit_messages([{"i": i} for i in range(6)])
    main, asked = lab.owned(), []

    def policy(message, writer):
        asked.append((message["i"], writer))
        given = message["i"]
        message["i"] = -1  # changes nothing
        return {"i": 100 * given, "was": given} if given % 3 == 2 else given % 3 == 0

    done = main.integrate_inbox(policy)
    assert asked == [(i, bob) for i in range(6)]
    assert (done.accepted, done.refused, done.waiting) == (4, 2, {})
    assert numbers(main) == [0, 200, 3, 500] and lab.waiting(main) == []
    main.set_position(0)
    signed = main.get_next_messages(signed=True)
    assert {one["body"]["writer"] for one in signed} == {bob}
    changed = [json.loads(one["entry"])["from"].get("submitted") for one in signed]
    assert [one is not None for one in changed] == [False, True, False, True]


@pytest.mark.parametrize("answer", [None, 1, "yes", [True]])
def test_what_is_no_answer_changes_nothing(lab, answer):
    main = lab.owned()
    main.submit_message({"i": 0})
    with pytest.raises(TypeError, match="True, False or another message"):
        main.integrate_inbox(lambda *_: answer)
    with pytest.raises(kachery.BadMessage):
        main.integrate_inbox(lambda *_: {"i": {1}})
    assert main.get_num_local_messages() == 0 and len(lab.waiting(main)) == 1
    assert main.integrate_inbox().accepted == 1


def test_more_than_one_file_or_batch_can_have(lab):
    main = lab.owned()
    theirs, bob = lab.theirs("bob", main.uri)
    theirs.submit_messages([{"i": i} for i in range(5000)])
    theirs.submit_messages([{"i": i, "x": "y" * 9_000_000} for i in range(5000, 5003)])
    theirs.submit_message({"i": 5003, "x": "y" * 19_900_000})
    assert len(lab.waiting(main)) == 2 + 3 + 1
    with pytest.raises(kachery.BadMessage, match="too large"):
        theirs.submit_messages([{"i": 0}, {"x": "y" * 20_000_000}])
    assert len(lab.waiting(main)) == 6
    main = lab.owned()
    assert main.integrate_inbox(writers=[bob]).accepted == 5004
    assert numbers(main) == list(range(5004))


def test_the_oldest_first_and_the_rest_another_time(lab, monkeypatch):
    main = lab.owned()
    for i in range(7):
        main.submit_message({"i": i})
    monkeypatch.setattr(integrating.inbox.listed, "__defaults__", (3,))
    assert [main.integrate_inbox().is_all for _ in range(3)] == [False, False, True]
    assert numbers(main) == list(range(7))


def test_a_submission_takes_one_put(bucket, lab):
    asked = []
    backend = open_backend(bucket.url, {"endpoint_url": bucket.endpoint})

    class Counting:
        def __getattr__(self, name):
            found = getattr(backend, name)
            if name in ("url", "part_size", "capabilities"):
                return found
            return lambda *a, **k: (asked.append(name), found(*a, **k))[1]

    for _ in range(3):
        inbox_module.submit(Counting(), PLACE, own_identity(), [b'{"i":1}'] * 500)
    assert asked == ["create"] * 3


def test_where_no_owner_looks(lab, tmp_path):
    """A copy on one's own machine; a subfeed that has ended."""
    main = lab.owned()
    main.append_message({"i": 0})
    lab.become("bob")
    kachery.subscribe_feed(main.uri, "lab")
    with pytest.raises(kachery.NotWriteable, match="your own copy"):
        kachery.load_subfeed(main.uri).submit_message({"i": 1})
    lab.theirs("bob", main.uri)[0].submit_message({"i": 1})
    lab.owned().finalize()
    with pytest.raises(kachery.FeedFinalized):
        lab.theirs("bob", main.uri)[0].submit_message({"i": 2})
    main = lab.owned()
    with pytest.raises(kachery.FeedFinalized, match="stays in its inbox"):
        main.integrate_inbox(lambda *_: True)
    assert len(lab.waiting(main)) == 1


def test_the_inbox_of_a_published_copy(lab):
    """The feed is written on the owner's machine; others see its copy in the zone."""
    lab.become("owner")
    main = kachery.create_feed("g").load_subfeed("main")
    main.append_message({"i": 0})
    kachery.publish_feed("g", "lab")
    theirs, bob = lab.theirs("bob", main.uri)
    theirs.submit_message({"i": 1})
    lab.become("owner")
    main = kachery.load_feed("g").load_subfeed("main")
    assert main.integrate_inbox(writers=[bob]) == integrating.Integrated()
    there = kachery.load_subfeed(main.uri, zone="lab")
    assert main.integrate_inbox(source=there).waiting == {bob: 1}
    trust(Trusted(bob, zone="lab"))
    assert main.integrate_inbox(source=there).accepted == 1
    kachery.publish_feed("g", "lab")
    assert numbers(main) == [0, 1]
    with pytest.raises(kachery.BadFeed, match="no inbox for"):
        main.integrate_inbox(source=kachery.load_feed("g").load_subfeed("other"))


def test_a_subfeed_begins_with_its_inbox(lab):
    main = lab.owned()
    main.submit_message({"i": 0})
    feed = kachery.load_feed("f")
    assert feed.subfeed_names() == []
    main.integrate_inbox()
    assert feed.subfeed_names() == ["main"] and numbers(main) == [0]


# Who wrote what is in the feed


@pytest.mark.parametrize("vector", VECTORS["entries"], ids=lambda vector: vector["case"])
def test_golden_vector_of_an_entry(vector):
    data = vector["entry"].encode()
    entry = parse_entry(data, PLACE, 1)
    if vector["writer"] is None:
        with pytest.raises(kachery.FeedDamaged, match="does not come from whom it names"):
            writer_of(entry, data, PLACE, 1)
    else:
        assert writer_of(entry, data, PLACE, 1) == vector["writer"]


def test_an_owner_cannot_put_words_into_a_mouth(lab):
    main = lab.owned()
    theirs, bob = lab.theirs("bob", main.uri)
    theirs.submit_message({"i": 0})
    main = lab.owned()
    main.integrate_inbox(writers=[bob])
    entry = next(main.log.entries(1, 2))
    append(main.log, main._signer, [entry.replace(b'"i":0', b'"i":1')])
    reader = kachery.load_subfeed(main.uri, zone="lab")
    assert reader.get_next_messages(advance_position=False) == [{"i": 0}, {"i": 1}]
    assert reader.get_next_message(signed=True)["body"]["writer"] == bob
    with pytest.raises(kachery.FeedDamaged, match=f"{bob} has not signed it"):
        reader.get_next_message(signed=True)


# Once and only once


def test_what_is_put_back_is_not_integrated_again(lab, tmp_path, monkeypatch):
    from kachery_store.feeds import taken

    monkeypatch.setattr(taken, "_SAVED_EACH", 2)
    main = lab.owned()
    theirs, bob = lab.theirs("bob", main.uri)
    theirs.submit_messages([{"i": 0}, {"i": 1}])
    theirs.submit_message({"i": 2})
    main = lab.owned()
    shutil.copytree(lab.folder / f"feeds/{main.feed_id}/main/inbox", tmp_path / "replay")
    assert main.integrate_inbox(writers=[bob]).accepted == 3
    (kept,) = (tmp_path / "owner/user/integrated").rglob("main.json")

    def replayed():
        shutil.copytree(
            tmp_path / "replay",
            lab.folder / f"feeds/{main.feed_id}/main/inbox",
            dirs_exist_ok=True,
        )
        done = lab.owned().integrate_inbox(lambda *_: 1 / 0)  # nobody asks about what is there
        assert (done.accepted, done.repeated) == (0, 3)
        assert lab.waiting(main) == []

    replayed()
    good = kept.read_text()
    told = json.loads(good)
    assert set(told["next"]) == {bob} and sorted(told["next"][bob].values()) == [1, 2]
    forgotten = {**told, "next": {}}
    for text in (
        "",
        "{",
        "[]",
        json.dumps({**forgotten, "root": "00" * 32}),
        json.dumps({**forgotten, "size": told["size"] + 1}),
        json.dumps({**forgotten, "format": "another"}),
    ):
        kept.write_text(text)
        replayed()
    kept.unlink()
    main.append_messages([{"i": i} for i in range(3, 9)])
    replayed()
    assert numbers(main) == list(range(9))


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
main.integrate_inbox(lambda message, writer: message["i"] % 5 != 4)
print("done", flush=True)
"""


def test_kill_9_at_each_step_of_integrating_an_inbox(lab):
    main = lab.owned()
    wanted, step, done = [], 0, False
    while not done:
        main.submit_messages([{"i": 10 * step + i} for i in range(5)])
        main.submit_message({"i": 10 * step + 5, "large": "x" * 70_000})
        wanted += [10 * step + i for i in (0, 1, 2, 3, 5)]
        step += 1
        done = "done" in run_python(KILLED_AT, step, check=False).stdout
        now = numbers(main)
        assert now == wanted[: len(now)]  # nothing twice, nothing out of its place
        main.integrate_inbox(lambda message, writer: message["i"] % 5 != 4)
        assert numbers(main) == wanted and lab.waiting(main) == []
    assert step > 8
    assert kachery.verify_feed("f") == {"main": len(wanted)}


WRITER = """
import sys, kachery
theirs = kachery.load_subfeed(sys.argv[1], zone="lab")
i = 0
while i < int(sys.argv[3]):
    size = 1 + i % 7
    theirs.submit_messages([{"who": sys.argv[2], "i": i + k} for k in range(size)])
    i += size
    print(i, flush=True)
"""

INTEGRATOR = """
import kachery
main = kachery.load_feed("f").load_subfeed("main")
while True:
    print(main.integrate_inbox(lambda message, writer: True).accepted, flush=True)
"""


def started(lab, who, code, *args):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdout=subprocess.PIPE,
        text=True,
        env=lab.environment(who),
    )


def test_writers_and_integrators_at_the_same_time(anywhere):
    """Three writers; two processes of the owner, one of which is killed again and again."""
    import random

    lab, rng = anywhere, random.Random(7)
    main = lab.owned()
    each = count(600, 60)
    for who in "abc":
        lab.become(who)
    lab.become("owner")
    steady = started(lab, "owner", INTEGRATOR)
    writers = {who: started(lab, who, WRITER, main.uri, who, each) for who in "abc"}
    killed = []
    try:
        while any(writer.poll() is None for writer in writers.values()):
            killed.append(started(lab, "owner", INTEGRATOR))
            for _ in range(rng.randrange(1, 8)):
                assert killed[-1].stdout.readline()
            killed[-1].send_signal(signal.SIGKILL)
    finally:
        for process in (steady, *writers.values(), *killed):
            process.kill() if process not in writers.values() else None
            if process not in writers.values():
                process.wait()
                process.stdout.close()
    told = {who: [int(line) for line in one.stdout] for who, one in writers.items()}
    for writer in writers.values():
        assert writer.wait() == 0
        writer.stdout.close()
    main = lab.owned()
    main.integrate_inbox(lambda *_: True)
    messages = kachery.load_subfeed(main.uri, zone="lab").get_next_messages()
    for who in "abc":
        mine = [one["i"] for one in messages if one["who"] == who]
        assert mine == list(range(told[who][-1]))  # all of it, once, in the order of the writer
    assert list(main.inbox()) == []


def test_a_killed_writer_has_submitted_all_or_nothing(lab):
    main = lab.owned()
    for attempt in range(count(30, 4)):
        lab.become("bob")
        writer = started(lab, "bob", WRITER, main.uri, f"{attempt}", 10**9)
        try:
            for _ in range(attempt + 2):
                least = int(writer.stdout.readline())
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.wait()
            writer.stdout.close()
        main = lab.owned()
        assert main.integrate_inbox(lambda *_: True).damaged == 0
        main.set_position(0)
        mine = [m["i"] for m in main.get_next_messages() if m["who"] == f"{attempt}"]
        assert mine == list(range(len(mine))) and len(mine) >= least


def test_who_decided_later_does_not_append_again(lab):
    """Another process integrates while the policy of this one thinks."""
    main = lab.owned()
    for i in range(3):
        main.submit_message({"i": i})
    other, done = kachery.load_feed("f").load_subfeed("main"), []

    def slow(message, writer):
        if not done:
            done.append(other.integrate_inbox())
            other.append_message({"i": 99})
            other.integrate()
        return True

    late = main.integrate_inbox(slow)
    assert done[0].accepted == 3 and (late.accepted, late.repeated) == (0, 1)
    assert numbers(main) == [0, 1, 2, 99]


def test_what_is_acknowledged_is_on_the_disk(lab, monkeypatch):
    main, synced = lab.owned(), set()
    real = os.fsync

    def fsync(fd):
        status = os.fstat(fd)
        synced.add((status.st_dev, status.st_ino))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    main.submit_message({"i": 0})
    (file,) = lab.waiting(main)
    for path in (file, *(one for one in file.parents if one.is_relative_to(lab.folder))):
        status = path.stat()
        assert (status.st_dev, status.st_ino) in synced, path


# What others may put there


def test_golden_vectors_are_what_this_kachery_writes():
    assert submission_vectors.vectors() == VECTORS


@pytest.mark.parametrize("vector", VECTORS["submissions"], ids=lambda vector: vector["case"])
def test_golden_vector_of_a_submission(vector):
    name = parse_name(vector["name"], PLACE)
    data = base64.b64decode(vector["file"])
    if "refused" in vector:
        with pytest.raises(kachery.BadMessage, match="is no submission to"):
            parse_submission(PLACE, name, data)
    else:
        found = parse_submission(PLACE, name, data)
        assert [one.message for one in found] == vector["messages"]
        assert {one.source.writer for one in found} == {VECTORS["writer"]}


@pytest.fixture
def submitted(lab):
    """An inbox with one submission, which its owner would accept; its file and the writer."""
    main = lab.owned()
    theirs, bob = lab.theirs("bob", main.uri)
    theirs.submit_messages([{"i": 0}, {"i": 1}])
    main = lab.owned()
    return main, lab.waiting(main)[0], bob


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_changed_byte(submitted, data):
    main, file, _ = submitted
    name = parse_name(str(file)[str(file).index("feeds/") :], main.log.place)
    changed = bytearray(file.read_bytes())
    bit = data.draw(st.integers(0, 8 * len(changed) - 1))
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(kachery.BadMessage):
        parse_submission(main.log.place, name, bytes(changed))


def test_what_is_damaged_is_set_aside_and_said(submitted, lab):
    main, file, bob = submitted
    place = main.log.place
    good, folder = file.read_bytes(), file.parent
    names = [folder / f"{i:016d}-{i:032x}" for i in range(9)]
    names[0].write_bytes(good)  # under another name
    with open(names[1], "wb") as huge:
        huge.truncate(10**12)
    os.mkfifo(names[2])
    names[3].symlink_to("/dev/zero")
    names[4].symlink_to("nowhere")
    names[5].symlink_to(lab.tmp_path / "owner/user/identity.json")
    for path in names[6:]:
        path.write_bytes(b"x" * 1000)
    with pytest.warns(kachery.DamagedWarning) as warned:
        done = main.integrate_inbox(writers=[bob])
    said = [str(one.message) for one in warned]
    assert len(said) == 6 and "set aside" in said[0] and "3 more files" in said[-1]
    assert (done.accepted, done.damaged, done.waiting) == (2, 8, {})
    assert numbers(main) == [0, 1] and list(folder.iterdir()) == [names[4]]
    assert (lab.tmp_path / "owner/user/identity.json").exists()
    assert listed(main.log.backend, place, None).odd == 0


def test_odd_names_are_left_alone(submitted):
    main, file, _ = submitted
    inbox = file.parent.parent
    odd = ["x", "x..", "0" * 16, f"{'0' * 16}-{'0' * 31}", f"{'0' * 16}-{'0' * 32}x", "a b", "ü\n"]
    for name in odd:
        (inbox / name).write_bytes(b"x")
        (file.parent / name).write_bytes(b"x")
    (inbox / "deep/er").mkdir(parents=True)
    (inbox / "deep/er" / file.name).write_bytes(b"x")
    (inbox / ("ab" * 32)).symlink_to(file.parent)
    done = main.integrate_inbox(lambda *_: True)
    assert (done.accepted, done.damaged, done.odd) == (2, 0, 2 * len(odd) + 2)
    listing = listed(main.log.backend, main.log.place, None)
    assert listing.odd == 2 * len(odd) + 2 and listing.chosen == []


def test_thousands_by_strangers_are_not_opened(submitted, monkeypatch):
    main, file, bob = submitted
    monkeypatch.setattr(inbox_module, "_MOST_WRITERS", 50)
    for i in range(3000):
        path = file.parent.parent / f"{i % 300:064x}" / f"{i:016d}-{i:032x}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    opened = []
    real = inbox_module.opened
    monkeypatch.setattr(inbox_module, "opened", lambda *a: (opened.append(a), real(*a))[1])
    done = main.integrate_inbox(writers=[bob])
    assert done.accepted == 2 and len(opened) == 1
    assert len(done.waiting) == 50 and set(done.waiting.values()) == {10}


def test_a_submission_to_another_subfeed_or_feed(submitted, lab):
    main, file, bob = submitted
    other = kachery.create_feed("g", zone="lab")
    for target in (kachery.load_feed("f").load_subfeed("other"), other.load_subfeed("main")):
        folder = lab.folder / f"feeds/{target.feed_id}/{target.subfeed_name}/inbox/{bob}"
        folder.mkdir(parents=True)
        shutil.copy(file, folder / file.name)
        with pytest.warns(kachery.DamagedWarning, match="another feed or subfeed"):
            assert target.integrate_inbox(writers=[bob]).accepted == 0
    assert main.integrate_inbox(writers=[bob]).accepted == 2


def test_a_writer_does_not_hide_what_another_writes(lab):
    """The same number of a submission, which each writer chooses."""
    main = lab.owned()
    lab.monkeypatch.setattr(inbox_module.os, "urandom", lambda n: b"\7" * n)
    for i, who in enumerate(["ann", "bob"]):
        theirs, _ = lab.theirs(who, main.uri)
        theirs.submit_message({"i": i})
    main = lab.owned()
    assert main.integrate_inbox(lambda *_: True).accepted == 2
    assert sorted(numbers(main)) == [0, 1]


def test_messages_that_look_like_sources(lab):
    main = lab.owned()
    source = Source(own_identity().public.hex(), "00" * 16, 0, 1, 5, "00" * 64)
    told = json.loads(source.json())
    main.append_messages([{"i": 0, "from": told}, {"i": 1, "x": [{"a": 1, "from": told}]}])
    for i, message in enumerate([{"from": told}, {"x": ',"time":1,"from":{"writer":'}], 2):
        main.submit_message({"i": i, "a": {"time": 1}, **message, "z": {"time": 2, "from": told}})
    assert main.integrate_inbox().accepted == 2 and numbers(main) == [0, 1, 2, 3]
    main.set_position(2)
    for one in main.get_next_messages(signed=True):
        assert one["body"]["writer"] == own_identity().public.hex()


# The command line


def kachery_command(lab, who, *args, input=None):
    command = os.path.join(os.path.dirname(sys.executable), "kachery")
    return subprocess.run(
        [sys.executable, command, "feed", *args],
        capture_output=True,
        text=True,
        timeout=120,
        input=input,
        env=lab.environment(who),
    )


def test_commands(lab):
    main = lab.owned()
    bob, eve = lab.become("bob"), lab.become("eve")
    told = kachery_command(lab, "bob", "submit", main.uri, '{"i": 0}', "--zone", "lab")
    assert told.stderr == f"submitted 1 to {main.uri} at {lab.folder}\n"
    lines = "".join(f'{{"i": {i}}}\n' for i in range(1, 600))
    kachery_command(lab, "bob", "submit", main.uri, "--zone", "lab", input=lines)
    kachery_command(lab, "eve", "submit", main.uri, '{"i": -1}', "--zone", "lab")
    shown = kachery_command(lab, "owner", "inbox", "f/main", "--from", bob).stdout.splitlines()
    assert [json.loads(line)["message"]["i"] for line in shown] == list(range(600))
    assert {json.loads(line)["writer"] for line in shown} == {bob}
    waiting = kachery_command(lab, "owner", "integrate", "f/main").stdout
    assert "appended 0" in waiting and f"4 submissions of {bob} wait: --from {bob}" in waiting
    done = kachery_command(lab, "owner", "integrate", "f/main", "--from", bob, "--refuse", eve)
    assert "refused 1" in done.stdout and "appended 600" in done.stdout
    lab.owned()
    assert numbers(main) == list(range(600)) and lab.waiting(main) == []
    refused = kachery_command(lab, "bob", "append", main.uri, "{}")
    assert refused.returncode == 1 and "kachery feed submit" in refused.stderr
    wrong = kachery_command(lab, "owner", "integrate", "f/main", "--from", "bob")
    assert wrong.returncode == 1 and "is no key" in wrong.stderr


def test_what_commands_say_names_commands(lab):
    lab.owned()
    for wrong, wanted in (
        (("create", "f"), "kachery feed list"),
        (("append", "unknown/main", "{}"), "kachery feed create"),
        (("verify", "unknown"), "kachery feed create"),
    ):
        failed = kachery_command(lab, "owner", *wrong)
        assert failed.returncode == 1 and wanted in failed.stderr
        assert "load_feed(" not in failed.stderr
