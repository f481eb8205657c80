"""A feed as a lab notebook: signed, read by others while it is written, and never rewritten.

python examples/06_feed_lab_notebook.py
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from own_store import own_store

import kachery


@kachery.task
def mean_life(counts):
    """The mean life of a sample in minutes, from its counts in each minute."""
    slope, _ = np.polyfit(np.arange(len(counts)), np.log(counts), 1, w=np.sqrt(counts))
    return float(-1 / slope)


def main():
    """Keep a notebook, which a colleague reads; then somebody changes what it says."""
    folder = own_store("lab_notebook")
    feed = kachery.create_feed("lab-notes")
    notebook = feed.load_subfeed("main")
    print(f"a new notebook, which only its owner can write: {feed.uri}")

    with colleague_who_reads(notebook.uri) as colleague:
        try:
            write_about(notebook, sample=1)
            read = [colleague.stdout.readline()]  # the notebook is still being written
            submitted = feed.create_snapshot(["main"])
            write_about(notebook, sample=2)
        finally:
            notebook.finalize()  # who reads need not wait for more
        read += colleague.stdout
    for sample, line in enumerate(read, 1):
        print(f"\nwhat the colleague has read of sample {sample}:")
        check(json.loads(line), sample)
    assert len(read) == 2

    print("\nall of it is as it was signed:", kachery.verify_feed(feed.uri))
    change(folder / "store" / "feeds", "decays", "doubts")
    try:
        kachery.verify_feed(feed.uri)
    except kachery.FeedDamaged as error:
        print("\nsomebody has changed a word. Who reads it now is told:\n   ", error)
    else:
        raise AssertionError("a changed entry was not noticed")

    entries = list(kachery.load_feed(submitted.uri).load_subfeed("main").message_stream(0))
    print(f"\nthe snapshot that was sent with the paper still has {len(entries)}: {submitted.uri}")
    assert [entry["sample"] for entry in entries] == [1]


def write_about(notebook, sample):
    """Measure something, and write it down: the data and the result are kept, the entry names them."""
    counts = np.random.default_rng(sample).poisson(5_000 * np.exp(-np.arange(60) / (20 * sample)))
    job = mean_life.submit(counts)
    entry = {
        "sample": sample,
        "note": f"decays with a mean life of {job.result():.1f} minutes",
        "data": kachery.store_npy(counts, label=f"sample{sample}.npy"),
        "result": job.uri,
    }
    notebook.append_message(entry)  # on the disk when this returns


def colleague_who_reads(uri):
    """Another process, which prints each entry as it comes, after it has checked its signature."""
    command = [Path(sys.executable).with_name("kachery"), "feed", "read", uri, "--follow"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def check(entry, sample):
    """Do what a reader can do: load the data, and see that the result comes from it."""
    print(json.dumps(entry, indent=4))
    counts = kachery.load_npy(entry["data"])
    print(kachery.lineage(entry["result"]))
    assert entry["sample"] == sample
    assert mean_life.job(counts).uri == entry["result"]


def change(feeds, word, other):
    """Change a word in the files of feeds, as somebody who can write to the disk could."""
    for file in feeds.rglob("*"):
        if file.is_file() and word.encode() in file.read_bytes():
            content = file.read_bytes().replace(word.encode(), other.encode())
            file.unlink()
            file.write_bytes(content)


if __name__ == "__main__":
    main()
