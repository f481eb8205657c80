"""Files, links, manifests, mutables and the web, also with input that means harm."""

import errno
import gc
import hashlib
import http.server
import inspect
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import vectors
from conftest import run_python

import kachery as ka
from kachery_store import Store, web
from kachery_store.errors import BadURI
from kachery_store.manifest import PART_SIZE, Manifest, manifest_of

ROOT = pathlib.Path(__file__).parent.parent
NOWHERE = "sha1://" + "0" * 40
GOLDEN = json.loads((ROOT / "docs/formats/vectors/manifest.json").read_text())


def sha1(data):
    return hashlib.sha1(data).hexdigest()


def stored_path(folder, hex):
    return folder / "sha1" / hex[:2] / hex[2:4] / hex[4:6] / hex


def everything(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.fixture
def user_file(tmp_path):
    path = tmp_path / "mine" / "data.bin"
    path.parent.mkdir()
    path.write_bytes(b"the user's own data")
    os.utime(path, (1_700_000_000, 1_700_000_000.25))
    return path


# Golden sizes, manifests, ranges


@pytest.mark.parametrize("vector", GOLDEN, ids=lambda v: str(v["size"]))
def test_golden_sizes(vector, tmp_path, store_dir):
    path = tmp_path / "big.dat"
    path.write_bytes(vectors.golden_bytes(vector["size"]))
    hex = vector["sha1"]
    assert ka.store_file(path, label="big.dat") == f"sha1://{hex}?label=big.dat"
    assert ka.load_file(f"sha1://{hex}") == str(stored_path(store_dir, hex))
    uri = ka.store_file(path, label="big.dat", manifest=True)
    if vector["size"] <= 20_000_000:
        assert uri == f"sha1://{hex}?label=big.dat"
        assert len(everything(store_dir / "sha1")) == 4
        return
    digest = vector["digest of the sha1 manifest"]
    assert uri == f"sha1://{hex}?label=big.dat&manifest={digest}"
    assert ka.load_text(f"sha1://{digest}") == vector["sha1 manifest"]
    assert ka.load_file_info(uri)["size"] == vector["size"]


class Counting:
    """Blobs that say which bytes were asked for."""

    def __init__(self, blobs):
        self._blobs = blobs
        self.asked = []

    def __getattr__(self, name):
        def method(digest, *args):
            self.asked.append((name, digest.hex, *args))
            return getattr(self._blobs, name)(digest, *args)

        return method


@pytest.fixture
def in_parts(tmp_path, store_dir):
    """The URI of a file of 50 MB that is stored in parts only, and its bytes."""
    data = np.random.default_rng(1).integers(0, 256, 50_000_000, dtype="u1").tobytes()
    for start in range(0, len(data), PART_SIZE):
        ka.store_bytes(data[start : start + PART_SIZE])
    path = tmp_path / "whole"
    path.write_bytes(data)
    with open(path, "rb") as file:
        listed = manifest_of(file, "sha1").to_bytes()
    return f"sha1://{sha1(data)}/whole?manifest={ka.store_bytes(listed)[7:]}", data


def test_a_range_reads_only_the_parts_that_it_needs(in_parts, store_dir):
    uri, data = in_parts
    files = Store(store_dir).files
    counting = files._blobs = Counting(files._blobs)
    first, second, third = [
        sha1(data[start : start + PART_SIZE]) for start in range(0, len(data), PART_SIZE)
    ]
    assert files.load_bytes(uri, 45_000_000, 45_000_010) == data[45_000_000:45_000_010]
    assert [a for a in counting.asked if a[0] == "read_range"] == [
        ("read_range", third, 5_000_000, 5_000_010)
    ]
    counting.asked.clear()
    assert files.load_bytes(uri, 19_999_999, 20_000_001) == data[19_999_999:20_000_001]
    ranges = [a for a in counting.asked if a[0] == "read_range"]
    assert ranges == [("read_range", first, PART_SIZE - 1, PART_SIZE), ("read_range", second, 0, 1)]
    assert files.load_bytes(uri, 20_000_000, 20_000_000) == b""
    stored_path(store_dir, first).unlink()
    assert files.load_bytes(uri, 20_000_000, 20_000_001) == data[20_000_000:20_000_001]
    with pytest.raises(ka.NotFound):
        files.load_bytes(uri, 0, 1)
    with pytest.raises(ValueError, match="50000000"):
        files.load_bytes(uri, 0, len(data) + 1)


def test_a_file_is_put_together_from_its_parts(in_parts, store_dir):
    uri, data = in_parts
    assert ka.load_bytes(uri.partition("?")[0]) is None
    path = ka.load_file(uri, local_only=True)
    assert path == str(stored_path(store_dir, sha1(data)))
    assert pathlib.Path(path).read_bytes() == data
    assert ka.load_bytes(uri.partition("?")[0]) == data


def test_a_range_of_a_stored_file_goes_through_read_range(store_dir):
    uri = ka.store_text("0123456789")
    files = Store(store_dir).files
    files._blobs = Counting(files._blobs)
    assert files.load_bytes(uri, 2, 5) == b"234"
    assert files._blobs.asked == [("size", uri[7:]), ("read_range", uri[7:], 2, 5)]
    assert files.load_file_info(uri)["size"] == 10
    assert files._blobs.asked[2:] == [("size", uri[7:])]


def test_a_manifest_of_another_file_is_refused(in_parts):
    uri, _ = in_parts
    other = NOWHERE + uri[uri.index("?") :]
    with pytest.raises(ka.DigestMismatch, match="another file"):
        ka.load_bytes(other, 0, 1)


def test_a_manifest_that_lies_about_its_parts_is_refused(in_parts, store_dir):
    uri, _ = in_parts
    manifest = Manifest.from_bytes(ka.load_bytes("sha1://" + uri[-40:]))
    parts = list(manifest.parts)
    parts[0] = type(parts[0])(parts[0].start, parts[0].end, parts[1].digest)
    lie = Manifest(manifest.size, manifest.digest, tuple(parts)).to_bytes()
    with pytest.raises(ka.DigestMismatch, match="not the parts of that file"):
        ka.load_file(f"{uri[:-40]}{ka.store_bytes(lie)[7:]}")
    assert not stored_path(store_dir, manifest.digest.hex).exists()


H = "a" * 40


def chunk(start, end, **more):
    return {"start": start, "end": end, "sha1": H, **more}


def manifest_text(size=3, chunks=None, **more):
    chunks = [chunk(0, 3)] if chunks is None else chunks
    return json.dumps({"size": size, "sha1": H, "chunks": chunks, **more})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "\xff",
        "[" * 100_000,
        '{"size":' + "9" * 5000 + "}",
        manifest_text(more=1),
        manifest_text(sha256="a" * 64),
        manifest_text(size=4),
        manifest_text(size=True, chunks=[chunk(0, 1)]),
        manifest_text(size=3.0),
        manifest_text(size=-1, chunks=[]),
        manifest_text(size=1 << 70, chunks=[chunk(0, 1 << 70)]),
        manifest_text(chunks={}),
        manifest_text(chunks=[3]),
        manifest_text(chunks=[]),
        manifest_text(chunks=[chunk(0, 2)]),
        manifest_text(chunks=[chunk(1, 3)]),
        manifest_text(chunks=[chunk(0, 2), chunk(1, 3)]),
        manifest_text(chunks=[chunk(0, 0), chunk(0, 3)]),
        manifest_text(chunks=[chunk(0, 5), chunk(5, 3)]),
        manifest_text(size=PART_SIZE + 1, chunks=[chunk(0, PART_SIZE + 1)]),
        manifest_text(chunks=[chunk(0, 3, sha1="../../../etc/passwd")]),
        manifest_text(chunks=[chunk(0, 3, sha1=5)]),
        manifest_text(chunks=[chunk(0, 3, sha256="a" * 64)]),
        manifest_text().replace('"size": 3', '"size": 3, "size": 3'),
        manifest_text().replace(H, "A" * 40),
        manifest_text(size=float("nan")),
    ],
)
def test_hostile_manifests(text):
    gc.disable()  # what other tests left would be finalized where the stack is at its end
    try:
        with pytest.raises(ka.BadManifest):
            Manifest.from_bytes(text.encode("latin-1"))
    finally:
        gc.enable()


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "blake3"])
def test_manifests_are_read_as_they_are_written(tmp_path, algorithm):
    path = tmp_path / "f"
    path.write_bytes(b"x" * (PART_SIZE + 7))
    with open(path, "rb") as file:
        manifest = manifest_of(file, algorithm)
    assert [(p.start, p.end) for p in manifest.parts] == [
        (0, PART_SIZE),
        (PART_SIZE, PART_SIZE + 7),
    ]
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    assert manifest.digest.algorithm == algorithm


