"""Spike sorting, from a raw file to a figure: what a second look at the data costs.

    python examples/03_spike_sorting.py

spike_steps.py has the steps, spike_figure.py the figure, spike_recording.py makes the raw file. The
analysis runs three times, each time in a new process: with an empty store, again, and with other
settings of the clustering.
"""

import multiprocessing
import time
from collections import Counter

import spike_recording
import spike_steps as steps
from own_store import own_store
from spike_figure import draw

import kachery

FEW, MORE = range(2, 8), range(2, 12)  # how many clusters to try


def main():
    """Make a recording, sort it three times, and see that only what must be computed is."""
    folder = own_store("spike_sorting")
    truth = spike_recording.make(folder / "recording.dat")
    size = (folder / "recording.dat").stat().st_size
    print(f"A raw file of {size / 1e6:.0f} MB: {len(truth)} neurons, 32 channels, a minute.")

    computed, accuracies = run("Run 1, with an empty store", folder, truth, FEW)
    assert computed["clean"] == computed["detect"] == 12, "one job for each chunk"
    assert len(accuracies) < spike_recording.UNITS, "two neurons are taken for one"

    computed, _ = run("Run 2, the same again", folder, truth, FEW)
    assert not computed, "all of it is known"

    computed, accuracies = run("Run 3, with more clusters to choose from", folder, truth, MORE)
    before = {"clean", "detect", "cut_out", "project"}
    assert not computed.keys() & before, "what comes before the clustering is known"
    assert computed["cluster"] == len(MORE) - len(FEW), "some numbers of clusters were tried"
    assert len(accuracies) == spike_recording.UNITS, "each neuron is found"
    assert min(accuracies) > 0.9, "and its spikes are"

    print("\nHow examples/output/spike_sorting/figure.png was made")
    print(kachery.lineage(folder / "figure.png"))


def run(title, folder, truth, counts):
    """Run the analysis in a new process; how many jobs of each task were computed, and accuracies."""
    print(f"\n{title}", flush=True)
    start = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(1) as process:
        computed, accuracies = process.apply(analyse, (folder, truth, counts))
    told = ", ".join(f"{n} {task}" for task, n in computed.items())
    print(f"    {time.perf_counter() - start:.1f} s; computed: {told or 'nothing'}")
    print("    accuracy of each neuron:", *(f"{accuracy:.2f}" for accuracy in accuracies))
    return computed, accuracies


def analyse(folder, truth, counts):
    """Sort the recording. Nothing runs before `gather`, which works on chunks side by side."""
    started = time.time()
    uri = kachery.link_file(folder / "recording.dat")  # makes no copy; the URI names the content
    figure, matches = make_jobs(uri, truth, counts)
    figure_uri, matched = kachery.gather([figure, matches])
    kachery.load_file(figure_uri, dest=folder / "figure.png")
    records = [job.record for job in kachery.lineage(figure).jobs.values()]
    new = sorted((record.started, record.task) for record in records if record.started > started)
    computed = Counter(task.partition(":")[2] for _, task in new)
    return computed, [accuracy for _, accuracy in matched.values()]


def make_jobs(uri, truth, counts):
    """The jobs that lead from the raw file to the figure, and to the comparison with the truth."""
    firsts = range(0, spike_recording.RATE * spike_recording.SECONDS, steps.CHUNK)
    chunks = [steps.clean.job(uri, first=first) for first in firsts]
    peaks = [steps.detect.job(chunk, threshold=6) for chunk in chunks]
    snippets = [steps.cut_out.job(*pair) for pair in zip(chunks, peaks, strict=True)]
    points = steps.project.job(snippets, dimensions=10)
    labels = steps.choose.job(points, [steps.cluster.job(points, count=n) for n in counts])
    trains = steps.spike_trains.job(peaks, labels)
    matches = steps.compare.job(trains, truth)
    figure = draw.job(
        chunk=chunks[0],
        points=points,
        labels=labels,
        trains=trains,
        templates=steps.average.job(snippets, labels),
        matches=matches,
    )
    return figure, matches


if __name__ == "__main__":
    main()
