"""Each example is run by CI, is listed, and leaves the user's store alone. Running them is for CI."""

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("[0-9][0-9]_*.py"))


def test_each_is_listed_and_no_other():
    text = (ROOT / "examples/README.md").read_text()
    assert re.findall(r"^\| `(\d\d_\w+\.py)` ", text, re.MULTILINE) == EXAMPLES


def test_each_is_run_by_make_which_ci_calls():
    commands = subprocess.run(
        ["make", "--dry-run", "--old-file=.venv/.ready", "examples"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if "MAKE" not in name},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    assert sorted(set(re.findall(r"examples/(\d\d_\w+\.py)", commands))) == EXAMPLES
    assert "make examples" in (ROOT / ".ci/run").read_text().splitlines()


def test_none_uses_the_store_of_the_user():
    for name in EXAMPLES[1:]:  # the first gives its processes another KACHERY_DIR
        assert re.search(
            r"^ +.*\bown_store\(", (ROOT / "examples" / name).read_text(), re.MULTILINE
        ), name
