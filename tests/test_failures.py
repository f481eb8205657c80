"""What becomes of runs that fail: retries, time limits, notes, errors that count as results."""

import asyncio
import contextlib
import gc
import itertools
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import click.testing
import msgpack
import pytest
from conftest import note_call, run_python, write

import kachery
from kachery.cli import cli
from kachery_store import Store
from kachery_store.digest import blake3_bytes
from kachery_tasks import calling
from kachery_tasks.failures import LONGEST_TEXT, Failure, failure_of
from kachery_tasks.kept_errors import Raised, raised_again
from kachery_tasks.notes import add_note
from kachery_tasks.record import Record
from kachery_tasks.runs import run_submitted


@pytest.fixture
def pauses(monkeypatch):
    """Where calls that are tried again wait, which takes no time here."""
    found = []

    class Clock:
        sleep = staticmethod(found.append)

    monkeypatch.setattr(calling, "time", Clock)
    return found


def notes_of(error):
    return "\n".join(getattr(error, "__notes__", []))


def kachery_command(*args, input=None):
    return click.testing.CliRunner().invoke(cli, list(args), input=input)


def failure(job):
    return failure_of(Store(kachery.get_kachery_dir()), job.id)


class Flaky:
    """Fails so often."""

    def __init__(self, times, error=None):
        self.left = times
        self.error = error or OSError("no disk")

    def __call__(self):
        if self.left:
            self.left -= 1
            raise self.error


@kachery.task
def failing(x, password="hush"):
    raise ZeroDivisionError(f"no {x}")


@kachery.task(secret="password")
def discreet(x, password):
    raise ZeroDivisionError(f"no {x}")


@kachery.task
def added(a, b=1):
    return a + b


@kachery.task(ignore="flaky", version="1", retries=3)
def persistent(x, flaky):
    flaky()
    return x


@kachery.task(ignore="flaky", version="1")
def once_more(x, flaky):
    flaky()
    return x


class Missing(LookupError):
    """An error of a project's own, with something in it."""

    def __init__(self, name, where="here"):
        super().__init__(name, where)
        self.seen = [where]


@kachery.task(cache_errors=(LookupError, ArithmeticError), ignore="path")
def looked_up(name, path):
    note_call(path)
    if name == "missing":
        error = Missing(name, "there")
        error.seen.append("at last")
        raise error
    if name == "zero":
        return 1 / 0
    raise ValueError(name)


# Retries


def test_a_run_that_failed_is_tried_again(pauses, caplog):
    with caplog.at_level(logging.WARNING, "kachery.tasks"):
        assert persistent(1, Flaky(3)) == 1
    assert pauses == [0.1, 0.2, 0.4]
    told = [one.levelname for one in caplog.records if one.name == "kachery.tasks"]
    assert told == ["WARNING"] * 3
    assert "attempt 1 of 4" in caplog.text and "OSError: no disk" in caplog.text
    assert failure(persistent.job(1, Flaky(0))) is None
    with pytest.raises(OSError, match="no disk"):
        persistent(2, Flaky(4))
    assert failure(persistent.job(2, None)).attempts == 4


def test_the_pause_has_a_limit(pauses):
    patient = kachery.task(retries=10, ignore="flaky", version="1")(lambda flaky: flaky())
    patient(Flaky(10))
    assert pauses[:3] == [0.1, 0.2, 0.4] and pauses[-2:] == [10.0, 10.0]


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (kachery.NotPure("x"), 1),
        (kachery.NotStored("x"), 1),
        (kachery.KacheryError("x"), 1),
        (kachery.DownloadRefused("x"), 1),
        (kachery.DownloadFailed("x"), 4),
        (kachery.StoreUnavailable("x", 5, "x"), 4),
        (kachery.TookTooLong("x"), 4),
        (RuntimeError("x"), 4),
    ],
)
def test_what_cannot_change_is_not_tried_again(pauses, error, calls):
    flaky = Flaky(10, error)
    with pytest.raises(type(error)):
        persistent(1, flaky)
    assert 10 - flaky.left == calls


