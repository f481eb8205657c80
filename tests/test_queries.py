"""Queries: run on each request, with the last good answer as a fallback."""

import asyncio
import threading

import cloudpickle
import pytest
from conftest import note_call, run_python, write

import kachery
from kachery_tasks import answers

WORLD = {}


@kachery.query(version="1")
def now(place, path):
    note_call(path)
    if isinstance(WORLD["value"], Exception):
        raise WORLD["value"]
    return [place, WORLD["value"]]


@kachery.query(max_age="1h", version="1")
def lately(path):
    note_call(path)
    return WORLD["value"]


@kachery.query(fallback=False, version="1")
def strictly(path):
    if isinstance(WORLD["value"], Exception):
        raise WORLD["value"]
    return WORLD["value"]


@kachery.task(version="1")
def plus(x, path):
    note_call(path)
    return x + 1


@kachery.task(version="1")
def asks(path):
    return lately(path)


@kachery.task(version="1", allow="lately")
def may_ask(path):
    return lately(path)


@pytest.fixture
def clock(monkeypatch):
    """The time that has passed since the answers, in seconds; a test sets `add`."""

    class Clock:
        add = 0.0

        def time(self):
            return real() + self.add

        time_ns = staticmethod(answers.time.time_ns)

    real = answers.time.time
    clock = Clock()
    monkeypatch.setattr(answers, "time", clock)
    return clock


def test_a_query_runs_on_each_request_and_remembers(calls):
    for value in (1, 2, 2):
        WORLD["value"] = value
        assert now("here", calls.path) == ["here", value]
    assert calls.count == 3
    history = now.history("here", calls.path)
    assert [answer.value for answer in history] == [["here", 1], ["here", 2], ["here", 2]]
    started = [answer.record.started for answer in history]
    assert started == sorted(started) and history[0].record.kind == "query"
    assert now.history("there", calls.path) == []


def test_when_it_fails_the_last_good_answer_counts(calls, clock):
    WORLD["value"] = ConnectionError("no network")
    with pytest.raises(ConnectionError):
        now("here", calls.path)
    WORLD["value"] = 1
    now("here", calls.path)
    WORLD["value"] = ConnectionError("no network")
    clock.add = 3 * 3600
    with pytest.warns(kachery.StaleResultWarning, match=r"no network.*of 3 hours ago"):
        assert now("here", calls.path) == ["here", 1]
    with pytest.raises(ConnectionError):
        now("there", calls.path)
    assert len(now.history("here", calls.path)) == 1


def test_without_fallback_the_error_is_raised(calls):
    WORLD["value"] = 1
    strictly(calls.path)
    WORLD["value"] = ConnectionError("no network")
    with pytest.raises(ConnectionError):
        strictly(calls.path)


def test_an_answer_that_is_fresh_enough_is_served(calls, clock):
    WORLD["value"] = 1
    assert lately(calls.path) == 1
    WORLD["value"] = 2
    clock.add = 3500
    assert lately(calls.path) == 1 and lately.job(calls.path).cached
    clock.add = 3700
    assert not lately.job(calls.path).cached
    assert lately(calls.path) == 2
    assert calls.count == 2


def test_in_another_process_too(project, store_dir):
    write(
        project / "found.py",
        """
        import kachery
        @kachery.query(max_age=3600)
        def f(x):
            print("asked")
            return x
        """,
    )
    shown = [run_python("import found; print(found.f(3))").stdout for _ in range(2)]
    assert shown == ["asked\n3\n", "3\n"]


def test_equal_questions_at_the_same_time_are_asked_once_with_a_max_age(calls):
    WORLD["value"] = 1
    barrier = threading.Barrier(8)

    def ask():
        barrier.wait()
        assert lately(calls.path) == 1

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls.count == 1


def test_answers_are_arguments_of_tasks(calls):
    WORLD["value"] = 1
    assert plus(lately.job(calls.path), calls.path) == 2
    before = calls.count
    assert plus(1, calls.path) == 2 and plus(lately.job(calls.path), calls.path) == 2
    assert calls.count == before  # an equal answer, so the same job
    assert kachery.gather([plus.job(now.job("a", calls.path), calls.path)], return_exceptions=True)
    assert asyncio.run(awaited(calls.path)) == 1


async def awaited(path):
    return await lately.job(path)


def test_jobs_of_queries_are_asked_each_time(calls):
    for value in (1, 2):
        WORLD["value"] = value
        assert now.job("here", calls.path).result() == ["here", value]
        assert now.submit("here", calls.path).result() == ["here", value]
    assert [job.result() for job in now.map(["a", "b"], path=calls.path)] == [["a", 2], ["b", 2]]
    assert calls.count == 6


def test_a_task_may_not_ask_unless_it_says_so(calls):
    WORLD["value"] = 1
    with pytest.raises(
        kachery.NotPure, match=r"asks the query test_queries:lately.*allow=\('lately',\)"
    ):
        asks(calls.path)
    with pytest.raises(kachery.NotPure):
        asks.submit(calls.path).result()
    assert may_ask(calls.path) == 1
    record = may_ask.job(calls.path).record
    assert record.asks == ["lately"] and asks.job(calls.path).record is None
    with pytest.raises(kachery.NotPure):
        asks(calls.path)  # also when there is a fresh answer
    assert lately.job(calls.path).record.asks == []


