"""Copies of feeds: always a beginning of the source, complete, and repaired when that is asked for."""

import shutil
import sys
from contextlib import nullcontext

import feed_vectors
import pytest

import kachery
from kachery_store.feeds import mirror as mirror_function
from kachery_store.feeds import verify_files
from kachery_store.feeds.entries import blob_entry
from kachery_store.feeds.log import Log
from kachery_store.feeds.memory import Memory
from kachery_store.feeds.writing import append, integrate
from kachery_store.local_backend import LocalBackend
from kachery_store.remote import open_backend

PLACE, SIGNER = feed_vectors.PLACE, feed_vectors.SIGNER
LARGE = b'{"x":"%b"}' % (b"y" * 70_000)


@pytest.fixture
def source(tmp_path):
    return Log(LocalBackend(str(tmp_path / "source")), PLACE)


@pytest.fixture(params=["folder", "bucket"])
def target(request, tmp_path):
    if request.param == "folder":
        return LocalBackend(str(tmp_path / "target"))
    bucket = request.getfixturevalue("bucket")
    return open_backend(bucket.url, {"endpoint_url": bucket.endpoint})


def add(log, count):
    append(log, SIGNER, [feed_vectors.message(i) for i in range(count)])


def add_large(log):
    from kachery_store.feeds.blobs import put_blob

    entry, digest = blob_entry(LARGE, feed_vectors.TIME)
    put_blob(log.backend, PLACE, digest, LARGE)
    append(log, SIGNER, [entry])
    return digest


def copied(source, backend):
    """The copy, every file of which was looked at."""
    copy = Log(backend, PLACE)
    verify_files(copy)
    assert copy.head == source.head and copy.note == source.note
    assert list(copy.entries(0, copy.size)) == list(source.entries(0, source.size))
    return copy


def test_a_copy_that_grows_by_any_number(source, target, monkeypatch):
    """In pieces that begin and end anywhere; what is partial in one is full in the next."""
    monkeypatch.setattr(sys.modules["kachery_store.feeds.mirror"], "_AT_ONCE", 512)
    told = []
    for count in (1, 254, 1, 1, 600, 511, 513, 1500, 3):
        before = source.size
        add(source, count)
        if count % 2:
            integrate(source)
        assert mirror_function(source, target, told.append) == source.size - before
        copied(source, target)
        assert mirror_function(source, target, told.append) == 0
    assert max(told) <= 512


def test_somebody_else_copies_meanwhile(source, bucket, tmp_path):
    """While the copy is looked at, more is appended and copied by another: that is no rollback."""
    backend = open_backend(bucket.url, {"endpoint_url": bucket.endpoint})
    add(source, 10)
    mirror_function(source, backend)
    memory = Memory(str(tmp_path / "memory"))
    late, done = Log(source.backend, PLACE, memory), []

    class Overtaken:
        def __getattr__(self, name):
            return getattr(backend, name)

        def read(self, name, *span):
            if not done:
                done.append(name)
                add(source, 5)
                mirror_function(source, backend)
            return backend.read(name, *span)

    assert mirror_function(late, Overtaken()) == 0
    assert copied(source, backend).size == 16 and late.size == 16


def test_of_two_who_copy_one_gives_way(source, bucket):
    """Another one finishes first; the checkpoint there is not put back."""
    backend = open_backend(bucket.url, {"endpoint_url": bucket.endpoint})
    add(source, 10)
    mirror_function(source, backend)
    add(source, 5)
    slow = Log(source.backend, PLACE)

    def overtaken(count):
        add(source, 300)
        mirror_function(source, backend)

    with pytest.raises(kachery.Busy, match="somebody else"):
        mirror_function(slow, backend, overtaken)
    assert copied(source, backend).size == 316


def test_nothing_is_shown_before_its_large_messages_are_there(source, target):
    """The blob is missing at the source: the copy stays what it was."""
    add(source, 3)
    mirror_function(source, target)
    digest = add_large(source)
    data = source.backend.read(digest.path)
    source.backend.remove(digest.path)
    with pytest.raises(kachery.FeedDamaged, match="missing"):
        mirror_function(source, target)
    copy = Log(target, PLACE)
    copy.refresh()
    assert copy.size == 4
    assert source.backend.create(digest.path, data, durable=True)
    mirror_function(source, target)
    copied(source, target)
    assert target.read(digest.path) == LARGE


