"""The package as users get it: built, looked at, installed without a compiler, and tried out.

    python tests/packaging/check_install.py          (make package)

`dist/` gets the wheel and the archive of the sources. smoke.py runs in an empty folder, in a new environment
for each Python: with the wheel; and with the first Python also with the archive, and with the oldest versions
that pyproject.toml allows, with all extras.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from pythons import ROOT, interpreters, say_what_is_missing

DIST = ROOT / "dist"
TOOLS = ROOT / ".venv-package"
PACKAGES = ("kachery", "kachery_store", "kachery_tasks")
SHIPPED = {".css", ".html", ".js", ".py", ".pyi", ".typed"}
# Whoever builds something has no compiler, and nobody sees this checkout.
WITHOUT = {"CC": "/bin/false", "CXX": "/bin/false", "PYTHONPATH": ""}


class Trial(NamedTuple):
    """One environment: a Python, and what pip is told to install."""

    name: str
    python: Path
    wanted: list[str]


def run(*command, **options):
    """A command that must succeed; what it says is shown when it does not."""
    options["env"] = {**os.environ, **WITHOUT, **options.pop("env", {})}
    done = subprocess.run(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


def build():
    """Wheel and archive, the wheel from the archive, each in an environment of its own."""
    if not (TOOLS / ".ready").exists():
        run(sys.executable, "-m", "venv", TOOLS)
        needs = ("build>=1.2", "check-wheel-contents>=0.6", "twine>=6.1")
        run(TOOLS / "bin/python", "-m", "pip", "install", "--quiet", *needs)
        (TOOLS / ".ready").touch()
    shutil.rmtree(DIST, ignore_errors=True)
    run(TOOLS / "bin/python", "-m", "build", "--outdir", DIST, ROOT)
    (wheel,), (archive,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    run(TOOLS / "bin/twine", "check", "--strict", wheel, archive)
    run(TOOLS / "bin/check-wheel-contents", "--config", ROOT / "pyproject.toml", wheel)
    return wheel, archive


def check_wheel(wheel):
    """It has the files of the packages, and nothing else."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in SHIPPED
    }
    _check_same("the wheel", names, wanted)
    if not wheel.name.endswith("-py3-none-any.whl"):
        raise SystemExit(f"{wheel.name} is not for every machine")


def check_archive(archive):
    """It has what is in the repository, and nothing else."""
    with tarfile.open(archive) as files:
        paths = [PurePosixPath(file.name) for file in files if file.isfile()]
    names = {str(PurePosixPath(*path.parts[1:])) for path in paths}
    names = {name for name in names if ".egg-info/" not in name} - {"PKG-INFO", "setup.cfg"}
    if (ROOT / ".git").exists():
        listed = run("git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard")
        _check_same(
            "the archive", names, {name for name in listed.splitlines() if (ROOT / name).exists()}
        )


def _check_same(what, names, wanted):
    if names != wanted:
        raise SystemExit(
            f"{what} lacks {sorted(wanted - names)} and has {sorted(names - wanted)}: see"
            " pyproject.toml and MANIFEST.in"
        )


def oldest():
    """The lower bounds of what users install, as exact versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    listed = [extras[name] for name in re.findall(r"\w+", extras["all"][0])[1:]]
    needs = [need for some in (project["dependencies"], *listed) for need in some]
    return [need.replace(">=", "==") for need in needs]


def try_out(trial):
    """Make the environment, install, and run smoke.py."""
    with tempfile.TemporaryDirectory(prefix="kachery-package-") as folder:
        python, empty = Path(folder, "env/bin/python"), Path(folder, "empty")
        run(trial.python, "-m", "venv", python.parent.parent)
        run(python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *trial.wanted)
        empty.mkdir()
        shutil.copy(Path(__file__).with_name("smoke.py"), empty)
        own = {"HOME": str(empty), "KACHERY_DIR": str(empty / "store")}
        run(python, "smoke.py", cwd=empty, env=own)
    print(f"installed and tried out: {trial.name}", flush=True)


def main():
    """All of it; SystemExit that says what is wrong."""
    found = interpreters()
    say_what_is_missing(found)
    wheel, archive = build()
    check_wheel(wheel)
    check_archive(archive)
    print(f"built and looked at: {wheel.name}, {archive.name}", flush=True)
    first = next(iter(found.values()))
    trials = [
        *(Trial(f"wheel, Python {version}", path, [wheel]) for version, path in found.items()),
        Trial("archive of the sources", first, ["--no-binary", "kachery", archive]),
        Trial("oldest versions, all extras", first, [f"{wheel}[all]", *oldest()]),
    ]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(try_out, trials))


if __name__ == "__main__":
    main()
