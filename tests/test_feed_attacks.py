"""What others may do to a feed's files: none of it is taken for the feed's own words.

The golden vectors of docs/formats/feed.md, and attacks on feeds in use.
"""

import base64
import json
import shutil

import feed_vectors
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kachery
from kachery_store.feeds import tiles
from kachery_store.feeds.log import Log
from kachery_store.feeds.memory import Memory
from kachery_store.feeds.names import Place
from kachery_store.local_backend import LocalBackend
from kachery_store.signing import Signer

VECTORS = json.loads(feed_vectors.FILE.read_text())
ERRORS = {
    name: getattr(kachery, name)
    for name in ("FeedDamaged", "FeedRolledBack", "FeedForked", "StoreTooNew")
}


@pytest.fixture(autouse=True)
def user_dir(tmp_path, monkeypatch):
    folder = tmp_path / "user"
    monkeypatch.setenv("KACHERY_USER_DIR", str(folder))
    return folder


def test_golden_vectors_are_what_this_kachery_writes():
    assert feed_vectors.vectors() == VECTORS


@pytest.mark.parametrize("vector", VECTORS["cases"], ids=lambda vector: vector["case"])
def test_golden_vector(vector, tmp_path):
    place = Place(VECTORS["feed"], VECTORS["subfeed"])
    for name, data in vector["files"].items():
        path = tmp_path / "root" / place.file(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(data))
    memory = Memory(str(tmp_path / "memory"))
    if "seen" in vector:
        memory.note(
            place, int(vector["seen"].split("\n")[1]), vector["seen"].encode(), durable=True
        )
    log = Log(LocalBackend(str(tmp_path / "root")), place, memory)
    if "error" in vector:
        with pytest.raises(ERRORS[vector["error"]]) as raised:
            log.refresh()
            list(log.entries(0, log.size))
        assert type(raised.value) is ERRORS[vector["error"]]
        assert place.uri in str(raised.value) or place.subfeed in str(raised.value)
        assert not log.is_opened  # so nothing is handed out
    else:
        log.refresh()
        assert len(list(log.entries(0, 99))) == vector["entries"] == log.size


@pytest.fixture
def made(store_dir):
    """A feed with tiles and something staged, and the folder that it is in."""
    feed = kachery.create_feed("f")
    main = feed.load_subfeed("main")
    main.append_messages([{"i": i} for i in range(700)])
    main.integrate()
    main.append_messages([{"i": i} for i in range(700, 720)])
    return main, store_dir / "feeds" / main.feed_id


def read(subfeed):
    return [m["i"] for m in kachery.load_subfeed(subfeed.uri).get_next_messages(wait_msec=0)]


def files_of(folder):
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "writer.lock")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_changed_byte_in_any_file(made, data):
    """Either it is refused, or the file is one that kachery does not read: then `verify` refuses it."""
    main, folder = made
    path = data.draw(st.sampled_from(files_of(folder)))
    original = path.read_bytes()
    changed = bytearray(original)
    bit = data.draw(st.integers(0, 8 * len(changed) - 1))
    changed[bit // 8] ^= 1 << bit % 8
    path.chmod(0o644)
    path.write_bytes(changed)
    try:
        try:
            assert read(main) == list(range(720))
        except kachery.FeedDamaged as error:
            assert main.feed_id in str(error)
        with pytest.raises(kachery.FeedDamaged):
            kachery.verify_feed("f")
    finally:
        path.write_bytes(original)
    assert read(main) == list(range(720))


def test_any_missing_file(made):
    _, folder = made
    for path in files_of(folder):
        aside = path.with_name(f".{path.name}")
        path.rename(aside)
        with pytest.raises(kachery.FeedDamaged):
            kachery.verify_feed("f")
        aside.rename(path)


def test_rollback_is_named(made, tmp_path):
    main, folder = made
    shutil.copytree(folder, tmp_path / "old")
    main.append_messages([{"i": i} for i in range(720, 1500)])
    main.integrate()
    assert len(read(main)) == 1500
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "old", folder)
    with pytest.raises(kachery.FeedRolledBack, match="has 721 entries, and had 1501") as raised:
        read(main)
    assert main.uri in str(raised.value)
    with pytest.raises(kachery.FeedRolledBack):
        kachery.load_feed("f").load_subfeed("main").append_message({"i": 0})
    shutil.rmtree(folder)
    with pytest.raises(kachery.FeedRolledBack, match="has 0 entries"):
        kachery.load_feed("f").load_subfeed("main").append_message({"i": 0})


