"""Tasks as a user meets them, in one process."""

import asyncio
import inspect
import pickle
import sys
import threading
import warnings
from concurrent.futures import CancelledError

import cloudpickle
import numpy as np
import pytest
from conftest import note_call

import kachery


@kachery.task
def scaled(x, factor=2, *, path=None):
    if path is not None:
        note_call(path)
    return x * factor


@kachery.task
def total(items):
    return sum(float(np.sum(item)) for item in items)


@kachery.task
def summed(a, *, b):
    return a + b


@kachery.task
def failing(x):
    raise ZeroDivisionError(f"no {x}")


@kachery.task(ignore="path")
def counted(x, path):
    note_call(path)
    return [x]


def test_computed_once(calls):
    assert scaled(3, path=calls.path) == 6
    assert scaled(3, path=calls.path) == 6
    assert calls.count == 1


def test_ways_to_write_a_call_are_one_job():
    ids = {scaled.job(3).id, scaled.job(3, 2).id, scaled.job(x=3).id, scaled.job(factor=2, x=3).id}
    assert len(ids) == 1
    assert scaled.job(3, 3).id not in ids


def test_wrong_calls_are_type_errors():
    for call in (lambda: scaled(), lambda: scaled(1, x=2), lambda: scaled(1, y=2)):
        with pytest.raises(TypeError, match="scaled"):
            call()
    with pytest.raises(TypeError, match="scaled"):
        scaled(1, 2, 3)


def test_variadic_functions():
    @kachery.task
    def collected(a, /, *rest, b=1, **others):
        return a, rest, b, others

    assert collected(1, 2, 3, b=4, z=5, y=6) == (1, (2, 3), 4, {"y": 6, "z": 5})
    assert collected.job(1, z=5, y=6).id == collected.job(1, y=6, z=5).id
    assert collected.job(1, 2).id != collected.job(1, (2,)).id


def test_ignored_arguments_do_not_count(calls, tmp_path):
    assert counted(1, calls.path) == [1]
    assert counted(1, str(tmp_path / "elsewhere")) == [1]
    assert calls.count == 1
    with pytest.raises(ValueError, match="colour"):
        kachery.task(ignore=("colour",))(lambda x: x)


def test_a_task_has_the_function_s_face():
    assert scaled.__name__ == "scaled" and "scaled" in repr(scaled)
    assert scaled.job(1).task == "test_tasks:scaled"


def test_jobs_as_arguments():
    first = scaled.job(np.arange(4.0))
    second = total.job([first, first])
    assert second.id is None and second.key
    assert second.result() == 24.0
    assert second.id is not None and second.status == "finished" and second.cached
    # early cutoff: the id depends on what the inputs are, not on how they came about
    plain = total.job([np.arange(4.0) * 2, np.arange(4.0) * 2])
    assert plain.id == second.id and plain.key != total.job([first, first]).key


def test_a_plain_call_takes_jobs_too():
    assert total([scaled.job(2), 5]) == 9.0


def test_jobs_in_places_where_they_cannot_stand():
    with pytest.raises(kachery.CannotEncode, match="lists, tuples"):
        total.job({scaled.job(1)})


def test_map_and_gather():
    jobs = scaled.map([1, 2, 3], factor=5)
    assert kachery.gather(jobs) == [5, 10, 15]
    more = [summed.job(job, b=other) for job in jobs for other in (1, 2)]
    assert kachery.gather(more) == [6, 7, 11, 12, 16, 17]
    assert scaled.map([1], [2, 3])[0].result() == 2


def test_a_long_chain_of_jobs():
    job = scaled.job(0.0)
    for _ in range(500):
        job = summed.job(job, b=1)
    assert job.result() == 500.0


def test_gather_says_what_it_takes():
    with pytest.raises(TypeError, match="jobs"):
        kachery.gather([1])


def test_equal_jobs_of_one_gather_run_once(calls):
    jobs = [scaled.job(7, path=calls.path) for _ in range(5)]
    assert kachery.gather(jobs) == [14] * 5
    assert calls.count == 1


