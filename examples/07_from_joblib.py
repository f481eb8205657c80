"""From joblib.Memory to kachery: one import changes, and what is out of date is noticed.

    python examples/07_from_joblib.py

memory_analysis.py is run as it is, and with the other import; each time in a new process: first,
again, and after edits.
"""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from own_store import own_store

HERE = Path(__file__).parent
IMPORT = ("from joblib import Memory", "from kachery import Memory")
COMMENT = ("# of the cell", "# of this cell")
CALLED = ("np.median(trace)", "np.percentile(trace, 10)")


def main():
    """Run both scripts after the same edits, and see whose results are right."""
    folder = own_store("from_joblib")
    script = (HERE / "memory_analysis.py").read_text()
    print("The import, before and after:", *IMPORT, "", sep="\n    ")

    (old, *_, new), kept = run_after_edits(folder / "kachery", edited(script, IMPORT))
    assert kept == ["computed", "served", "served", "computed"]
    assert new != old
    if find_spec("joblib") is None:
        print("\njoblib is not installed, so this was kachery alone.")
        return
    (*_, last), kept = run_after_edits(folder / "joblib", script)
    assert kept == ["computed", "served", "computed", "served"]
    assert last == old != new
    print(f"\njoblib's last result should be {new}, and nothing says so.")


def run_after_edits(folder, script):
    """The results, and which were computed or served: first, again, after one edit and another."""
    print(f"{folder.name}.Memory")
    folder.mkdir()
    versions = {"first": script, "again": script}
    versions["after another comment"] = script = edited(script, COMMENT)
    versions["after an edit of a function that it calls"] = edited(script, CALLED)
    printed = []
    for version, text in versions.items():
        (folder / "analysis.py").write_text(text)
        command = [sys.executable, "analysis.py"]
        done = subprocess.run(command, cwd=folder, check=True, text=True, stdout=subprocess.PIPE)
        printed.append(done.stdout.split())
        print(f"    {version:42} {done.stdout.strip()}", flush=True)
    results, kept = zip(*printed, strict=True)
    return results, list(kept)


def edited(text, change):
    """The text after a change, which must be possible."""
    before, after = change
    assert before in text, before
    return text.replace(before, after)


if __name__ == "__main__":
    main()
