"""What would be computed again now, and why: it agrees with what then happens."""

import importlib
import json

import numpy as np
import pytest
from conftest import write
from test_surface import kachery_command

import kachery

STEPS = """
    import numpy as np
    import kachery

    class Filter:
        def __init__(self, width):
            self.width = width
        def apply(self, x):
            return x * self.width

    def doubled(x):
        return x * 2

    @kachery.task
    def first(n):
        return np.arange(n) * 1.0

    @kachery.task
    def second(x, y=1):
        return doubled(x)

    @kachery.task
    def third(x):
        return len(x)

    @kachery.task
    def filtered(x, f):
        return f.apply(x)

    @kachery.task
    def small(n):
        return n

    @kachery.query
    def asked():
        return 1

    @kachery.query(max_age="1h")
    def hourly():
        return 2

    @kachery.task
    def of_answer(answer):
        return answer
    """


@pytest.fixture
def steps(project, monkeypatch):
    write(project / "steps.py", STEPS)
    monkeypatch.chdir(project)
    return importlib.import_module("steps")


def change(steps, before, after):
    path = steps.__file__
    with open(path) as file:
        text = file.read()
    assert before in text
    write(path, text.replace(before, after))
    importlib.reload(steps)


def reasons(task=None):
    """By task and, of a job, the kinds of its reasons."""
    return sorted(
        (one.task.partition(":")[2], *sorted({reason.kind for reason in one.reasons}))
        for one in kachery.stale(task)
    )


def texts():
    return {reason.text for one in kachery.stale() for reason in one.reasons}


def pipeline(steps, n=500):
    return steps.third.job(steps.second.job(steps.first.job(n)))


def test_nothing_is_stale(steps):
    assert kachery.stale() == []
    pipeline(steps).result()
    assert kachery.stale() == []
    assert kachery_command("stale").stdout == "nothing is stale\n"


def test_other_code_and_what_comes_after_it(steps):
    pipeline(steps).result(), pipeline(steps, 600).result(), steps.small(3)
    change(steps, "x * 2", "x * 3")
    assert not pipeline(steps).cached
    assert reasons() == [*[("second", "code")] * 2, *[("third", "input")] * 2]
    assert texts() == {"`steps:doubled` changed", "its argument `x`, of steps:second, is stale"}
    assert reasons("second") == reasons("steps:second") == [("second", "code")] * 2
    pipeline(steps).result()  # computed again: the old ones are of the same call
    assert reasons() == [("second", "code"), ("third", "input")]
    pipeline(steps, 600).result()
    assert kachery.stale() == []


def test_the_same_result_of_other_code(steps):
    pipeline(steps).result()
    change(steps, "x * 2", "2 * x")
    assert reasons() == [("second", "code"), ("third", "input")]
    steps.second.job(steps.first.job(500)).result()
    assert pipeline(steps).cached and kachery.stale() == []


def test_another_result_of_an_input(steps):
    pipeline(steps).result()
    change(steps, "* 1.0", "* 2.0")
    steps.first.job(500).result()
    assert reasons() == [("second", "input"), ("third", "input")]
    assert "its argument `x`, of steps:first, is another now" in texts()
    pipeline(steps).result()
    assert kachery.stale() == []


def test_values_that_were_handed_over(steps):
    """Without jobs as arguments, large results are known by their address; small ones tell nothing."""
    steps.third(steps.second(steps.first(500)))
    steps.small(3)
    steps.second(3)  # 3 is a result as well
    change(steps, "* 1.0", "* 2.0")
    change(steps, "return n\n", "return n + 0\n")
    assert reasons() == [
        ("first", "code"),
        ("second", "input"),
        ("small", "code"),
        ("third", "input"),
    ]


def test_a_class_among_the_arguments(steps):
    steps.filtered(3, steps.Filter(2))
    change(steps, "x * self.width", "self.width * x")
    assert reasons() == [("filtered", "code")]
    assert "Filter" in texts().pop()


