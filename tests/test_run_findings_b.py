"""What a reviewer's programs found in runs that are given up, and in exceptions that are kept."""

import asyncio
import os
import signal
import threading
import time

import pytest

import kachery
from kachery_tasks.kept_errors import raised, raised_again

# Runs that took too long


class Bench:
    """What two runs of a task, of which the first takes too long, tell each other."""

    def __init__(self):
        self.calls = 0
        self.again, self.changed, self.seen, self.ended = (threading.Event() for _ in range(4))


def summed(xs, bench):
    bench.calls += 1
    if bench.calls > 1:
        bench.again.set()
        assert bench.changed.wait(30)
        total = sum(xs)
        bench.seen.set()
        assert bench.ended.wait(30)
        return total
    assert bench.again.wait(30)  # so the first has been given up
    xs.append(1000)
    bench.changed.set()
    assert bench.seen.wait(30)
    xs.pop()
    bench.ended.set()
    return 0


def test_a_run_that_was_given_up_uses_the_arguments_of_the_next():
    task = kachery.task(timeout=1, retries=1, ignore="bench", version="1")(summed)
    xs = [1, 2]
    with pytest.warns(kachery.ImpureTaskWarning, match="still using the same"):
        assert task(xs, Bench()) == 1003
    assert xs == [1, 2] and not task.job(xs, None).cached


def test_a_run_that_was_given_up_uses_the_arguments_of_another_call():
    task = kachery.task(timeout=1, ignore="bench", version="1")(summed)
    xs, bench = [1, 2], Bench()
    with pytest.raises(kachery.TookTooLong):
        task(xs, bench)
    with pytest.warns(kachery.ImpureTaskWarning, match="still using the same"):
        assert task(xs, bench) == 1003
    assert not task.job(xs, None).cached


def test_arguments_that_nobody_can_change_are_shared_without_harm():
    calls, go_on = [], threading.Event()

    @kachery.task(timeout=0.5, retries=1, ignore=("calls", "go_on"), version="1")
    def fetched(url, *more, calls, go_on, **options):
        calls.append(url)
        if len(calls) == 1:
            go_on.wait(30)
        return url

    assert fetched("a", ("b", 1.0), calls=calls, go_on=go_on, quick=True) == "a"
    assert fetched.job("a", ("b", 1.0), calls=None, go_on=None, quick=True).cached
    go_on.set()


@pytest.mark.parametrize("ends_with", ["a value", "an error"])
def test_a_coroutine_that_catches_its_cancellation(ends_with):
    @kachery.task(timeout=0.05, cache_errors=ValueError, version="1")
    async def stubborn(ends_with):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if ends_with == "an error":
                raise ValueError("cut short") from None
            return "half"

    with pytest.raises(kachery.TookTooLong):
        asyncio.run(stubborn(ends_with))
    assert not stubborn.job(ends_with).cached


# Exceptions that are kept


class Coded(ValueError):
    def __init__(self, code):
        super().__init__(f"code {code}")


class Spikeless(Exception):
    def __init__(self, *, unit):
        super().__init__(f"unit {unit} has no spikes")
        self.unit = unit


class Hidden(Exception):
    @property
    def args(self):
        raise RuntimeError("hidden")


class Halved(Exception):
    """Its text is not in what can be stored of it."""

    __slots__ = ("half",)

    def __init__(self, half):
        super().__init__()
        self.half = half

    def __str__(self):
        return f"half of {self.half}"


def no_file():
    open("/nonexistent/file")


def no_attribute():
    return object().zzz


FAILING = {
    "coded": lambda: (_ for _ in ()).throw(Coded(5)),
    "keyword": lambda: (_ for _ in ()).throw(Spikeless(unit=3)),
    "file": no_file,
    "two files": lambda: os.rename("/nonexistent/a", "/nonexistent/b"),
    "attribute": no_attribute,
    "import": lambda: __import__("nonexistent_module"),
    "import of": lambda: exec("from os import zzz", {}),
    "name": lambda: exec("zzz", {}),
    "text": lambda: b"\xff".decode(),
    "syntax": lambda: compile("a b", "there.py", "exec"),
    "key": lambda: {}[b"a"],
    "hidden": lambda: (_ for _ in ()).throw(Hidden("x")),
    "halved": lambda: (_ for _ in ()).throw(Halved(3)),
}
FIELDS = (
    *("errno", "strerror", "filename", "filename2", "name", "name_from", "path", "unit"),
    *("encoding", "object", "start", "end", "reason", "msg", "lineno", "offset", "text"),
)


def fields(error):
    return {name: getattr(error, name, None) for name in FIELDS}


def what_is_raised(function):
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError


BUILT_IN = (ValueError, LookupError, OSError, AttributeError, ImportError, NameError, SyntaxError)


@kachery.task(cache_errors=(*BUILT_IN, Spikeless, Hidden, Halved), version="1")
def keeping(what):
    return FAILING[what]()


@pytest.mark.parametrize("what", sorted(FAILING.keys() - {"hidden", "halved"}))
def test_a_kept_error_comes_back_as_it_was(what):
    first, later = (what_is_raised(lambda: keeping(what)) for _ in range(2))
    assert keeping.job(what).cached
    assert type(later) is type(first) and str(later) == str(first) and later.args == first.args
    assert fields(later) == fields(first)


@pytest.mark.parametrize("what", ["hidden", "halved"])
def test_an_error_that_could_not_come_back_is_not_kept(what):
    with pytest.warns(kachery.NotStoredWarning), pytest.raises((Hidden, Halved)):
        keeping(what)
    assert not keeping.job(what).cached


def test_a_kept_error_whose_text_has_changed(monkeypatch):
    kept = raised(Coded(5))
    monkeypatch.setattr(Coded, "__str__", lambda self: "another", raising=False)
    kachery.task(cache_errors=Coded)(no_file)
    told = raised_again(kept)
    assert type(told) is kachery.RunFailed and "code 5" in str(told)


@kachery.task(version="1")
def failing(what):
    return FAILING[what]()


@pytest.mark.parametrize("what", ["coded", "file", "two files", "import", "text"])
def test_an_error_that_its_pickle_would_change(what):
    expected = what_is_raised(FAILING[what])
    with kachery.using(executor="processes"):
        found = failing.submit(what).exception(60)
    assert type(found).__name__ == type(expected).__name__
    assert str(found) == str(expected) and found.args == expected.args
    assert fields(found) == fields(expected)


# Processes


def test_a_process_that_dies_after_it_forked():
    @kachery.task(version="1")
    def forking(x):
        if os.fork() == 0:
            time.sleep(120)
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)

    with kachery.using(executor="processes"):
        assert type(forking.submit(1).exception(60)) is kachery.WorkerLost