def test_an_exception_reaches_the_caller_and_is_not_kept():
    with pytest.raises(ZeroDivisionError, match="no 1"):
        failing(1)
    job = failing.submit(1)
    assert isinstance(job.exception(), ZeroDivisionError)
    assert job.status == "error" and job.record is None and not job.cached
    with pytest.raises(ZeroDivisionError):
        kachery.gather([job])
    outcome = kachery.gather([failing.job(2), scaled.job(1)], return_exceptions=True)
    assert isinstance(outcome[0], ZeroDivisionError) and outcome[1] == 2
    downstream = scaled.job(failing.job(3))
    with pytest.raises(ZeroDivisionError, match="no 3"):
        downstream.result()
    assert downstream.status == "error"


def test_job_states_and_callbacks():
    started, go_on = threading.Event(), threading.Event()
    events = {"started": started, "go_on": go_on}

    @kachery.task(version="1", ignore=("events",))
    def slow(x, events):
        events["started"].set()
        events["go_on"].wait(30)
        return x

    job = slow.job(1, events)
    assert job.status == "pending" and not job.done() and job.record is None
    done = threading.Event()
    job.add_done_callback(lambda finished: done.set() if finished is job else None)
    assert started.wait(30)
    assert job.status == "running" and not job.cancel()
    with pytest.raises(TimeoutError):
        job.result(timeout=0.01)
    go_on.set()
    assert job.result(30) == 1 and done.wait(30) and job.done()
    assert job.uri == f"job://{job.id}" and job.record.job_id == job.id
    assert job.record.task.endswith("slow") and job.record.version == "1"


def test_a_cancelled_job_does_not_run(calls):
    blocker = threading.Event()

    @kachery.task(version="1", ignore=("event",))
    def wait(x, event):
        event.wait(30)
        return x

    waiting = [wait.submit(i, blocker) for i in range(16)]
    job = counted.submit(99, calls.path)
    assert job.cancel()
    blocker.set()
    kachery.gather(waiting)
    assert calls.count == 0 and job.status == "pending"
    with pytest.raises(CancelledError):
        job.result()


def test_forget(calls):
    job = counted.job(5, calls.path)
    job.result()
    job.forget()
    assert not job.cached
    assert job.result() == [5] and calls.count == 2


def test_await():
    async def main():
        return await scaled.job(21)

    assert asyncio.run(main()) == 42


def test_using_another_folder(tmp_path, calls):
    counted(1, calls.path)
    with kachery.using(dir=tmp_path / "other"):
        counted(1, calls.path)
        assert kachery.get_kachery_dir() == str(tmp_path / "other")
    counted(1, calls.path)
    assert calls.count == 2


def test_jobs_of_different_stores_in_one_gather(tmp_path, calls):
    with kachery.using(dir=tmp_path / "other"):
        there = counted.job(1, calls.path)
    here = total.job([there, scaled.job(2)])
    assert kachery.gather([there, here]) == [[1], 5.0]
    with kachery.using(dir=tmp_path / "other"):
        assert counted.job(1, calls.path).cached
    assert not counted.job(1, calls.path).cached
    assert counted(1, calls.path) == [1] and calls.count == 2


def test_nested_tasks_do_not_wait_for_each_other_s_threads():
    @kachery.task
    def outer(n):
        return sum(kachery.gather(scaled.map(range(n))))

    assert kachery.gather(outer.map(range(20))) == [n * (n - 1) for n in range(20)]


def test_a_task_that_asks_for_itself():
    @kachery.task
    def circular(x):
        return circular(x)

    with pytest.raises(kachery.KacheryError, match="itself"):
        circular(1)


def test_large_array_is_mapped_and_private(store_dir):
    big = np.arange(1 << 18, dtype=np.float64)  # 2 MiB
    computed = scaled(big, 1.0)
    served = scaled(big, 1.0)
    assert type(served) is np.ndarray and served.flags.writeable
    served[0] = 5.0  # writable, like a computed one, and the store is not touched
    assert scaled(big, 1.0)[0] == 0.0 and computed[0] == 0.0
    base = served
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert "mmap" in repr(base.base.obj)


@pytest.mark.parametrize(
    "make",
    [lambda: [3, 1, 2], lambda: np.array([3.0, 1.0, 2.0]), lambda: {"a": {1}}],
    ids=["list", "array", "dict"],
)
def test_a_task_that_changes_its_argument(make, calls):
    @kachery.task(ignore="path")
    def changing(x, path):
        note_call(path)
        if isinstance(x, dict):
            x["a"].add(2)
        else:
            x.sort()
        return x

    for _ in range(2):
        with pytest.warns(kachery.ImpureTaskWarning, match="argument 'x'"):
            result = changing(make(), calls.path)
    assert calls.count == 2
    assert result == {"a": {1, 2}} if isinstance(result, dict) else list(result) == [1, 2, 3]