def test_queries(steps, monkeypatch):
    steps.of_answer.job(steps.asked.job()).result()
    steps.of_answer.job(steps.hourly.job()).result()
    assert reasons() == [("asked", "asked"), ("of_answer", "input")]
    from kachery_tasks import answers

    clock = answers.time.time
    monkeypatch.setattr(answers.time, "time", lambda: clock() + 4000)
    assert reasons() == [
        ("asked", "asked"),
        ("hourly", "asked"),
        *[("of_answer", "input")] * 2,
    ]
    assert "its answer is older than max_age=60 minutes" in texts()


def test_lost_results(steps, store_dir):
    pipeline(steps, 20_000).result()
    blobs = [path for path in (store_dir / "blake3").rglob("*") if path.is_file()]
    for blob in blobs:
        if blob.stat().st_size > 100_000:
            blob.unlink()
    assert reasons() == [("first", "lost"), ("second", "input", "lost"), ("third", "input")]


def test_inputs_that_are_not_stored(steps):
    job = steps.first.job(500)
    steps.second.job(job).result()
    job.forget()
    assert reasons() == [("second", "input")]
    assert texts() == {"what made its argument `x` is not stored any more"}


def test_tasks_that_are_not_here(steps, project):
    steps.small(1)
    renamed = kachery.task(name="elsewhere:task", version="1")(lambda x: x)
    renamed(1)
    del renamed
    write(project / "steps.py", "1 / 0")
    done = kachery_command("stale")
    assert "steps cannot be imported here (ZeroDivisionError" in done.stdout
    assert "elsewhere cannot be imported" in done.stdout and "0 stale, 2 unknown" in done.stdout
    (project / "elsewhere.py").write_text(
        "import kachery\ntask = kachery.task(version='2')(lambda x: x)\n"
        "other = kachery.task(name='elsewhere:task', version='1')(lambda x: x)\n"
    )
    rows = kachery_command("stale", "--json", "--import", "elsewhere").stdout.splitlines()
    kinds = {
        one["task"]: [reason["kind"] for reason in one["reasons"]] for one in map(json.loads, rows)
    }
    assert kinds["steps:small"] == ["unknown"]


def test_a_task_that_is_a_query_now(steps):
    steps.small(1)
    change(
        steps, "@kachery.task\n    def small".replace("\n    ", "\n"), "@kachery.query\ndef small"
    )
    assert texts() == {"it is a query now"}


def test_the_text(steps):
    for n in range(500, 505):
        pipeline(steps, n).result()
    steps.asked()
    change(steps, "x * 2", "x * 3")
    lines = kachery_command("stale").stdout.splitlines()
    assert lines[0] == "the code is another now: 5 jobs"
    assert lines[1] == "  steps:second: `steps:doubled` changed"
    assert lines[2].startswith("    5 jobs: ") and lines[2].endswith(", ...")
    assert lines[3] == "an argument is stale: 5 jobs" and "queries: 1 job" in lines
    assert lines[-1] == "11 stale, 0 unknown"
    only = kachery_command("stale", "--task", "third", "--json").stdout.splitlines()
    assert {json.loads(line)["task"] for line in only} == {"steps:third"} and len(only) == 5


def test_it_agrees_with_what_happens(steps):
    """What is not stale is a hit, and what is stale runs, when the calls are made again."""
    calls = {n: pipeline(steps, n) for n in (500, 600)}
    filtered = steps.filtered.job(np.ones(300), steps.Filter(2))
    kachery.gather([*calls.values(), filtered])
    change(steps, "len(x)", "len(x) + 0")
    expected = {one.task.partition(":")[2] for one in kachery.stale()}
    assert expected == {"third"}
    kachery.stats(reset=True)
    kachery.gather([pipeline(steps, n) for n in (500, 600)], progress=False)
    assert steps.filtered.job(np.ones(300), steps.Filter(2)).cached
    assert kachery.stats().misses == 2
    assert kachery.stale() == []
