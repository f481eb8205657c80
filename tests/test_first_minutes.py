"""What a newcomer meets first: short tracebacks, messages that say what to do, signs of life."""

import asyncio
import importlib
import logging
import os
import signal
import subprocess
import sys
import threading
import traceback

import pytest
from click.testing import CliRunner
from conftest import write

import kachery
from kachery import cli
from kachery_tasks import long_wait
from kachery_tasks.errors import CannotEncode
from kachery_tasks.holder import this_process
from kachery_tasks.long_wait import LongWait


@kachery.task
def looked_up(table, name):
    return table[name]


@kachery.task
async def looked_up_later(table, name):
    await asyncio.sleep(0)
    return table[name]


@kachery.task
def asked(name):
    return looked_up({"a": 1}, name)


@kachery.task(timeout=60)
def in_time(name):
    return {"a": 1}[name]


def frames(ask):
    """The functions in the traceback that a user sees."""
    with pytest.raises(Exception) as caught:
        ask()
    caught.value.__traceback__ = caught.value.__traceback__.tb_next  # pytest's or ours, above
    return [one.name for one in traceback.extract_tb(caught.value.__traceback__)]


@pytest.mark.parametrize(
    "ask",
    [
        lambda: looked_up({"a": 1}, "b"),
        lambda: looked_up.job({"a": 1}, "b").result(),
        lambda: kachery.gather([looked_up.job({"a": 1}, "b")]),
    ],
)
def test_a_traceback_goes_from_the_call_to_the_function(ask):
    assert frames(ask) == ["<lambda>", "looked_up"]


def test_a_task_in_a_task_a_coroutine_and_a_limited_one_have_short_tracebacks_too():
    assert frames(lambda: asked("b")) == ["<lambda>", "asked", "looked_up"]
    assert frames(lambda: in_time("b")) == ["<lambda>", "in_time"]
    with pytest.raises(KeyError) as caught:
        asyncio.run(looked_up_later({"a": 1}, "b"))
    told = traceback.format_exception(caught.value)
    assert told[-3].endswith("return table[name]\n           ~~~~~^^^^^^\n")
    assert "kachery_tasks" not in "".join(told)
    assert "another exception occurred" not in "".join(told)


def test_asking_again_does_not_make_the_traceback_longer():
    job = looked_up.job({"a": 1}, "b")
    assert frames(job.result) == frames(job.result) == ["looked_up"]


def test_an_error_of_a_worker_has_a_short_traceback(client):
    job = looked_up.job({"a": 1}, "b")
    assert frames(lambda: kachery.gather([job])) == ["<lambda>", "looked_up"]


def test_to_debug_all_frames_are_there(monkeypatch):
    monkeypatch.setenv("KACHERY_DEBUG", "1")
    assert len(frames(lambda: looked_up({"a": 1}, "b"))) > 5


def test_what_goes_wrong_inside_of_kachery_keeps_its_frames(monkeypatch):
    monkeypatch.setattr("kachery_tasks.decorators.answer", None)
    assert frames(lambda: looked_up({"a": 2}, "a"))[-1] == "_answered"


@pytest.mark.parametrize("ask", [looked_up, looked_up.job, looked_up.submit])
def test_an_argument_without_an_encoding_is_told_at_the_call(ask):
    assert "_encoded" not in frames(lambda: ask(threading.Lock(), 1))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda: (one for one in "ab"),
            "type builtins.generator have no encoding. Make a list of it",
        ),
        (
            lambda: {"a": 1}.values(),
            "type builtins.dict_values have no encoding. Make a list of it",
        ),
        (lambda: open(os.devnull), "kachery.store_file(path)"),
        (threading.Lock, "kachery.register"),
    ],
)
def test_the_advice_fits_what_cannot_be_an_argument(make, told):
    value = make()
    with pytest.raises(CannotEncode) as caught:
        looked_up({"a": value}, "a")
    assert told in str(caught.value)
    assert "looked_up(table)['a']" in str(caught.value)
    getattr(value, "close", lambda: None)()


def test_map_says_what_it_takes():
    with pytest.raises(TypeError, match=r"looked_up\.map takes iterables.*, not int; .*keyword"):
        looked_up.map(3)
    with pytest.raises(TypeError, match="not function"):
        looked_up.map([{}], lambda: 1)


def test_a_list_without_jobs_says_so():
    def told(*words):
        result = CliRunner().invoke(cli.cli, ["jobs", *words])
        assert result.exit_code == 0
        return result.stderr

    assert "no job is stored at" in told()
    assert "no job has failed" in told("--failed")
    with pytest.raises(KeyError):
        looked_up({"a": 1}, "b")
    assert "1 failed: `kachery jobs --failed`" in told("--task", "looked_up")
    assert told("--failed") == ""
    looked_up({"a": 1}, "a")
    assert told() == ""
    assert told("--json", "--task", "other") == ""