def test_an_interruption_is_no_failure(pauses):
    for error in (KeyboardInterrupt(), SystemExit(3)):
        flaky = Flaky(1, error)
        with pytest.raises(type(error)):
            persistent(1, flaky)
        assert flaky.left == 0 and not pauses
        assert failure(persistent.job(1, None)) is None


def test_arguments_that_a_failed_attempt_changed(pauses):
    @kachery.task(retries=1, ignore="flaky", version="1")
    def changing(items, flaky):
        items.append(1)
        flaky()
        return len(items)

    with pytest.warns(kachery.ImpureTaskWarning, match="'items'"):
        assert changing([], Flaky(1)) == 2
    assert not changing.job([], None).cached

    @kachery.task(retries=1, ignore="flaky", version="1")
    def changing_back(items, flaky):
        items.append(1)
        flaky()
        length = len(items)
        items.clear()
        return length

    with pytest.warns(kachery.ImpureTaskWarning, match="'items'"):
        assert changing_back([], Flaky(1)) == 2  # of what the first attempt left
    assert not changing_back.job([], None).cached


# Time limits


def test_a_run_that_takes_too_long():
    go_on, ended = threading.Event(), threading.Event()

    @kachery.task(timeout=0.3, ignore=("go_on", "ended"), secret="password", version="1")
    def slow(x, password, go_on, ended):
        go_on.wait(60)
        added(x)  # leases and settings are seen here
        ended.set()
        return "thrown away"

    with pytest.raises(kachery.TookTooLong, match=r"slow\(password=secret, x=12\).*0\.3 s") as told:
        slow(12, "hush", go_on, ended)
    assert isinstance(told.value, TimeoutError) and isinstance(told.value, kachery.KacheryError)
    job = slow.job(12, "hush", go_on, ended)
    assert failure(job).error == "kachery_tasks.errors.TookTooLong"
    go_on.set()
    assert ended.wait(60)
    assert not job.cached and added.job(12).cached
    assert slow(12, "hush", go_on, ended) == "thrown away" and failure(job) is None
    assert pickle.loads(pickle.dumps(told.value)).args == told.value.args


def test_what_a_task_with_a_limit_raises_and_sees():
    @kachery.task(timeout=60, version="1")
    def strict(x):
        if x == 1:
            raise TimeoutError("its own")
        return strict(x)

    with pytest.raises(TimeoutError, match="its own") as told:
        strict(1)
    assert not isinstance(told.value, kachery.KacheryError)
    assert isinstance(strict.job(1).exception(), TimeoutError)  # the task's, not that of waiting
    with pytest.raises(kachery.KacheryError, match="called itself"):
        strict(2)  # the lease is known in the thread


def test_a_coroutine_s_own_timeout_is_its_own():
    @kachery.task(timeout=60, version="1")
    async def waiting(x):
        raise TimeoutError(x)

    with pytest.raises(TimeoutError, match="its own") as told:
        asyncio.run(waiting("its own"))
    assert not isinstance(told.value, kachery.KacheryError)


def test_each_attempt_has_its_time(pauses):
    never = threading.Event()

    @kachery.task(timeout=0.3, retries=1, ignore=("flaky", "never"), version="1")
    def slow_at_first(x, flaky, never):
        try:
            flaky()
        except OSError:
            never.wait(60)
        return x

    assert slow_at_first(1, Flaky(1), never) == 1
    with pytest.raises(kachery.TookTooLong):
        slow_at_first(2, Flaky(2), never)
    never.set()


def test_a_coroutine_is_cancelled_when_its_time_is_over():
    ended = []

    @kachery.task(timeout=0.3, ignore="ended", version="1")
    async def waiting(seconds, ended):
        try:
            await asyncio.sleep(seconds)
        finally:
            ended.append(seconds)
        return seconds

    with pytest.raises(kachery.TookTooLong):
        asyncio.run(waiting(60, ended))
    assert ended == [60]  # it is not left to itself
    assert asyncio.run(waiting(0, ended)) == 0