# Digests, pickles, other destinations


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "blake3"])
def test_other_digests(algorithm, user_file, store_dir):
    from kachery_store.digest import hash_buffer

    data = user_file.read_bytes()
    expected = f"{algorithm}://{hash_buffer(algorithm, data)}"
    assert ka.store_file(user_file, digest=algorithm) == expected
    assert ka.store_bytes(data, digest=algorithm, label="a") == expected + "?label=a"
    assert ka.link_file(user_file, digest=algorithm) == expected
    assert ka.store_text(data.decode(), digest=algorithm) == expected
    assert ka.load_bytes(expected) == data
    assert ka.load_file(expected).startswith(str(store_dir / algorithm))
    with pytest.raises(BadURI, match="md5"):
        ka.store_file(user_file, digest="md5")


def test_pickles(store_dir):
    value = {"a": {1, 2}, "b": range(3)}
    uri = ka.store_pkl(value, label="v.pkl")
    assert uri.endswith("?label=v.pkl") and ka.load_pkl(uri) == value
    assert ka.load_pkl(NOWHERE) is None
    assert "EXECUTES" in ka.load_pkl.__doc__


def test_a_folder_that_the_environment_names(user_file, tmp_path, store_dir, monkeypatch):
    hex = sha1(user_file.read_bytes())
    monkeypatch.setenv("KACHERY_STORE_FILE_DIR", str(tmp_path / "out"))
    assert ka.store_file(user_file, label="a b") == f"sha1://{hex}?label=a%20b"
    monkeypatch.setenv("KACHERY_STORE_FILE_PREFIX", "https://example.org/x")
    assert ka.store_file(user_file, label="a b") == f"https://example.org/x/sha1/{hex}?label=a%20b"
    assert ka.store_text("t") == f"https://example.org/x/sha1/{sha1(b't')}"
    assert everything(tmp_path / "out") == sorted(["sha1", f"sha1/{hex}", f"sha1/{sha1(b't')}"])
    assert (tmp_path / "out/sha1" / hex).read_bytes() == user_file.read_bytes()
    assert not store_dir.exists()
    assert ka.store_file(user_file, local=True).startswith("sha1://")
    assert ka.load_bytes(f"sha1://{hex}") == user_file.read_bytes()


