"""Running again, staleness and the state of the repository: what once was told wrongly, or done."""

import gc
import importlib
import json
import os
import subprocess
import sys
import time
import weakref

import numpy as np
import pytest
from conftest import note_call, run_python, write
from test_stale import change, reasons, texts
from test_surface import kachery_command

import kachery
from kachery_tasks import repository
from kachery_tasks.environment import environment_at
from kachery_tasks.settings import current

# Nothing but tasks is run again


def test_only_tasks_are_run_again(calls):
    @kachery.action(once=False, version="1")
    def send(path):
        note_call(path)

    @kachery.query(version="1")
    def ask(path):
        note_call(path)
        return 1

    send(calls.path)
    for job in (send.job(calls.path), ask.job(calls.path)):
        with pytest.raises(kachery.NotReproducible, match="only tasks are run again"):
            kachery.reproduce(job)
    assert calls.count == 1


def test_what_is_no_task_is_not_started_for_an_argument(calls):
    @kachery.action(once=False, version="1")
    def send(path):
        note_call(path)

    @kachery.query(version="1", max_age="1h")
    def ask():
        return 3

    @kachery.task(version="1")
    def used(x):
        return x

    job = used.job(send.job(calls.path))
    with pytest.raises(kachery.NotReproducible, match=r"comes from the action .*send, which"):
        kachery.reproduce(job)
    assert calls.count == 0
    assert job.result() is None
    assert kachery.reproduce(job).same and calls.count == 1  # it is done
    with pytest.raises(kachery.NotReproducible, match=r"comes from the query .*ask, which"):
        kachery.reproduce(used.job(ask.job()))
    ask()
    assert kachery.reproduce(used.job(ask.job())).same


def test_with_read_only_nothing_is_run_again_or_noted(project):
    @kachery.task(version="1")
    def one(x):
        return x

    one(1)
    with kachery.using(read_only=True):
        for x in (one.job(1), one.job(1).record, one.job(1).uri):
            with pytest.raises(kachery.NotStored, match="read_only=True"):
                kachery.reproduce(x)
    assert [run.verdicts for run in kachery.runs()] == [[]]


def test_what_is_no_job_is_told_so():
    for x, kind in ((None, "NoneType"), (np.ones(3), "numpy.ndarray")):
        with pytest.raises(kachery.NotReproducible, match=f"^{kind} is neither a Job"):
            kachery.reproduce(x)


# What is told of a second run


def verdicts():
    return [(one.verdict, one.why) for run in kachery.runs() for one in run.verdicts]


def test_nothing_of_secret_arguments_is_told_in_the_feed():
    @kachery.task(secret="password", ignore="count", version="1")
    def login(password, count):
        count.append(1)
        if len(count) == 3:
            raise ValueError(f"wrong password {password}")
        return {"n": len(count), "of": password * (len(count) == 1)}

    count = []
    login("hunter2", count)
    assert "hunter2" in str(login.reproduce("hunter2", count))
    with pytest.raises(ValueError, match="hunter2"):
        login.reproduce("hunter2", count)
    assert verdicts() == [
        ("different", ["another result"]),
        ("different", ["a result at first, raised ValueError now"]),
    ]


@kachery.task(ignore="scale", version="1")
def scaled(x, scale=1):
    if scale == 1 and x > 5:
        raise ValueError("too much")
    return x * scale


def test_a_default_that_stands_for_an_ignored_argument_is_no_other_result():
    scaled(1, scale=7), scaled(6, scale=2), scaled(0, scale=9)
    records = [scaled.job(x).record for x in (1, 6, 0)]
    for record in records[:2]:
        with pytest.raises(kachery.NotReproducible, match="default of `scale`"):
            kachery.reproduce(record)
    assert kachery.reproduce(records[2]).same
    assert sorted(verdict for verdict, _ in verdicts()) == ["cannot", "cannot", "same"]
    assert not list(current().store.differing.names())
    assert not scaled.reproduce(1, scale=3).same  # in hand: there it counts