def test_a_coroutine_that_does_not_wait_is_left_to_itself(monkeypatch):
    monkeypatch.setattr(calling, "_GRACE", 0.05)
    go_on = threading.Event()

    @kachery.task(timeout=0.05, ignore="go_on", version="1")
    async def blocking(go_on):
        go_on.wait(60)

    with pytest.raises(kachery.TookTooLong):
        asyncio.run(blocking(go_on))
    go_on.set()


# Failures are noted


def test_a_failure_is_found_again(project, store_dir):
    write(
        project / "lab.py",
        """
        import kachery

        def divided(x):
            return x / 0

        @kachery.task(secret="password")
        def failing(x, password):
            return divided(x)
        """,
    )
    code = "import lab; lab.failing(7, 'hush')"
    done = run_python(code, check=False)
    assert (
        done.returncode == 1
        and "kachery: raised by lab:failing(password=secret, x=7)" in done.stderr
    )
    (job_id,) = Store(str(store_dir)).failures.names()
    assert f"kachery show {job_id[:12]}" in done.stderr
    shown = kachery_command("show", job_id[:12])
    assert shown.exit_code == 0
    for told in (
        "lab:failing",
        "x = 7",
        "password is secret",
        "ZeroDivisionError: division by zero",
    ):
        assert told in shown.output
    assert 'lab.py", line 5, in divided' in shown.output and "kachery_tasks" not in shown.output
    data = (store_dir / "failures" / job_id[:2] / job_id).read_bytes()
    assert b"hush" not in data and b"lab:failing" in data
    found = json.loads(kachery_command("show", job_id, "--json").output)
    assert found["status"] == "failed" and found["attempts"] == 1
    assert job_id[:12] in kachery_command("jobs", "--failed").output
    assert kachery_command("jobs").stdout.count("\n") == 1


def test_the_newest_failure_replaces_the_older_and_success_removes_it():
    flaky = Flaky(2)
    with pytest.raises(OSError):
        once_more(1, flaky)
    first = failure(once_more.job(1, flaky))
    flaky.error = ValueError("another")
    with pytest.raises(ValueError):
        once_more(1, flaky)
    second = failure(once_more.job(1, flaky))
    assert (first.error, second.error) == ("OSError", "ValueError")
    assert second.started > first.started and second.message == "another"
    assert once_more(1, flaky) == 1
    assert failure(once_more.job(1, flaky)) is None


def test_failures_of_many_at_the_same_time():
    def fail(_):
        with pytest.raises(ZeroDivisionError):
            failing(5)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(fail, range(40)))
    assert failure(failing.job(5)).message == "no 5"


def test_a_failure_that_cannot_be_noted_hides_nothing(monkeypatch, caplog):
    def refuse(*_args, **_options):
        raise kachery.StoreUnavailable("the disk is full", 28, "x")

    job = failing.job(1)
    monkeypatch.setattr("kachery_store.refs.Refs.create", refuse)
    with pytest.raises(ZeroDivisionError, match="no 1") as told:
        failing(1)
    assert "the disk is full" in notes_of(told.value) and "kachery show" not in notes_of(told.value)
    assert "the disk is full" in caplog.text
    assert failure(job) is None


def test_a_store_that_cannot_be_written(store_dir):
    store_dir.mkdir()
    (store_dir / "leases").write_text("in the way")
    with pytest.raises(ZeroDivisionError, match="no 1"):
        failing(1)


def test_a_long_traceback_is_cut_and_any_text_is_kept():
    @kachery.task(version="1")
    def talking(x):
        raise ValueError("\udc80" + "long " * 100_000 + "end")

    with pytest.raises(ValueError):
        talking(1)
    found = failure(talking.job(1))
    assert len(found.traceback) <= LONGEST_TEXT and len(found.message) <= LONGEST_TEXT
    assert found.message.startswith("\\udc80long") and found.message.endswith("end")
    assert kachery_command("show", talking.job(1).id).exit_code == 0


def test_a_damaged_note_is_set_aside(store_dir):
    with pytest.raises(ZeroDivisionError):
        failing(1)
    job_id = failing.job(1).id
    path = store_dir / "failures" / job_id[:2] / job_id
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-9] + b"nonsense!")
    with pytest.warns(kachery.DamagedWarning):
        assert failure(failing.job(1)) is None
    assert not path.exists()
    with pytest.raises(ZeroDivisionError):
        failing(1)