def test_forgetting_a_query_forgets_its_answers(calls):
    WORLD["value"] = 1
    lately(calls.path)
    lately.job(calls.path).forget()
    assert lately.history(calls.path) == [] and not lately.job(calls.path).cached


def test_a_lost_answer_is_asked_for_again(calls, store_dir):
    WORLD["value"] = 1
    lately(calls.path)
    for path in (store_dir / "jobs").rglob("*"):
        if path.is_file():
            path.unlink()
    WORLD["value"] = 2
    assert lately(calls.path) == 2 and len(lately.history(calls.path)) == 1


def test_options_are_checked():
    with pytest.raises(kachery.BadAmount):
        kachery.query(max_age="soon")
    with pytest.raises(TypeError):
        kachery.query(3)
    with pytest.raises(ValueError, match="ignore"):
        kachery.query(ignore="y")(lambda x: x)
    with pytest.raises(kachery.NotReproducible):
        now.reproduce("here", "path")


def test_queries_on_a_cluster(client, calls, project):
    write(
        project / "found.py",
        """
        import kachery
        @kachery.query
        def f(x):
            with open(x, "a") as file: file.write("call\\n")
            return 1
        @kachery.task
        def g(y): return y + 1
        @kachery.task
        def h(x): return f(x)
        """,
    )
    client.run(lambda path: __import__("sys").path.insert(0, path), str(project))
    import found

    for _ in range(2):
        assert kachery.gather([found.g.job(found.f.job(calls.path))]) == [2]
    assert calls.count == 2
    with pytest.raises(kachery.NotPure):
        found.h.submit(calls.path).result()


def test_refresh_and_read_only_on_a_cluster(client, calls, project):
    write(
        project / "found_again.py",
        """
        import kachery
        @kachery.task
        def f(x):
            with open(x, "a") as file: file.write("call\\n")
            return 1
        @kachery.task
        def g(y): return y + 1
        """,
    )
    client.run(lambda path: __import__("sys").path.insert(0, path), str(project))
    import found_again as found

    jobs = lambda: [found.g.job(found.f.job(calls.path))]
    assert kachery.gather(jobs()) == [2] and calls.count == 1
    with kachery.using(refresh=["f"]):
        assert kachery.gather(jobs()) == [2] and calls.count == 2
        assert kachery.gather(jobs()) == [2] and calls.count == 3
    with kachery.using(read_only=True):
        assert kachery.gather(jobs()) == [2] and calls.count == 3
        with pytest.raises(kachery.NotStored):
            found.g.submit(7).result()


def test_a_stale_answer_is_said_of_jobs_too(calls):
    WORLD["value"] = 1
    now("here", calls.path)
    WORLD["value"] = ConnectionError("no network")
    with pytest.warns(kachery.StaleResultWarning, match="no network"):
        assert now.submit("here", calls.path).result() == ["here", 1]
    with pytest.warns(kachery.StaleResultWarning):
        assert kachery.gather([now.job("here", calls.path)]) == [["here", 1]]


@pytest.mark.parametrize(
    "line", ["1 ../../../../victim", "123", "\0", "1 " + "x" * 300, "\xff\xfe"]
)
def test_a_damaged_index_names_nothing(calls, store_dir, tmp_path, line):
    WORLD["value"] = 1
    lately(calls.path)
    (index,) = (path for path in (store_dir / "queries").rglob("*") if path.is_file())
    (tmp_path / "victim").write_text("stays")
    index.chmod(0o600)
    index.write_text(line + "\n" + index.read_text())
    assert len(lately.history(calls.path)) == 1 and lately(calls.path) == 1
    lately.job(calls.path).forget()
    assert (tmp_path / "victim").read_text() == "stays" and lately.history(calls.path) == []
    assert lately(calls.path) == 1


class Sky:
    """Something whose methods ask."""

    def __init__(self, town):
        self.town = town

    @kachery.query
    def weather(self, day):
        return [self.town, day]

    @kachery.query
    @classmethod
    def kinds(cls):
        return [cls.__name__]

    @kachery.query
    @staticmethod
    def now():
        return 1


def test_methods_may_be_queries():
    here, there = Sky("here"), Sky("there")
    assert here.weather(1) == ["here", 1]
    assert there.weather(1) == ["there", 1]
    assert [answer.value for answer in here.weather.history(1)] == [["here", 1]]
    assert Sky.kinds() == here.kinds() == ["Sky"]
    assert len(Sky.kinds.history()) == 2
    assert (Sky.now(), here.now()) == (1, 1)
    with pytest.raises(kachery.NotReproducible):
        here.weather.reproduce(1)


def test_a_method_survives_pickling():
    taken = cloudpickle.loads(cloudpickle.dumps(Sky("far").weather))
    assert taken(2) == ["far", 2]
