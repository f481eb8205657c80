"""The pipeline over a grid of settings, on a Dask cluster: what a user of kachery writes.

    python pipeline_run.py OUTPUT

Writes a figure and a report to the folder OUTPUT, and prints as JSON how long it took and how many
jobs were computed. The store is that of KACHERY_DIR.
"""

import json
import logging
import sys
import time
from collections import Counter
from pathlib import Path

import pipeline_report
import pipeline_steps as steps
import skimage
from distributed import Client, LocalCluster

import kachery

# Files that come with scikit-image, and whether the objects in them are dark.
IMAGES = {"coins.png": False, "cell.png": False, "hubble_deep_field.jpg": False, "page.png": True}
STRENGTHS = [0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5]
THRESHOLDS = [0.5, 0.65, 0.8, 0.95, 1.1, 1.25, 1.4]


def main(output):
    """Run the pipeline; the time is that from the first job made to the last value returned."""
    with start_cluster() as cluster, Client(cluster):
        started, clock = time.time(), time.perf_counter()
        jobs = make_jobs()
        (best,) = kachery.gather([jobs["best"]])
        columns = [kachery.gather(column) for column in jobs_to_show(jobs, *best["setting"])]
        seconds = time.perf_counter() - clock
        counts = count_by_step(jobs["best"], started)
    pipeline_report.write(Path(output), list(IMAGES), columns, best, STRENGTHS, THRESHOLDS)
    print(json.dumps({"seconds": seconds, "steps": counts, "job": jobs["best"].id}))


def start_cluster():
    """Two worker processes that only this machine can reach."""
    here = "127.0.0.1"
    return LocalCluster(
        2,
        threads_per_worker=1,
        host=here,
        dashboard_address=f"{here}:0",
        silence_logs=logging.CRITICAL,  # a heartbeat may be cut off when the cluster closes
    )


def make_jobs():
    """The jobs of all images and settings. Nothing runs yet: jobs are arguments of other jobs."""
    folder = Path(skimage.__file__).parent / "data"
    files = {kachery.store_file(folder / name): dark for name, dark in IMAGES.items()}
    clean = [steps.load.job(uri, dark_objects=dark) for uri, dark in files.items()]
    expected = [steps.find_objects.job(steps.segment.job(image, threshold=1)) for image in clean]
    noisy = [steps.expose.job(image, photons=30, seed=i) for i, image in enumerate(clean)]
    jobs = {"clean": clean, "noisy": noisy, "denoised": {}, "masks": {}, "scores": {}}
    for s in STRENGTHS:
        jobs["denoised"][s] = [steps.denoise.job(image, strength=s) for image in noisy]
        for t in THRESHOLDS:
            masks = [steps.segment.job(image, threshold=t) for image in jobs["denoised"][s]]
            found = [steps.find_objects.job(mask) for mask in masks]
            jobs["masks"][s, t] = masks
            jobs["scores"][s, t] = list(map(steps.score.job, found, expected))
    jobs["best"] = steps.choose.job(list(jobs["scores"]), list(jobs["scores"].values()))
    return jobs


def jobs_to_show(jobs, strength, threshold):
    """The columns of the figure. Of all images, only these come to this process."""
    denoised, masks = jobs["denoised"][strength], jobs["masks"][strength, threshold]
    return jobs["clean"], jobs["noisy"], denoised, masks


def count_by_step(last, started):
    """For each task: its jobs that `last` needs, and how many were computed after `started`."""
    records = {job.id: job.record for job in needed_by(last, {}).values()}
    jobs = Counter(record.task for record in records.values())
    computed = Counter(record.task for record in records.values() if record.started >= started)
    return {task.partition(":")[2]: (jobs[task], computed[task]) for task in jobs}


def needed_by(job, found):
    """A job and all that it depends on, by their keys; those that run first come first."""
    for one in job.inputs:
        if one.key not in found:
            needed_by(one, found)
    found[job.key] = job
    return found


if __name__ == "__main__":
    main(sys.argv[1])