def test_a_feed_is_mirrored_onto_itself(source):
    add(source, 700)
    assert mirror_function(Log(source.backend, PLACE), source.backend) == 0
    copied(source, source.backend)


@pytest.mark.parametrize(
    "name",
    [
        "checkpoint",
        "tile/entries/000",
        "tile/entries/002.p/189",
        "tile/0/001",
        "tile/1/000.p/2",
        "staged/0000000000000701",
    ],
)
@pytest.mark.parametrize("how", ["damaged", "missing"])
def test_a_damaged_copy_is_repaired(source, tmp_path, name, how):
    """As errors say that it is: by copying again."""
    folder = tmp_path / "target"
    target = LocalBackend(str(folder))
    add(source, 700)
    mirror_function(source, target)
    path = folder / PLACE.file(name)
    if how == "missing" and path.exists():
        path.unlink()
    else:
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(b"damaged")
    if how == "missing" and name.startswith("staged"):
        path.unlink()
        copied(source, target)
        return
    with pytest.raises((kachery.FeedDamaged, AssertionError)):
        copied(source, target)
    if how == "damaged":
        with pytest.warns(kachery.DamagedWarning) if name != "checkpoint" else nullcontext():
            mirror_function(source, target, again=True)
    else:
        mirror_function(source, target, again=True)
    copied(source, target)


@pytest.mark.parametrize("how", ["damaged", "missing"])
def test_a_large_message_of_a_copy_is_repaired(source, target, how):
    add(source, 2)
    digest = add_large(source)
    mirror_function(source, target)
    if how == "missing":
        target.remove(digest.path)
        mirror_function(source, target, again=True)
    else:
        target.replace(digest.path, b"z" * len(LARGE))
        with pytest.warns(kachery.DamagedWarning):
            mirror_function(source, target, again=True)
    assert target.read(digest.path) == LARGE


def test_repairing_is_no_way_around_a_fork_or_a_rollback(source, tmp_path):
    target = LocalBackend(str(tmp_path / "target"))
    add(source, 10)
    shutil.copytree(tmp_path / "source", tmp_path / "old")
    add(source, 5)
    mirror_function(source, target)
    old = Log(LocalBackend(str(tmp_path / "old")), PLACE)
    before = target.read(PLACE.checkpoint)
    with pytest.raises(kachery.FeedRolledBack, match="nothing was changed"):
        mirror_function(old, target, again=True)
    append(old, SIGNER, [feed_vectors.message(-1)] * 9)
    with pytest.raises(kachery.FeedForked, match="nothing was changed"):
        mirror_function(old, target, again=True)
    assert target.read(PLACE.checkpoint) == before
    copied(source, target)


def test_the_advice_of_errors_helps(store_dir, tmp_path, monkeypatch):
    """A damaged copy in a zone, and one on a reader's machine."""
    (tmp_path / "lab").mkdir()
    zone = f'[zones.lab]\nurl = "{tmp_path}/lab/zone"\n'
    store_dir.mkdir(parents=True)
    (store_dir / "kachery.toml").write_text(zone)
    main = kachery.create_feed("f").load_subfeed("main")
    main.append_messages([{"i": i} for i in range(600)])
    kachery.publish_feed("f", "lab")
    tile = tmp_path / f"lab/zone/feeds/{main.feed_id}/main/tile/entries/001"
    tile.chmod(0o644)
    tile.write_bytes(b"damaged")
    with pytest.raises(kachery.FeedDamaged, match="publish --again"):
        kachery.verify_feed("f", zone="lab")
    with pytest.warns(kachery.DamagedWarning, match="written again"):
        assert kachery.publish_feed("f", "lab", again=True) == {"main": 0}
    assert kachery.verify_feed("f", zone="lab") == {"main": 600}
    other = tmp_path / "other"
    monkeypatch.setenv("KACHERY_DIR", str(other))
    monkeypatch.setenv("KACHERY_USER_DIR", str(tmp_path / "other user"))
    other.mkdir()
    (other / "kachery.toml").write_text(zone)
    kachery.subscribe_feed(main.uri, "lab")
    shutil.rmtree(other / f"feeds/{main.feed_id}/main/tile")
    with pytest.raises(kachery.FeedDamaged, match="subscribe --again"):
        kachery.verify_feed(main.uri)
    with pytest.raises(kachery.FeedDamaged):
        kachery.subscribe_feed(main.uri, "lab")
    assert kachery.subscribe_feed(main.uri, "lab", again=True) == {"main": 0}
    assert kachery.verify_feed(main.uri) == {"main": 600}
