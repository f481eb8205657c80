"""The public surface: light to import, documented, and the command line."""

import ast
import collections
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import count, run_python

import kachery

ROOT = Path(__file__).parent.parent


def test_import_is_light():
    loaded = run_python("import sys, kachery; print(*sys.modules)").stdout.split()
    heavy = {
        "dask",
        "distributed",
        "fsspec",
        "pandas",
        "cryptography",
        "zarr",
        "numpy",
        "s3fs",
        "click",
    }
    assert not heavy & set(loaded)


# Of Python itself, and of kachery what only some calls need: together they take as long as all the rest.
LATER = {
    *(
        "_hashlib",
        "concurrent.futures.thread",
        "difflib",
        "hashlib",
        "pickle",
        "platform",
        "shutil",
    ),
    *("socket", "tempfile", "tomllib", "zlib"),
    *(
        "kachery_store.files",
        "kachery_store.pins",
        "kachery_store.transfer",
        "kachery_store.uplink",
    ),
    *("kachery_store.zarr.arrays", "kachery_store.zoned", "kachery_tasks.attempt"),
    *("kachery_tasks.chunk_values", "kachery_tasks.foreign", "kachery_tasks.lease"),
    *("kachery_tasks.repository", "kachery_tasks.runs", "kachery_tasks.session"),
}


def test_a_process_that_finds_its_results_imports_little(tmp_path, monkeypatch):
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # coverage imports some of these
    code = """
    import sys, kachery
    @kachery.task(version="1")
    def f(x):
        return {"a": [x, (1, 2)]}
    f(int(sys.argv[1]))
    print(*sys.modules)
    """
    run_python(code, 1, cwd=tmp_path)
    assert not LATER & set(run_python(code, 1, cwd=tmp_path).stdout.split())
    of_runs = {"kachery_tasks.attempt", "kachery_tasks.lease", "kachery_tasks.repository"}
    of_runs |= {"kachery_tasks.runs", "platform", "zlib"}
    loaded = LATER & set(run_python(code, 2, cwd=tmp_path).stdout.split())
    assert loaded <= of_runs and "kachery_tasks.runs" in loaded


def test_a_hit_of_plain_values_is_light():
    code = """
    import sys, kachery
    @kachery.task(version="1")
    def f(x):
        return {"a": [x, (1, 2)]}
    f(1); f(1); f.map([1, 2])
    print(*sys.modules)
    """
    loaded = run_python(code).stdout.split()
    assert not {"dask", "distributed", "fsspec", "pandas", "numpy"} & set(loaded)


def test_type_checkers_see_what_there_is():
    """The stub names the same things, from the same modules, as are imported when they are used."""
    stub = ast.parse((Path(kachery.__file__).parent / "__init__.pyi").read_text())
    seen = {
        name.name: node.module
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    assert seen == kachery._HOME_OF
    (names,) = (ast.literal_eval(node.value) for node in stub.body if isinstance(node, ast.Assign))
    assert sorted(names) == sorted(kachery.__all__)
    assert all(hasattr(kachery, name) for name in names) and set(names) <= set(dir(kachery))
    with pytest.raises(AttributeError, match="no attribute 'tusk'"):
        kachery.tusk


def test_every_public_name_is_documented():
    undocumented = [
        name
        for name in kachery.__all__
        if name != "__version__" and not (getattr(kachery, name).__doc__ or "").strip()
    ]
    assert undocumented == []
    readme = (ROOT / "README.md").read_text() + (ROOT / "docs/reference.md").read_text()
    assert [name for name in kachery.__all__ if name not in readme] == []


@kachery.task
def shrunk(image, *, factor):
    return image[::factor]


def kachery_command(*args):
    command = os.path.join(os.path.dirname(sys.executable), "kachery")
    return subprocess.run([command, *args], capture_output=True, text=True, timeout=120)


def test_jobs_and_show():
    shrunk(np.zeros((100, 100)), factor=2)
    shrunk("text", factor=3)
    table = kachery_command("jobs").stdout
    assert table.splitlines()[0].split() == ["JOB", "TASK", "WHEN", "TOOK", "SIZE"]
    assert table.count("test_surface:shrunk") == 2
    newest = shrunk.job("text", factor=3)
    assert table.splitlines()[1].startswith(newest.id[:12])
    assert kachery_command("jobs", "--task", "other").stdout.count("\n") == 1
    assert kachery_command("jobs", "--task", "shrunk", "--limit", "1").stdout.count("shrunk") == 1
    rows = [json.loads(line) for line in kachery_command("jobs", "--json").stdout.splitlines()]
    assert [row["job_id"] for row in rows][0] == newest.id and rows[1]["result"]["size"] > 40_000
    shown = kachery_command("show", newest.id[:10]).stdout
    assert f"job://{newest.id}" in shown and "factor = 3" in shown and "image = 'text'" in shown
    as_json = json.loads(kachery_command("show", newest.uri, "--json").stdout)
    assert as_json["task"] == "test_surface:shrunk" and as_json["result"]["type"] == "str"


def test_jobs_that_are_not_there():
    assert kachery_command("jobs").stdout.count("\n") == 1
    failed = kachery_command("show", "abc")
    assert failed.returncode == 1
    assert failed.stderr.startswith("kachery: no job abc") and "kachery jobs" in failed.stderr
    for i in range(40):
        shrunk([i], factor=1)
    failed = kachery_command("show", "")
    assert failed.returncode == 1 and "beginning of one" in failed.stderr
    starts = collections.Counter(shrunk.job([i], factor=1).id[0] for i in range(40))
    failed = kachery_command("show", starts.most_common(1)[0][0])
    assert failed.returncode == 1 and "more digits" in failed.stderr


def test_jobs_is_quick_with_many():
    """Not a timing: the command may take its time limit, and no longer."""
    code = """
    import sys, kachery
    @kachery.task(version="1")
    def f(i):
        return i
    for i in range(int(sys.argv[1])):
        f(i)
    """
    number = count(20_000, 5_000)
    run_python(code, number)
    done = kachery_command("jobs", "--limit", "5")
    assert done.stdout.count("\n") == 6 and f"5 of {number} jobs" in done.stderr


def test_help_names_every_command():
    text = kachery_command("--help").stdout
    assert "jobs" in text and "show" in text and "Traceback" not in text
    assert "Example" in kachery_command("jobs", "--help").stdout
    assert kachery_command("--version").stdout.strip().endswith(kachery.__version__)