def test_a_failure_of_a_later_version_is_refused():
    body = msgpack.packb(["new"])
    data = [b"kachery failure 2\n" + body, []]
    file = msgpack.packb(["kachery failure", 2, body, blake3_bytes(data[0]), []])
    with pytest.raises(kachery.StoreTooNew):
        Failure.from_bytes(file, "ab" * 32)


def test_failures_are_collected(store_dir):
    with pytest.raises(ZeroDivisionError):
        failing(1)
    job_id = failing.job(1).id
    path = store_dir / "failures" / job_id[:2] / job_id
    kachery.gc(max_size="1TB")
    assert path.exists()
    long_ago = time.time() - 91 * 86_400
    os.utime(path, (long_ago, long_ago))
    kachery.gc(max_size="1TB")
    assert not path.exists()
    with pytest.raises(ZeroDivisionError):
        failing(1)
    kachery.gc(older_than=0)
    assert not path.exists()


# What is raised


def test_a_plain_call_gets_one_line():
    with pytest.raises(ZeroDivisionError) as told:
        failing("x")
    (note,) = told.value.__notes__
    assert note.startswith("kachery: raised by test_failures:failing(password='hush', x='x')")
    assert "\n" not in note and failing.job("x").id[:12] in note


@pytest.mark.parametrize("kept", [(), ZeroDivisionError])
def test_a_failure_holds_nothing_in_memory(kept):
    """No circle of exception, traceback and frame, in which large arguments would wait."""

    class Large:
        pass

    @kachery.task(ignore="large", version="1", cache_errors=kept)
    def dividing(x, large):
        return x / 0

    large = Large()
    known = weakref.ref(large)
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(ZeroDivisionError):
            dividing(1, large)
        del large
        assert known() is None
    finally:
        gc.enable()


def test_tasks_in_tasks_add_a_line_each():
    @kachery.task
    def outer(x):
        return failing(x)

    with pytest.raises(ZeroDivisionError) as told:
        outer(1)
    inner, second = told.value.__notes__
    assert "failing(" in inner and "outer(x=1)" in second


def test_one_exception_raised_for_ever_stays_small():
    error = ValueError("always the same")
    for i in range(100):
        with pytest.raises(ValueError):
            once_more(i, Flaky(1, error))
    assert len(error.__notes__) == 20


def test_exceptions_that_refuse_notes():
    class Refusing(Exception):
        def add_note(self, note):
            raise TypeError("no notes")

    with pytest.raises(Refusing):
        once_more(1, Flaky(1, Refusing()))
    error = ValueError()
    error.__notes__ = 5
    add_note(error, "x")
    assert error.__notes__ == 5


def test_dependents_raise_what_their_input_raised():
    job = added.job(failing.job(3), b=2)
    others = [added.job(i) for i in range(3)]
    values = kachery.gather([*others, job, added.job(job)], return_exceptions=True)
    assert values[:3] == [1, 2, 3]
    for error in values[3:]:
        assert isinstance(error, ZeroDivisionError)
        assert failing.job(3).id[:12] in notes_of(error) and "failing(" in notes_of(error)
    with pytest.raises(ZeroDivisionError):
        kachery.gather([*others, job])


LAB = """
import os
import kachery

class Odd(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")

class Kept(LookupError):
    pass

def deep(x):
    raise ValueError(f"no {x}")

@kachery.task
def failing(x):
    return deep(x)

@kachery.task
def odd(x):
    raise Odd(x, x)

@kachery.task(retries=1, ignore="path")
def flaky(x, path):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"call\\n")
    os.close(fd)
    if os.path.getsize(path) < 8:
        raise OSError("no disk")
    return x

@kachery.task(timeout=0.05, ignore="path")
def slow(path):
    with open(path):  # a pipe that nobody writes
        pass

@kachery.task(cache_errors=Kept, ignore="path")
def kept(x, path):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"call\\n")
    os.close(fd)
    raise Kept(x)

@kachery.task
def after(x):
    return x

class Locked(Exception):
    def __reduce__(self):
        raise TypeError("not to be pickled")

@kachery.task
def strange(what):
    if what == "locked":
        raise Locked("it is locked")
    if what == "only here":
        import sys, types
        sys.modules["only_here"] = module = types.ModuleType("only_here")
        exec("class Unknown(Exception): pass", vars(module))
        raise module.Unknown("it is only here")
    raise ValueError("it is long " * 10_000)

@kachery.task
def coping(what):
    try:
        return strange.submit(what).result()
    except Locked as error:
        return str(error)
"""


