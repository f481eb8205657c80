"""What holds wherever jobs run: on threads, in processes, on a Dask cluster."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest
from conftest import count, note_call, run_python, write

import kachery
from kachery_tasks.attempt import ALWAYS_CHECKED_UP_TO
from kachery_tasks.orders import Orders
from kachery_tasks.settings import current

EXECUTORS = ("threads", "processes", "dask")


@pytest.fixture(params=EXECUTORS)
def executor(request):
    """Jobs of the test run there."""
    if request.param == "dask":
        request.getfixturevalue("client")
        yield request.param
    else:
        with kachery.using(client=None, executor=request.param):
            yield request.param


@kachery.task
def image(i):
    return np.full((200, 200), float(i))


@kachery.task
def scaled(x, *, factor):
    return x * factor


@kachery.task
def total(items):
    return float(sum(np.sum(item) for item in items))


@kachery.task(ignore="path")
def counted(x, path):
    note_call(path)
    return os.getpid(), x


@kachery.task
def failing(x):
    raise KeyError(f"no {x}")


@kachery.task(ignore=("gate", "path"))
def gated(i, gate, path=None):
    while not os.path.exists(gate):
        time.sleep(0.005)
    if path:
        with open(path, "a") as file:
            file.write(f"{i}\n")
    return i


@kachery.query(version="1")
def asked(path, world):
    note_call(path)
    if (text := Path(world).read_text()) == "away":
        raise OSError("the world is away")
    return text, os.urandom(8)


@kachery.query(version="1", max_age="1h")
def lately(world):
    return Path(world).read_text()


@kachery.task(version="1")
def seen(answer):
    return answer


def test_a_graph_runs_there(executor, calls):
    jobs = [counted.submit(i, calls.path) for i in range(6)]
    values = kachery.gather(jobs)
    assert [x for _, x in values] == list(range(6))
    assert ({pid for pid, _ in values} == {os.getpid()}) == (executor == "threads")
    assert all(
        (job.record.pid, job.status) == (pid, "finished")
        for job, (pid, _) in zip(jobs, values, strict=True)
    )
    assert kachery.gather([counted.job(i, calls.path) for i in range(6)]) == values
    assert calls.count == 6


@kachery.task
def large(n):
    return [np.full(n, 2.0), "beside"]


@kachery.task(ignore="path")
def of_large(things, also, path):
    note_call(path)
    return float(things[0][0]), things[1], also


def test_a_large_result_has_the_same_address_whichever_way_it_comes(executor, calls):
    """It is not hashed again as the argument of the next job."""
    made = large.job(ALWAYS_CHECKED_UP_TO // 8 + 1)
    job = of_large.job([made, {"again": made}][0], "x", calls.path)
    assert job.result() == (2.0, "beside", "x")
    assert of_large(made.result(), "x", calls.path) == (2.0, "beside", "x")
    assert calls.count == 1


def test_arguments_that_changed_before_the_run_are_refused(executor):
    """Also where the id is not known before the jobs among them are done."""
    items = [1.0]
    first = total.job([image.job(0), items])
    items.append(100.0)
    with pytest.raises(kachery.KacheryError, match="not what they were"):
        first.result()
    again = total.job([image.job(0), [1.0]])
    assert again.result() == 1.0 and again.id == again.record.job_id


def test_a_long_chain_fails_with_what_its_first_job_raised(executor):
    chain = [failing.job(1)]
    for _ in range(count(2_000, 700)):
        chain.append(scaled.job(chain[-1], factor=1))
    with pytest.raises(KeyError, match="no 1"):
        chain[-1].result(timeout=200)


def test_code_with_a_version_is_what_it_is_now(executor):
    def made(step):
        def stepped(x):
            return x + step

        return kachery.task(version="1", name="stepped")(stepped)

    assert made(1).submit(1).result() == 2
    assert made(2).submit(2).result() == 4


def test_jobs_of_jobs_and_the_same_ids_everywhere(executor, tmp_path):
    images = image.map(range(3))
    more = [scaled.job(i, factor=f) for i in images for f in (1.0, 2.0)]
    top = total.job(more)
    assert top.result() == (0 + 1 + 2) * 3 * 40_000
    with kachery.using(client=None, executor="threads", dir=tmp_path / "other"):
        again = total.job(
            [scaled.job(i, factor=f) for i in image.map(range(3)) for f in (1.0, 2.0)]
        )
        assert again.result() == top.result()
        assert again.id == top.id and again.key == total.job(more).key


def test_exceptions_come_back_as_they_are(executor):
    job = failing.submit(1)
    with pytest.raises(KeyError, match="no 1"):
        job.result()
    assert job.status == "error" and isinstance(job.exception(), KeyError)
    downstream = scaled.job(failing.job(2), factor=1)
    good = scaled.job(2, factor=2)
    outcome = kachery.gather([downstream, good], return_exceptions=True)
    assert isinstance(outcome[0], KeyError) and outcome[1] == 4


def test_an_exception_that_cannot_be_pickled(executor):
    @kachery.task
    def raising():
        error = ValueError("odd")
        error.lock = threading.Lock()
        raise error

    with pytest.raises(Exception, match=r"odd|pickle"):
        raising.submit().result()


def test_a_result_that_cannot_be_stored_comes_back(executor):
    @kachery.task
    def changing(x):
        x.append(1)
        return x

    with pytest.warns(kachery.ImpureTaskWarning):
        assert changing.submit([0]).result() == [0, 1]
    downstream = scaled.job(changing.job([5]), factor=2)
    assert downstream.result() == [5, 1, 5, 1]


def test_tasks_inside_of_tasks(executor):
    def double(x):
        return inner.submit(x).result() + inner(x + 1)

    @kachery.task
    def inner(x):
        return 2 * x

    outer = kachery.task(double)
    assert kachery.gather(outer.map(range(5))) == [4 * x + 2 for x in range(5)]
    assert inner.job(5).record.parent == outer.job(4).id and not outer.job(4).record.parent


def test_settings_travel(executor, tmp_path, calls):
    with kachery.using(dir=tmp_path / "elsewhere"):
        counted.submit(1, calls.path).result()
        assert counted.job(1, calls.path).cached
        with kachery.using(refresh="counted"):
            counted.submit(1, calls.path).result()
        with kachery.using(read_only=True), pytest.raises(kachery.NotStored):
            counted.submit(2, calls.path).result()
    assert calls.count == 2 and not counted.job(1, calls.path).cached


def test_refreshed_jobs_of_refreshed_jobs(executor, calls):
    for _ in range(2):
        with kachery.using(refresh=True):
            first = counted.job(1, calls.path)
            assert scaled.job(first, factor=2).result()[1] == 1
    assert calls.count == 2


def test_equal_queries_run_once_and_all_see_the_same(executor, calls, tmp_path):
    world = write(tmp_path / "world", "x")
    jobs = [asked.job(calls.path, str(world)) for _ in range(3)]
    above = [seen.job(job) for job in jobs]
    values = kachery.gather([*above, *jobs])
    assert calls.count == 1 and len(set(values)) == 1


def test_the_warning_of_an_inner_job_reaches_who_asks(executor, calls, tmp_path):
    world = write(tmp_path / "world", "x")
    first = asked.submit(calls.path, str(world)).result()
    write(world, "away")
    inner = asked.job(calls.path, str(world))
    assert seen.job(inner).result() == first
    with pytest.warns(kachery.StaleResultWarning):
        assert inner.result() == first


def test_an_answer_that_became_too_old_is_asked_for_again(executor, tmp_path, monkeypatch):
    from kachery_tasks import answers

    world = write(tmp_path / "world", "old")
    lately.submit(str(world)).result()
    above = seen.job(lately.job(str(world)))
    assert above.id is not None
    seen.job(lately.job(str(world))).result()
    write(world, "new")
    real = answers.time.time
    monkeypatch.setattr(answers.time, "time", lambda: real() + 7200)
    assert above.result() == ("new" if executor == "threads" else above.result())
    if executor == "threads":
        assert above.inputs[0].result() == "new"


@pytest.mark.filterwarnings("ignore::kachery.DamagedWarning")
@pytest.mark.parametrize(
    "ask", [kachery.gather, lambda jobs: [j.result() for j in kachery.as_completed(jobs)]]
)
def test_inputs_whose_results_are_damaged_are_computed_again(executor, store_dir, ask):
    @kachery.task
    def names(n):
        return [str(i) for i in range(n)]

    @kachery.task
    def length(x):
        return len(x)

    jobs = [length.job(names.job(20_000))]
    assert ask(jobs) == [20_000]
    for path in (store_dir / "blake3").rglob("*"):
        if path.is_file():
            path.unlink()
    again = [length.job(names.job(20_000)), length.job(names.job(20_000))]
    assert ask(again) == [20_000] * 2


@pytest.mark.filterwarnings("ignore::kachery.DamagedWarning")
def test_a_result_lost_while_its_graph_runs_is_computed_again(executor, store_dir, tmp_path):
    gate = tmp_path / "gate"

    @kachery.task
    def big(x):
        return np.full(100_000, x)

    @kachery.task(ignore="gate")
    def waiting(x, gate):
        while not os.path.exists(gate):
            time.sleep(0.01)
        return float(x.sum())

    first = big.submit(1.0)
    last = waiting.submit(first, str(gate))
    first.started().result(60)
    for path in (store_dir / "blake3").rglob("*"):
        if path.is_file():
            path.unlink()
    assert first.result().sum() == 100_000
    gate.touch()
    assert last.result() == 100_000


def test_map_of_map_does_not_wait(executor, tmp_path):
    gate = tmp_path / "gate"
    jobs = scaled.map(gated.map(range(4), gate=str(gate)), factor=2)
    assert not any(job.done() for job in jobs)  # else it would have waited for ever
    gate.touch()
    assert kachery.gather(jobs) == [0, 2, 4, 6]


def test_a_query_that_runs_is_the_input_of_a_later_start(executor, tmp_path):
    gate = tmp_path / "gate"

    @kachery.query
    def waiting():
        while not os.path.exists(gate):
            time.sleep(0.005)
        return 3

    first = waiting.submit()
    above = scaled.submit(waiting.job(), factor=2)
    assert not above.done()
    gate.touch()
    assert above.result() == 6 and first.result() == 3


def test_cancel_before_the_start(executor, tmp_path):
    gate, ran = tmp_path / "gate", tmp_path / "ran"
    jobs = [gated.submit(i, str(gate), str(ran)) for i in range(12)]
    assert jobs[-1].cancel() and jobs[-1].done()
    later = gated.submit(12, str(gate), str(ran))
    if executor == "dask":
        _wait_until_cancelled(jobs[-1].key, later.key)
    gate.touch()
    assert kachery.gather([*jobs[:-1], later]) == [*range(11), 12]
    with pytest.raises(CancelledError):
        jobs[-1].result()
    assert sorted(map(int, ran.read_text().split())) == [*range(11), 12]


def test_who_shares_a_run_is_not_cancelled_with_another(executor, tmp_path):
    gate = tmp_path / "gate"
    blocking = [gated.submit(i, str(gate)) for i in range(12)]
    mine, yours = gated.submit(99, str(gate)), gated.submit(99, str(gate))
    assert mine.future is yours.future and mine.cancel()
    gate.touch()
    assert yours.result() == 99 and kachery.gather([yours]) == [99]
    with pytest.raises(CancelledError):
        mine.result()
    assert kachery.gather(blocking) == list(range(12))


def _wait_until_cancelled(key, later):
    """Until the scheduler, which knows what was submitted later, has forgotten it, and so the workers."""
    from distributed import Client

    def knows(dask_scheduler, key):
        return any(key in name for name in dask_scheduler.tasks)

    def has(dask_worker):
        return any(key in name for name in dask_worker.state.tasks)

    client = Client.current()
    while (
        not client.run_on_scheduler(knows, key=later)
        or client.run_on_scheduler(knows, key=key)
        or any(client.run(has).values())
    ):
        time.sleep(0.01)


@pytest.mark.parametrize("executor", ["threads", "processes"], indirect=True)
def test_of_those_that_wait_the_highest_priority_is_next(executor, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # one at a time
    gate, ran = tmp_path / "gate", tmp_path / "ran"

    def tasks(priority):
        def noting(i):
            with open(ran, "a") as file:
                file.write(f"{i}\n")

        return kachery.task(priority=priority, resources={"GPU": 1})(noting)

    blocking = gated.submit(1, str(gate))
    while blocking.status != "running":
        time.sleep(0.001)
    waiting = [tasks(priority).submit(priority) for priority in (0, 5, -3, 9, 2)]
    gate.touch()
    kachery.gather([blocking, *waiting])
    assert ran.read_text().split() == ["9", "5", "2", "0", "-3"]


def _script(tmp_path, text):
    return write(tmp_path / "as_main.py", text)


STARTING = """
if WHERE == "dask":
    from distributed import Client, LocalCluster
    cluster = LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0")
    client = Client(cluster)