SLOW = """
import sys
import kachery

@kachery.task
def slow(x):
    print("at work", flush=True)
    return sys.stdin.readline()
"""


def test_a_long_wait_for_another_process_is_told_once(project, monkeypatch):
    monkeypatch.setattr(long_wait, "SAY_AFTER", 0.001)
    monkeypatch.setattr(long_wait, "_named", set())
    write(project / "slow.py", SLOW)
    told = []
    with subprocess.Popen(
        [sys.executable, "-c", "from slow import slow; slow(1)"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:

        def end_it(record):
            told.append(record.getMessage())
            other.communicate("done")
            return True

        assert other.stdout.readline() == "at work\n"
        log = logging.getLogger("kachery.tasks")
        log.addFilter(end_it)
        give_up = threading.Timer(30, other.kill)
        give_up.start()
        try:
            assert importlib.import_module("slow").slow(1) == "done"
        finally:
            log.removeFilter(end_it)
            give_up.cancel()
            other.kill()
    job_id = importlib.import_module("slow").slow.job(1).id
    where = f"process {other.pid} on {os.uname().nodename}"
    assert told == [f"job {job_id[:12]} is at work in {where}: waiting for its result"]


def test_who_was_waited_for_is_named_once(monkeypatch, caplog):
    monkeypatch.setattr(long_wait, "_named", set())
    for job_id in ("aa", "bb"):
        wait = LongWait(job_id)
        wait.lasts(long_wait.SAY_AFTER / 2, this_process)
        assert caplog.text.count("is at work") == int(job_id == "bb")
        wait.lasts(long_wait.SAY_AFTER, this_process)
        wait.lasts(long_wait.SAY_AFTER, this_process)
    assert caplog.text.count("is at work") == 1


@pytest.fixture
def held():
    """A task that an interrupt of this process's own main thread finds at work."""
    go_on = threading.Event()

    @kachery.task(version="1", name="first_minutes:waits", ignore=("seen",))
    def waits(x, seen):
        os.kill(os.getpid(), signal.SIGINT)
        return seen.wait(60)

    yield waits, go_on
    go_on.set()


def test_after_an_interrupt_people_know_what_goes_on(held):
    waits, go_on = held
    job = waits.job(1, seen=go_on)
    with pytest.raises(KeyboardInterrupt) as caught:
        kachery.gather([job])
    assert caught.value.__notes__ == [
        "kachery: 1 job goes on in this process; a program ends after that, or at another Ctrl-C"
    ]
    go_on.set()
    assert job.result() is True


def test_asked_afterwards_explain_still_says_why_it_was_computed_again():
    def of_version(version):
        @kachery.task(version=version, name="first_minutes:changed")
        def changed(x):
            return x

        return changed

    old, new = of_version("1"), of_version("2")
    before = [old.job(x) for x in (1, 2)]
    after = [new.job(x) for x in (1, 2)]
    for job in (*before, *after):
        job.result()
    for x, earlier in zip((1, 2), before, strict=True):
        found = new.explain(x)
        assert found.hit and found.nearest.job_id == earlier.id
        assert [one.component for one in found.differences] == ["version"]
    assert old.explain(2).nearest.job_id == before[0].id  # not what came later


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["help"], "'--help'"),
        (["ls"], "'jobs'"),
        (["rm"], "'jobs forget' or 'gc'"),
        (["jobs", "help"], "'--help'"),
        (["jobs", "rm"], None),
        (["hobs"], "'jobs'"),
    ],
)
def test_what_other_programs_call_a_command(words, meant):
    told = CliRunner().invoke(cli.cli, words).stderr
    assert f"No such command '{words[-1]}'." in told
    assert ("Did you mean" in told) == (meant is not None)
    assert meant is None or f"Did you mean {meant}?" in told


@pytest.mark.parametrize(
    ("file", "told"),
    [
        ("<stdin>", "typed was typed at a prompt .* Write it into a file or a notebook"),
        ("/gone/module.py", r"typed has a source \(/gone/module.py\) .* Reload or restart"),
    ],
)
def test_code_without_a_source_is_told_with_what_helps(file, told):
    made = {}
    exec(compile(f"def typed(x): return x, {file!r}", file, "exec"), made)
    with pytest.warns(kachery.SourceWarning, match=told):
        kachery.task(name="first_minutes:typed")(made["typed"]).job(1)