@pytest.fixture
def lab(project, cluster):
    """A module that the workers have, too."""
    import importlib

    from distributed import Client

    write(project / "lab_that_fails.py", LAB)
    with Client(cluster) as client:
        client.run(_extend_path, str(project))
        yield importlib.import_module("lab_that_fails")
        client.run(_forget_module, "lab_that_fails")


def _extend_path(folder):
    sys.path.insert(0, folder)


def _forget_module(name):
    sys.modules.pop(name, None)


def test_errors_of_a_cluster(lab, tmp_path):
    job = lab.failing.submit(4)
    error = job.exception(60)
    assert type(error) is ValueError and error.args == ("no 4",)
    told = notes_of(error)
    assert f"failing(x=4), job {job.id[:12]}" in told
    assert "in deep" in told and "process" in told and f"process {os.getpid()}:" not in told
    assert failure(job).pid != os.getpid()
    dependent = lab.after.submit(lab.failing.job(5))
    assert lab.failing.job(5).id[:12] in notes_of(dependent.exception(60))
    assert notes_of(dependent.exception()).count("Traceback") == 1


def test_errors_of_another_process(project):
    write(project / "lab_in_processes.py", LAB)
    import lab_in_processes as lab

    with kachery.using(executor="processes", client=None):
        error = lab.failing.submit(4).exception(60)
        odd = lab.odd.submit(1).exception(60)
    assert type(error) is ValueError and error.args == ("no 4",)
    assert "in deep" in notes_of(error) and f"process {os.getpid()}:" not in notes_of(error)
    assert type(odd) is kachery.RunFailed and "in odd" in odd.traceback


def test_an_exception_that_cannot_be_unpickled(lab):
    error = lab.odd.submit(1).exception(60)
    assert type(error) is kachery.RunFailed
    assert error.type == "lab_that_fails.Odd" and "1 and 1" in str(error)
    assert "in odd" in error.traceback and "in odd" in notes_of(error)
    for what in ("locked", "only here"):
        error = lab.strange.submit(what).exception(60)
        assert type(error) is kachery.RunFailed and f"it is {what}" in str(error)
        assert "in strange" in notes_of(error)
    error = lab.strange.submit("long").exception(60)
    assert (
        type(error) is ValueError and len(str(error)) > 20_000 and "in strange" in notes_of(error)
    )


def test_what_a_task_on_a_worker_sees_of_others(lab):
    """There an exception is what it was: it is not on its way to anywhere."""
    assert lab.coping.submit("locked").result(60) == "it is locked"


def test_retries_and_limits_on_a_cluster(lab, tmp_path, calls):
    assert lab.flaky.submit(1, calls.path).result(60) == 1 and calls.count == 2
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    error = lab.slow.submit(str(pipe)).exception(60)
    assert type(error) is kachery.TookTooLong and "slow()" in str(error)
    os.close(os.open(pipe, os.O_RDWR))  # the thread that was left to itself ends


def test_kept_errors_on_a_cluster(lab, calls):
    for _ in range(2):
        error = lab.kept.submit("x", calls.path).exception(60)
        assert type(error) is lab.Kept and error.args == ("x",)
    assert calls.count == 1
    assert type(lab.after.submit(lab.kept.job("x", calls.path)).exception(60)) is lab.Kept


# Errors that count as results


