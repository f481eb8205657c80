"""Disks without room, folders without rights, processes without file handles, and damage, with a zone."""

import contextlib
import errno
import os
import random
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import count, run_python

import kachery as ka
from kachery_store import Store
from kachery_store.digest import Digest, hash_buffer
from kachery_store.errors import DamagedWarning, KacheryError, StoreUnavailable, ZoneWarning
from kachery_store.zone_settings import ZoneSettings
from kachery_tasks.settings import Settings, applied
from kachery_tasks.trust import Trust

LARGE = 21_000_000


@pytest.fixture(params=["folder", "bucket"])
def zone(request, tmp_path):
    if request.param == "folder":
        return ZoneSettings("lab", str(tmp_path / "zone"))
    bucket = request.getfixturevalue("bucket")
    return ZoneSettings("lab", bucket.url, (("endpoint_url", bucket.endpoint),))


class Disk:
    """A small file system in memory."""

    def __init__(self, path):
        self.path = path

    def change(self, options):
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True)


@pytest.fixture
def disk(tmp_path):
    """A function that mounts a small disk; all are gone after the test."""
    with contextlib.ExitStack() as stack:

        def mounted(name, options):
            path = tmp_path / name
            path.mkdir()
            command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
            if subprocess.run(command, capture_output=True).returncode:
                pytest.skip("needs the right to mount a file system")
            stack.callback(subprocess.run, ["umount", "-l", str(path)], check=True)
            return Disk(path)

        yield mounted


def left(root):
    return os.listdir(root / "tmp") if (root / "tmp").exists() else []


def test_a_full_disk_of_the_store(zone, tmp_path, disk):
    """Storing, and pulling what is large or small."""
    other = Store(tmp_path / "other", zone.open())
    large, small, medium = np.random.default_rng(0).bytes(LARGE), b"small" * 9, b"medium" * 100_000
    uris = [other.files.store_bytes(data) for data in (large, small, medium)]
    one = disk("disk", "size=2m").path / "store"
    store = Store(one, zone.open())
    kept = store.files.store_text("kept")
    for go in (
        lambda: store.files.store_bytes(large),
        lambda: store.files.store_file(other.files.load_file(uris[0])),
        lambda: store.files.load_bytes(uris[0]),
        lambda: store.files.load_file(uris[0]),
    ):
        with pytest.raises(StoreUnavailable, match="Free some space") as caught:
            go()
        assert caught.value.errno == errno.ENOSPC
        assert left(one) == []
        assert store.files.load_text(kept) == "kept"
    assert store.files.load_bytes(uris[1]) == small  # there is room for that
    assert store.files.load_bytes(uris[2]) == medium
    assert Store(tmp_path / "new", zone.open()).files.load_text(store.files.store_text("more"))


def test_a_disk_that_fills_up_byte_by_byte(tmp_path, disk):
    """Whatever is refused, what was acknowledged is there, with the zone in reach and without."""
    small = disk("disk", "size=400k")
    for reachable in (True, False):
        zone = ZoneSettings("lab", str(tmp_path / f"zone{reachable}"))
        if not reachable:
            (tmp_path / f"zone{reachable}").write_text("in the way")
        root = small.path / f"store{reachable}"
        acknowledged = []
        with contextlib.suppress(KacheryError), _warned(reachable):
            store = Store(root, zone.open(), Trust("lab"))
            for i in range(1000):
                text = str(i) * 3000
                acknowledged.append((store.files.store_text(text), text))
                store.jobs.create(f"{i:064x}", text.encode())
        assert 0 < len(acknowledged) < 100 and left(root) == []
        again = Store(root, zone.open())
        for uri, text in acknowledged:
            assert again.files.load_text(uri) == text
        if reachable:
            fresh = Store(tmp_path / "fresh", zone.open())
            assert all(fresh.files.load_text(uri) == text for uri, text in acknowledged)
        else:
            (tmp_path / f"zone{reachable}").unlink()
            assert again.uplink.push() == []
            fresh = Store(tmp_path / "fresher", zone.open())
            assert all(fresh.files.load_text(uri) == text for uri, text in acknowledged)
        subprocess.run(["rm", "-rf", root], check=True)


def _warned(reachable):
    return contextlib.nullcontext() if reachable else pytest.warns(ZoneWarning)


@pytest.mark.parametrize("options", ["size=2m", "size=2m,nr_inodes=12", "size=99m,ro"])
def test_a_zone_that_takes_no_more(tmp_path, disk, options):
    """A folder zone whose disk is full, has no inodes, or cannot be written: it is sent later."""
    there = disk("there", "size=99m")
    (there.path / "zone").mkdir()
    there.change(options)
    zone = ZoneSettings("lab", str(there.path / "zone"))
    data = [np.random.default_rng(n).bytes(LARGE if n == 0 else 1000) for n in range(12)]
    with pytest.warns(ZoneWarning, match="zone lab.*(Work goes on|read all the same)"):
        store = Store(tmp_path / "one", zone.open())
        uris = [store.files.store_bytes(one) for one in data]
        assert store.jobs.create("ab" * 32, b"record")
    assert [store.files.load_bytes(uri) for uri in uris] == data
    assert left(there.path / "zone") == []
    there.change("rw,size=99m,nr_inodes=9999")
    again = Store(tmp_path / "one", zone.open())
    assert again.uplink.push() == [] and again.uplink.outbox.is_empty()
    fresh = Store(tmp_path / "two", zone.open())
    assert [fresh.files.load_bytes(uri) for uri in uris] == data
    assert fresh.jobs.read("ab" * 32) == b"record"