def test_what_was_only_staged_is_not_cut_off_unnoticed(made):
    """The owner appended and went away; somebody deletes the last batch."""
    _, folder = made
    (staged,) = folder.glob("main/staged/*")
    staged.unlink()
    with pytest.raises(kachery.FeedRolledBack):
        kachery.load_feed("f").load_subfeed("main").append_message({"i": 0})


def test_a_rollback_under_an_open_reader(made, tmp_path):
    main, folder = made
    reader = kachery.load_subfeed(main.uri)
    old = (folder / "main/checkpoint").read_bytes()
    main.append_message({"i": 720})
    main.integrate()
    assert len(reader.get_next_messages()) == 721
    (folder / "main/checkpoint").chmod(0o644)
    (folder / "main/checkpoint").write_bytes(old)
    with pytest.raises(kachery.FeedRolledBack):
        reader.get_next_messages()
    (folder / "main/checkpoint").unlink()
    with pytest.raises(kachery.FeedRolledBack):
        reader.get_next_messages()


def other_history(main, folder, start, size=2000):
    """The same key on a copy: another message at `start`, and more after it."""
    entries = list(main.log.entries(0, start))
    entries += [feed_vectors.message(-i) for i in range(size - start)]
    signer = Signer(bytes.fromhex(owner_seed(main)))
    files = feed_vectors.log_files(entries, main.log.place, signer)
    shutil.rmtree(folder / "main")
    for name, data in files.items():
        path = folder / "main" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def owner_seed(main):
    import os

    with open(f"{os.environ['KACHERY_USER_DIR']}/keys/{main.feed_id}.json") as file:
        return json.load(file)["private"]


@pytest.mark.parametrize("start", [1, 300, 719])
def test_fork_is_named(made, start):
    main, folder = made
    open_reader = kachery.load_subfeed(main.uri)
    assert len(open_reader.get_next_messages()) == 720
    other_history(main, folder, start)
    for reader in (open_reader, kachery.load_subfeed(main.uri)):
        with pytest.raises(kachery.FeedForked) as raised:
            reader.get_next_messages()
        assert main.uri in str(raised.value) and "721" in str(raised.value)


@pytest.mark.parametrize("size", [705, 715, 721])
def test_a_fork_of_what_was_staged(made, size):
    """The checkpoint that follows is not that of the batches that were read."""
    main, folder = made
    reader = kachery.load_subfeed(main.uri)
    assert len(reader.get_next_messages()) == 720
    other_history(main, folder, 702, size)
    with pytest.raises(kachery.FeedForked):
        reader.get_next_messages()


def test_a_fork_behind_the_tiles_of_the_first_history(made):
    """The tile from which the remembered root would be computed is the old one; the entries are not."""
    main, folder = made
    old = (folder / "main/tile/0/001").read_bytes()
    place, signer = main.log.place, Signer(bytes.fromhex(owner_seed(main)))
    seen = feed_vectors.head(list(main.log.entries(0, 290)), place, signer)
    other_history(main, folder, 280)
    memory = Memory()
    shutil.rmtree(memory.path(place).rpartition("/")[0])
    memory.note(place, 290, seen, durable=True)
    with pytest.raises(kachery.FeedForked):
        read(main)
    (folder / "main/tile/0/001").write_bytes(old)
    with pytest.raises(kachery.FeedDamaged, match="tile/0/001"):
        read(main)


def test_a_fork_is_not_published(made, tmp_path, store_dir):
    main, folder = made
    (tmp_path / "lab").mkdir()
    with open(store_dir / "kachery.toml", "a") as file:
        file.write(f'[zones.lab]\nurl = "{tmp_path}/lab/zone"\n')
    kachery.publish_feed("f", "lab")
    there = tmp_path / "lab/zone/feeds" / main.feed_id
    before = [(p, p.read_bytes()) for p in files_of(there)]
    other_history(main, folder, 300)
    shutil.rmtree(tmp_path / "user/heads")
    with pytest.raises(kachery.FeedForked, match="nothing was changed"):
        kachery.publish_feed("f", "lab")
    shutil.rmtree(tmp_path / "user/heads")
    with pytest.raises(kachery.FeedRolledBack, match="nothing was changed"):
        kachery.subscribe_feed(main.uri, "lab")
    assert [(p, p.read_bytes()) for p in files_of(there)] == before


