"""An image-analysis pipeline, run three times in new processes, with one store.

    python examples/01_pipeline.py [--output FOLDER]

pipeline_steps.py has the steps, pipeline_run.py connects them and runs them on a Dask cluster. This
script runs a copy of them: with an empty store, again, and after one line of the copy has changed.
"""

import argparse
import difflib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
FILES = ("pipeline_steps.py", "pipeline_run.py", "pipeline_report.py")
CHANGE = ("uniform_filter(image, size=151)", "uniform_filter(image, size=101)")


def main():
    """Run the pipeline three times; print how much was computed, and what it took."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=HERE / "output")
    output = parser.parse_args().output.resolve()
    code, store = prepare(output)
    print("Run 1, with an empty store. This takes about half a minute.", flush=True)
    first = run(code, store, output / "run1")
    print("Run 2, the same again.", flush=True)
    second = run(code, store, output / "run2")
    print("Run 3, with one line changed in a function that the task `segment` calls:")
    print(change_one_line(code / FILES[0]), flush=True)
    third = run(code, store, output / "run3")
    print_table([first, second, third])
    print_where_to_look(output, store, third["job"])


def prepare(output):
    """A copy of the code, and the folder for a new store."""
    code, store = output / "pipeline_code", output / "pipeline_store"
    code.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(HERE / name, code / name)
    if store.exists():
        shutil.rmtree(store)
    return code, store


def run(code, store, output):
    """Run the pipeline in a new process; what it printed, and the seconds that the process took."""
    clock = time.perf_counter()
    printed = subprocess.run(
        [sys.executable, code / "pipeline_run.py", output],
        env=os.environ | {"KACHERY_DIR": str(store), "KACHERY_ZONE": ""},
        stdout=subprocess.PIPE,  # stderr is not caught: the progress bar goes there
        check=True,
    ).stdout
    return json.loads(printed) | {"process": time.perf_counter() - clock}


def change_one_line(file):
    """Change the file as CHANGE says; the line as it was, and as it is."""
    before = file.read_text()
    after = before.replace(*CHANGE)
    if after == before:
        raise SystemExit(f"{file} has no {CHANGE[0]!r} to change")
    file.write_text(after)
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return "\n".join(f"    {line}" for line in list(lines)[3:])


def print_table(runs):
    """A line for each run, and the steps of the last one."""
    print("\nrun   jobs  computed  served   seconds   ratio    process   ratio")
    for i, one in enumerate(runs, 1):
        jobs, computed = map(sum, zip(*one["steps"].values(), strict=True))
        faster, process = (runs[0][what] / one[what] for what in ("seconds", "process"))
        print(
            f"{i:3}  {jobs:5}  {computed:8}  {jobs - computed:6}  {one['seconds']:8.2f}"
            f"  {faster:5.1f}x  {one['process']:7.1f} s  {process:5.1f}x"
        )
    print(
        "\nseconds  from the first job made to the last value returned, images for the figure included"
        "\nprocess  that, and starting Python and the cluster, imports, and drawing the figure;"
        "\n         every run starts the cluster, as a script would: run 2 has no use for it"
        "\n\nRun 3 by step"
    )
    for task, (jobs, computed) in runs[-1]["steps"].items():
        print(f"    {task:12}  {computed:3} computed  {jobs - computed:3} served")


def print_where_to_look(output, store, job):
    """What to look at next, seen from the folder in which this was started."""
    output, store = os.path.relpath(output), os.path.relpath(store)
    command = f"KACHERY_DIR={store} {os.path.relpath(Path(sys.executable).with_name('kachery'))}"
    print(f"""
Where to look next
    figures   {output}/run1/figure.png, {output}/run3/figure.png
    reports   {output}/run1/report.md, {output}/run3/report.md
    all jobs  {command} jobs
    one job   {command} show {job}
    reading   README.md, docs/formats/""")


if __name__ == "__main__":
    main()