def test_nothing_is_left_behind_in_that_folder(tmp_path):
    code = """
    import kachery, resource, signal, sys
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    try:
        kachery.store_file(sys.argv[1])
    except OSError:
        print("failed")
    """
    (tmp_path / "big").write_bytes(b"x" * 5_000_000)
    done = run_python(code, tmp_path / "big", env={"KACHERY_STORE_FILE_DIR": str(tmp_path / "out")})
    assert done.stdout == "failed\n" and everything(tmp_path / "out") == ["sha1"]


def test_a_storage_backend_of_ones_own(user_file, store_dir):
    seen = []

    class Mine:
        def store_file(self, filename, *, label=None):
            seen.append((pathlib.Path(filename).read_bytes(), label))
            return "mine://1"

    ka.set_custom_storage_backend(Mine())
    try:
        assert ka.store_file(str(user_file), label="x") == "mine://1"
        assert ka.store_json({"a": 1}, label="j") == "mine://1"
        assert seen == [(user_file.read_bytes(), "x"), (b'{"a":1}', "j")]
        assert not store_dir.exists()
        assert ka.store_text("here", local=True) == f"sha1://{sha1(b'here')}"
        before = os.stat(user_file)
        assert ka.store_file(str(user_file), cache_locally=True) == "mine://1"
        assert os.stat(user_file) == before
        assert ka.load_bytes("sha1://" + sha1(user_file.read_bytes())) == user_file.read_bytes()
    finally:
        ka.set_custom_storage_backend(None)
    with pytest.raises(TypeError, match="store_file"):
        ka.set_custom_storage_backend(object())


def test_the_sandbox(store_dir):
    code = """
    import kachery as ka, os, subprocess, sys
    outside = ka.get_kachery_dir()
    ka.store_text("outside")
    ka.use_sandbox()
    inside = ka.get_kachery_dir()
    assert inside != outside and inside.startswith(outside + "/sandbox/")
    assert ka.get_kachery_dir(respect_sandbox=False) == outside
    uri = ka.store_text("inside"); ka.set_mutable_local("k", "v")
    assert ka.load_text(uri) == "inside"
    child = f"import kachery; kachery.use_sandbox(); print(kachery.load_text({uri!r}), kachery.get_kachery_dir())"
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True)
    assert done.stdout.split() == ["inside", inside], done
    assert os.path.exists(inside)  # the child did not make it, and leaves it alone
    ka.use_sandbox(False)
    assert ka.load_text(uri) is None and ka.get_mutable_local("k") is None
    ka.use_sandbox(True)
    assert ka.get_kachery_dir() == inside and ka.load_text(uri) == "inside"
    with ka.using(dir=sys.argv[1]):
        assert ka.load_text(uri) is None and ka.get_kachery_dir() == sys.argv[1]
    print(inside)
    """
    inside = run_python(code, store_dir.parent / "other").stdout.strip()
    assert not os.path.exists(inside)
    assert ka.load_text("sha1://" + sha1(b"outside")) == "outside"


def test_store_a_file_by_its_uri():
    uri = ka.store_text("x", label="a")
    assert ka.store_file_local(uri, label="b") == uri.replace("label=a", "label=b")
    assert ka.store_file(uri, local=True) == uri.partition("?")[0]


@pytest.mark.skipif(sys.platform == "darwin", reason="no /proc there: NOT checked")
def test_a_file_that_cannot_be_read_is_not_blamed_on_the_store(tmp_path):
    with pytest.raises(OSError) as caught:
        ka.store_file("/proc/self/mem")  # opens, and cannot be read at 0
    assert caught.value.errno == errno.EIO and caught.value.filename == "/proc/self/mem"
    assert not isinstance(caught.value, ka.KacheryError)
    with pytest.raises(IsADirectoryError):
        ka.store_file(tmp_path)
    with pytest.raises(FileNotFoundError):
        ka.link_file(tmp_path / "none")


# Loading: options and commands


def test_options_of_load(user_file, tmp_path):
    uri = ka.store_file(user_file)
    dest = tmp_path / "copy"
    assert ka.load_file(uri, dest=str(dest), local_only=True, verbose=True) == str(dest)
    assert ka.load_file(str(user_file)) == str(user_file)
    assert ka.load_file(str(user_file), dest=dest) == str(dest)
    assert ka.load_file("/no/such/file") is None and ka.load_file("/\0") is None
    assert ka.load_file(uri, zone="default") == ka.load_file(uri)
    with pytest.raises(ka.Unsupported, match="KACHERY_ZONE"):
        ka.load_file(uri, zone="lab")