def test_an_older_copy_is_not_published_over_a_newer(made, tmp_path, store_dir):
    main, folder = made
    (tmp_path / "lab").mkdir()
    with open(store_dir / "kachery.toml", "a") as file:
        file.write(f'[zones.lab]\nurl = "{tmp_path}/lab/zone"\n')
    shutil.copytree(folder, tmp_path / "old")
    main.append_message({"i": 720})
    kachery.publish_feed("f", "lab")
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "old", folder)
    shutil.rmtree(tmp_path / "user/heads")
    with pytest.raises(kachery.FeedRolledBack, match="nothing was changed"):
        kachery.publish_feed("f", "lab")
    assert kachery.subscribe_feed(main.uri, "lab") == {"main": 1}
    assert read(main) == list(range(721))


def test_splices(made):
    """Files of another subfeed of the same feed, and of the same subfeed of another feed."""
    main, folder = made
    feed = kachery.load_feed("f")
    other = feed.load_subfeed("other")
    other.append_messages([{"i": -1}] * 721)
    other.integrate()
    stranger = kachery.create_feed("g").load_subfeed("main")
    stranger.append_messages([{"i": -2}] * 721)
    stranger.integrate()
    for source in (folder / "other", folder.parent / stranger.feed_id / "main"):
        shutil.rmtree(folder / "main")
        shutil.copytree(source, folder / "main")
        with pytest.raises(kachery.FeedDamaged, match="not signed as"):
            read(main)
    with pytest.raises(kachery.FeedDamaged):
        kachery.load_feed("f").load_subfeed("main").append_message({"i": 0})


def test_a_stranger_cannot_append(made):
    """A batch that fits in every way but the key."""
    main, folder = made
    log = main.log
    data = feed_vectors.make_batch(
        log.place, Signer(b"s" * 32), log.frontier, [feed_vectors.message(720)]
    )[0]
    (folder / f"main/staged/{log.size:016d}").write_bytes(data)
    with pytest.raises(kachery.FeedDamaged, match="not signed as"):
        read(main)


def test_a_tile_that_was_damaged_before_it_is_needed_is_written_again(made):
    main, folder = made
    main.append_messages([{"i": i} for i in range(720, 800)])
    path = folder / "main/tile/0/003.p/33"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 33 * 32)
    with pytest.warns(kachery.DamagedWarning, match="written again"):
        main.integrate()
    assert kachery.verify_feed("f") == {"main": 800}


def test_what_is_remembered_is_checked(made, user_dir):
    main, _ = made
    read(main)
    (head,) = [p for p in (user_dir / "heads").rglob("main")]
    good = head.read_bytes()
    head.write_bytes(good.replace(b"721", b"720"))
    with pytest.raises(kachery.FeedDamaged, match="Delete that file"):
        read(main)
    head.write_bytes(b"")  # what a power failure may leave
    assert len(read(main)) == 720


def test_bytes_that_are_no_batch(made):
    main, folder = made
    path = folder / f"main/staged/{721:016d}"
    for data in (b"", b"\0", b"x" * 100_000, b"\xff" * 300, tiles.bundle([b"x"] * 9)):
        path.write_bytes(data)
        with pytest.raises(kachery.FeedDamaged, match="staged"):
            read(main)
        path.unlink()


def test_a_signed_entry_that_is_no_message(made):
    from kachery_store.feeds.writing import append

    main, _ = made
    log = main.log
    log.refresh()
    append(log, Signer(bytes.fromhex(owner_seed(main))), [b"nonsense"])
    with pytest.raises(kachery.FeedDamaged, match=r"entry 721 .* no JSON"):
        read(main)
    reader = kachery.load_subfeed(main.uri)
    assert len(reader.get_next_messages(max_num_messages=720)) == 720