@pytest.mark.parametrize("kind", ["numpy", "random", "legacy"])
def test_a_task_that_draws_from_a_generator(kind):
    import random

    @kachery.task
    def draw(generator):
        return generator.random()

    make = {
        "numpy": lambda: np.random.default_rng(1),
        "random": lambda: random.Random(1),
        "legacy": lambda: np.random.RandomState(1),
    }[kind]
    with pytest.warns(kachery.ImpureTaskWarning):
        first = draw(make())
    with pytest.warns(kachery.ImpureTaskWarning):
        assert draw(make()) == first


def test_impure_in_a_graph_is_returned_with_a_warning():
    @kachery.task
    def changing(x):
        x.append(1)
        return x

    job = changing.job(scaled.job([0]))
    with pytest.warns(kachery.ImpureTaskWarning):
        assert job.result() == [0, 0, 1]
    assert job.record is None and job.status == "finished"


def test_large_changed_arguments_are_found_with_strict():
    @kachery.task
    def changing(x):
        x[0] = 1
        return 1

    big = np.zeros(9 << 20)  # 72 MiB
    changing(big)
    with kachery.using(strict=True), pytest.warns(kachery.ImpureTaskWarning):
        changing(np.zeros(9 << 20) + 2)


def test_arguments_changed_between_job_and_run():
    items = [1, 2]
    job = total.job(items)
    items.append(3)
    with pytest.raises(kachery.KacheryError, match="not what they were"):
        job.result()


def test_a_result_that_cannot_be_encoded_is_returned():
    @kachery.task
    def opened(x):
        return {"lock": [threading.Lock()]}

    with pytest.warns(kachery.NotStoredWarning, match=r"its result\['lock'\]\[0\]"):
        assert "lock" in opened(1)
    with pytest.warns(kachery.NotStoredWarning):
        assert "lock" in opened.job(2).result()


@pytest.mark.parametrize("make", [lambda: open(__file__), threading.Lock, lambda: (x for x in ())])
def test_an_argument_that_cannot_be_encoded(make):
    value = make()
    with pytest.raises(kachery.CannotEncode, match=r"total\(items\)\['a'\]\[1\].*ignore="):
        total({"a": [0, value]})
    if hasattr(value, "close"):
        value.close()


def test_registered_types():
    class Point:
        def __init__(self, x, y):
            self.x, self.y = x, y

    kachery.register(
        Point, name="test.Point", encode=lambda p: [p.x, p.y], decode=lambda xy: Point(*xy)
    )

    @kachery.task
    def mirrored(point):
        return Point(point.y, point.x)

    mirrored(Point(1, 2))
    served = mirrored(Point(1, 2))
    assert (served.x, served.y) == (2, 1)
    assert mirrored.job(Point(1, 2)).id != mirrored.job(Point(1, 3)).id
    other = type("Other", (), {})
    with pytest.raises(ValueError, match="belongs to"):
        kachery.register(other, name="test.Point", encode=repr, decode=repr)


def test_versions_of_packages_count_where_asked(monkeypatch):
    def plain(x):
        return x

    ids = {kachery.task(depends=d)(plain).job(1).id for d in ((), "numpy", ("numpy", "dask"))}
    assert len(ids) == 3
    import importlib.metadata

    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0")
    assert kachery.task(depends="numpy")(plain).job(1).id not in ids
    monkeypatch.undo()
    with pytest.raises(kachery.CannotFingerprint, match="nowhere"):
        kachery.task(depends="nowhere")(plain).job(1)


class Scale:
    def __init__(self, factor):
        self.factor = factor

    @kachery.task
    def times(self, x, *, plus=0):
        return self.factor * x + plus

    @staticmethod
    @kachery.task
    def half(x):
        return x / 2

    @classmethod
    def make(cls, factor):
        return cls(factor)


def test_methods():
    two, three = Scale(2), Scale(3)
    assert (two.times(5), three.times(5), two.times(5, plus=1)) == (10, 15, 11)
    assert two.times.job(5).id == Scale(2).times.job(5).id == Scale.times.job(two, 5).id
    assert two.times.job(5).cached and two.times.job(5).id != three.times.job(5).id
    assert kachery.gather(two.times.map([1, 2], plus=1)) == [3, 5]
    assert two.times.submit(7).result() == 14
    assert two.times.__name__ == "times" and Scale.half(3) == 1.5 and two.half(3) == 1.5