def test_what_was_around_a_result_that_differs(project):
    write(
        project / "around.py",
        """
        import kachery, os
        import helper_package

        @kachery.task(version="1")
        def f(x):
            helper_package
            return int(os.environ.get("OTHER", 0))
        """,
    )
    folder = project / "site-packages"
    folder.mkdir()
    write(folder / "helper_package.py", "__version__ = '1.2'\n")
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import around, kachery\n"
    run_python(code + "around.f(1)")
    write(folder / "helper_package.py", "__version__ = '1.3'\n")
    again = "r = kachery.reproduce(around.f.job(1).record); print(r.environment); print(r)"
    done = run_python(code + again, env={"OTHER": "1"})
    line = "helper_package: version 1.2 at first, 1.3 now"
    assert done.stdout.startswith(f"['{line}']\ndifferent") and f"\n  {line}\n" in done.stdout
    ((_, why),) = verdicts()
    assert why == ["result: 0 at first, 1 now", line]


# Arguments, and records of errors


@kachery.task(version="1")
def made(i):
    return np.arange(2000.0) + i


@kachery.task(version="1")
def counted(values):
    return len(values)


@pytest.mark.parametrize("order", [[1, 1], [1, 2, 1], [1, 2, 2, 1, 3, 3, 3], [1] * 300])
@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_with_a_job_twice(order, kind):
    job = counted.job(kind(made.job(i) for i in order))
    job.result()
    assert kachery.reproduce(job.record).same


def test_a_list_with_something_else_is_not_guessed():
    job = counted.job([made.job(1), made.job(2), 5])
    job.result()
    with pytest.raises(kachery.NotReproducible, match="not in the store"):
        kachery.reproduce(job.record)


def test_the_record_of_a_kept_error():
    @kachery.task(cache_errors=ValueError, version="1")
    def kept(x):
        raise ValueError(x)

    @kachery.task(version="1")
    def not_kept(x):
        raise ValueError(x)

    job, other = kept.job(1), not_kept.job(1)
    for one in (job, other):
        with pytest.raises(ValueError, match="1"):
            one.result()
    assert job.record == kept.job(1).record and job.record.is_error
    assert other.record is None


# What a task keeps of the jobs that it asks for


@kachery.task(version="1")
def sum_of(values):
    return float(values.sum())


@kachery.task(version="1")
def twice(x):
    return 2 * x


@kachery.task(version="1", ignore="alive")
def loop(n, alive):
    gc.disable()
    try:
        for i in range(n):
            first = sum_of.job(np.full(50, float(i)))
            second = twice.job(first)
            alive.extend((weakref.ref(first), weakref.ref(second)))
            second.result()
        del first, second
        until = time.monotonic() + 20  # the thread that ran the last one may not be done with it
        while any(one() is not None for one in alive) and time.monotonic() < until:
            time.sleep(0.001)
        return [one() for one in alive].count(None)
    finally:
        gc.enable()


def test_a_task_does_not_keep_what_it_asked_for():
    assert loop(5, []) == 10
    children = [
        one.id
        for i in range(5)
        for job in [sum_of.job(np.full(50, float(i)))]
        for one in (job, twice.job(job))
    ]
    assert loop.job(5, []).record.children == children
    assert loop(6, []) == 12  # and of results that are known


def test_jobs_that_fail_are_children_all_the_same():
    @kachery.task(version="1")
    def one():
        return 1

    @kachery.task(version="1")
    def failing(x):
        raise ValueError(x)

    @kachery.task(version="1")
    def asking():
        with pytest.raises(ValueError, match="1"):
            failing.job(one.job()).result()

    asking()
    assert asking.job().record.children == [one.job().id, failing.job(one.job()).id]


def test_jobs_that_are_not_done_are_children_all_the_same(tmp_path):
    @kachery.task(version="1")
    def waiting(path, x):
        while not os.path.exists(path):
            pass
        return x

    @kachery.task(version="1", ignore="jobs")
    def asking(path, jobs):
        jobs.append(waiting.job(path, twice.job(1)))
        jobs[0].started()
        twice.job(1).result()

    path, jobs = str(tmp_path / "end"), []
    asking(path, jobs)
    (tmp_path / "end").touch()
    jobs[0].result()
    assert asking.job(path, []).record.children == [twice.job(1).id, jobs[0].id]


