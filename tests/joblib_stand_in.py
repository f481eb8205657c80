"""A pytest plugin for joblib's own tests: kachery's Memory stands in for joblib's there.

What those tests do by way of joblib's folders is said here in kachery's words, where it tests a promise:
how many results are stored, and what happens when one is damaged.
"""

import asyncio
import inspect
import json
import os
from pathlib import Path
from types import SimpleNamespace

import joblib.memory
import pytest

import kachery
from kachery_tasks.memorized import MemorizedResult, NotMemorizedFunc, NotMemorizedResult


class Runs(list):
    """What the tests count runs with. For kachery a constant: as code, its change would count."""


kachery.register(Runs, name="tests.Runs", encode=lambda _: 0, decode=lambda _: Runs())


class Memory(kachery.Memory):
    """With what the tests ask of the folder."""

    @property
    def store_backend(self):
        jobs = self.settings.store.jobs
        return SimpleNamespace(location=self.location, get_items=lambda: sorted(jobs.names()))


def memorized(func, location, verbose=1, timestamp=None, **options):
    """The constructor of joblib's MemorizedFunc."""
    return Memory(location, verbose=verbose).cache(func, **options)


def damage_the_only_result(memory):
    jobs = Path(memory.location) / "jobs"
    (record,) = [path for path in jobs.rglob("*") if path.is_file()]
    record.chmod(0o600)
    record.write_text("garbage")


def ten_results(tmpdir, num_inputs=10):
    memory = Memory(tmpdir.strpath)

    @memory.cache
    def a_text(arg):
        return "a" * 1000

    for arg in range(num_inputs):
        a_text(arg)
    return memory, [], a_text


def pytest_configure():
    stand_ins = {
        "Memory": Memory,
        "expires_after": kachery.expires_after,
        "MemorizedFunc": memorized,
        "AsyncMemorizedFunc": memorized,
        "MemorizedResult": MemorizedResult,
        "NotMemorizedFunc": NotMemorizedFunc,
        "AsyncNotMemorizedFunc": NotMemorizedFunc,
        "NotMemorizedResult": NotMemorizedResult,
    }
    for name, stand_in in stand_ins.items():
        setattr(joblib.memory, name, stand_in)


def pytest_collection_modifyitems(items):
    for module in {item.module for item in items}:
        module.list = Runs
        module.corrupt_single_cache_item = damage_the_only_result
        module._setup_toy_cache = ten_results


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run async tests."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True


_outcomes = {}


def pytest_runtest_logreport(report):
    if report.when == "call" or report.outcome != "passed":
        why = getattr(getattr(report.longrepr, "reprcrash", None), "message", "")
        _outcomes[report.nodeid.partition("::")[2]] = report.outcome, why


def pytest_sessionfinish():
    Path(os.environ["OUTCOMES"]).write_text(json.dumps(_outcomes))