class Factored:
    FACTOR = 2

    @kachery.task
    @classmethod
    def scaled(cls, x, more=0):
        return cls.FACTOR * x + more

    @kachery.task
    @staticmethod
    def shifted(x):
        return x + 1

    @classmethod
    @kachery.task
    def below(cls, x):
        return cls.FACTOR * x

    @staticmethod
    @kachery.task
    def static_below(x):
        return x + 2


class Tripled(Factored):
    FACTOR = 3


def test_class_and_static_methods():
    for holder, factor in ((Factored, 2), (Factored(), 2), (Tripled, 3), (Tripled(), 3)):
        assert holder.scaled(5) == holder.below(5) == factor * 5
        assert holder.shifted(5) == 6 and holder.static_below(5) == 7
        assert holder.scaled.job(5, more=1).result() == factor * 5 + 1
        assert holder.shifted.job(5).cached and holder.static_below.job(5).cached
    assert Factored.scaled.job(5).id == Factored().scaled.job(5).id != Tripled.scaled.job(5).id
    assert Factored.scaled.explain(5).hit and Factored.scaled.map([5, 6])[1].result() == 12


def test_class_methods_on_a_cluster(client):
    assert Tripled.scaled.submit(7).result() == 21
    assert Tripled.shifted.submit(7).result() == 8


def test_a_parameter_called_self():
    @kachery.task
    def shown(self, args=0):
        return [self, args]

    assert shown(self=1, args=2) == [1, 2] and shown.job(self=1, args=2).cached


def test_none_is_a_result(calls):
    @kachery.task
    def nothing(path):
        note_call(path)

    assert nothing(calls.path) is None
    assert nothing(calls.path) is None
    assert calls.count == 1


def test_floats_are_not_confused():
    @kachery.task
    def shown(x):
        return repr(x)

    values = [0.5, 0.7, None, 1, 1.0, True, "1", b"1", (1,), [1], {1}, 0.0, -0.0]
    assert [shown(v) for v in values] == [repr(v) for v in values]
    assert [shown(v) for v in values] == [repr(v) for v in values]


@pytest.mark.parametrize("thing", [len, 5, type("C", (), {}), None])
def test_tasks_are_made_of_functions(thing):
    with pytest.raises(TypeError):
        kachery.task(thing) if thing is not None else kachery.task()(None)


def test_generators_are_refused():
    def generator():
        yield 1

    async def async_generator():
        yield 1

    for function in (generator, async_generator):
        with pytest.raises(TypeError, match="list"):
            kachery.task(function)


@kachery.task
async def slowly(x, path, pause=0.0):
    note_call(path)
    await asyncio.sleep(pause)
    if x is None:
        raise ZeroDivisionError("no x")
    return [x]


@kachery.task
async def of_another(x, path):
    return await slowly(x, path) + await asyncio.gather(slowly(x, path), slowly(x, path))


def test_async_tasks(calls):
    async def main():
        assert await slowly(1, calls.path) == [1]
        assert (
            await asyncio.gather(*[slowly(x % 2, calls.path) for x in range(20)]) == [[0], [1]] * 10
        )
        assert await slowly.job(5, calls.path) == [5]
        assert await slowly(slowly.job(5, calls.path), calls.path) == [[5]]
        with pytest.raises(ZeroDivisionError):
            await slowly(None, calls.path)
        return await of_another(7, calls.path)

    assert asyncio.run(main()) == [7, [7], [7]]
    assert calls.count == 6
    assert slowly.job(1, calls.path).result() == [1] and slowly.submit(1, calls.path).result() == [
        1
    ]
    assert kachery.gather([slowly.job(x, calls.path) for x in (8, 9)]) == [[8], [9]]
    assert calls.count == 8


def test_an_async_task_is_a_coroutine_function_to_others():
    says_so = sys.version_info >= (3, 12)  # before, only functions can
    assert inspect.iscoroutinefunction(slowly) is says_so
    assert inspect.iscoroutinefunction(pickle.loads(cloudpickle.dumps(slowly))) is says_so
    assert not inspect.iscoroutinefunction(meets.job)


