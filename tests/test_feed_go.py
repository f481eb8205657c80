"""Our files, checked by a verifier in Go with golang.org/x/mod/sumdb (Debian: golang-go and
golang-golang-x-mod-dev), which knows nothing of kachery. With KACHERY_TEST_GO=1 it fails where they are lacking.
"""

import base64
import os
import shutil
import subprocess
from pathlib import Path

import feed_vectors
import pytest
from feed_vectors import PLACE, SIGNER, entries, head, log_files, message

from kachery_store.feeds import mirror
from kachery_store.feeds.log import Log
from kachery_store.feeds.writing import append, integrate
from kachery_store.local_backend import LocalBackend
from kachery_store.note import verifier_key
from kachery_store.signing import Signer

SOURCE = Path(__file__).parent / "go_verifier"
KEY = verifier_key(PLACE.origin, SIGNER.public)
LIBRARIES = os.environ.get("GOPATH", "/usr/share/gocode")


@pytest.fixture(scope="session")
def verifier(tmp_path_factory):
    """The verifier, built from source against the libraries of the system."""
    go = shutil.which("go")
    if go is None or not Path(LIBRARIES, "src/golang.org/x/mod/sumdb/tlog").exists():
        lacking = (
            "Go or golang.org/x/mod is not on this machine, so NO OTHER PROGRAM checked our feeds:"
            " apt-get install golang-go golang-golang-x-mod-dev"
        )
        if os.environ.get("KACHERY_TEST_GO") == "1":
            pytest.fail(lacking)
        pytest.skip(lacking)
    folder = tmp_path_factory.mktemp("go")
    environment = {
        **os.environ,
        "GO111MODULE": "off",
        "GOPATH": LIBRARIES,
        "GOCACHE": str(folder / "cache"),
        "CGO_ENABLED": "0",
    }
    program = folder / "go_verifier"
    subprocess.run(
        [go, "build", "-o", program, "./go_verifier"],
        cwd=SOURCE.parent,
        env=environment,
        check=True,
    )
    return program


class Folder:
    """Files of a subfeed, and what the verifier says of them."""

    def __init__(self, verifier, path):
        self.verifier = verifier
        self.path = path

    def put(self, files):
        shutil.rmtree(self.path, ignore_errors=True)
        for name, data in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def earlier(self, *notes):
        paths = []
        for at, note in enumerate(notes):
            path = self.path.with_name(f"earlier{at}")
            path.write_bytes(note)
            paths.append(path)
        return paths

    def says(self, *notes, key=KEY):
        done = subprocess.run(
            [self.verifier, self.path, key, *self.earlier(*notes)], capture_output=True, text=True
        )
        assert (done.returncode == 0) == done.stdout.startswith("ok")
        return done.stdout or done.stderr


@pytest.fixture
def folder(verifier, tmp_path):
    return Folder(verifier, tmp_path / "feed")


@pytest.mark.parametrize("count", [1, 2, 5, 255, 256, 257, 512, 1000, 65_536 + 300])
def test_entries_and_earlier_checkpoints(folder, count):
    some = entries(count)
    folder.put(log_files(some))
    sizes = sorted({1, count // 3, count // 2, 255, 256, 257, count} & set(range(1, count + 1)))
    earlier = [head(some[:size]) for size in sizes]
    assert folder.says(*earlier) == f"ok {count} entries, {len(earlier)} earlier checkpoints\n"


def test_a_feed_as_it_is_written(folder, tmp_path):
    """By steps, with checkpoints on the way, and its copy."""
    signer = Signer(b"k" * 32)
    place = PLACE._replace(feed=signer.public.hex())
    key = verifier_key(place.origin, signer.public)
    log = Log(LocalBackend(str(tmp_path / "store")), place)
    notes = []
    for step in range(12):
        append(log, signer, [message(i) for i in range(1 + 37 * step)])
        notes.append(log.note)  # also those that were never published as checkpoints
        if step % 3 == 2:
            integrate(log)
    mirror(log, LocalBackend(str(tmp_path / "copy")))
    for root in ("store", "copy"):
        folder.path = tmp_path / root / place.file("")
        assert folder.says(*notes, key=key).startswith(f"ok {log.size} entries, 12 ")


def test_flipped_byte(folder):
    files = log_files(entries(300))
    for name in files:
        data = bytearray(files[name])
        for at in (0, len(data) // 2, len(data) - 2):
            data[at] ^= 1
            folder.put({**files, name: bytes(data)})
            if name.startswith(("checkpoint", "tile/entries")):
                assert folder.says().startswith("go_verifier: "), (name, at)
            data[at] ^= 1
    tile = bytearray(files["tile/0/001.p/44"])
    tile[7] ^= 1
    folder.put({**files, "tile/0/001.p/44": bytes(tile)})
    assert "inconsistent" in folder.says() or folder.says().startswith("go_verifier: ")


def test_rollback(folder):
    some = entries(300)
    folder.put(log_files(some[:200]))
    assert folder.says(head(some[:200])).startswith("ok")
    assert "rollback" in folder.says(head(some))


def test_fork(folder):
    some = entries(300)
    folder.put(log_files([*some[:250], *(message(-i) for i in range(80))]))
    assert folder.says(head(some[:250])).startswith("ok")
    assert "fork" in folder.says(head(some))


def test_splice(folder):
    """The log of another subfeed of the same key, and of the same subfeed by another key."""
    elsewhere = PLACE._replace(subfeed="elsewhere")
    folder.put(log_files(entries(10), elsewhere))
    assert "unverified" in folder.says() or "no verifiable signatures" in folder.says()
    folder.put(log_files(entries(10), PLACE, Signer(bytes(32))))
    assert folder.says().startswith("go_verifier: ")


def test_wrong_origin(folder):
    """The right key and key name, under a text that names another log."""
    from kachery_store.note import sign_note

    some = entries(10)
    text = head(some).decode().split("\n\n")[0] + "\n"
    other = text.replace("/main\n", "/other\n")
    note = sign_note(other, PLACE.origin, SIGNER.public, SIGNER.sign)
    folder.put({**log_files(some), "checkpoint": note})
    assert "wrong origin" in folder.says()


def test_truncation(folder):
    files = log_files(entries(300))
    name = "tile/entries/001.p/44"
    folder.put({**files, name: files[name][:-5]})
    assert "cut short" in folder.says()
    folder.put({path: data for path, data in files.items() if path != name})
    assert "no such file" in folder.says()
    shorter = {**log_files(entries(299)), "checkpoint": files["checkpoint"]}
    folder.put(shorter)
    assert folder.says().startswith("go_verifier: ")


def test_the_golden_vectors(folder):
    """Those that consist of tiles only."""
    vectors = feed_vectors.vectors()
    assert vectors["verifier_key"] == KEY
    checked = 0
    for case in vectors["cases"]:
        staged = any(name.startswith("staged") for name in case["files"])
        if staged or case["case"] in (
            "a later format",
            "entry zero of another subfeed",
            "rollback to nothing",
        ):
            continue
        folder.put({name: base64.b64decode(data) for name, data in case["files"].items()})
        said = folder.says(*([case["seen"].encode()] if "seen" in case else []))
        assert said.startswith("ok" if "entries" in case else "go_verifier: "), case["case"]
        checked += 1
    assert checked > 12