# What is stale

STEPS = """
    import kachery

    @kachery.task(version="1")
    def drawn(seed):
        import os
        return [float(os.environ.get("DRAWN", 1)) + seed] * 300

    @kachery.task(version="1")
    def total(values):
        return float(len(values))

    @kachery.task(version="1")
    def after(total, k):
        return total + k

    @kachery.task
    def simple(x):
        return [x] * 3

    @kachery.task
    def applied(model, x):
        return model(x)
    """

MODELS = """
    class Model:
        def __init__(self, k):
            self.k = k
        def __call__(self, x):
            return self.k * x + 1

    def fun(x):
        return x + 2
    """


@pytest.fixture
def steps(project, monkeypatch):
    write(project / "models.py", MODELS)
    write(project / "steps.py", STEPS)
    monkeypatch.chdir(project)
    return importlib.import_module("steps")


def draw_again(steps, monkeypatch, how, value="2"):
    monkeypatch.setenv("DRAWN", value)
    if how == "refresh":
        with kachery.using(refresh="drawn"):
            steps.drawn(1)
    else:
        steps.drawn.job(1).forget()
        steps.drawn(1)


@pytest.mark.parametrize("how", ["refresh", "forget"])
def test_an_input_that_was_replaced(steps, monkeypatch, how):
    job = steps.after.job(steps.total.job(steps.drawn.job(1)), 1)
    job.result()
    draw_again(steps, monkeypatch, how, "1")
    assert kachery.stale() == []  # by the same result
    draw_again(steps, monkeypatch, how)
    assert reasons() == [("after", "input"), ("total", "input")]
    assert "its argument `values`, of steps:drawn, is another now" in texts()
    job = steps.after.job(steps.total.job(steps.drawn.job(1)), 1)
    assert not steps.total.job(steps.drawn.job(1)).cached
    job.result()
    assert kachery.stale() == []


def test_an_input_in_a_container_that_was_replaced(steps, monkeypatch):
    jobs = [steps.drawn.job(1), steps.drawn.job(2)]
    for whole in ([*jobs, jobs[0]], jobs[:1], {"a": jobs[0]}):
        steps.total.job(whole).result()
    draw_again(steps, monkeypatch, "refresh", "1")
    assert reasons() == [("total", "unknown")]  # that of the dict
    draw_again(steps, monkeypatch, "refresh")
    old = [("total", "input"), *[("total", "unknown")] * 2]
    assert reasons() == old
    for whole in ([*jobs, jobs[0]], [jobs[0], 5], jobs[::-1], {"a": jobs[0]}):
        steps.total.job(whole).result()
    assert reasons() == old


def test_calls_that_take_the_same_jobs_in_other_ways(steps):
    """They are not one call, of which one job would do."""
    jobs = [steps.drawn.job(1), steps.drawn.job(2)]
    for whole in (jobs, jobs[::-1], [*jobs, jobs[1]], tuple(jobs), [*jobs, 5], [*jobs, 6]):
        steps.applied.job(len, whole).result()
    change(steps, "model(x)", "model(x) + 0")
    assert reasons() == [("applied", "code")] * 6
    for count, whole in enumerate((jobs, [*jobs, jobs[1]], tuple(jobs)), 1):
        steps.applied.job(len, whole).result()
        assert reasons() == [("applied", "code")] * (6 - count)


def test_back_to_earlier_code(steps, project):
    """What is a hit is not stale, though the same call was computed with other code since."""
    job = steps.after.job(steps.simple.job(1), [2])
    job.result()
    text = (project / "steps.py").read_text()
    change(steps, "[x] * 3", "[x] * 4")
    steps.after.job(steps.simple.job(1), [2]).result()
    assert kachery.stale() == []
    write(project / "steps.py", text)
    importlib.reload(steps)
    assert steps.after.job(steps.simple.job(1), [2]).cached
    assert kachery.stale() == []


def test_a_parameter_that_came_or_went(steps, project):
    steps.simple(1)
    change(steps, "def simple(x)", "def simple(x, k=3)")
    assert reasons() == [("simple", "code")]
    steps.simple(1)
    assert kachery.stale() == []
    steps.simple(1, k=4)
    change(steps, "def simple(x, k=3)", "def simple(x)")
    steps.simple(1)  # the first one, again
    assert reasons() == [("simple", "code")]  # with k=4