def test_async_calls_run_at_the_same_time(calls):
    """As many as are awaited, not only as many as the machine has processors."""
    meeting = threading.Barrier(40, timeout=60)
    meetings["now"] = meeting

    async def main():
        await asyncio.gather(*[meets(x) for x in range(40)])

    asyncio.run(main())


meetings = {}


@kachery.task(version="1")
async def meets(x):
    meetings["now"].wait()


def test_a_cancelled_await_stores_what_it_computes(calls):
    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slowly(3, calls.path, 0.2), 0.05)
        return await slowly(3, calls.path, 0.2)  # waits for the run that goes on

    assert asyncio.run(main()) == [3] and calls.count == 1


def test_no_warnings_in_ordinary_use():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled(5)
        scaled(5)
        kachery.gather(scaled.map(range(5)))


def test_progress_counts_all_jobs_of_the_graph(monkeypatch):
    from kachery_store import progress

    shown = []

    class Bar:
        def __init__(self, **options):
            shown.append(options)

        def update(self, n):
            shown[-1]["n"] = shown[-1].get("n", 0) + n

        def set_postfix_str(self, text):
            shown[-1]["state"] = text

        def close(self):
            shown[-1]["closed"] = True

    import tqdm.auto

    monkeypatch.setattr(tqdm.auto, "tqdm", Bar)
    monkeypatch.setattr(progress, "SHOW_AFTER", 0.0)
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    scaled(0)
    top = total.job([scaled.job(i) for i in range(4)])
    kachery.gather([top])
    assert shown == [
        {"desc": "jobs", "total": 5, "unit": "job", "n": 5, "state": "1 served", "closed": True}
    ]
    kachery.gather([scaled.job(77)], progress=False)
    assert len(shown) == 1
    kachery.gather([scaled.job(77), scaled.job(None)], return_exceptions=True)
    assert shown[-1]["n"] == 2 and shown[-1]["state"] == "1 served, 1 failed"


def test_warnings_point_at_the_user_s_line():
    @kachery.task
    def changing(x):
        x.append(1)
        return x

    for ask in (
        lambda: changing([0]),
        lambda: changing.job([0]).result(),
        lambda: kachery.gather([changing.job([0])]),
    ):
        with pytest.warns(kachery.ImpureTaskWarning) as caught:
            ask()
        assert caught[0].filename == __file__


def test_a_failing_job_awaited_says_nothing_more(capsys):
    async def main():
        with pytest.raises(ZeroDivisionError):
            await failing.job(9)

    asyncio.run(main())
    import gc

    gc.collect()
    assert "never retrieved" not in capsys.readouterr().err


def test_configure_inside_using_keeps_its_own_folder(tmp_path, store_dir):
    from kachery_tasks import settings

    try:
        with kachery.using(dir=tmp_path / "inner"):
            kachery.configure(strict=True)
        assert kachery.get_kachery_dir() == str(store_dir)
    finally:
        settings._configured = None


@kachery.task(version="1")
def slow_if_odd(x, path):
    note_call(path)
    if x % 2:
        gates["odd"].wait(60)
    if x == 4:
        raise ZeroDivisionError("four")
    return x


gates = {}


def test_as_completed_yields_what_is_done_first(calls):
    gates["odd"] = threading.Event()
    slow_if_odd(2, calls.path)
    jobs = [slow_if_odd.job(x, calls.path) for x in (1, 2, 4, 6)]
    done = []
    for job in kachery.as_completed(jobs):
        done.append(job.arguments["x"])
        if len(done) == 3:
            gates["odd"].set()
    assert done[0] == 2 and done[3] == 1 and sorted(done) == [1, 2, 4, 6]
    assert isinstance(jobs[2].exception(), ZeroDivisionError)
    assert list(kachery.as_completed([])) == []
    with pytest.raises(TypeError, match="takes jobs"):
        list(kachery.as_completed([3]))
    assert [job.result() for job in kachery.as_completed([jobs[1], jobs[1]])] == [2, 2]


def test_as_completed_takes_a_generator_as_it_goes(calls):
    """Of many thousands of jobs only some are made and kept at a time."""
    made, seen, most = 0, 0, 0

    def coming():
        nonlocal made
        for x in range(5000):
            made += 1
            yield scaled.job(x % 50)

    for _ in kachery.as_completed(coming()):
        seen += 1
        most = max(most, made - seen)
    assert seen == 5000 and most <= 1000


