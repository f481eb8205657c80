"""Where the libraries of an extra are not installed, the error says which extra brings them."""

import re
import tomllib
from pathlib import Path

from conftest import run_python

ROOT = Path(__file__).parent.parent
# Calls that need what an extra brings.
CALLS = {
    "provenance": ["found.to_prov()", "found.save('crate')"],
    "ui": ["one.job().visualize(None)"],
    "zarr": [
        "kachery.open_zarr(uri)",
        "kachery.zarr_store(uri)",
        "kachery.store_zarr('nothing of the kind')",
        "kachery.store_zarr(numbers, codecs=['zstd'])",
        "writing_session()",
    ],
    "s3": ["kachery.configure(zone='lab'), kachery.load_text('sha1://' + 40 * '0')"],
}
WITHOUT = """
import sys
import dask.array
import numpy as np
import kachery
from kachery_tasks.chunked import writing_session

@kachery.task(version="1")
def one():
    return 1

one()
numbers = np.arange(10)
uri = kachery.store_zarr(numbers)
found = kachery.lineage(one.job())
for library in ("graphviz", "ipycytoscape", "prov", "prov.model", "rocrate", "s3fs", "zarr"):
    sys.modules[library] = None
for call in sys.argv[1:]:
    try:
        eval(call)
        print("it worked")
    except kachery.KacheryError as error:
        print(type(error).__name__, " ".join(str(error).split()))
"""


def test_the_error_names_the_extra(store_dir, tmp_path):
    store_dir.mkdir()
    (store_dir / "kachery.toml").write_text('[zones.lab]\nurl = "s3://bucket/lab"\n')
    calls = [(extra, call) for extra, some in CALLS.items() for call in some]
    said = run_python(WITHOUT, *(call for _, call in calls), cwd=tmp_path).stdout.splitlines()
    for (extra, call), line in zip(calls, said, strict=True):
        assert line.startswith("Unsupported ") and f"pip install 'kachery[{extra}]'" in line, call


def test_extras_that_are_named_exist():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(project["optional-dependencies"])
    texts = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("kachery*/**/*.py")]
    named = {
        name.strip()
        for path in texts
        for some in re.findall(r"kachery\[([\w, ]+)\]", path.read_text())
        for name in some.split(",")
    }
    assert named <= extras and {"provenance", "s3", "ui", "zarr"} <= named
