"""The supported Pythons of this machine, and the tests that run on each of them.

    python tests/pythons.py          runs them on the others than this one, each in an environment
                                     `.venv-VERSION` that is made once (make test-pythons)

Says aloud which Python is not there.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
VERSIONS = ("3.11", "3.12", "3.13")
HERE = f"{sys.version_info[0]}.{sys.version_info[1]}"

# What may differ between Pythons: values and their libraries, code, classes, forks, threads, files; and the
# basics of everything else. The rest of the tests runs on the Python of `make test`.
TESTS = (
    *("values", "value_classes", "value_libraries", "value_arrays", "value_findings"),
    *(
        "fingerprint",
        "findings",
        "tasks",
        "remembered_calls",
        "records",
        "surface",
        "cells",
        "compat",
    ),
    *("store", "merkle", "feeds", "zarr", "chunked_tasks"),
    *("executors", "processes", "dask", "dask_graph", "queries", "extras"),
)
OPTIONS = ("-n", "2", "--dist", "loadfile", "-k", "not larger_than_memory")


def interpreters():
    """Supported Pythons of this machine: {version: path}."""
    found = {}
    folders = os.environ.get("PATH", "").split(os.pathsep)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    folders += sorted(str(p / "bin") for p in pyenv.glob("3.*")) if pyenv.exists() else []
    for version in VERSIONS:
        for folder in folders:
            path = Path(folder, f"python{version}")
            if path.exists() and _runs(path, version):
                found.setdefault(version, path)
    return found


def _runs(path, version):
    done = subprocess.run(
        [path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
    )
    return done.stdout.strip() == version


def say_what_is_missing(found):
    """Say aloud which Python is not there."""
    absent = [version for version in VERSIONS if version not in found]
    if absent:
        print(f"Python {', '.join(absent)} is not on this machine: NOTHING IS TESTED THERE")


def environment(version, path):
    """The Python of `.venv-VERSION`, in which the tests run; made once."""
    folder = ROOT / f".venv-{version}"
    ready, wanted = folder / ".ready-test", (ROOT / "pyproject.toml").read_text()
    python = folder / "bin/python"
    if not ready.exists() or ready.read_text() != wanted:
        subprocess.run([path, "-m", "venv", folder], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--editable", f"{ROOT}[test]"]
        subprocess.run(install, check=True)
        ready.write_text(wanted)
    return python


def main():
    """Run TESTS on all other Pythons; returns the exit code."""
    found, failed = interpreters(), 0
    say_what_is_missing(found)
    files = [ROOT / f"tests/test_{name}.py" for name in TESTS]
    for version, path in found.items():
        if version != HERE:
            print(f"Python {version}", flush=True)
            command = [environment(version, path), "-m", "pytest", "-q", *OPTIONS, *files]
            done = subprocess.run(command, cwd=ROOT)
            failed = failed or done.returncode
    return failed


if __name__ == "__main__":
    sys.exit(main())