drawn = [0]


@kachery.task(version="1")
def draw(path):
    note_call(path)
    drawn[0] += 1
    return drawn[0]


@kachery.task(version="1")
def twice_drawn(path):
    return 2 * draw(path)


def test_refresh_runs_again_and_replaces(calls):
    first = draw(calls.path)
    assert draw.refresh(calls.path) == first + 1
    assert draw(calls.path) == first + 1 and calls.count == 2
    with kachery.using(refresh=True):
        job = draw.job(calls.path)
        assert not job.cached and job.result() == first + 2 and job.result() == first + 2
        assert kachery.gather([draw.job(calls.path), draw.job(calls.path)]) == [first + 3] * 2
    assert draw(calls.path) == first + 3 and calls.count == 4


def test_refresh_of_some_tasks(calls):
    value = twice_drawn(calls.path)
    assert twice_drawn.refresh(calls.path) == value and calls.count == 1
    with kachery.using(refresh=["draw"]):
        assert twice_drawn(calls.path) == value and calls.count == 1
        assert draw(calls.path) == value / 2 + 1
    with kachery.using(refresh=["draw", "test_tasks:twice_drawn"]):
        assert twice_drawn(calls.path) == value + 4
    assert twice_drawn(calls.path) == value + 4 and calls.count == 3


def test_refresh_of_an_input_decides_what_follows(calls):
    first = scaled(draw.job(calls.path), 10)
    with kachery.using(refresh="draw"):
        job = scaled.job(draw.job(calls.path), 10)
        assert kachery.gather([job]) == [first + 10]
    assert calls.count == 2


def test_refresh_of_an_async_task(calls):
    async def main():
        return [await slowly(1, calls.path), await slowly.refresh(1, calls.path)]

    assert asyncio.run(main()) == [[1], [1]] and calls.count == 2


def test_a_refresh_that_fails_leaves_the_result(calls):
    assert fragile(calls.path) == "good"
    broken.append(1)
    try:
        with pytest.raises(ZeroDivisionError):
            fragile.refresh(calls.path)
        assert fragile(calls.path) == "good"
    finally:
        broken.clear()


broken = []


@kachery.task(version="1")
def fragile(path):
    if broken:
        raise ZeroDivisionError
    return "good"


def test_read_only_runs_nothing(calls):
    known = draw(calls.path)
    with kachery.using(read_only=True):
        assert draw(calls.path) == known and draw.job(calls.path).result() == known
        with pytest.raises(kachery.NotStored, match=r"twice_drawn \(job .*read_only"):
            twice_drawn(calls.path)
        with pytest.raises(kachery.NotStored):
            twice_drawn.submit(calls.path).result()
    assert calls.count == 1


def test_stats_count_what_was_asked_for(calls, caplog):
    kachery.stats(reset=True)
    with caplog.at_level("DEBUG", "kachery.tasks"):
        draw(calls.path)
        draw(calls.path)
        kachery.gather([scaled.job(1), scaled.job(draw.job(calls.path))])
        with pytest.raises(ZeroDivisionError):
            broken.append(1)
            fragile(calls.path)
    broken.clear()
    found = kachery.stats(reset=True)
    assert (found.hits, found.misses, found.failures) == (2, 3, 1)
    assert found.seconds_saved > 0 and found.seconds_spent > 0 and found.bytes_served > 0
    assert found.bytes_stored > 0
    assert "2 hits" in str(found) and kachery.stats() == kachery.Stats()
    told = {one.getMessage()[:5].strip() for one in caplog.records if one.name == "kachery.tasks"}
    assert told == {"error", "hit", "miss", "store", "wait"}


@kachery.task(version="1")
def counted_down(n, path):
    note_call(path)
    return 0 if n == 0 else 1 + counted_down(n - 1, path)


def test_refresh_of_a_recursive_task_runs_it_once(calls):
    assert counted_down(5, calls.path) == 5 and calls.count == 6
    assert counted_down.refresh(5, calls.path) == 5 and calls.count == 7


def test_read_only_runs_nothing_where_the_store_cannot_be_written_either(calls, store_dir):
    store_dir.mkdir()
    (store_dir / "leases").write_text("a file in the way")
    with kachery.using(read_only=True), pytest.raises(kachery.NotStored):
        draw(calls.path)
    assert calls.count == 0
