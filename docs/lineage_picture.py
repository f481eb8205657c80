"""Draws docs/lineage.svg: how the result of examples/01_pipeline.py was made, as kachery shows it.

    python docs/lineage_picture.py

runs the pipeline with an empty store, asks for the lineage of its last job, and writes the picture that
a notebook would show. Only the colour of lines and text is added, because a picture in a page does not
take it from there.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import kachery

HERE = Path(__file__).parent
COLOURS = "<style>svg{color:#1f2328}@media(prefers-color-scheme:dark){svg{color:#d1d7e0}}</style>"


def main():
    """Run the pipeline, and draw."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        with kachery.using(dir=store):
            picture = kachery.lineage(last_job(store, Path(folder) / "output"))._repr_html_()
    start, end = picture.index(">") + 1, len(picture)
    (HERE / "lineage.svg").write_text(picture[:start] + COLOURS + picture[start:end] + "\n")


def last_job(store, output):
    """The id of the job that chooses the best setting; 633 jobs lead to it."""
    printed = subprocess.run(
        [sys.executable, HERE.parent / "examples/pipeline_run.py", output],
        env=os.environ | {"KACHERY_DIR": str(store)},
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    return json.loads(printed)["job"]


if __name__ == "__main__":
    main()