def test_an_error_that_counts_as_a_result(calls):
    kachery.stats(reset=True)
    for _ in range(3):
        with pytest.raises(Missing) as told:
            looked_up("missing", calls.path)
        assert told.value.args == ("missing", "there") and told.value.seen == ["there", "at last"]
    assert calls.count == 1 and kachery.stats().hits == 2
    assert "kept as the result of" in notes_of(told.value)
    for _ in range(2):  # a subclass
        with pytest.raises(ZeroDivisionError, match="division by zero"):
            looked_up("zero", calls.path)
    assert calls.count == 2
    for _ in range(2):  # another class
        with pytest.raises(ValueError, match="other"):
            looked_up("other", calls.path)
    assert calls.count == 4


def test_a_kept_error_is_kept_for_others(project, calls):
    write(project / "lab_that_keeps.py", LAB)
    code = """
    import sys, lab_that_keeps as lab
    try:
        lab.kept(1, sys.argv[1])
    except lab.Kept as error:
        print(type(error).__name__, error.args)
    """
    for _ in range(2):
        assert run_python(code, calls.path).stdout == "Kept (1,)\n"
    assert calls.count == 1


def test_a_kept_error_is_no_value(calls):
    """An older kachery, which does not know them, cannot take one for a value."""
    with pytest.raises(Missing):
        looked_up("missing", calls.path)
    job = looked_up.job("missing", calls.path)
    record = job.stored_record()
    assert record.status == "error" and record.result.type.endswith("Missing") and job.cached
    assert b"kachery.raised" in record.result.inline
    error = job.exception()
    assert isinstance(error, Missing)
    for dependent in (added.job(job), added.job(added.job(job))):
        assert isinstance(dependent.exception(), Missing) and dependent.id is None
    outcome = kachery.gather([job, added.job(1)], return_exceptions=True)
    assert isinstance(outcome[0], Missing) and outcome[1] == 2


def test_a_job_that_waited_for_another_which_kept_an_error(calls):
    with pytest.raises(Missing):
        looked_up("missing", calls.path)
    store = Store(kachery.get_kachery_dir())
    arguments = {"name": "missing", "path": calls.path}
    with pytest.raises(Missing):  # so that its status is `error`
        run_submitted(store, looked_up.definition, arguments, expected=None, strict=False)
    assert calls.count == 1


def test_kept_errors_and_the_rest(calls):
    with pytest.raises(Missing):
        looked_up("missing", calls.path)
    job = looked_up.job("missing", calls.path)
    assert failure_of(Store(kachery.get_kachery_dir()), job.id) is None
    assert looked_up.explain("missing", calls.path).hit
    assert looked_up.reproduce("missing", calls.path).same and calls.count == 2
    assert job.id[:12] in kachery_command("jobs").output
    assert "Missing: ('missing', 'there')" in kachery_command("show", job.id).output
    assert json.loads(kachery_command("show", job.id, "--json").output)["status"] == "error"
    kachery.gc(max_size="1TB")
    assert job.cached and kachery_command("verify").exit_code == 0
    kachery.gc(older_than=0)
    assert not job.cached


def test_reproduce_tells_an_error_from_a_value():
    flaky = Flaky(1, LookupError("gone"))
    task = kachery.task(cache_errors=LookupError, ignore="flaky", version="1")
    found = task(once_more.definition.function)
    with pytest.raises(LookupError):
        found(1, flaky)
    again = found.reproduce(1, flaky)
    assert not again and "gone" in repr(again) and "1 now" in repr(again)
    with pytest.raises(LookupError):  # the first result stays
        found(1, flaky)
    assert found.refresh(1, flaky) == 1 and found(1, flaky) == 1


def test_errors_that_cannot_be_kept(calls):
    @kachery.task(cache_errors=ValueError, ignore="path", opaque="return")
    def strange(x, path):
        note_call(path)
        raise ValueError(itertools.count())  # which pickle can do

    for _ in range(2):
        with pytest.warns(kachery.NotStoredWarning), pytest.raises(ValueError):
            strange(1, calls.path)
    assert calls.count == 2

    @kachery.task(cache_errors=OSError, ignore="flaky", version="1")
    def reading(x, flaky):
        flaky()
        return x

    flaky = Flaky(1, kachery.StoreUnavailable("busy", 5, "x"))  # an OSError, about here and now
    with pytest.raises(kachery.StoreUnavailable):
        reading(1, flaky)
    assert reading(1, flaky) == 1


