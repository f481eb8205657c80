"""Side by side with the published kachery 2.0.3, in an environment of its own (`.venv-published`).

Both read each other's store and print the same URIs. Each fault of theirs that concerns files is
shown twice: there, so that the test is known to find it, and here, where it is not.
"""

import http.server
import json
import os
import random
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from test_formats import environment

import kachery as ka


@pytest.fixture(scope="session")
def published():
    """The Python that has kachery 2.0.3."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return environment(version, sys.executable, needs=("kachery==2.0.3",), name="published")


@pytest.fixture(params=["theirs", "ours"])
def which(request):
    return request.param


@pytest.fixture
def either(which, published):
    """Runs a script with one of the two; it begins with `import kachery as ka`."""
    python = published if which == "theirs" else sys.executable

    def run(code, *args, **options):
        done = start(python, code, *args, **options)
        out, err = done.communicate(timeout=120)
        assert done.returncode == 0, err
        return json.loads(out.splitlines()[-1])

    return run


def start(python, code, *args, stdin=subprocess.DEVNULL, **env):
    head = "import json, os, sys, threading, kachery as ka\n"
    return subprocess.Popen(
        [python, "-P", "-W", "ignore", "-c", head + textwrap.dedent(code), *map(str, args)],
        env={**os.environ, **env},
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(python, code, *args, **env):
    out, err = start(python, code, *args, **env).communicate(timeout=120)
    assert out, err
    return json.loads(out.splitlines()[-1])


# Both ways

STORE = """
import numpy as np
folder = sys.argv[1]
uris = {}
for i, label in enumerate([None, "", "a.txt", "a b", "\\u00e9\\u4e2d.npy", "x/y", "100%", "a+b&c=d#e?f:g"]):
    path = os.path.join(folder, f"{i}")
    open(path, "wb").write(b"content %d" % i)
    uris[f"file {i}"] = ka.store_file_local(path, label=label, uri_type=1)
    uris[f"other form {i}"] = ka.store_file_local(path, label=label, uri_type=2)
    uris[f"text {i}"] = ka.store_text(f"text \\u00e9 {i}", label=label, local=True, uri_type=1)
from collections import namedtuple
for i, x in enumerate([{"b": [1, 2.5, None], "a": {"\\u00e9": True}}, {10: 1, 9: {2: 3, 11: 4}}, [], "x",
                       {True: 1, None: 2, 1.5: 3}, (1, (2,)), namedtuple("T", "b a")(1, [2]), 1e22, -0.0]):
    uris[f"json {i}"] = ka.store_json(x, local=True, uri_type=1)
    uris[f"indented {i}"] = ka.store_json(x, indent=2, separators=(", ", ": "), local=True, uri_type=1)
for dtype in ("u1", "<i2", ">f8", "?", "c16", "U3", "M8[ns]"):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    uris[f"npy {dtype}"] = ka.store_npy(array, local=True, uri_type=1)
    uris[f"npy T {dtype}"] = ka.store_npy(array.T, local=True, uri_type=1)
ka.set_mutable_local("@folder/key", "text \\u00e9")
ka.set_mutable_local("plain", "")
print(json.dumps(uris))
"""

LOAD = """
uris = json.loads(sys.argv[1])
found = {}
for name, uri in uris.items():
    kind = name.split()[0]
    path = ka.load_file(uri, local_only=True)
    found[name] = [os.path.relpath(path, ka.get_kachery_dir()), open(path, "rb").read().hex()]
    if kind == "text":
        found[name].append(ka.load_text(uri, local_only=True))
    elif kind in ("json", "indented"):
        found[name].append(ka.load_json(uri, local_only=True))
    elif kind == "npy":
        found[name].append(repr(ka.load_npy(uri, local_only=True)))
found["mutables"] = [ka.get_mutable_local(k, "none") for k in ("@folder/key", "plain", "@folder/none")]
ka.set_mutable_local("@folder/key", "changed")
ka.delete_mutable_folder_local("@folder")
print(json.dumps(found))
"""


def test_both_print_the_same_uris_and_read_each_others_store(published, tmp_path):
    found = []
    for storing, loading in ((published, sys.executable), (sys.executable, published)):
        dir = str(tmp_path / f"store {len(found)}")
        uris = result(storing, STORE, tmp_path, KACHERY_DIR=dir)
        found.append((uris, result(loading, LOAD, json.dumps(uris), KACHERY_DIR=dir)))
    (their_uris, we_read), (our_uris, they_read) = found
    assert their_uris == our_uris
    assert we_read == they_read
    assert we_read["mutables"] == ["text \u00e9", "", "none"]


def test_they_follow_our_links_and_we_follow_theirs(published, tmp_path, store_dir):
    path = tmp_path / "data"
    path.write_bytes(b"linked")
    os.utime(path, (1_700_000_000, 1_700_000_000.123456))
    uri = ka.link_file(path)
    assert result(published, f"print(json.dumps(ka.load_file({uri!r}, local_only=True)))") == str(
        path
    )
    os.utime(path, (1_700_000_001, 1_700_000_001.5))
    assert ka.load_file(uri) is None  # invalid as soon as the time differs ...
    assert result(published, f"print(json.dumps(ka.load_file({uri!r}, local_only=True)))") == str(
        path
    )
    assert ka.load_file(uri) == str(path)  # ... and they have written the link anew


SHA1S = """
import random
rng = random.Random(3)
def value(depth=0):
    kind = rng.randrange(9 if depth < 4 else 6)
    if kind < 6:
        return [None, True, rng.randrange(-5, 5), rng.random() * 100, float(rng.randrange(-3, 3)), "\\u00e9x"][kind]
    if kind == 6:
        return [value(depth + 1) for _ in range(rng.randrange(4))]
    if kind == 7:
        return tuple(value(depth + 1) for _ in range(rng.randrange(4)))
    keys = rng.choice([["a", "b", "c"], [1, 10, 9], ["z", "\\u00e9"], [1.5, 10.0]])
    return {k: value(depth + 1) for k in keys}