ZONED = """
import kachery as ka, pathlib, sys
root, zone = map(pathlib.Path, sys.argv[1:])
root.mkdir()
(root / "kachery.toml").write_text(f'[zones.lab]\\nurl = "{zone}"\\n')
files = lambda: sorted(p.name for p in zone.rglob("*") if p.is_file() and "sha1" in str(p))
here = ka.store_text("here", local=True)
ka.set_mutable_local("@a/b", "x")
assert files() == [], files()
there = ka.store_text("there")
assert files() == [there[7:]], files()
assert ka.store_text("x", uri_type=2).startswith("kachery:lab:sha1:")
assert ka.store_text("x", uri_type=2, local=True).startswith("kachery::sha1:")
own = root / "own"
own.write_text("own")
assert ka.store_file(own, uri_type=2, local=True) == "kachery::sha1:" + ka.link_file(own)[7:]
assert ka.store_file_local(own) == ka.link_file(own) and "own" not in [p.name for p in zone.rglob("*")]
assert len(files()) == 2, files()
path = ka.load_file(there, zone="lab")
pathlib.Path(path).unlink()
assert ka.load_text(there, local_only=True) is None and ka.load_file(there, local_only=True) is None
assert ka.load_file_info(there)["size"] == 5
assert ka.load_text(there) == "there" and ka.load_text(there, local_only=True) == "there"
try:
    ka.load_file(there, zone="default")
except ka.Unsupported as error:
    print(error)
"""


def test_local_means_local_where_there_is_a_zone(store_dir, tmp_path):
    (tmp_path / "zone").mkdir()
    done = run_python(ZONED, store_dir, tmp_path / "zone", env={"KACHERY_ZONE": "lab"})
    assert "lab" in done.stdout and "KACHERY_ZONE" in done.stdout


def test_file_info(user_file):
    uri = ka.store_file(user_file)
    size = user_file.stat().st_size
    assert ka.load_file_info(uri) == {
        "found": True,
        "size": size,
        "hashAlg": "sha1",
        "hash": uri[7:],
    }
    assert ka.load_file_info(str(user_file)) == {"found": True, "size": size}
    assert ka.load_file_info(NOWHERE) is None
    with pytest.raises(BadURI, match="load_file"):
        ka.load_file_info("https://example.org/")


def test_bytes_to_standard_output():
    uri = ka.store_text("0123456789")
    code = f"import kachery as ka; print(ka.load_bytes({uri!r}, 3, 6, write_to_stdout=True))"
    assert run_python(code).stdout == "345None\n"
    for start, end in ((-1, 2), (3, 2), (0, 11), (11, 11)):
        with pytest.raises(ValueError, match="10 bytes"):
            ka.load_bytes(uri, start, end)


def command(name, *args):
    path = os.path.join(os.path.dirname(sys.executable), name)
    return subprocess.run([path, *map(str, args)], capture_output=True, text=True, timeout=60)


def test_commands(user_file, store_dir):
    uri = f"sha1://{sha1(user_file.read_bytes())}?label=data.bin"
    assert command("kachery-link", user_file).stdout == uri + "\n"
    assert command("kachery-load", uri).stdout == f"{user_file}\n"
    assert command("kachery-store-local", user_file).stdout == uri + "\n"
    assert command("kachery-load", uri).stdout == f"{stored_path(store_dir, uri[7:47])}\n"
    info = json.loads(command("kachery-load-info", uri).stdout)
    assert info["found"] is True and info["size"] == user_file.stat().st_size
    assert command("kachery-cat", uri).stdout == user_file.read_text()
    assert command("kachery-store", user_file, "--cache-locally").stdout == uri + "\n"
    for failed in (command("kachery-load-info", NOWHERE), command("kachery-link", "/dev/null")):
        assert failed.returncode != 0 and failed.stdout == "" and "Traceback" not in failed.stderr


# Links


def test_a_link(user_file, store_dir):
    uri = ka.link_file(user_file, label="data.bin")
    hex = sha1(user_file.read_bytes())
    assert uri == f"sha1://{hex}?label=data.bin"
    link = stored_path(store_dir / "linked_files", hex)
    assert json.loads(link.read_text()) == {
        "path": str(user_file),
        "size": 19,
        "mtime": 1_700_000_000.25,
        "sha1": hex,
    }
    assert not (store_dir / "sha1").exists()
    assert ka.load_file(uri) == str(user_file)
    assert ka.load_bytes(uri, 4, 10) == b"user's"
    assert ka.load_text(uri) == "the user's own data"
    assert ka.load_file_info(uri)["size"] == 19


