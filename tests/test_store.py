"""Damage, full disks, folders without rights: found every time, said clearly, survived."""

import os
import random
import shutil
import stat
import subprocess
import sys

import numpy as np
import pytest
from conftest import run_python

import kachery


@kachery.task
def made(i):
    return {"small": i, "array": np.arange(i * 10_000, i * 10_000 + 20_000, dtype="f8")}


@kachery.task
def small(i):
    return [i, str(i)]


def stored_files(folder):
    """Records, blobs and files; not the environments of runs, which are small blobs."""
    found = [p for part in ("jobs", "sha1") for p in (folder / part).rglob("*") if p.is_file()]
    return sorted(found + blobs(folder))


def blobs(folder):
    """The blobs of results."""
    large = 65_536  # smaller ones are in records
    return sorted(
        p for p in (folder / "blake3").rglob("*") if p.is_file() and p.stat().st_size >= large
    )


def flip(path, rng):
    data = bytearray(path.read_bytes())
    position = rng.randrange(len(data) * 8)
    data[position // 8] ^= 1 << position % 8
    os.chmod(path, 0o644)
    path.write_bytes(data)
    os.chmod(path, 0o444)


@pytest.mark.filterwarnings("ignore::kachery.DamagedWarning")
@pytest.mark.parametrize("fresh", [True, False], ids=["other process", "same process"])
def test_one_flipped_bit_in_each_of_100_files(store_dir, fresh):
    rng = random.Random(7)
    for i in range(40):
        made(i)
        small(i)
    uris = [kachery.store_text(f"text {i}") for i in range(10)]
    files = stored_files(store_dir)
    chosen = rng.sample(files, 100)
    if fresh:
        shutil.copytree(store_dir, store_dir.with_name("copy"))
        store_dir = store_dir.with_name("copy")
        chosen = [store_dir / p.relative_to(store_dir.with_name("store")) for p in chosen]
    for path in chosen:
        flip(path, rng)
    found = 0
    with kachery.using(dir=store_dir):
        for i in [*range(40), *range(40)]:  # a job whose record is damaged reads its blob later
            value = made(i)
            assert value["small"] == i
            assert np.array_equal(value["array"], np.arange(i * 10_000, i * 10_000 + 20_000))
            assert small(i) == [i, str(i)]
        for i, uri in enumerate(uris):
            try:
                assert kachery.load_text(uri) == f"text {i}"
            except kachery.DigestMismatch:
                found += 1
    damaged_texts = sum("sha1" in str(p.relative_to(store_dir)) for p in chosen)
    assert found == damaged_texts
    quarantined = list((store_dir / "quarantine").iterdir())
    # every damaged file was found; a record whose blob was damaged was set aside with it
    assert len(quarantined) >= 100
    names = {p.name.rpartition(".")[0] for p in quarantined}
    assert {str(p.relative_to(store_dir)).replace("/", "_") for p in chosen} <= names


def test_a_damaged_record_and_blob_are_said_aloud_and_mended(store_dir):
    made(1)
    blob = blobs(store_dir)[0]
    flip(blob, random.Random(0))
    with pytest.warns(kachery.DamagedWarning, match="quarantine"):
        assert made(1)["small"] == 1
    record = next(p for p in (store_dir / "jobs").rglob("*") if p.is_file())
    flip(record, random.Random(0))
    with pytest.warns(kachery.DamagedWarning, match="jobs/"):
        assert made(1)["small"] == 1
    assert made(1)["small"] == 1  # and now without a warning


@pytest.mark.filterwarnings("ignore::kachery.DamagedWarning")
def test_truncated_emptied_and_swapped_files(store_dir):
    for i in range(4):
        made(i)
    records = sorted(p for p in (store_dir / "jobs").rglob("*") if p.is_file())
    blobs = sorted(p for p in (store_dir / "blake3").rglob("*") if p.is_file())
    for path in (*records, *blobs):
        os.chmod(path, 0o644)
    records[0].write_bytes(b"")
    blobs[0].write_bytes(blobs[0].read_bytes()[:-1])
    blobs[1].write_bytes(b"")
    records[1].write_bytes(records[2].read_bytes())  # a true record, of another job
    blobs[2].write_bytes(blobs[3].read_bytes())
    for i in range(4):
        value = made(i)
        assert value["small"] == i and value["array"][0] == i * 10_000


@pytest.mark.filterwarnings("ignore::kachery.DamagedWarning")
def test_a_lost_input_of_a_graph_is_computed_again(store_dir):
    @kachery.task
    def first(value):
        return float(value["array"].sum())

    job = first.job(made.job(2))
    expected = job.result()
    for path in (store_dir / "blake3").rglob("*"):
        if path.is_file():
            flip(path, random.Random(3))
    job = first.job(made.job(2))
    job.result()  # its own record is there: nothing is loaded
    job = first.job(made.job(2))
    job.forget()
    assert first.job(made.job(2)).result() == expected


def test_missing_blob_is_a_miss(store_dir):
    made(1)
    shutil.rmtree(store_dir / "blake3")
    with pytest.warns(kachery.DamagedWarning):
        assert made(1)["small"] == 1
    assert made(1)["array"][5] == 10_005


def test_records_and_blobs_are_read_only_files_in_the_documented_places(store_dir):
    made(3)
    id = made.job(3).id
    path = store_dir / "jobs" / id[:2] / id
    assert stat.S_IMODE(path.stat().st_mode) & 0o222 == 0
    blob = blobs(store_dir)[0]
    assert blob.parent.name == blob.name[:2]


def test_small_results_are_one_file(store_dir):
    small(1)
    assert len(stored_files(store_dir)) == 1
    before = sum(p.is_file() for p in store_dir.rglob("*"))
    for i in range(2, 12):
        small(i)
    assert (
        sum(p.is_file() for p in store_dir.rglob("*")) == before + 10
    )  # what else there is stays one


def test_a_hit_writes_nothing(store_dir):
    made(5)
    before = {p: p.stat().st_mtime_ns for p in store_dir.rglob("*")}
    made(5)
    kachery.gather([made.job(5)])
    assert {p: p.stat().st_mtime_ns for p in store_dir.rglob("*")} == before


def as_nobody(code, *args):
    """Root may write anywhere, so rights are tried as another user."""
    prefix = (
        "import os, sys, warnings, getpass, socket, platform, tqdm.auto, kachery, kachery.cli\n"
        "import hashlib, kachery_tasks.runs, kachery_tasks.session, kachery_tasks.files\n"
    )
    prefix += "if os.geteuid() == 0: os.setgid(65534), os.setuid(65534)\n"
    import textwrap

    return run_python(prefix + textwrap.dedent(code), *args, check=False)


def test_a_folder_without_write_permission():
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o555)
        code = """
        import sys, warnings
        import kachery
        kachery.configure(dir=sys.argv[1] + "/store")
        @kachery.task(version="1")
        def f(x):
            return x * 2
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            print(f(2), [w.category.__name__ for w in caught], caught[0].message)
        try:
            kachery.store_text("x")
        except kachery.StoreUnavailable as error:
            print(error)
        """
        done = as_nobody(code, folder)
        assert done.stdout.startswith("4 ['NotStoredWarning']"), done.stdout + done.stderr
        assert done.stdout.count("KACHERY_DIR") == 2 and "Permission denied" in done.stdout