else:
    kachery.configure(executor=WHERE)
"""


def test_what_main_defines(tmp_path):
    """It exists on no worker; it travels, and has the ids of a plain run. No guard is needed."""
    script = write(
        tmp_path / "as_main.py",
        """
        import dataclasses, sys
        import kachery

        RATE = 2

        @dataclasses.dataclass
        class Model:
            rate: int
            def predict(self, x):
                return helper(x) * self.rate

        def helper(x):
            return x + RATE

        @kachery.task
        def fit(rate):
            return Model(rate)

        @kachery.task
        def apply(model, x):
            return model.predict(x)

        @kachery.task
        def call(f, x):
            return f(x)

        jobs = [apply.job(fit.job(r), 1) for r in range(3)] + [apply.job(Model(7), 2)]
        jobs += [call.job(helper, 5), call.job(lambda x: helper(x) * 2, 5)]
        jobs += [call.job(Model(2).predict, 1)]
        if sys.argv[1] == "processes":
            kachery.configure(executor="processes")
            print(kachery.gather(jobs), [j.id for j in jobs], jobs[0].task)
        elif __name__ == "__main__" and sys.argv[1] == "dask":
            from distributed import Client, LocalCluster
            with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as c, Client(c):
                print(kachery.gather(jobs), [j.id for j in jobs], jobs[0].task)
        elif __name__ == "__main__":
            assert all(j.cached for j in jobs) == (sys.argv[1] == "served"), "served"
            print(kachery.gather(jobs), [j.id for j in jobs], jobs[0].task)
        """,
    )
    outputs = []
    for where, folder in (
        ("dask", "a"),
        ("threads", "b"),
        ("processes", "c"),
        ("served", "a"),
        ("served", "c"),
    ):
        done = subprocess.run(
            [sys.executable, "-W", "error::UserWarning", script, where],
            env={**os.environ, "KACHERY_DIR": str(tmp_path / folder)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert outputs[0].startswith("[0, 3, 6, 28, 7, 14, 6]") and outputs[0].endswith(
        "as_main:apply\n"
    )
    assert len(set(outputs)) == 1


@pytest.mark.parametrize("where", EXECUTORS)
def test_a_function_redefined_in_main(tmp_path, where):
    script = write(
        tmp_path / "redefining.py",
        """
        import sys
        import kachery

        def helper(x):
            return x + 1

        @kachery.task
        def f(x):
            return helper(x)

        def ask(x):
            return f(x), f.submit(x).result(), f.job(x).id

        if __name__ == "__main__":
            if sys.argv[1] == "dask":
                from distributed import Client, LocalCluster
                cluster = LocalCluster(
                    n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0"
                )
                client = Client(cluster)
            else:
                kachery.configure(executor=sys.argv[1])
            first = ask(1)
            old = f.job(2)

            def helper(x):
                return x + 100

            second = ask(1)
            try:
                print("late", old.result())
            except kachery.KacheryError as error:
                print("late", type(error).__name__)

            @kachery.task
            def f(x):
                return helper(x) * 2

            third = ask(1)
            print(first[:2], second[:2], third[:2], len({first[2], second[2], third[2]}))
            if sys.argv[1] == "dask":
                client.close()
                cluster.close()
        """,
    )
    done = subprocess.run([sys.executable, script, where], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["late KacheryError", "(2, 2) (101, 101) (202, 202) 3"], (
        done.stdout + done.stderr
    )


@pytest.mark.parametrize("where", EXECUTORS)
def test_ctrl_c_cancels_what_waits_and_the_next_run_goes_on(tmp_path, calls, where):
    script = write(
        tmp_path / "interrupted.py",
        """
        import os, sys, time
        import kachery

        @kachery.task(ignore="path")
        def slow(i, path):
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(fd, b"call\\n")
            os.close(fd)
            time.sleep(0.1)
            return [i]

        @kachery.task
        def above(x):
            return x[0]

        if __name__ == "__main__":
            if sys.argv[1] == "dask":
                from distributed import Client, LocalCluster
                cluster = LocalCluster(
                    n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0"
                )
                client = Client(cluster)
            else:
                kachery.configure(executor=sys.argv[1])
            jobs = [above.job(slow.job(i, sys.argv[2])) for i in range(20)]
            try:
                kachery.gather(jobs)
            except KeyboardInterrupt:
                print("interrupted", sum(job.done() for job in jobs), flush=True)
            print(kachery.gather(jobs) == list(range(20)))
            if sys.argv[1] == "dask":
                client.close()
                cluster.close()
        """,
    )
    process = subprocess.Popen(
        [sys.executable, script, where, calls.path],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while calls.count < 3:
        time.sleep(0.005)
    if where == "dask":
        os.kill(process.pid, signal.SIGINT)
    else:  # as a terminal does
        os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=100)
    first, second = output.splitlines()
    assert first.startswith("interrupted") and int(first.split()[1]) < 20 and second == "True"
    assert calls.count == 20
    _wait_until_gone(-process.pid)


def test_the_executor_is_checked():
    with pytest.raises(ValueError, match="'threads' or 'processes'"):
        kachery.configure(executor="process")
    with pytest.raises(ValueError, match="client="), kachery.using(executor="dask"):
        pass


# Processes


@pytest.fixture
def processes():
    with kachery.using(client=None, executor="processes"):
        yield


def test_a_killed_process_takes_only_its_own_job_along(processes, tmp_path):
    gate = tmp_path / "gate"

    @kachery.task(ignore="gate")
    def dying(i, gate):
        if i == 1:
            os.kill(os.getpid(), 9)
        while not os.path.exists(gate):
            time.sleep(0.005)
        return i

    jobs = dying.map(range(4), gate=str(gate))
    with pytest.raises(kachery.KacheryError, match="killed by signal 9"):
        jobs[1].result()
    gate.touch()
    assert kachery.gather([jobs[0], *jobs[2:]]) == [0, 2, 3]


def test_an_exit_is_an_error_and_the_process_lives(processes):
    @kachery.task
    def leaving(i):
        if i == 0:
            sys.exit(3)
        return os.getpid()

    with pytest.raises(RuntimeError, match=r"sys\.exit"):
        leaving.submit(0).result()
    assert leaving.submit(1).result() != os.getpid()


def test_processes_are_used_again(processes):
    @kachery.task
    def where(i):
        return os.getpid()

    assert len({where.submit(i).result() for i in range(10)}) == 1


def test_a_module_that_was_edited_and_loaded_again(processes, project):
    import importlib

    path = write(
        project / "edited_steps.py",
        "import kachery\n@kachery.task\ndef step(x):\n    return x + 1\n",
    )
    import edited_steps

    assert edited_steps.step.submit(1).result() == 2
    write(path, "import kachery\n@kachery.task\ndef step(x):\n    return x + 100\n")
    importlib.reload(edited_steps)
    assert edited_steps.step.submit(1).result() == 101


@pytest.mark.filterwarnings("ignore::kachery.SourceWarning")
def test_a_module_that_was_edited_and_not_loaded_again(processes, project):
    path = write(
        project / "stale_steps.py",
        "import kachery\n@kachery.task\ndef step(x):\n    return x + 1\n",
    )
    import stale_steps

    write(path, "import kachery\n@kachery.task\ndef step(x):\n    return x + 7\n")
    job = stale_steps.step.submit(2)  # the code here is that of before, the process's is new
    with pytest.raises(kachery.CodeMismatch, match="stale_steps"):
        job.result()
    assert not job.cached


def test_processes_end_with_the_program_however_it_ends(tmp_path):
    code = """
    import os, sys, time, kachery
    @kachery.task
    def pid(i):
        return os.getpid()
    @kachery.task
    def endless(path):
        open(path, "w").write(str(os.getpid()))
        time.sleep(1000)
    kachery.configure(executor="processes")
    print(pid.submit(0).result(), flush=True)
    endless.submit(sys.argv[1])
    while not (os.path.exists(sys.argv[1]) and open(sys.argv[1]).read()):
        time.sleep(0.01)
    os.kill(os.getpid(), 9)
    """
    done = run_python(code, tmp_path / "pid", check=False)
    for pid in (int(done.stdout), int((tmp_path / "pid").read_text())):
        _wait_until_gone(pid)


def _wait_until_gone(pid):
    """Until there is no such process, or, of a negative number, nobody of that group."""
    for _ in range(1000):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} is still there")


# What is told


def test_orders_show_no_arguments():
    @kachery.task(secret="password")
    def login(password):
        return 1

    orders = Orders(current())
    orders.begin()
    order = orders.order(login.job("hunter2-secret"), [], {}, keep_value=False)
    assert b"hunter2-secret" in order.arguments and "hunter2" not in repr(order)


def test_the_cost_of_a_chain_grows_with_its_length_only():
    def chain(length):
        job = scaled.job(1.0, factor=1.5)
        for _ in range(length):
            job = scaled.job(job, factor=0.5)
        nodes = []
        while True:
            nodes.append(job)
            if not job.inputs:
                return nodes[::-1]
            job = job.inputs[0]

    looked_at = 0
    real = type(scaled.definition).fingerprint

    def fingerprint(self):
        nonlocal looked_at
        looked_at += 1
        return real(self)

    counts = []
    type(scaled.definition).fingerprint = fingerprint
    try:
        for length in (50, 200):
            nodes = chain(length)
            orders = Orders(current())
            orders.begin()
            looked_at = 0
            for job in nodes:
                orders.order(job, [one.key for one in job.inputs], {}, keep_value=False)
            counts.append(looked_at)
    finally:
        type(scaled.definition).fingerprint = real
    assert counts[1] < 5 * counts[0]