@pytest.mark.parametrize("change", ["size", "time", "removed", "folder", "pipe"])
def test_a_link_is_invalid_once_its_file_changes(user_file, change):
    uri = ka.link_file(user_file)
    status = user_file.stat()
    if change == "size":
        user_file.write_bytes(b"more than the user's own data")
        os.utime(user_file, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "time":
        os.utime(user_file, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    else:
        user_file.unlink()
    if change == "folder":
        user_file.mkdir()
    if change == "pipe":
        os.mkfifo(user_file)
    assert ka.load_text(uri) is None
    assert ka.load_file(uri) is None


@pytest.mark.parametrize("known", [False, True], ids=["new", "checked before"])
def test_linked_bytes_are_verified(user_file, known):
    uri = ka.link_file(user_file)
    status = user_file.stat()
    if known:
        time.sleep(0.06)  # what was checked is remembered from 50 ms after the last change on
        assert ka.load_text(uri) == "the user's own data"
    user_file.write_bytes(b"the user's own dATA")  # same size, and the time is put back
    os.utime(user_file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.warns(ka.DamagedWarning), pytest.raises(ka.DigestMismatch, match=r"data\.bin"):
        ka.load_text(uri)
    assert ka.load_text(uri) is None


HOSTILE_LINKS = [
    b"",
    b"null",
    b"[]",
    b"\xff\xfe",
    b"[" * 50_000,
    {"padding": "x" * 100_000},
    {"path": 5},
    {"path": "relative"},
    {"path": "/a\0b"},
    {"path": "/tmp/../etc/passwd"},
    {"path": "/" + "x" * 10_000},
    {"path": "/\ud800"},
    {"size": "19"},
    {"size": True},
    {"mtime": 10**400},
    {"mtime": None},
    {"sha1": "b" * 40},
]


@pytest.mark.parametrize("content", HOSTILE_LINKS, ids=range(len(HOSTILE_LINKS)))
def test_hostile_link_files(user_file, store_dir, content):
    uri = ka.link_file(user_file)
    link = stored_path(store_dir / "linked_files", uri[7:])
    if isinstance(content, dict):
        content = json.dumps(json.loads(link.read_text()) | content).encode()
    link.write_bytes(content)
    with pytest.warns(ka.DamagedWarning), pytest.raises(ka.DigestMismatch, match="linked_files"):
        ka.load_text(uri)
    assert ka.load_text(uri) is None


def test_a_link_to_a_secret_file_gives_nothing_away(user_file, store_dir, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    uri = ka.link_file(user_file)
    link = stored_path(store_dir / "linked_files", uri[7:])
    status = secret.stat()
    record = {"path": str(secret), "size": 6, "mtime": status.st_mtime, "sha1": uri[7:]}
    link.write_text(json.dumps(record))
    with pytest.warns(ka.DamagedWarning), pytest.raises(ka.DigestMismatch):
        ka.load_text(uri)


# location=


def test_location(user_file, tmp_path):
    uri = f"sha1://{sha1(user_file.read_bytes())}?label=a&location="
    assert ka.load_file(uri + str(user_file)) == str(user_file)
    assert ka.load_text(uri + str(user_file)) == "the user's own data"
    plus = tmp_path / "a+b c"
    plus.write_bytes(user_file.read_bytes())
    assert ka.load_text(uri + str(plus)) == "the user's own data"
    other = tmp_path / "other"
    other.write_bytes(b"the user's own dATA")
    assert ka.load_text(uri + str(other)) is None
    assert ka.load_text(uri + os.path.relpath(user_file).replace("../", "")) is None


@pytest.mark.parametrize(
    "location", ["/a/../b", "../b", "/a%00b", "/a\nb", "/a%0Ab", "/" + "x" * 10_000]
)
def test_hostile_locations(location):
    with pytest.raises(BadURI, match="location"):
        ka.load_text(f"{NOWHERE}?location={location}")


@pytest.mark.parametrize("location", ["/dev/zero", "/dev/stdin", "/proc/self/mem", "/tmp"])
def test_a_location_that_is_no_file(location):
    assert ka.load_text(f"{NOWHERE}?location={location}") is None


def test_a_wrong_file_at_a_location_is_not_taken_for_right_the_next_time(user_file):
    time.sleep(0.06)  # what was checked is remembered from 50 ms after the last change on
    for _ in range(3):
        assert ka.load_text(f"{NOWHERE}?location={user_file}") is None


def test_a_pipe_at_a_location_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="regular file"):
        ka.link_file(tmp_path / "pipe")
    assert ka.load_text(f"{NOWHERE}?location={tmp_path / 'pipe'}") is None


# Labels and URIs that mean harm

HOSTILE_LABELS = ["..", "../x", "a/../../b", "a\0b", "a\nb", "a\x1b[2J", "x" * 10_000, "\ud800", 5]


@pytest.mark.parametrize("label", HOSTILE_LABELS, ids=range(len(HOSTILE_LABELS)))
def test_hostile_labels(label, user_file, store_dir):
    for store in (
        lambda: ka.store_file(user_file, label=label),
        lambda: ka.store_text("x", label=label, uri_type=2),
        lambda: ka.link_file(user_file, label=label),
    ):
        with pytest.raises(BadURI, match="label"):
            store()
    assert not store_dir.exists()  # refused before anything was stored


@pytest.mark.parametrize(
    "rest",
    ["?label=..%2F..%2Fx", "/../../x", "?label=a%00b", "?label=a%0Ab", "?label=" + "x" * 10_000]
    + ["?manifest=..%2F..", "?manifest=", "?manifest=" + "A" * 40, "&".join(["?a=1"] * 1000)]
    + ["/a\nb", "/" + "x" * 10_000, "?label=%ED%A0%80\udc00"],
)
def test_hostile_uris(rest, store_dir):
    for load in (ka.load_text, ka.load_file, ka.load_file_info, ka.cat_file):
        with pytest.raises(BadURI):
            load(NOWHERE + rest)
    assert not store_dir.exists()


# Mutables


def test_mutables_of_kachery_2(store_dir):
    assert ka.get_mutable_local("@a/@b/key") is None
    assert ka.get_mutable_local("@a/@b/key", "d") == "d"
    ka.set_mutable_local("@a/@b/key", "one\r\n")
    ka.set_mutable_local("@a/@b/key", "two\r\n\u00e9")
    assert (store_dir / "mutables/@a/@b/key").read_bytes() == "two\r\n\u00e9".encode()
    assert ka.get_mutable_local("@a/@b/key", "d") == "two\r\n\u00e9"
    ka.set_mutable_local("@a/other", "")
    ka.delete_mutable_local("@a/other")
    with pytest.raises(ka.NotFound):
        ka.delete_mutable_local("@a/other")
    ka.delete_mutable_folder_local("@a")
    assert ka.get_mutable_local("@a/@b/key") is None
    assert everything(store_dir / "mutables") == [] and everything(store_dir / "tmp") == []
    with pytest.raises(ka.NotFound):
        ka.delete_mutable_folder_local("@a")


HOSTILE_NAMES = [
    *("", ".", "..", "../x", "/etc/x", "@a/../x", "@a//x", "@a/", "a/b", "@a", "@/x", "@a/."),
    *(
        "a\0b",
        "@a\n/b",
        "x" * 10_000,
        "@" + "y" * 300 + "/x",
        "@a/" * 2_000 + "x",
        "\ud800",
        5,
        None,
    ),
]


@pytest.mark.parametrize("key", HOSTILE_NAMES, ids=range(len(HOSTILE_NAMES)))
def test_hostile_names_of_mutables(key, store_dir, tmp_path):
    before = everything(tmp_path)
    for use in (
        lambda: ka.set_mutable_local(key, "x"),
        lambda: ka.get_mutable_local(key),
        lambda: ka.delete_mutable_local(key),
    ):
        with pytest.raises(ka.BadMutable):
            use()
    assert everything(tmp_path) == before


@pytest.mark.parametrize("key", ["", "@a/..", "@a/b", "a", "..", "@", "@a/@", "@a\0", "/@a", 5])
def test_hostile_folders_of_mutables(key):
    with pytest.raises(ka.BadMutable):
        ka.delete_mutable_folder_local(key)


def test_deleting_a_folder_does_not_follow_links(store_dir, tmp_path):
    ka.set_mutable_local("@a/x", "x")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("keep")
    (store_dir / "mutables/@b").symlink_to(tmp_path / "outside")
    (store_dir / "mutables/@a/@c").symlink_to(tmp_path / "outside")
    ka.delete_mutable_folder_local("@b")
    ka.delete_mutable_folder_local("@a")
    assert (tmp_path / "outside/file").read_text() == "keep"


KEYS = ["x", "", "@a/b", "../x", "a\0b", "x" * 10_000, "\ud800", 1, 1.0, True, None, [], [1], {}]
KEYS += [["x"], {"a": {"b": 1}}, {"b": 1, "a": [None]}]


def test_json_mutables(store_dir):
    for i, key in enumerate(KEYS):
        assert ka.get_mutable(key) is None and ka.get_mutable(key, "d") == "d"
        assert ka.set_mutable(key, {"i": [i, 0.5, None]}) is True
    for i, key in enumerate(KEYS):
        assert ka.get_mutable(key) == {"i": [i, 0.5, None]}, key
    assert ka.get_mutable({"a": [None], "b": 1}) == {"i": [len(KEYS) - 1, 0.5, None]}
    assert ka.set_mutable("x", "other", update=False) is False
    assert ka.get_mutable("x") == {"i": [0, 0.5, None]}
    assert ka.set_mutable("x", "other", update=True) is True and ka.get_mutable("x") == "other"
    assert ka.delete_mutable("x") is True and ka.delete_mutable("x") is False
    assert ka.set_mutable("x", None, update=False) is True
    assert ka.get_mutable("x", "d") is None
    inside = {p.split("/")[0] for p in everything(store_dir)}
    assert inside == {"mutables", "tmp", "layout.json"}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), {1: 2}, {1, 2}, b"x", object()])
