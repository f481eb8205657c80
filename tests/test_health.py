"""Damage is found, said and mended; a store that is not well is told from one that is."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import count, run_python

import kachery
from kachery_store import doctor, running
from kachery_tasks import keeping
from kachery_tasks.holdings import check_entry
from kachery_tasks.settings import current


@kachery.task(version="1")
def made(i):
    return {"i": i, "array": np.arange(i, i + 20_000, dtype="f8")}


@kachery.task(version="1")
def wordy(i):
    return {f"{i} {j}": "x" * 100 for j in range(2000)}  # an encoding that is a blob


def stored(store_dir, *folders):
    return sorted(p for f in folders for p in (store_dir / f).rglob("*") if p.is_file())


def rewrite(path, data):
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(0o444)


def flip(path, rng):
    data = bytearray(path.read_bytes())
    position = rng.randrange(len(data) * 8)
    data[position // 8] ^= 1 << position % 8
    rewrite(path, bytes(data))


def scramble(path, rng):
    """Other bytes, the same length, the same times."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    start = rng.randrange(len(data) - 16)
    data[start : start + 16] = bytes(b ^ 0x55 for b in data[start : start + 16])
    rewrite(path, bytes(data))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut(path, rng):
    rewrite(path, path.read_bytes()[: rng.randrange(path.stat().st_size)])


