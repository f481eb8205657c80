"""An environment of its own for each library, so that none decides which versions another one gets."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMON = ("distributed>=2024.8", "numpy>=1.26", "pandas>=2.2")  # what the workloads are made of
_LONGEST = 900.0  # seconds that an installation may take


class NotInstalled(Exception):
    """A library could not be installed."""


def environment(name: str, requirements: tuple[str, ...], cache: Path) -> str:
    """The interpreter of a library's environment, which is made when there is none.

    Raises NotInstalled.
    """
    folder = cache / f"{sys.implementation.cache_tag}" / name
    wanted = "\n".join(sorted((*COMMON, *requirements)))
    complete = folder / "complete"
    python = folder / "bin" / "python"
    if not (complete.exists() and complete.read_text() == wanted):
        print(f"installing {name} into {folder}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=False, symlinks=True)
        _install(python, name, wanted.split("\n"))
        complete.write_text(wanted)
    return str(python)


def _install(python: Path, name: str, requirements: list[str]) -> None:
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    try:
        subprocess.run(
            [*command, "--disable-pip-version-check", *requirements],
            check=True,
            timeout=_LONGEST,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"{name}: not installed within {_LONGEST:g} s") from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip() or "pip failed").splitlines()[-1]
        raise NotInstalled(f"{name}: {last}") from None


def own_requirements() -> tuple[str, ...]:
    """What kachery itself needs; it runs from the working tree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return tuple(project["dependencies"])


def own_version() -> str:
    """The version of kachery in the working tree."""
    text = (ROOT / "kachery_tasks" / "_version.py").read_text()
    return text.partition('__version__ = "')[2].partition('"')[0]


def default_cache() -> Path:
    """Where the environments are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "kachery-benchmarks"
