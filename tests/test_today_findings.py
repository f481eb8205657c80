"""What takes a short way, or goes by its name, and what such a way must not overlook."""

import functools
import importlib
import sys
import types

import numpy as np
import pytest
from conftest import run_python, write

import kachery
from kachery import Memory
from kachery.telling import terminal_width
from kachery_tasks import job_ids

# Known by name


def test_a_builtin_that_the_project_has_put_there_counts_by_its_code(store_dir):
    """Even when it was there before kachery was imported."""
    shown = run_python(
        """
        import builtins, functools
        FACTOR = 1
        @functools.wraps(builtins.ascii)
        def own(x):
            return FACTOR * x
        builtins.ascii = own
        builtins.also = functools.partial(own)
        builtins.FIRST = [1]

        import kachery

        @kachery.task
        def f(x):
            return [ascii(x), also(x), FIRST[0], len([x])]

        print(f(7))
        FACTOR, FIRST[0] = 10, 3
        print(f(7))
        """
    )
    assert shown.stdout.splitlines() == ["[7, 7, 1, 1]", "[70, 70, 3, 1]"]


def test_settings_of_a_package_are_no_constant(project):
    pytest.importorskip("pandas")
    write(
        project / "settled.py",
        """
        from pandas import options
        def f(x):
            return options.display.precision
        """,
    )
    importlib.invalidate_caches()
    import settled

    with pytest.raises(kachery.CannotFingerprint, match="'options'"):
        kachery.task(settled.f)(1)


def test_what_the_project_has_put_into_a_library_is_the_projects(tmp_path, monkeypatch):
    factor = [1]

    @functools.wraps(np.cumsum)
    def cumsum(numbers):
        return factor[0] * len(numbers)

    monkeypatch.setattr(np, "cumsum", cumsum)
    memorized = Memory(tmp_path / "memory", verbose=0).cache(np.cumsum)
    assert memorized([7, 8]) == memorized([7, 8]) == 2
    factor[0] = 10
    assert memorized([7, 8]) == 20


class Scaled:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, number):
        return self.factor * number


def test_a_task_may_call_what_a_memory_without_a_store_has(store_dir):
    scaled = Scaled(2)
    wrapped = Memory(None, verbose=0).cache(scaled)

    @kachery.task
    def f(x):
        return wrapped(x)

    assert f(1) == f(1) == 2
    scaled.factor = 5
    assert f(1) == 5


# Calls that are remembered


def test_long_texts_are_not_copied_to_remember_them(store_dir, monkeypatch):
    @kachery.task
    def length(text):
        return len(text)

    assert length("short") == 5
    copied = []
    dumps = job_ids.marshal.dumps

    def noted(values, version):
        copied.append(values)
        return dumps(values, version)

    monkeypatch.setattr(job_ids, "marshal", types.SimpleNamespace(dumps=noted))
    assert length("x" * 5000) == length("x" * 5000) == 5000
    assert not copied and length("short") == 5 and copied


def test_a_record_that_somebody_changes_is_not_the_one_that_is_remembered(store_dir):
    @kachery.task
    def several(x):
        return [x]

    @kachery.task
    def takes(x):
        return x

    several(1)
    record = several.job(1).record
    assert record == several.job(1).record
    record.arguments.clear()
    record.result.classes.append(("other:Class", "0" * 64))
    assert several.job(1).record.arguments
    assert takes.job(several.job(1)).id == takes.job([1]).id


# Reloading and interrupts


def test_autoreload_makes_an_action_of_what_was_a_task(store_dir, monkeypatch):
    rules = []
    stand_in = types.SimpleNamespace(UPDATE_RULES=rules)
    monkeypatch.setitem(sys.modules, "IPython.extensions.autoreload", stand_in)

    def send(x):
        return None

    old, new = kachery.task(send), kachery.action(send)
    update = next(update for is_meant, update in rules if is_meant(old, new))
    update(old, new)
    assert old(1, idempotency="monday") is None
    with pytest.raises(kachery.Unsupported):
        old.refresh(1)


def test_tools_of_a_task_on_a_cluster_can_be_interrupted(store_dir, client):
    @kachery.task
    def interrupted(n):
        import subprocess

        return subprocess.run(["sh", "-c", "kill -INT $$; exit 3"], check=False).returncode

    with kachery.using(client=client):
        assert interrupted.submit(1).result() == -2


# What is said


def test_a_password_in_a_url_is_not_repeated(store_dir):
    for url in ("http://me:hidden@127.0.0.1:9/x", "http://hidden@127.0.0.1:port/x"):
        with pytest.raises(kachery.BadURI, match="without a password") as refused:
            kachery.load_file(url)
        assert "hidden" not in str(refused.value)


def test_a_daemon_may_have_closed_what_it_writes_to(store_dir, monkeypatch):
    @kachery.task
    def f(x):
        return x + 1

    monkeypatch.setattr(sys, "stderr", None)
    assert kachery.gather(f.map([1, 2])) == [2, 3]
    monkeypatch.setattr(sys, "stdout", None)
    assert terminal_width() is None
