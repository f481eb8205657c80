"""Running jobs again of which the store has the records: the same, different, or why it cannot be told."""

import importlib
import subprocess
import sys

import numpy as np
import pytest
from conftest import run_python, write
from test_surface import kachery_command

import kachery
from kachery_tasks.values import encode

STEPS = """
    import decimal
    import numpy as np
    import kachery

    SCALE = 2

    class Filter:
        def __init__(self, width):
            self.width = width
        def apply(self, x):
            return x * self.width

    class Opaque(decimal.Context):
        pass

    @kachery.task
    def ramp(n):
        return np.arange(n, dtype=float)

    def scaled(x):
        return x * SCALE

    @kachery.task
    def total(x, *more, scale=1.0, **options):
        return float(scaled(x).sum()) * scale + len(more) + len(options)

    @kachery.task
    def count(xs):
        return len(xs)

    @kachery.task
    def filtered(x, f):
        return f.apply(x)

    @kachery.task(ignore="verbose")
    def quiet(x, verbose=False):
        return x

    @kachery.task(ignore="where")
    def placed(x, where):
        return x

    @kachery.task(secret="password")
    def opened(password):
        return len(password)

    @kachery.task(opaque="return")
    def model(n):
        return Opaque(prec=n)

    @kachery.task(opaque="m")
    def used(m):
        return m.prec

    @kachery.task(name="a name of its own")
    def renamed(x):
        return x + 1

    @kachery.query
    def asked():
        return 1

    @kachery.task(version="1")
    def fickle(x):
        import os
        return [x, int(os.environ.get("FICKLE", 0))]

    @kachery.task(version="1")
    def failing(x):
        import os
        if os.environ.get("FICKLE"):
            raise OSError("no disk")
        return x

    @kachery.task(version="1", cache_errors=ValueError)
    def kept(x):
        raise ValueError(x)

    class Model:
        def __init__(self, a):
            self.a = a
        @kachery.task
        def fit(self, x):
            return self.a * x
        @kachery.task
        @classmethod
        def made(cls, a):
            return a
        @kachery.task
        @staticmethod
        def plain(a):
            return -a
    """


@pytest.fixture
def steps(project, monkeypatch):
    write(project / "steps.py", STEPS)
    monkeypatch.chdir(project)
    return importlib.import_module("steps")


def again(job, **options):
    return kachery.reproduce(job.uri, **options)


def why_not(job):
    with pytest.raises(kachery.NotReproducible) as caught:
        again(job)
    return str(caught.value)


def verdicts():
    return [one.verdict for run in kachery.runs() for one in run.verdicts]


def test_arguments_from_the_record(steps):
    cases = [
        steps.total.job(np.arange(3.0), scale=2.0),
        steps.total.job(np.arange(3.0), 1, "two", None, key={"a": (1, 2)}),
        steps.quiet.job(4, verbose=True),
        steps.filtered.job(3, steps.Filter(5)),
        steps.count.job([{"a"}, (1, 2.5), None]),
        steps.Model(3).fit.job(4),
        steps.Model.made.job(4),
        steps.Model.plain.job(4),
    ]
    for job in cases:
        job.result()
        found = again(job)
        assert found and found.same and found.record.job_id == job.id, job
    assert verdicts() == ["same"] * len(cases)


def test_arguments_from_the_store(steps):
    large = steps.ramp.job(100_000)
    for job in (
        steps.total.job(large),
        steps.total.job(steps.ramp(20_000)),  # not told as a job, and found by its address
        steps.total.job(steps.ramp(300)),
        steps.count.job([large, steps.ramp.job(50_000)]),
        steps.count.job((large, steps.ramp.job(50_000))),
    ):
        job.result()
        assert again(job).same, job
    nested = steps.count.job({"a": large, "b": 3})
    nested.result()
    assert "argument `xs` (dict of 2) is not in the store" in why_not(nested)


def test_what_is_not_there(steps):
    job = steps.total.job(np.ones(50_000))
    job.result()
    assert why_not(job) == (
        f"steps:total (job {job.id[:12]}): argument `x` (numpy.ndarray float64 (50000,)) is not in the"
        " store"
    )
    made = steps.ramp.job(100_000)
    used = steps.total.job(made)
    used.result()
    record = used.record
    assert kachery.reproduce(record).same
    made.forget()
    with pytest.raises(kachery.NotReproducible, match="is not in the store"):
        kachery.reproduce(record)
    assert sorted(verdicts()) == ["cannot", "cannot", "same"]


