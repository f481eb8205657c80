"""Several processes, crashes, forks: real ones."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import count, note_call, run_python, write

import kachery
from kachery_store import flusher

TASKS = """
import os, sys, time
import numpy as np
import kachery

@kachery.task
def result(i):
    return {"i": i, "array": np.full(20_000, i, dtype="f8"), "text": "x" * i}

@kachery.task(ignore=("path", "seconds"))
def once(x, path, seconds):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"call\\n")
    os.close(fd)
    time.sleep(seconds)
    return {"x": x}

if __name__ == "__main__":
    for i in range(int(sys.argv[1])):
        result(i)
        print(i, flush=True)
"""


@pytest.fixture
def tasks(project):
    write(project / "crashing.py", TASKS)
    import crashing

    return crashing


def test_kill_at_random_moments(project, tasks, store_dir, tmp_path):
    """Rounds of a process that stores 200 results and is killed at a random moment."""
    rng = random.Random(1)
    for round_ in range(count(50, 12)):
        folder = tmp_path / f"store{round_}"
        env = {**os.environ, "KACHERY_DIR": str(folder)}
        process = subprocess.Popen(
            [sys.executable, project / "crashing.py", "200"], stdout=subprocess.PIPE, env=env
        )
        wanted = rng.randrange(1, 190)
        acknowledged = 0
        for _ in process.stdout:
            acknowledged += 1
            if acknowledged >= wanted:
                break
        threading.Event().wait(rng.random() * 0.002)  # anywhere inside the next store
        process.send_signal(signal.SIGKILL)
        acknowledged += len(process.communicate()[0].splitlines())
        with kachery.using(dir=folder):
            jobs = [tasks.result.job(i) for i in range(200)]
            assert all(job.cached for job in jobs[:acknowledged])  # nothing acknowledged is lost
            for i, job in enumerate(jobs):
                if job.cached:
                    check(i, job.result())
            if round_ % 10 == 0:  # the next run finishes the rest
                for i, value in enumerate(kachery.gather(jobs)):
                    check(i, value)


def check(i, value):
    assert value["i"] == i and value["text"] == "x" * i
    assert np.array_equal(value["array"], np.full(20_000, i))


def test_threads_and_processes_run_a_job_once(project, tasks, calls):
    code = f"""
    import sys, crashing
    from concurrent.futures import ThreadPoolExecutor
    sys.stdin.readline()
    with ThreadPoolExecutor(2) as pool:
        print([f.result() for f in [pool.submit(crashing.once, 1, {calls.path!r}, 0.5) for _ in range(2)]])
    """
    import textwrap

    children = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    with ThreadPoolExecutor(8) as pool:
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        mine = [pool.submit(tasks.once, 1, calls.path, 0.5) for _ in range(8)]
        assert [f.result() for f in mine] == [{"x": 1}] * 8
    for child in children:
        assert child.communicate()[0] == "[{'x': 1}, {'x': 1}]\n"
    assert calls.count == 1


def test_a_waiter_takes_over_when_the_holder_is_killed(project, tasks, calls, store_dir):
    holder = subprocess.Popen(
        [sys.executable, "-c", f"import crashing; crashing.once(1, {calls.path!r}, 600)"]
    )
    while calls.count < 1:
        time.sleep(0.01)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(tasks.once, 1, calls.path, 0)
        assert not waiting.done()
        holder.kill()
        holder.wait()
        assert waiting.result(30) == {"x": 1}
    assert calls.count == 2
    assert list((store_dir / "leases").iterdir()) == []


def test_no_lease_or_temporary_file_stays_behind(store_dir, tasks, calls):
    tasks.result(3)
    tasks.once(1, calls.path, 0)
    with pytest.raises(ValueError):
        tasks.result("not a number")
    assert list((store_dir / "tmp").iterdir()) == list((store_dir / "leases").iterdir()) == []


def test_processes_that_store_the_same_things(store_dir):
    code = """
    import numpy as np, kachery
    for i in range(40):
        kachery.store_npy(np.full(1000, i))
    print("done")
    """
    import textwrap

    children = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    assert all(child.communicate()[0] == b"done\n" for child in children)
    assert len([p for p in (store_dir / "sha1").rglob("*") if p.is_file()]) == 40
    assert list((store_dir / "tmp").iterdir()) == []


def _in_child(queue, path):
    array = np.zeros(1 << 20)
    queue.put((kachery.store_npy(array), _summed(array, path)))


@kachery.task(ignore="path")
def _summed(array, path):
    note_call(path)
    return float(array.sum())


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_after_hashing_with_threads(calls):
    array = np.zeros(1 << 20)
    _summed(array + 1, calls.path)  # wakes blake3's threads
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: _summed(array + i, calls.path), range(2, 6)))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue, calls.path))
    child.start()
    uri, total = queue.get(timeout=60)
    child.join(60)
    assert child.exitcode == 0 and total == 0.0 and kachery.load_npy(uri).shape == (1 << 20,)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_inside_a_task_does_not_keep_its_lease(calls, store_dir):
    children = []

    @kachery.task(version="1", ignore="children")
    def forking(x, children):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
        child.start()
        children.append(child)
        return x

    assert forking(1, children) == 1
    forking.job(1, children).forget()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(forking, 1, children).result(30) == 1
    for child in children:
        child.kill()
        child.join()


def test_results_are_served_in_a_new_process(tasks, calls):
    tasks.once(5, calls.path, 0)
    done = run_python(f"import crashing; print(crashing.once(5, {calls.path!r}, 0))")
    assert done.stdout == "{'x': 5}\n" and calls.count == 1


@pytest.mark.parametrize("count", [1, 70])  # one by one, and the whole file system at once
def test_what_was_deleted_before_it_was_synchronized_is_no_trouble(tmp_path, caplog, count):
    gone, file, kept = tmp_path / "gone", tmp_path / "file", tmp_path / "kept"
    file.write_text("where a store was")
    kept.mkdir()
    (kept / "one").write_text("1")
    flusher.sync_pending()
    for number in range(count):
        flusher.sync_later(str(gone / f"{number}"), str(gone))
        flusher.sync_later(str(file / f"{number}"), str(file))
        flusher.sync_later(str(kept / "one"), str(kept))
    flusher.sync_pending()
    assert [one.message for one in caplog.records if one.name == "kachery.store"] == []


def test_the_background_fsync_ends_with_the_process(store_dir):
    code = """
    import os, kachery
    synced = []
    real = os.fsync
    def fsync(fd):
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)
    os.fsync = fsync
    import atexit
    @kachery.task(version="1")
    def f(x):
        return x
    import kachery_store.flusher
    f(1)
    kachery_store.flusher.sync_pending()
    record = f.job(1).id
    print(any(p.endswith(record) for p in synced), any(p.endswith("jobs/" + record[:2]) for p in synced))
    """
    if not os.path.exists("/proc/self/fd"):
        pytest.skip("needs /proc to see which files are synchronized")
    assert run_python(code).stdout == "True True\n"