def test_what_is_no_json(bad):
    with pytest.raises(ka.BadMutable, match="key"):
        ka.set_mutable(bad, 1)
    with pytest.raises(ka.BadMutable, match="value"):
        ka.set_mutable("k", bad)
    with pytest.raises(ka.BadMutable):
        ka.set_mutable_local("k", bad)


def test_too_deep_for_json():
    value = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ka.BadMutable):
        ka.set_mutable(value, 1)


def test_one_of_many_sets_a_mutable_that_is_absent():
    start = threading.Barrier(16)
    won = []

    def attempt(i):
        start.wait()
        if ka.set_mutable(["job", 1], i, update=False):
            won.append(i)

    threads = [threading.Thread(target=attempt, args=(i,)) for i in range(16)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert len(won) == 1 and ka.get_mutable(["job", 1]) == won[0]


@pytest.mark.parametrize("position", [5, 12, -40])
def test_a_damaged_json_mutable_is_noticed(store_dir, position):
    ka.set_mutable("key", "value")
    [path] = [p for p in (store_dir / "mutables").rglob("*") if p.is_file()]
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.warns(ka.DamagedWarning), pytest.raises(ka.DigestMismatch):
        ka.get_mutable("key")
    assert ka.get_mutable("key") is None


def test_readers_of_a_mutable_see_the_old_or_the_new():
    texts = ["a" * 200_000, "b" * 300_000]
    ka.set_mutable_local("k", texts[0])
    ended = threading.Event()

    def write():
        for i in range(60):
            ka.set_mutable_local("k", texts[i % 2])
        ended.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not ended.is_set():
        assert ka.get_mutable_local("k") in texts
    thread.join()


# The web


class Server:
    """Serves what `answers` says by path: bytes, or a function of the handler."""

    def __init__(self, host="127.0.0.1"):
        self.answers, self.requests = {}, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append(self.path)
                answer = outer.answers.get(self.path.partition("?")[0])
                if callable(answer):
                    answer(self)
                elif answer is None:
                    self.send_error(404)
                else:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(answer)))
                    self.end_headers()
                    self.wfile.write(answer)

            def log_message(self, *args):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                pass  # the client hung up, as it should

        self.server = Quiet((host, 0), Handler)
        self.url = f"http://{host}:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