@pytest.mark.parametrize("what", ["models.Model(2)", "models.fun", "functools.partial(models.fun)"])
def test_code_among_the_arguments(steps, project, what):
    """In another process, which has not imported it, and whatever the store says it is."""
    run_python(f"import functools, models, steps; steps.applied({what}, 3)")
    known = "partial" not in what
    shown = kachery_command("stale").stdout
    assert shown == "nothing is stale\n" if known else "cannot be compared" in shown
    write(project / "models.py", MODELS.replace("x + 1", "x + 3").replace("x + 2", "x + 4"))
    shown = kachery_command("stale").stdout
    assert shown.endswith("1 stale, 0 unknown\n" if known else "0 stale, 1 unknown\n"), shown
    write(project / "models.py", "raise RuntimeError('broken')")
    shown = kachery_command("stale").stdout
    assert "0 stale, 1 unknown" in shown


def test_functions_of_older_records(steps):
    from kachery_tasks import commit

    models = importlib.import_module("models")
    written, commit.callable_name = commit.callable_name, lambda _: None
    try:
        steps.applied(models.fun, 1)
    finally:
        commit.callable_name = written
    ((name, _),) = steps.applied.job(models.fun, 1).record.codes
    assert name == "function fun"
    assert reasons() == [("applied", "unknown")]
    assert "no name by which it is found" in texts().pop()


# Scripts without a guard

SCRIPT = """
    import sys
    import kachery

    @kachery.task
    def double(x):
        return [2 * x] * 200

    @kachery.task
    def total(values):
        return sum(values)

    print("total", total(double(21)), sys.argv[1:])
    print("more", total(double({second})))
    """


def test_a_script_that_is_not_run(project, monkeypatch):
    monkeypatch.chdir(project)
    write(project / "script.py", SCRIPT.format(second="22"))
    subprocess.run([sys.executable, "script.py"], check=True, capture_output=True, timeout=60)
    assert kachery_command("stale", "--json").stdout == ""
    write(project / "script.py", SCRIPT.format(second="23"))  # not known
    before = len(list(current().store.jobs.names()))
    done = kachery_command("stale", "--json")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == 4 and {reason["kind"] for one in told for reason in one["reasons"]} == {
        "unknown"
    }
    assert "runs tasks while it is imported" in told[0]["reasons"][0]["text"]
    assert '`if __name__ == "__main__":`' in told[0]["reasons"][0]["text"]
    assert len(list(current().store.jobs.names())) == before
    done = kachery_command("reproduce", "--sample", "1")
    assert done.returncode == 2 and "runs tasks while it is imported" in done.stdout


def test_what_a_module_sees_and_prints_when_it_is_imported(project, monkeypatch):
    monkeypatch.chdir(project)
    (project / "package").mkdir()
    write(project / "package" / "__init__.py", "import sys; print('package', sys.argv)")
    code = (
        "import kachery, sys\n@kachery.task\ndef f(x): return x\nprint('module', sys.argv)\nf(1)\n"
    )
    write(project / "package" / "module.py", code)
    run_python("import package.module")
    done = kachery_command("stale", "--task", "f")
    assert done.stdout == "nothing is stale\n"
    folder = project / "package"
    for name, file in (("package", "__init__.py"), ("module", "module.py")):
        assert f"{name} {[str(folder / file)]}\n" in done.stderr


# The repository


def git(folder, *words):
    done = subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@pytest.fixture
def code(project, monkeypatch):
    """A project in a repository: `code.py`, of which `more.py` is a part, committed."""
    write(
        project / "code_here.py",
        "import kachery, more\n@kachery.task\ndef f(x): return more.g(x)\n",
    )
    write(project / "more.py", "def g(x): return x\n")
    git(project, "init", "-q")
    git(project, "add", "*.py")
    git(project, "commit", "-q", "-m", "one")
    return project


def state(module, x):
    module.f(x)
    return environment_at(current().store, module.f.job(x).record.environment)["git"]