def punch(path, rng):
    """A hole: what a crash leaves of pages that were never written."""
    data = path.read_bytes()
    start = rng.randrange(len(data) // 2)
    path.chmod(0o644)
    with open(path, "r+b") as file:
        file.truncate(start)
        file.truncate(len(data))
    path.chmod(0o444)


@pytest.mark.parametrize("damage", [flip, scramble, cut, punch])
def test_every_damage_is_found(store_dir, damage):
    rng = random.Random(11)
    number = count(1000, 100)
    data = {i: random.Random(i).randbytes(200 + 40 * (i % 300)) for i in range(number)}
    files = current().store.files
    for i, content in data.items():
        files.store_bytes(content, digest=("sha1", "sha256", "blake3")[i % 3])
    paths = stored(store_dir, "sha1", "sha256", "blake3")
    assert len(paths) == number
    intact = {path: path.read_bytes() for path in paths}
    chosen = rng.sample(paths, number * 9 // 10)
    for path in chosen:
        damage(path, rng)
    done = keeping.verification().run(threads=4)
    assert done.files == number
    assert {one.name for one in done.damaged} == {str(p.relative_to(store_dir)) for p in chosen}
    assert not any(path.exists() for path in chosen)
    assert len(stored(store_dir, "quarantine")) == len(chosen)
    assert all(path.read_bytes() == intact[path] for path in paths if path not in chosen)
    assert keeping.verification().run().damaged == ()


def test_records_and_code_are_verified_too(store_dir):
    for i in range(3):
        made(i)
    rng = random.Random(1)
    paths = [*stored(store_dir, "jobs")[:2], *stored(store_dir, "code")[:1]]
    for path in paths:
        flip(path, rng)
    done = keeping.verification().run()
    assert sorted(store_dir / one.name for one in done.damaged) == sorted(paths)


def test_verification_tells_its_rate_and_does_not_count_as_use(store_dir):
    uri = current().store.files.store_bytes(bytes(10_000_000))
    path = Path(kachery.load_file(uri))
    then = time.time() - 86_400 * 5
    os.utime(path, (then, then))
    seen = []
    run = keeping.verification()
    done = run.run(progress=seen.append)
    assert sum(seen) == run.bytes == done.bytes == 10_000_000 and done.rate > 0
    assert path.stat().st_atime == pytest.approx(then)


VERIFYING = """
import os, sys
from kachery_store import verify
from kachery_tasks import keeping
verify._NOTE_SECONDS = 0
verify._BATCH = 4
run = keeping.verification()
print(run.before.files, len(run._left), flush=True)
def told(size):
    print("piece", flush=True)
done = run.run(threads=1, progress=told)
print("done", done.files, len(done.damaged), flush=True)
"""


def test_a_killed_verification_goes_on_where_it_was(store_dir):
    paths = [Path(kachery.load_file(kachery.store_text(f"text {i}"))) for i in range(60)]
    paths.sort()
    flip(paths[0], random.Random(0))  # found before the kill, and not forgotten
    flip(paths[-1], random.Random(0))
    child = subprocess.Popen([sys.executable, "-c", VERIFYING], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "0 60\n"
    for _ in range(30):
        child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.communicate()
    before, left = map(int, run_python(VERIFYING + "os._exit(0)").stdout.splitlines()[0].split())
    # the second run, which went to its end, began in the middle and found all
    assert before >= 20 and before + left == 60
    assert len(stored(store_dir, "quarantine")) == 2
    assert not (store_dir / "verify.json").exists()


def test_afresh_and_damaged_notes(store_dir):
    kachery.store_text("x")
    state = store_dir / "verify.json"
    state.write_text('{"position": "zzz", "files": 7, "bytes": 7, "seconds": 1, "damaged": []}')
    assert keeping.verification().before.files == 7
    assert keeping.verification(afresh=True).before.files == 0
    state.write_text("{")
    assert keeping.verification().run().files == 1


# Repair


def quarantine_all(store_dir, *folders):
    for path in stored(store_dir, *folders):
        flip(path, random.Random(2))
    return keeping.verification().run()


def test_repair_forgets_jobs_and_names_lost_files(store_dir):
    for i in range(3):
        made(i)
    wordy(1)
    uri = kachery.store_text("a file")
    # Three arrays, a text, a file, and what records tell of where the jobs ran.
    assert len(quarantine_all(store_dir, "blake3", "sha1").damaged) == 6
    done = keeping.repair()
    assert sorted(done.forgotten) == sorted(
        f"{job.uri} ({job.task})" for job in [*map(made.job, range(3)), wordy.job(1)]
    )
    assert done.lost == [uri] and done.fetched == []
    (salvage,) = map(Path, done.salvage)
    assert salvage.exists() and stored(store_dir, "quarantine") == [salvage]
    assert not any(made.job(i).cached for i in range(3))
    assert made(1)["array"][0] == 1  # and no warning
    assert keeping.repair(discard=True).lost == [uri] and not salvage.exists()
    assert keeping.repair() == ([], [], [], [], 0)


def test_repair_after_blobs_were_lost_without_a_trace(store_dir):
    made(1), wordy(1)
    shutil.rmtree(store_dir / "blake3")
    assert len(keeping.repair().forgotten) == 2
    assert made(1)["array"][0] == 1


def test_repair_of_damaged_records(store_dir):
    made(1)
    (path,) = stored(store_dir, "jobs")
    flip(path, random.Random(5))
    assert keeping.repair().forgotten == [made.job(1).uri]
    assert stored(store_dir, "quarantine") == []


@pytest.mark.filterwarnings("ignore::kachery.DamagedWarning")
def test_repair_fetches_what_can_be_had(store_dir):
    made(1), wordy(2)
    uri = kachery.store_text("a file")
    lost = kachery.store_text("elsewhere no more")
    copy = store_dir.with_name("copy")
    shutil.copytree(store_dir, copy)
    quarantine_all(store_dir, "blake3", "sha1")
    target = current().store

    def fetch(digest):
        if str(digest) == lost:
            raise kachery.NotFound("not there either")
        with kachery.using(dir=copy):
            data = current().store.blobs.read(digest)
        target.blobs.put(digest, data, durable=True)

    done = keeping.repair(fetch=fetch)
    assert len(done.fetched) == 4 and done.forgotten == [] and done.lost == [lost]
    assert made.job(1).cached and wordy.job(2).cached and kachery.load_text(uri) == "a file"


def test_repair_of_a_sound_store_changes_nothing(store_dir):
    made(1), wordy(1), kachery.store_text("x")
    before = {p: p.stat().st_mtime_ns for p in store_dir.rglob("*")}
    assert keeping.repair() == ([], [], [], [], 0)
    assert {p: p.stat().st_mtime_ns for p in store_dir.rglob("*")} == before


# Doctor


def findings(store_dir, **options):
    return list(doctor.examine(str(store_dir), check_entry, **options))


def test_a_sound_store_has_no_findings(store_dir):
    made(1), kachery.store_text("x")
    assert findings(store_dir) == []
    assert [one.severity for one in findings(store_dir / "nowhere")] == ["notice"]


def fixed(store_dir, match, **options):
    (finding,) = [one for one in findings(store_dir, **options) if match in one.what]
    assert finding.advice and finding.fix is not None
    finding.fix()
    assert not [one for one in findings(store_dir, **options) if match in one.what]


def test_stale_temporary_files(store_dir):
    kachery.store_text("x")
    ended = subprocess.Popen(["true"])
    ended.wait()
    tmp = store_dir / "tmp"
    names = [f"{ended.pid}.00", f"{ended.pid}.01", f"{os.getpid()}.02", f"{os.getpid()}.03"]
    hours = [0.5, 2, 2, 25]
    for name, age in zip(names, hours, strict=True):
        (tmp / name).write_bytes(b"half")
        os.utime(tmp / name, (time.time() - age * 3600,) * 2)
    (tmp / "gc.0123").write_bytes(b"on its way out")
    fixed(store_dir, "temporary files")
    fixed(store_dir, "on their way out")
    assert sorted(p.name for p in tmp.iterdir()) == sorted([names[0], names[2]])


def test_stale_leases_and_held_ones(store_dir):
    kachery.store_text("x")
    from kachery_tasks.lease import lease

    (store_dir / "leases").mkdir()
    (store_dir / "leases" / ("a" * 64)).touch()
    with lease(current().store, "b" * 64):
        fixed(store_dir, "1 leases")
        assert not running.remove_lease(current().store.backend, "leases/" + "b" * 64)
        assert [p.name for p in (store_dir / "leases").iterdir()] == ["b" * 64]


@pytest.mark.filterwarnings("ignore::kachery.DamagedWarning")
def test_damaged_entries_and_quarantine(store_dir):
    made(1), made(2)
    flip(stored(store_dir, "jobs")[0], random.Random(4))
    fixed(store_dir, "1 records or descriptions")
    (finding,) = findings(store_dir)
    assert "1 damaged files" in finding.what and "kachery repair" in finding.advice
    keeping.repair()
    assert findings(store_dir) == []


def test_a_damaged_layout(store_dir):
    kachery.store_text("x")
    path = store_dir / "layout.json"
    rewrite(path, path.read_bytes()[:9])
    fixed(store_dir, "layout.json is damaged")
    rewrite(path, b"what is this?")
    (finding,) = findings(store_dir)
    assert finding.severity == "problem" and finding.fix is None
    rewrite(path, b'{"kachery": "store", "layout": 99}')
    assert "upgrade" in findings(store_dir)[0].what


def test_rights_configuration_limit_and_an_unfinished_verification(store_dir):
    kachery.store_text("x" * 10_000)
    store_dir.chmod(0o777)
    (store_dir / "kachery.toml").write_text("maxCacheSizeGiB = 0.000001")
    (store_dir / "verify.json").write_text("{}")
    found = {one.what.partition(" ")[0]: one for one in findings(store_dir)}
    assert "everybody" in found and "a" in found and "the" in found and len(found) == 3
    (store_dir / "kachery.toml").write_text("maxCacheSizeGiB = 'x'")
    assert any("maxCacheSizeGiB" in one.what for one in findings(store_dir))


def test_little_space_few_inodes_and_another_clock(store_dir, monkeypatch):
    kachery.store_text("x")
    real = os.statvfs

    class Full:
        def __init__(self, path):
            self.real = real(path)

        def __getattr__(self, name):
            return {"f_bavail": 10, "f_favail": 10, "f_files": 10**6}.get(
                name, getattr(self.real, name)
            )

    monkeypatch.setattr(os, "statvfs", Full)
    monkeypatch.setattr(doctor, "file_time", lambda _: time.time_ns() - 60 * 10**9)
    texts = " ".join(one.what for one in findings(store_dir))
    assert "are left on the disk" in texts and "inodes" in texts and "60 s behind" in texts


def test_a_folder_that_may_not_be_entered(store_dir):
    code = """
    import hashlib, os, sys, tqdm.auto, kachery, kachery_store.doctor, kachery_tasks.files
    import kachery_tasks.holdings
    os.umask(0o022)
    if os.geteuid() == 0:
        os.setgid(65534), os.setuid(65534)
    kachery.configure(dir=sys.argv[1])
    kachery.store_text("x")
    os.chmod(sys.argv[1] + "/sha1", 0o500)
    for one in kachery_store.doctor.examine(sys.argv[1], kachery_tasks.holdings.check_entry):
        print(one.what, "|", one.advice)
        one.fix()
    print(kachery.store_text("y"))
    """
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o777)
        store = folder + "/store"
        done = run_python(code, store, env={"KACHERY_DIR": store}, check=False)
        first, second = done.stdout.splitlines()
        assert first.startswith("you may not read and write") and "chmod u+rwx" in first
        assert second.startswith("sha1://")


# The commands


def kachery_command(*args):
    code = "import sys, kachery.cli; sys.argv[0] = 'kachery'; kachery.cli.run()"
    return run_python(code, *args, check=False)


def test_the_commands(store_dir):
    made(1), made(2)
    uri = kachery.store_text("a file")
    job = made.job(1)
    assert kachery_command("pin", job.id[:12], uri, "--reason", "figure 3").stdout.split() == [
        job.uri,
        uri,
    ]
    assert "figure 3" in kachery_command("pins").stdout
    info = kachery_command("info", job.uri).stdout
    assert "pinned     yes" in info and "blob       blake3://" in info and "intact: yes" in info
    assert "intact     yes" in kachery_command("info", uri).stdout
    planned = kachery_command("gc", "--max-size", "1kB", "--dry-run")
    assert made.job(2).uri in planned.stdout and "nothing was changed" in planned.stdout
    assert made.job(2).cached
    assert "freed 16" in kachery_command("gc", "--max-size", "0.1MiB").stdout
    assert not made.job(2).cached and job.cached
    assert kachery_command("doctor").returncode == 0
    sound = kachery_command("verify")
    assert sound.returncode == 0 and "GB/s; 0 damaged" in sound.stdout
    flip(Path(kachery.load_file(uri)), random.Random(0))
    assert "no: " in kachery_command("info", uri).stdout
    assert kachery_command("doctor", "--fix").returncode == 1
    lost = kachery_command("repair")
    assert lost.returncode == 1 and f"lost: {uri}" in lost.stdout
    assert kachery_command("repair", "--discard").returncode == 1
    assert kachery_command("doctor").returncode == 0
    assert kachery_command("unpin", uri).returncode == 0
    again = kachery_command("unpin", uri)
    assert again.returncode == 1 and again.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "args",
    [
        ("gc", "--max-size", "many"),
        ("gc", "--older-than", "90"),
        ("pin", "sha1://" + "0" * 40),
        ("pin", "nothing like it"),
        ("info", "sha1://" + "0" * 40),
        ("info", "http://"),
    ],
)
def test_what_the_commands_refuse(store_dir, args):
    kachery.store_text("x")
    done = kachery_command(*args)
    assert done.returncode != 0 and "Traceback" not in done.stderr and done.stderr.strip()