def redirect(to, code=302):
    def answer(handler):
        handler.send_response(code)
        handler.send_header("Location", to)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def test_a_file_on_the_web(server, store_dir, tmp_path):
    server.answers = {"/a%20b": b"from the web", "/moved": redirect("/a%20b")}
    path = ka.load_file(f"{server.url}/a%20b?x=1")
    assert path == str(stored_path(store_dir, sha1(b"from the web")))
    assert ka.load_text(f"{server.url}/moved") == "from the web"
    assert ka.load_bytes(f"{server.url}/a%20b", 5, 8) == b"the"
    assert ka.load_file(f"{server.url}/a%20b", dest=tmp_path / "d") == str(tmp_path / "d")
    assert (tmp_path / "d").read_bytes() == b"from the web"
    assert everything(store_dir / "tmp") == []
    assert ka.load_text(f"{server.url}/none") is None
    requests = len(server.requests)
    assert ka.load_text(f"{server.url}/a%20b", local_only=True) is None
    assert len(server.requests) == requests


def test_a_file_on_github(server, monkeypatch):
    monkeypatch.setattr(web, "GITHUB", server.url)
    server.answers = {"/user/repo/main/a/b%20c.txt": b"from github"}
    assert ka.load_text("gh://user/repo/main/a/b c.txt") == "from github"
    for bad in ("gh://user/repo/main", "gh://a/b/../c", "gh://a//b/c", "gh://a/b/c/../../d"):
        with pytest.raises(BadURI, match="gh://user"):
            ka.load_text(bad)


@pytest.mark.parametrize(
    "to",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "gopher://x/",
        "javascript:1",
        "data:,x",
        "sha1://x",
        "http://a:b@127.0.0.1/",
    ],
)
@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirection_to_another_scheme(server, store_dir, to, code):
    server.answers = {"/x": redirect(to, code)}
    with pytest.raises(ka.DownloadRefused):
        ka.load_text(f"{server.url}/x")
    assert not store_dir.exists() or everything(store_dir / "tmp") == []


def test_redirections_in_a_circle(server):
    server.answers = {"/x": redirect("/y"), "/y": redirect("/x")}
    with pytest.raises(ka.DownloadRefused):
        ka.load_text(f"{server.url}/x")


@pytest.mark.skipif(sys.platform == "darwin", reason="no 127.0.0.2 there: NOT checked")
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_redirection_from_a_public_to_a_private_address(server, monkeypatch, name):
    """127.0.0.2 stands for a public address here."""
    private = web.is_private
    monkeypatch.setattr(
        web, "is_private", lambda address: address != "127.0.0.2" and private(address)
    )
    public = Server("127.0.0.2")
    inside = server.url.replace("127.0.0.1", name)
    public.answers = {"/x": redirect(f"{inside}/secret"), "/y": redirect("/z"), "/z": b"fine"}
    server.answers = {"/secret": b"secret", "/out": redirect(f"{public.url}/y")}
    try:
        with pytest.raises(ka.DownloadRefused, match="private"):
            ka.load_text(f"{public.url}/x")
        assert server.requests == []
        assert ka.load_text(f"{server.url}/out") == "fine"  # from private to public
        assert ka.load_text(f"{inside}/secret") == "secret"  # the user named it
    finally:
        public.close()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "172.16.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "100.64.0.1",
    ]
    + [
        "::1",
        "::",
        "fe80::1%eth0",
        "fc00::1",
        "::ffff:127.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::7f00:1",
    ]
    + ["224.0.0.1", "255.255.255.255"],
)
def test_private_addresses(address):
    assert web.is_private(address)
    assert not web.is_private("8.8.8.8") and not web.is_private("2606:4700::1111")