def test_code_that_git_does_not_know(code):
    write(code / "scratch.py", "print(1)\n")
    head = git(code, "rev-parse", "HEAD")
    module = importlib.import_module("code_here")
    assert state(module, 1) == {"commit": head, "dirty": False}
    git(code, "rm", "-q", "--cached", "more.py")
    git(code, "commit", "-q", "-m", "without more")
    importlib.reload(module)
    assert state(module, 2) == {"commit": git(code, "rev-parse", "HEAD"), "dirty": True}


def test_a_commit_and_a_reload(code):
    module = importlib.import_module("code_here")
    first = state(module, 1)
    write(code / "code_here.py", (code / "code_here.py").read_text() + "# more\n")
    importlib.reload(module)
    assert state(module, 2) == {"commit": first["commit"], "dirty": True}
    git(code, "commit", "-q", "-a", "-m", "two")
    assert state(module, 3) == {"commit": first["commit"], "dirty": True}  # what has been loaded
    importlib.reload(module)
    assert state(module, 4) == {"commit": git(code, "rev-parse", "HEAD"), "dirty": False}


def test_files_that_were_touched_are_as_they_were(code):
    write(code / "more.py", (code / "more.py").read_text())  # its time differs
    assert repository.Repository(str(code)).state().is_dirty is False
    write(code / "more.py", "def g(x): return y\n")  # of the same size
    assert repository.Repository(str(code)).state().is_dirty
    git(code, "add", "more.py")
    assert repository.Repository(str(code)).state().is_dirty
    git(code, "commit", "-q", "-m", "two")
    found = repository.Repository(str(code)).state()
    assert not found.is_dirty and found.known == {"code_here.py", "more.py"}


def test_git_starts_nothing_that_settings_name(code, tmp_path):
    ran = tmp_path / "ran"
    for kind in ("clean", "process"):
        git(code, "config", f"filter.strange {kind}.{kind}", f"touch {ran}; cat")
        git(code, "config", f"filter.{kind}.{kind}", f"touch {ran}; cat")
    (code / ".git" / "info" / "attributes").write_text("*.a filter=clean\n*.b filter=process\n")
    for i in range(5):  # of a file that is as young as the index, git would look at the content
        for name in ("x.a", "x.b"):
            (code / name).write_text(f"{i}\n")
        git(code, "-c", "filter.process.process=", "add", "x.a", "x.b")
        ran.unlink(missing_ok=True)
        for name in ("x.a", "x.b"):
            (code / name).write_text(f"{i + 5}\n")
        assert repository.Repository(str(code)).state().is_dirty
        assert not ran.exists()


def test_git_that_leaves_something_behind_does_not_block(code, tmp_path, monkeypatch):
    """A wrapper whose child holds the pipe: it is ended with the wrapper."""
    folder, pid = tmp_path / "bin", tmp_path / "pid"
    folder.mkdir()
    fake = folder / "git"
    fake.write_text(f"#!/bin/sh\nsleep 600 &\necho $! >> {pid}\nwait\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/bin:/usr/bin")
    program = """
        import os, sys
        from kachery_tasks import repository
        repository._PATIENCE = float(sys.argv[2])
        found = repository.Repository(sys.argv[1])
        while not os.path.exists(sys.argv[3]):
            pass
        print(found.state())
        """
    done = run_python(program, code, "0.2", pid)
    assert done.stdout == "None\n"
    for one in pid.read_text().split():
        stat = f"/proc/{one}/stat"
        try:
            with open(stat) as file:
                assert file.read().rpartition(")")[2].split()[0] in "ZX"
        except FileNotFoundError:
            pass


def test_the_advice_for_code_that_was_not_committed(code, monkeypatch):
    write(code / "more.py", "def g(x): return x + 1\n")
    monkeypatch.chdir(code)
    head = git(code, "rev-parse", "HEAD")[:12]
    job_id = run_python("import code_here as c; c.f(1); print(c.f.job(1).id)").stdout.strip()
    git(code, "checkout", "-q", "more.py")
    done = kachery_command("reproduce", job_id)
    assert f"git commit {head}, with changes or files that were not committed" in done.stdout
