"""The persisted formats: golden vectors, versions, layout, and the same on every Python."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import vectors
from conftest import run_python
from pythons import interpreters

import kachery

ROOT = Path(__file__).parent.parent


def test_golden_vectors():
    assert vectors.differences() == []


LATEST = (
    *("numpy", "pandas", "msgpack", "blake3", "cloudpickle", "tqdm", "tzdata"),
    *("polars", "pyarrow", "xarray", "scipy"),
)
OLDEST = (
    *("numpy==1.26.*", "pandas==2.2.*", "msgpack==1.0.8", "blake3==1.0.0", "cloudpickle==3.0.0"),
    *("tqdm", "tzdata"),
)


def environment(version, path, needs=LATEST, name=None):
    """An environment of that Python with what the formats need; made once, whoever asks for it."""
    if name is None and f"{sys.version_info[0]}.{sys.version_info[1]}" == version:
        return sys.executable
    folder = ROOT / f".venv-{name or version}"
    ready = folder / ".ready"
    wanted = "\n".join(needs)
    folder.mkdir(exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if not ready.exists() or ready.read_text() != wanted:
            subprocess.run([path, "-m", "venv", folder], check=True)
            subprocess.run([folder / "bin/pip", "install", "-q", *needs], check=True)
            ready.write_text(wanted)
    return str(folder / "bin/python")


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "oldest"])
def test_golden_vectors_on_every_python(version):
    """Also with the oldest NumPy and pandas that are supported."""
    wanted = "3.11" if version == "oldest" else version
    path = interpreters().get(wanted)
    if path is None:
        pytest.skip(f"Python {wanted} is not on this machine: its vectors were NOT checked")
    oldest = {"needs": OLDEST, "name": "oldest"} if version == "oldest" else {}
    python = environment(wanted, path, **oldest)
    done = subprocess.run(
        [python, "-W", "error", ROOT / "tests/vectors.py"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert wanted in done.stdout


def test_job_ids_do_not_depend_on_the_hash_seed():
    code = """
    import sys; sys.path.insert(0, "tests")
    import vectors, kachery
    from kachery_tasks.decorators import task
    module = vectors._module(vectors.FUNCTIONS["f with helper"])
    f = task(module.f)
    print(f.job({"a": {"x", "y", "z"}, "b": frozenset("abc")}).id, f.job([{1, "1", None}]).id)
    """
    ids = {
        run_python(code, env={"PYTHONHASHSEED": str(seed)}, cwd=ROOT).stdout for seed in range(4)
    }
    assert len(ids) == 1 and len(ids.pop().split()) == 2


def test_layout_version_is_written_and_a_newer_store_is_refused(store_dir):
    kachery.store_text("x")
    layout = store_dir / "layout.json"
    assert json.loads(layout.read_text()) == {"kachery": "store", "layout": 1}
    layout.chmod(0o644)
    layout.write_text('{"kachery": "store", "layout": 2}')
    done = run_python("import kachery; kachery.store_text('y')", check=False)
    assert "StoreTooNew" in done.stderr and "layout 2" in done.stderr
    layout.write_text("nonsense")
    done = run_python("import kachery; kachery.store_text('y')", check=False)
    assert "StoreUnavailable" in done.stderr and "damaged" in done.stderr


def test_a_record_of_a_later_version_is_refused(store_dir):
    import msgpack

    from kachery_store.digest import blake3_bytes
    from kachery_tasks.record import MAGIC, Record

    body = msgpack.packb({"new": "fields"})
    digest = blake3_bytes(b"kachery record 2\n" + body)
    with pytest.raises(kachery.StoreTooNew, match="version 2"):
        Record.from_bytes(msgpack.packb([MAGIC, 2, body, digest, []]), "ab" * 32)


def test_a_record_with_more_than_we_know_is_read(store_dir):
    import msgpack

    from kachery_store.digest import blake3_bytes
    from kachery_tasks.record import MAGIC, Record

    vector = json.loads((ROOT / "docs/formats/vectors/record.json").read_text())[0]
    _, _, body, _, _ = msgpack.unpackb(bytes.fromhex(vector["file"]))
    fields = msgpack.unpackb(body)
    fields[6].append("of the result")
    body = msgpack.packb([*fields, "of a later version"])
    digest = blake3_bytes(b"kachery record 1\n" + body)
    data = msgpack.packb([MAGIC, 1, body, digest, [{"key": b"", "signature": b""}], "more"])
    assert Record.from_bytes(data, vector["job_id"]).task == "golden:f"


def test_a_store_of_kachery_2_is_taken_over(store_dir):
    (store_dir / "sha1").mkdir(parents=True)
    kachery.store_text("x")
    assert (store_dir / "layout.json").exists()