def test_a_store_that_cannot_be_written_still_serves(store_dir):
    small(1)
    code = """
    import sys
    sys.path.insert(0, sys.argv[1])
    from test_store import small
    import kachery
    print(small.job(1).cached, small(1))
    """
    subprocess.run(["chmod", "-R", "a-w", store_dir], check=True)
    try:
        done = run_python(code, os.path.dirname(__file__))
        assert done.stdout == "True [1, '1']\n"
    finally:
        subprocess.run(["chmod", "-R", "u+w", store_dir], check=True)


def test_a_file_where_the_store_should_be(tmp_path):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(kachery.StoreUnavailable, match="KACHERY_DIR"),
        kachery.using(dir=tmp_path / "file"),
    ):
        kachery.store_text("x")


FULL_DISK = """
import sys, warnings, os
import numpy as np
import kachery
@kachery.task(version="1")
def f(n):
    return np.zeros(n)
kachery.configure(dir=sys.argv[1])
f(10)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    big = f(2_000_000)
print(big.shape, [w.category.__name__ for w in caught], "space" in str(caught[0].message))
try:
    kachery.store_npy(np.ones(2_000_000))
except kachery.StoreUnavailable as error:
    print("Free some space" in str(error), error.errno)
left = os.listdir(sys.argv[1] + "/tmp")
print(left, f(10).shape, f.job(10).cached, f.job(2_000_000).cached)
"""


def test_a_full_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    mounted = os.geteuid() == 0 and subprocess.run(["mount", *options], capture_output=True)
    if not mounted or mounted.returncode:
        # without the right to mount, a limit on the size of files has the same effect on a write
        code = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        code += "resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))\n"
        done = subprocess.run(
            [sys.executable, "-c", code + FULL_DISK.replace('"space" in', '"large" in'), str(disk)],
            capture_output=True,
            text=True,
        )
        assert "(2000000,) ['NotStoredWarning'] True" in done.stdout, done.stdout + done.stderr
        return
    try:
        done = run_python(FULL_DISK, disk / "store")
        assert done.stdout.splitlines() == [
            "(2000000,) ['NotStoredWarning'] True",
            "True 28",
            "[] (10,) True False",
        ]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_file_that_changes_while_it_is_stored(tmp_path, monkeypatch):
    """What is stored is what was hashed, whatever happens to the source meanwhile."""
    path = tmp_path / "growing"
    path.write_bytes(b"a" * (9 << 20))
    from kachery_store import hashed_aside

    real = hashed_aside.new_hasher

    class Meddling:
        def __init__(self, hasher):
            self.hasher = hasher

        def update(self, data):
            self.hasher.update(data)
            with open(path, "r+b") as file:
                file.seek(8 << 20)
                file.write(b"b" * 100)

        def hexdigest(self):
            return self.hasher.hexdigest()

    with monkeypatch.context() as patch:
        patch.setattr(hashed_aside, "new_hasher", lambda algorithm: Meddling(real(algorithm)))
        uri = kachery.store_file(path)
    data = kachery.load_bytes(uri)
    assert len(data) == 9 << 20 and data[8 << 20 : (8 << 20) + 100] == b"b" * 100


def test_a_source_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        kachery.store_file(tmp_path / "nowhere")
    with pytest.raises(IsADirectoryError):
        kachery.store_file(tmp_path)
