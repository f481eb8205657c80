"""Jobs that run at the same time, or in a forked child, do not get in each other's way."""

import os
import signal
import threading
import time

import dask
import numpy as np
import pytest

import kachery
from kachery_tasks.cache import private

CHANGES = threading.Barrier(2)  # both jobs have their argument; it is changed
READS = threading.Barrier(2)  # it is read; it is as it was


def met(barrier):
    barrier.wait(60)


@kachery.task(version="1")
def meddled(items):
    items.append(1000)
    met(CHANGES)
    met(READS)
    items.pop()
    return len(items)


@kachery.task(version="1")
def summed(items):
    met(CHANGES)
    try:
        return sum(items)
    finally:
        met(READS)


@kachery.task
def not_stored(given):
    given.append(0)  # impure, and so the result is not stored
    return [1, 2]


def there_at_last(path):
    until = time.monotonic() + 60
    while not os.path.exists(path) and time.monotonic() < until:
        time.sleep(0.01)
    return os.path.exists(path)


@kachery.task(version="1")
def waited(path):
    return there_at_last(path)


@kachery.task(version="1")
def one_more(number):
    return number + 1


def sum_while_another_meddles(source):
    jobs = meddled.submit(source), summed.submit(source)
    return [job.result(60) for job in jobs]


def not_stored_job():
    with pytest.warns(kachery.ImpureTaskWarning):
        job = not_stored.submit([9])
        assert job.result(60) == [1, 2]
    return job


def test_what_is_not_stored_is_not_shared_by_jobs():
    assert sum_while_another_meddles(not_stored_job()) == [2, 3]
    assert summed.job([1, 2]).result(0) == 3


def test_what_dask_computed_is_not_shared_by_jobs():
    assert sum_while_another_meddles(dask.delayed([1, 2, 3])) == [3, 6]


def test_a_future_of_dask_is_not_shared_by_jobs():
    from distributed import Client

    given = [[1, 2, 3]]  # in the memory of this process, where its one worker runs
    with Client(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0"
    ) as client:
        (future,) = client.scatter(given)
        assert sum_while_another_meddles(future) == [3, 6]


@pytest.mark.filterwarnings("ignore::kachery.ImpureTaskWarning")
def test_the_caller_does_not_get_what_jobs_will_get():
    job = not_stored_job()
    job.result().append(1000)
    assert job.result() == [1, 2]


class Plain:
    """Has an encoding."""

    def __init__(self, items):
        self.items = items


class Slotted:
    """Has none, for what it keeps is out of sight."""

    def __init__(self):
        self.lock_like = range(3).__iter__()


@pytest.mark.parametrize("value", [None, True, 3, 2.5, "text", b"bytes"])
def test_what_cannot_change_is_handed_out_as_it_is(value):
    assert private(value) is value


def test_private_copies():
    large = np.arange(20_000.0)
    given = {"large": [large, large], "plain": Plain([1]), "code": np.sum}
    copy = private(given)
    for one in copy["large"]:
        one[0] = 7  # it may be written to
    copy["plain"].items.append(2)
    assert large[0] == 0
    assert given["plain"].items == [1]
    assert type(copy["plain"]) is Plain
    assert copy["code"] is np.sum


def test_private_copies_of_what_has_no_encoding():
    given = Slotted()
    copy = private(given)
    assert copy is not given
    assert next(copy.lock_like) == next(given.lock_like) == 0
    assert private(given, pickling=False) is given
    lock = threading.Lock()
    assert private(lock) is lock


def test_a_private_copy_is_of_the_same_class_whatever_has_its_name_now():
    given = type("Plain", (), {"__module__": __name__})()
    assert type(private(given)) is type(given)


def in_child(function):
    """What a forked child says of a function that returns whether all is well."""
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        status = 1
        try:
            status = 0 if function() else 1
        finally:
            os._exit(status)  # whatever was raised: this is no second run of the tests
    return child


def status_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_job_that_runs_is_waited_for_by_a_forked_child(tmp_path):
    gate = tmp_path / "gate"
    job, twin = waited.submit(str(gate)), waited.submit(str(gate))
    dependent = one_more.submit(job)
    child = in_child(lambda: job.result() and twin.result() and dependent.result() == 2)
    gate.touch()
    assert job.result(60)
    assert dependent.result(60) == 2
    assert status_of(child) == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_what_dask_computes_is_computed_by_a_forked_child(tmp_path):
    gate = str(tmp_path / "gate")
    job = one_more.submit(dask.delayed(there_at_last)(gate))
    child = in_child(lambda: job.result() == 2)
    open(gate, "w").close()
    assert job.result(60) == 2
    assert status_of(child) == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_what_is_done_is_not_done_again_by_a_forked_child():
    job = not_stored_job()
    future = job.future
    assert status_of(in_child(lambda: job.future is future)) == 0