def test_values_of_a_record_that_are_others(steps):
    """Whatever an argument was found by, it is the one, or the job is not run."""
    steps.quiet(4)
    record = steps.quiet.job(4).record
    assert kachery.reproduce(record).same
    for other in (encode(5).data, b"no encoding"):
        with pytest.raises(kachery.NotReproducible, match=r"`x`.* read back"):
            kachery.reproduce(record._replace(values=[("x", other)]))


def test_what_was_not_kept(steps):
    secret = steps.opened.job("word")
    secret.result()
    assert "argument `password` is secret" in why_not(secret)
    placed = steps.placed.job(1, "here")
    placed.result()
    assert "`where` is in ignore=, has no default" in why_not(placed)
    steps.asked()
    (answer,) = (record for record in kachery.runs() if record.kind == "query")
    with pytest.raises(kachery.NotReproducible, match="it is a query"):
        kachery.reproduce(answer.uri)
    assert verdicts() == ["cannot"] * 3


def test_opaque_values(steps):
    """What a job made that has no encoding is that of the job, and nothing else."""
    model = steps.model.job(3)
    used = steps.used.job(model)
    assert used.result() == 3
    assert again(used).same and again(model).same
    steps.used(steps.Opaque(prec=4))
    pickled = [run.uri for run in kachery.runs(task="used") if run.job_id != used.id]
    with pytest.raises(kachery.NotReproducible, match="`m`"):
        kachery.reproduce(pickled[0])


def test_other_code(steps, project):
    job = steps.total.job(3.5 * np.ones(2))
    job.result()
    text = (project / "steps.py").read_text()
    write(project / "steps.py", text.replace("x * SCALE", "x * SCALE + 1"))
    importlib.reload(steps)
    said = why_not(job)
    assert "the code is another now (`steps:scaled` changed): bring back what it was" in said
    write(project / "steps.py", text.replace("SCALE = 2", "SCALE = 3"))
    importlib.reload(steps)
    assert "2 then, 3 now" in why_not(job)
    write(project / "steps.py", text)
    importlib.reload(steps)
    assert again(job).same


def test_other_code_of_a_class_among_the_arguments(steps, project):
    job = steps.filtered.job(3, steps.Filter(5))
    job.result()
    text = (project / "steps.py").read_text()
    write(project / "steps.py", text.replace("x * self.width", "x * self.width * 2"))
    importlib.reload(steps)
    assert "changed" in why_not(job) and "Filter" in why_not(job)


def test_the_commit_is_told(project, monkeypatch):
    def git(*args):
        identity = ("-c", "user.name=n", "-c", "user.email=e@example.com")
        subprocess.run(["git", *identity, *args], cwd=project, check=True, capture_output=True)

    write(project / "committed.py", "import kachery\n@kachery.task\ndef f(x): return x\n")
    git("init"), git("add", "-A"), git("commit", "-m", "one")
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=project, check=True, capture_output=True, text=True
    ).stdout[:12]
    monkeypatch.chdir(project)
    found = run_python("import committed; committed.f(1); print(committed.f.job(1).id)").stdout
    write(project / "committed.py", "import kachery\n@kachery.task\ndef f(x): return x + 0\n")
    done = kachery_command("reproduce", found.strip())
    assert done.returncode == 2 and f"it ran at git commit {head}: check that out" in done.stdout


def test_a_result_that_differs(steps, monkeypatch):
    job = steps.fickle.job(1)
    job.result()
    failing = steps.failing.job(1)
    failing.result()
    monkeypatch.setenv("FICKLE", "1")
    found = again(job)
    assert not found and found.differences == ["result[1]: 0 at first, 1 now"]
    assert job.result() == [1, 0]
    with pytest.raises(OSError, match="no disk"):
        again(failing)
    (first, second) = sorted(kachery.runs(), key=lambda run: run.task, reverse=True)
    assert [one.why for one in first.verdicts] == [["result[1]: 0 at first, 1 now"]]
    assert first.verdicts[0].verdict == second.verdicts[0].verdict == "different"
    assert second.verdicts[0].why == ["a result at first, raised OSError: no disk now"]


def test_a_kept_error(steps):
    with pytest.raises(ValueError, match="3"):
        steps.kept(3)
    assert again(steps.kept.job(3)).same


def test_a_job_and_a_record(steps):
    assert kachery.reproduce(steps.total.job(steps.ramp.job(30_000))).same  # arguments in hand
    steps.total(1 * np.ones(3))
    assert kachery.reproduce(steps.total.job(1 * np.ones(3)).record).same
    with pytest.raises(kachery.NotFound, match="no job abc"):
        kachery.reproduce("abc")


def test_in_python_the_verdict_of_arguments_in_hand_is_noted_too(steps):
    assert steps.total.reproduce(np.ones(3)).same
    assert verdicts() == ["same"]


# Where the task is found