def test_a_kept_error_whose_class_has_gone():
    assert isinstance(raised_again(Raised("builtins:KeyError", ("a",), {})), KeyError)
    for name in (
        "os:system",
        "builtins:print",
        "builtins:SystemExit",
        "gone:Error",
        "subprocess:Popen",
    ):
        error = raised_again(Raised(name, ("echo",), {}))
        assert type(error) is kachery.RunFailed and error.type == name and "echo" in str(error)
    assert "subprocess" in sys.modules and issubclass(subprocess.CalledProcessError, Exception)
    name = "subprocess:CalledProcessError"  # imported, and nobody said that it may be made
    assert type(raised_again(Raised(name, (1, "x"), {}))) is kachery.RunFailed
    wrong = raised_again(Raised("test_failures:Missing", (), {}))
    assert type(wrong) is kachery.RunFailed and "name" in str(wrong)


def test_a_record_with_an_error_is_read_back(calls):
    with pytest.raises(Missing):
        looked_up("missing", calls.path)
    record = looked_up.job("missing", calls.path).stored_record()
    assert Record.from_bytes(record.to_bytes(), record.job_id).is_error


# Forgetting


def test_forgetting_jobs():
    added(1), added(2), once_more(1, Flaky(0))
    with pytest.raises(ZeroDivisionError):
        failing(1)
    assert kachery_command("jobs", "forget").exit_code == 2
    refused = kachery_command("jobs", "forget", "--task", "added")
    assert refused.exit_code == 2 and "--yes" in refused.output and added.job(1).cached
    told = kachery_command("jobs", "forget", "--task", "added", "--dry-run")
    assert told.output == "would forget 2 results and 0 failures\n" and added.job(1).cached
    kachery.pin(added.job(2))
    told = kachery_command("jobs", "forget", "--task", "added", "--yes")
    assert told.output.startswith("forgot 1 results and 0 failures\n1 pinned")
    assert not added.job(1).cached and added.job(2).cached and once_more.job(1, None).cached
    told = kachery_command("jobs", "forget", "--failed", "--yes")
    assert told.output == "forgot 0 results and 1 failures\n" and failure(failing.job(1)) is None
    none = kachery_command("jobs", "forget", "--older-than", "1h", "--yes")
    assert none.output == "forgot 0 results and 0 failures\n"
    one = once_more.job(1, None)
    assert kachery_command("jobs", "forget", one.id[:10], "--yes").exit_code == 0
    assert not one.cached


def test_forgetting_errors_that_were_kept(calls):
    with pytest.raises(Missing):
        looked_up("missing", calls.path)
    added(1)
    assert kachery_command("jobs", "forget", "--failed", "--yes").output.startswith(
        "forgot 1 results"
    )
    assert added.job(1).cached
    with pytest.raises(Missing):
        looked_up("missing", calls.path)
    assert calls.count == 2


def test_forgetting_asks_on_a_terminal():
    """A terminal of its own: the command must not be confused by that of the tests."""
    import pty

    added(1)
    command = [sys.executable, "-m", "kachery.cli", "jobs", "forget", "--task", "added"]
    command[1:3] = ["-c", "from kachery.cli import run; run()"]
    for answer, left in ((b"n\n", True), (b"y\n", False)):
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        os.write(ours, answer)
        output, _ = process.communicate(timeout=60)
        os.close(ours), os.close(theirs)
        assert b"Forget 1 results" in output, output
        assert added.job(1).cached is left


# Interrupted


def test_ctrl_c_in_a_run_with_a_limit(tmp_path):
    """The interruption is not held up by the time limit, and leaves no failure behind."""
    code = """
    import signal, threading, kachery

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored

    @kachery.task(timeout=3600, version="1")
    def endless(x):
        print("running", flush=True)
        threading.Event().wait()

    endless(1)
    """
    import textwrap

    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "running\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors and process.returncode != 0
    assert list(Store(kachery.get_kachery_dir()).failures.names()) == []