def test_no_inodes(zone, tmp_path, disk):
    other = Store(tmp_path / "other", zone.open())
    uris = [other.files.store_text(f"{i}") for i in range(30)]
    one = disk("disk", "size=9m,nr_inodes=60").path / "store"
    store = Store(one, zone.open(), Trust("lab"))
    for make in (
        lambda i: store.files.load_bytes(uris[i]),
        lambda i: store.files.store_text(f"text {i}"),
        lambda i: store.jobs.create(f"{i:02x}" * 32, b"x"),
    ):
        done = []
        with pytest.raises(StoreUnavailable) as caught:
            for i in range(30):
                make(i)
                done.append(i)
        assert caught.value.errno == errno.ENOSPC and left(one) == []
    assert store.files.load_text(uris[0]) == "0"
    subprocess.run(["rm", "-rf", one / "sha1"], check=True)
    assert store.files.load_text(store.files.store_text("new")) == "new"
    assert store.files.load_text(uris[29]) == "29"


def test_a_store_that_cannot_be_written(zone, tmp_path, disk):
    other = Store(tmp_path / "other", zone.open())
    there = disk("disk", "size=99m")
    one = there.path / "store"
    kept = Store(one, zone.open()).files.store_text("kept")
    uris = [other.files.store_bytes(b"x" * size) for size in (10, LARGE)]
    there.change("ro")
    store = Store(one, zone.open(), Trust("lab"))
    assert store.files.load_text(kept) == "kept"
    for go in (
        lambda: store.files.store_text("more"),
        lambda: store.files.load_bytes(uris[0]),
        lambda: store.files.load_bytes(uris[1]),
        lambda: store.jobs.create("ab" * 32, b"x"),
        lambda: store.pins.add(kept),
    ):
        with pytest.raises(StoreUnavailable, match="read-only") as caught:
            go()
        assert caught.value.errno == errno.EROFS
    there.change("rw")
    assert [len(store.files.load_bytes(uri)) for uri in uris] == [10, LARGE]


@pytest.mark.filterwarnings("ignore::kachery.NotStoredWarning")
def test_a_task_whose_result_the_zone_has(zone, tmp_path, disk, calls):
    """On a full disk, and in a store that cannot be written, its value is right."""

    @ka.task(version="1", ignore="path")
    def made(n, path):
        return np.full(n, 7.0)

    with applied(Settings(str(tmp_path / "one"), zone)):
        made(2_000_000, calls.path)
        made(3, calls.path)
    there = disk("disk", "size=1m")
    for options in ("size=1m", "ro"):
        there.change(options)
        with applied(Settings(str(there.path / options), zone)):
            assert made(2_000_000, calls.path).sum() == 14_000_000.0
            assert made(3, calls.path).sum() == 21.0


HANDLES = """
import gc, os, resource, sys, warnings
warnings.simplefilter("ignore")
import hashlib, kachery_store.files, kachery_store.pins  # importing takes handles, too
from kachery_store import Store
from kachery_store.errors import KacheryError
from kachery_store.remote import answers
from kachery_store.zone_settings import ZoneSettings
import kachery_tasks.trust
answers.Temporary.tries = 2
url, endpoint, root, uri, large, warm, spares = sys.argv[1:]
zone = ZoneSettings("lab", url, (("endpoint_url", endpoint),) if endpoint else ())
if warm == "warm":  # connections are open
    Store(root + ".warm", zone.open()).files.load_text(uri)
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
refused = done = 0
for spare in map(int, spares.split()):
    store = Store(f"{root}{spare}", zone.open(), kachery_tasks.trust.Trust("lab"))
    acknowledged = []
    def stored(text):
        acknowledged.append((store.files.store_text(text), text))
    held = [os.open("/dev/null", os.O_RDONLY)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (held[0] + spare, hard))
    for go in (
        lambda: stored(f"text {spare}"),
        lambda: store.files.load_text(uri),
        lambda: len(store.files.load_bytes(large)),
        lambda: store.jobs.create(f"{spare:064x}", b"x"),
        lambda: store.jobs.read("ab" * 32),
        lambda: store.pins.all(),
        lambda: store.uplink.push(),
        lambda: stored(f"more {spare}"),
    ):
        try:
            go()
            done += 1
        except KacheryError as error:
            refused += 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    os.close(held[0])
    store.zone._away_until = 0.0
    for known, text in acknowledged:
        assert store.files.load_text(known) == text
    assert store.files.load_text(uri) == "known", store.files.load_text(uri)
    assert len(store.files.load_bytes(large)) == 21_000_000
    store.files.store_text(f"afterwards {spare}")
    store.uplink.push()
    assert store.uplink.outbox.is_empty()
    assert os.listdir(f"{root}{spare}/tmp") == [], os.listdir(f"{root}{spare}/tmp")
    fresh = Store(f"{root}{spare}.fresh", zone.open())
    for known, text in acknowledged:
        assert fresh.files.load_text(known) == text
print(refused > 3, done > 3)
"""