def test_names_of_their_own(steps):
    steps.renamed(1)
    job = steps.renamed.job(1)
    assert again(job).same  # its module is loaded
    done = kachery_command("reproduce", job.id)
    assert done.returncode == 2 and "--import" in done.stdout
    done = kachery_command("reproduce", job.id, "--import", "steps")
    assert done.returncode == 0 and done.stdout.startswith("same: a name of its own")


def test_modules_that_are_not_there(steps, project, monkeypatch):
    steps.total(np.ones(2))
    job = steps.total.job(np.ones(2))
    monkeypatch.setenv("PYTHONPATH", "")
    assert kachery_command("reproduce", job.id).returncode == 0  # the current folder counts
    monkeypatch.chdir(project.parent)
    done = kachery_command("reproduce", job.id)
    assert done.returncode == 2 and "steps cannot be imported here" in done.stdout
    write(project / "steps.py", "raise SystemExit('stop')")
    monkeypatch.chdir(project)
    done = kachery_command("reproduce", job.id)
    assert done.returncode == 2 and "SystemExit: stop" in done.stdout
    write(project / "steps.py", "total = 3")
    done = kachery_command("reproduce", job.id)
    assert done.returncode == 2 and "there is no task steps:total here" in done.stdout


def test_what_a_record_names_is_not_imported_from_python_itself():
    made = kachery.task(name="antigravity:fly", version="1")(lambda x: x)
    made(1)
    job = made.job(1)
    done = kachery_command("reproduce", job.id)
    assert done.returncode == 2 and "antigravity is a module of Python itself" in done.stdout


def test_tasks_inside_of_functions():
    @kachery.task
    def inner(x):
        return x

    inner(1)
    assert "made inside of a function" in why_not(inner.job(1))


def test_a_script(project, monkeypatch):
    write(
        project / "script.py",
        """
        import kachery
        @kachery.task
        def f(x):
            return x
        if __name__ == "__main__":
            f(1)
            print(kachery.reproduce(f.job(1).record))
        """,
    )
    monkeypatch.chdir(project)
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("same: script:f"), done
    assert kachery_command("reproduce", "--sample", "1").stdout.startswith("same: script:f")


# The command


def test_samples(steps, monkeypatch):
    for i in range(8):
        steps.fickle(i)
        steps.ramp(i)
    steps.asked()
    done = kachery_command("reproduce", "--sample", "5", "--task", "fickle")
    assert done.returncode == 0 and done.stdout.endswith("5 same, 0 different, 0 cannot\n")
    assert done.stdout.count("same: steps:fickle") == 5
    one = kachery_command("reproduce", "--sample", "3", "--seed", "1").stdout
    assert kachery_command("reproduce", "--sample", "3", "--seed", "1").stdout == one
    assert (
        len(
            {
                kachery_command("reproduce", "--sample", "3", "--seed", str(i)).stdout
                for i in range(3)
            }
        )
        > 1
    )
    all_of_them = kachery_command("reproduce", "--sample", "99").stdout
    assert "16 same, 0 different, 0 cannot" in all_of_them
    monkeypatch.setenv("FICKLE", "1")
    done = kachery_command("reproduce", "--sample", "99")
    assert done.returncode == 1 and "8 same, 8 different" in done.stdout
    assert "  result[1]: 0 at first, 1 now" in done.stdout


def test_exit_codes(steps):
    steps.opened("word"), steps.quiet(1), steps.asked()
    same, cannot = steps.quiet.job(1).id, steps.opened.job("word").id
    assert kachery_command("reproduce", same).returncode == 0
    done = kachery_command("reproduce", cannot)
    assert done.returncode == 2 and done.stdout.count("\n") == 1
    assert kachery_command("reproduce", same, cannot).returncode == 0
    assert kachery_command("reproduce", "abcdef").returncode == 2
    assert kachery_command("reproduce").returncode == 2
    assert kachery_command("reproduce", same, "--sample", "3").returncode == 2


def test_a_store_without_jobs():
    done = kachery_command("reproduce", "--sample", "3")
    assert done.returncode == 2 and "0 same" in done.stdout


def test_in_a_zone_the_arguments_come_from_there(steps, tmp_path, monkeypatch):
    (tmp_path / "kachery.toml").write_text(f'[zones.lab]\nurl = "{tmp_path}/zone"\n')
    monkeypatch.setenv("KACHERY_CONFIG", str(tmp_path / "kachery.toml"))
    with kachery.using(zone="lab"):
        job = steps.total.job(steps.ramp.job(100_000))
        job.result()
        job_id = job.id
    with kachery.using(dir=tmp_path / "other", zone="lab"):
        assert steps.total.job(steps.ramp.job(100_000)).cached
        assert kachery.reproduce(f"job://{job_id}").same