print(json.dumps([ka.sha1_of_dict({"x": value(), "y": value()}) for _ in range(500)]))
"""


def test_sha1_of_dict(published):
    theirs, ours = result(published, SHA1S), result(sys.executable, SHA1S)
    assert theirs == ours and len(set(ours)) > 300


SIGNATURES = """
import inspect
found = {}
for name in dir(ka):
    f = getattr(ka, name)
    if inspect.isfunction(f):
        found[name] = [[p.name, p.kind.name, repr(p.default)] for p in inspect.signature(f).parameters.values()]
print(json.dumps(found))
"""


def test_every_function_of_theirs_is_here_with_its_parameters(published):
    theirs, ours = result(published, SIGNATURES), result(sys.executable, SIGNATURES)
    assert len(theirs) >= 20
    for name, parameters in theirs.items():
        here = {p[0]: p for p in ours[name]}
        for parameter, kind, default in parameters:
            if parameter.startswith(("_", "store_file_")):  # for their own use
                continue
            assert parameter in here, (name, parameter)
            assert here[parameter][1] == kind, (name, parameter)
            if parameter != "uri_type" and "_empty" not in default:
                assert here[parameter][2] == default, (name, parameter)
        positional = [p[0] for p in parameters if p[1] == "POSITIONAL_OR_KEYWORD"]
        assert [p[0] for p in ours[name]][: len(positional)] == positional, name


@pytest.mark.parametrize("name", ["kachery-store-local", "kachery-cat", "kachery-load"])
def test_commands_take_the_same_words(published, which, name, tmp_path, store_dir):
    python = published if which == "theirs" else sys.executable
    (tmp_path / "f.txt").write_text("words")
    uri = ka.store_file(tmp_path / "f.txt", label="f.txt", local=True)
    words = {
        "kachery-store-local": [str(tmp_path / "f.txt"), "--label", "other"],
        "kachery-cat": [uri],
        "kachery-load": [uri, "--dest", str(tmp_path / "g.txt")],
    }
    done = subprocess.run(
        [os.path.join(os.path.dirname(python), name), *words[name]],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    if name == "kachery-cat":
        assert done.stdout == "words"
    elif name == "kachery-load":
        assert last == str(tmp_path / "g.txt") and (tmp_path / "g.txt").read_text() == "words"
    else:
        assert uri[7:47] in last and last.endswith("other")


# Fault 6: downloads, and what is in the cache, are not checked


class Hub(http.server.BaseHTTPRequestHandler):
    """Finds every file, and serves something else."""

    def do_POST(self):
        url = f"http://127.0.0.1:{self.server.server_port}/file"
        self.answer(json.dumps({"found": True, "url": url, "size": 6}).encode())

    def do_GET(self):
        self.answer(b"forged")

    def answer(self, data):
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


def test_fault_6_bytes_from_outside_are_checked(either, which, store_dir, tmp_path):
    uri = "sha1://943a702d06f34599aee1f8da8ef9f7296031d699"
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        loaded = either(
            "print(json.dumps(ka.load_text(sys.argv[1])))",
            uri,
            KACHERY_BASE_URL=f"http://127.0.0.1:{server.server_port}",
            KACHERY_ZONE="scratch",
        )
    finally:
        server.shutdown()
        server.server_close()
    kept = [p for p in (store_dir / "sha1").rglob("*") if p.is_file()]
    assert (
        (loaded == "forged" and len(kept) == 1)
        if which == "theirs"
        else (loaded, kept) == (None, [])
    )


def test_fault_6_bytes_in_the_store_are_checked(either, which, store_dir):
    uri = ka.store_text("genuine")
    path = store_dir / "sha1" / uri[7:9] / uri[9:11] / uri[11:13] / uri[7:]
    path.chmod(0o644)
    path.write_text("damaged")
    code = """
    try:
        print(json.dumps(ka.load_text(sys.argv[1], local_only=True)))
    except Exception as error:
        print(json.dumps(type(error).__name__))
    """
    assert either(code, uri) == ("damaged" if which == "theirs" else "DigestMismatch")


# Fault 7: cache_locally puts another file in the place of the user's


def test_fault_7_the_users_own_file_is_left_alone(either, which, tmp_path, store_dir):
    path = tmp_path / "mine"
    path.write_text("precious")
    path.chmod(0o640)
    os.utime(path, (1_600_000_000, 1_600_000_000))
    before = path.stat()
    code = """
    class Backend:
        def store_file(self, filename, *, label=None):
            return "mine://1"
    ka.set_custom_storage_backend(Backend())
    print(json.dumps(ka.store_file(sys.argv[1], cache_locally=True)))
    """
    assert either(code, path) == "mine://1"
    after = path.stat()
    same = (before.st_ino, before.st_mtime, before.st_mode) == (
        *(after.st_ino, after.st_mtime),
        after.st_mode,
    )
    cached = [p for p in store_dir.rglob("*") if p.is_file() and p.read_bytes() == b"precious"]
    assert (same, len(cached)) == ((True, 1) if which == "ours" else (False, 0))
    assert path.read_text() == "precious"


# Fault 8: what changes between hashing and copying is stored under the wrong name


def test_fault_8_what_is_stored_is_what_was_hashed(either, which, tmp_path, store_dir):
    path = tmp_path / "changing"
    path.write_bytes(bytes(5_000_000))
    ended = threading.Event()

    def change():
        rng = random.Random(1)
        with open(path, "r+b", buffering=0) as file:
            while not ended.is_set():
                os.pwrite(file.fileno(), rng.randbytes(64), rng.randrange(5_000_000))
                time.sleep(0)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        code = """
        import hashlib
        wrong = 0
        for _ in range(5):
            uri = ka.store_file_local(sys.argv[1], uri_type=1)
            h = uri[7:]
            path = f"{os.environ['KACHERY_DIR']}/sha1/{h[:2]}/{h[2:4]}/{h[4:6]}/{h}"
            wrong += hashlib.sha1(open(path, "rb").read()).hexdigest() != h
        print(json.dumps(wrong))
        """
        wrong = either(code, path)
    finally:
        ended.set()
        thread.join()
    assert wrong > 0 if which == "theirs" else wrong == 0


# Fault 9: concurrent stores collide, nothing is synchronized, temporary files stay


def test_fault_9_concurrent_stores(either, which, tmp_path):
    code = """
    folder, rounds = sys.argv[1], int(sys.argv[2])
    failed, rounds_left = [], iter(range(rounds))
    def next_round():
        global now
        now = None if failed else next(rounds_left, None)
        if now is not None:
            open(f"{folder}/{now}", "w").write(f"content {now}")
    barrier = threading.Barrier(8, next_round)
    def store():
        while barrier.wait() >= 0 and now is not None:
            try:
                ka.store_file_local(f"{folder}/{now}")
            except Exception as error:
                failed.append(type(error).__name__)
    threads = [threading.Thread(target=store) for _ in range(8)]
    sys.setswitchinterval(1e-5)
    [t.start() for t in threads]; [t.join() for t in threads]
    print(json.dumps(sorted(set(failed))))
    """
    failed = either(code, tmp_path, 3_000 if which == "theirs" else 100)  # theirs ends at the first
    assert failed == (["FileExistsError"] if which == "theirs" else [])


def test_fault_9_what_is_acknowledged_is_synchronized(either, which, tmp_path):
    (tmp_path / "f").write_text("x")
    code = """
    synced = set()
    def noted(fd, fsync=os.fsync):
        synced.add(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        fsync(fd)
    os.fsync = noted
    uri = ka.store_file_local(sys.argv[1], uri_type=1)
    print(json.dumps([uri[7:] in synced, uri[7:9] in synced, "sha1" in synced]))
    """
    if not os.path.exists("/proc/self/fd"):
        pytest.skip("no /proc here: the order of fsync was NOT checked")
    assert either(code, tmp_path / "f") == [which == "ours"] * 3


def test_fault_9_a_failed_store_leaves_nothing_behind(either, which, tmp_path, store_dir):
    (tmp_path / "big").write_bytes(b"x" * 3_000_000)
    code = """
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    try:
        ka.store_file_local(sys.argv[1])
    except OSError as error:
        print(json.dumps(type(error).__name__))
    """
    either(code, tmp_path / "big")
    left = [p for p in store_dir.rglob("*") if p.is_file() and p.stat().st_size > 100_000]
    assert len(left) == (1 if which == "theirs" else 0)


# Fault 10: a missing API key waits for Enter


def test_fault_10_a_batch_job_is_never_asked_to_press_enter(published, which, tmp_path):
    (tmp_path / "f").write_text("x")
    code = "print(ka.store_file(sys.argv[1]), 'uri', flush=True)"
    python = published if which == "theirs" else sys.executable
    process = start(python, code, tmp_path / "f", stdin=subprocess.PIPE, KACHERY_API_KEY="")
    try:
        said = ""
        while not said.endswith(("Press Enter to continue...", "uri\n")):
            character = process.stdout.read(1)
            assert character, said
            said += character
        if which == "theirs":
            assert "Press Enter" in said and process.poll() is None  # it waits
        else:
            assert said.startswith("sha1://") and process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.communicate()