@pytest.mark.parametrize("warm", ["warm", "cold"])
def test_without_file_handles(zone, tmp_path, warm):
    """With 0 to 11 of them to spare: a typed error, or it is done; and all is well afterwards."""
    other = Store(tmp_path / "other", zone.open())
    uri, large = other.files.store_text("known"), other.files.store_bytes(b"x" * LARGE)
    endpoint = dict(zone.options).get("endpoint_url", "")
    spares = " ".join(map(str, range(0, 12, count(1, 1 if not endpoint else 3))))
    arguments = [zone.url, endpoint, tmp_path / "s", uri, large, warm, spares]
    done = run_python(HANDLES, *arguments, check=False)
    assert (done.returncode, done.stdout) == (0, "True True\n"), done.stderr[-3000:]


def flipped(data, rng):
    position = rng.randrange(len(data) * 8)
    return (
        data[: position // 8]
        + bytes([data[position // 8] ^ 1 << position % 8])
        + data[position // 8 + 1 :]
    )


def other_bytes(data, rng):
    return rng.randbytes(len(data))


def cut_short(data, rng):
    return data[: rng.randrange(len(data))]


def with_a_hole(data, rng):
    start = rng.randrange(len(data))
    end = rng.randrange(start, len(data)) + 1
    return data[:start] + bytes(end - start) + data[end:]


DAMAGE = (flipped, other_bytes, cut_short, with_a_hole)


@pytest.mark.filterwarnings("ignore::kachery_store.errors.DamagedWarning")
@pytest.mark.parametrize("damage", DAMAGE)
def test_local_damage_is_mended_from_the_zone(zone, tmp_path, damage):
    """Every damaged file is found, set aside, and fetched again; in the same process and another."""
    rng = random.Random(damage.__name__)
    number = count(250, 13)
    store = Store(tmp_path / "one", zone.open())
    data = [rng.randbytes(rng.randrange(1, 5000)) for _ in range(number)]
    digests = [Digest(("sha1", "blake3")[i % 2], "") for i in range(number)]
    digests = [
        Digest(d.algorithm, hash_buffer(d.algorithm, one))
        for d, one in zip(digests, data, strict=True)
    ]
    for digest, one in zip(digests, data, strict=True):
        store.blobs.put(digest, one, durable=False)
        store.blobs.path(digest)
    for digest, one in zip(digests, data, strict=True):
        path = tmp_path / "one" / digest.path
        worse = damage(one, rng)
        while worse == one:
            worse = damage(one, rng)
        path.chmod(0o600)
        path.write_bytes(worse)
    for i, (digest, one) in enumerate(zip(digests, data, strict=True)):
        reader = store if i % 3 else Store(tmp_path / "one", zone.open())
        with pytest.warns(DamagedWarning, match=digest.hex):
            got = read(reader.blobs, digest, i % 4, len(one))
        assert bytes(got) == one
        assert (tmp_path / "one" / digest.path).read_bytes() == one
    aside = {
        path.name.rpartition(".")[0].rpartition("_")[2]
        for path in (tmp_path / "one/quarantine").iterdir()
    }
    assert aside == {digest.hex for digest in digests}


def read(blobs, digest, how, size):
    if how == 0:
        return blobs.read(digest)
    if how == 1:
        return blobs.map(digest)
    return Path(blobs.path(digest)).read_bytes() if how == 2 else blobs.read_range(digest, 0, size)


@pytest.mark.filterwarnings("ignore::kachery_store.errors.DamagedWarning")
def test_damaged_records_are_mended_from_the_zone(zone, tmp_path, calls):
    """A job is not run again because its record, or its blob, is damaged here."""
    from conftest import note_call

    @ka.task(version="1", ignore="path")
    def made(n, path):
        note_call(path)
        return np.full((3, 10_000)[n % 2], n)

    rng = random.Random(3)
    number = count(100, 16)
    with applied(Settings(str(tmp_path / "one"), zone)):
        for n in range(number):
            made(n, calls.path)
        for path in sorted((tmp_path / "one").glob("jobs/*/*")) + sorted(
            (tmp_path / "one").glob("blake3/*/*")
        ):
            data = path.read_bytes()
            path.chmod(0o600)
            path.write_bytes(rng.choice(DAMAGE[:3])(data, rng))
        for n in range(number):
            assert made(n, calls.path)[0] == n
    assert calls.count == number