@pytest.mark.parametrize(
    "url",
    ["http://", "http:///x", "http://a:b@127.0.0.1/", "http://127.0.0.1:99999/", "http://[::1/"]
    + [
        "http://127.0.0.1/a b",
        "http://127.0.0.1/a\r\nX: y",
        "http://127.0.0.1/\0",
        "http://x/" + "y" * 10_000,
    ],
)
def test_hostile_urls(url, store_dir):
    with pytest.raises(BadURI):
        ka.load_text(url)
    assert not store_dir.exists()


def cut_short(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b"x" * 500)


def chunks_cut_short(handler):
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"5\r\nhello\r\nff\r\nx")


def nonsense(handler):
    handler.wfile.write(b"\x00\x01nonsense\r\n\r\n")


def endless_headers(handler):
    handler.send_response(200)
    for i in range(1000):
        handler.send_header(f"X-{i}", "y" * 1000)
    handler.end_headers()


@pytest.mark.parametrize(
    "answer",
    [cut_short, chunks_cut_short, nonsense, endless_headers]
    + [
        lambda h: h.send_error(500),
        lambda h: h.send_error(403),
        lambda h: h.send_response_only(204),
    ],
)
def test_a_download_that_fails_leaves_nothing(server, store_dir, answer):
    server.answers = {"/x": answer}
    with pytest.raises(ka.DownloadFailed, match="/x"):
        ka.load_text(f"{server.url}/x")
    assert not (store_dir / "sha1").exists()
    assert not store_dir.exists() or everything(store_dir / "tmp") == []


def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(ka.DownloadFailed, match=r"127\.0\.0\.1"):
            ka.load_text(f"http://127.0.0.1:{free.getsockname()[1]}/x")


@pytest.mark.parametrize("where", ["headers", "body", "chunk size"])
def test_a_server_that_drips_is_given_up(server, monkeypatch, where):
    monkeypatch.setattr(web, "GRACE", 0.5)
    stop = threading.Event()

    def drip(handler):
        handler.protocol_version = "HTTP/1.1"
        if where != "headers":
            handler.send_response(200)
            handler.send_header("Transfer-Encoding", "chunked") if where == "chunk size" else None
            handler.end_headers()
            handler.wfile.flush()
        else:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not stop.wait(0.05):
            handler.wfile.write(b"0")

    server.answers = {"/x": drip}
    try:
        with pytest.raises(ka.DownloadFailed, match="bytes a second"):
            ka.load_text(f"{server.url}/x")
    finally:
        stop.set()


def test_a_large_download_takes_little_memory(server, store_dir):
    def large(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "300000000")
        handler.end_headers()
        for _ in range(300):
            handler.wfile.write(bytes(1_000_000))

    server.answers = {"/x": large}
    code = """
    import kachery_store, sys
    files = kachery_store.Store(sys.argv[2]).files
    files.store_text("x")
    before = int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])
    digest = files._download(sys.argv[1], False, False)
    after = int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])
    print(digest, after - before)
    """
    uri, grown = run_python(code, f"{server.url}/x", store_dir).stdout.split()
    assert ka.load_file_info(uri)["size"] == 300_000_000
    assert int(grown) / (1 if sys.platform == "linux" else 1024) < 60_000  # kB


def test_a_download_meets_a_damaged_file(server, store_dir):
    server.answers = {"/x": b"good"}
    path = pathlib.Path(ka.load_file(f"{server.url}/x"))
    path.chmod(0o644)
    path.write_bytes(b"gOOd")
    with pytest.warns(ka.DamagedWarning):
        assert ka.load_text(f"{server.url}/x") == "good"


# The interface


SIGNATURES = {
    "load_file": "uri *dest *local_only *verbose *zone",
    "load_file_info": "uri",
    "cat_file": "uri",
    "store_file": "filename *label *cache_locally *local *uri_type",
    "store_file_local": "filename *label",
    "load_bytes": "uri start end *write_to_stdout",
    "set_mutable": "key value update",
    "get_mutable": "key",
    "delete_mutable": "key",
    "link_file": "filename *label",
    "use_sandbox": "use",
    "get_mutable_local": "key default_value",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name):
    parameters = inspect.signature(getattr(ka, name)).parameters
    wanted = SIGNATURES[name].split()
    assert list(parameters)[: len(wanted)] == [word.lstrip("*") for word in wanted]
    for word in wanted:
        keyword = parameters[word.lstrip("*")].kind is inspect.Parameter.KEYWORD_ONLY
        assert keyword == word.startswith("*"), word


def test_progress_of_what_lasts_longer_than_two_seconds(server, capsys):
    def slow(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "6000000")
        handler.end_headers()
        for _ in range(6):
            handler.wfile.write(bytes(1_000_000))
            time.sleep(0.45)

    server.answers = {"/slow": slow, "/quick": b"x"}
    ka.load_file(f"{server.url}/quick", verbose=True)
    assert capsys.readouterr().err == ""
    ka.load_file(f"{server.url}/slow", verbose=True)
    assert "6.00M" in capsys.readouterr().err
