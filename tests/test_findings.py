"""What hostile testers and readers found: each of these was once a wrong answer, a hang or a crash."""

import asyncio
import importlib
import threading
import weakref

import numpy as np
import pytest
from conftest import write
from test_explain import Odd, predict, train

import kachery
from kachery_tasks.code import fingerprint_of
from kachery_tasks.values import encode

# Functions with `version=` may read these: only closures count then.
MET, TASKS, STATE, DRAWN = [], {}, {"n": 0}, iter(range(100))


@kachery.task
async def total(array):
    return float(array.sum())


def test_an_array_that_is_changed_before_the_async_run_starts():
    large = np.ones(9_000_000)  # more than is hashed again after a run

    async def main():
        waiting = total(large)
        large[0] = 1000.0
        with pytest.raises(kachery.KacheryError, match="not what they were"):
            await waiting
        return await total(np.ones(9_000_000))

    assert asyncio.run(main()) == 9_000_000.0


def test_an_opaque_result_that_is_changed_before_it_is_remembered(monkeypatch):
    from kachery_tasks import commit

    real = commit.keep_code

    def keep_code(store, codes):
        MET[0].prec = 999
        real(store, codes)

    @kachery.task(opaque="return", version="1")
    def made(x):
        MET.append(Odd(prec=x))
        return MET[-1]

    with monkeypatch.context() as patch:
        patch.setattr(commit, "keep_code", keep_code)
        live = made(5)
    with pytest.raises(kachery.CannotEncode):
        predict(live, 1)  # it is not what was stored
    assert predict(made(5), 1) == 5


INERT = """
    import threading, queue, logging
    class Local(threading.local):
        def rate(self):
            return 1
    class Pool(queue.Queue):
        def weight(self):
            return 2
    LOCAL, POOL = Local(), Pool()
    def f(x):
        return LOCAL.rate() + POOL.weight()
    """


@pytest.mark.parametrize("edit", [("return 1", "return 3"), ("return 2", "return 4")])
def test_the_project_s_own_inert_classes_count(project, edit):
    from test_fingerprint import fingerprint

    assert fingerprint(project, INERT) != fingerprint(project, INERT.replace(*edit))


def test_explain_takes_every_name(project):
    words = ("node", "value", "name", "inert", "unidentified", "missing", "alias", "members")
    members = "\n".join(
        f"            {word} = {i}" for i, word in enumerate(words) if word != "name"
    )
    fields = "\n".join(f"            {word}: int = {i}" for i, word in enumerate(words))
    write(
        project / "words.py",
        f"""
        import dataclasses, enum, attrs, pydantic, kachery
        class E(enum.Enum):
{members}
        @dataclasses.dataclass
        class D:
{fields}
        @attrs.define
        class A:
{fields}
        class M(pydantic.BaseModel):
{fields}
        @kachery.task
        def f(x):
            return E, D, A, M
        """,
    )
    words = importlib.import_module("words")
    explanation = words.f.explain(1)
    assert {"words:E", "words:D", "words:A", "words:M"} <= set(explanation.coverage.code)
    assert explanation.coverage.inert == []


def test_map_of_a_method_needs_an_iterable():
    class C:
        @kachery.task
        def f(self):
            return 1

    with pytest.raises(TypeError, match="at least one iterable"):
        C().f.map()


def test_tasks_with_threads_that_ask_for_each_other():
    started = {"first": threading.Event(), "second": threading.Event()}
    TASKS["started"] = started

    @kachery.task(version="1")
    async def first(x):
        TASKS["started"]["first"].set()
        assert TASKS["started"]["second"].wait(60)
        return await asyncio.gather(TASKS["second"](x), TASKS["slow"](x))

    @kachery.task(version="1")
    async def second(x):
        TASKS["started"]["second"].set()
        assert TASKS["started"]["first"].wait(60)
        return await TASKS["first"](x)

    @kachery.task(version="1")
    async def slow(x):
        return 1

    TASKS.update({"first": first, "second": second, "slow": slow})

    async def main():
        return await asyncio.gather(first(1), second(1), return_exceptions=True)

    results = asyncio.run(asyncio.wait_for(main(), 60))
    assert any("each other" in str(one) for one in results)


def test_a_secret_function_leaves_nothing(store_dir):
    import functools

    def login(user, password):
        return len(user)

    @kachery.task(secret=("access", "mode"))
    def fetch(x, access, mode="hunter3"):
        return access()

    fetch(1, functools.partial(login, "joe", "hunter2"))
    kept = [p.read_bytes() for p in store_dir.rglob("*") if p.is_file()]
    address = encode("hunter2").address
    for data in kept:
        assert b"hunter" not in data and address not in data and address.hex().encode() not in data
    assert fetch.job(1, functools.partial(login, "joe", "hunter2")).record.codes == []
    with pytest.raises(kachery.CannotEncode) as caught:
        fetch(1, {"hunter2": threading.Lock()})
    assert "hunter2" not in str(caught.value)


def test_functions_of_one_kind_are_all_in_the_record():
    @kachery.task
    def both(f, g):
        return f(1) + g(1)

    both(lambda x: x + 1, lambda x: x + 2)
    record = both.job(lambda x: x + 1, lambda x: x + 2).record
    assert len(record.codes) == 2 and len({digest for _, digest in record.codes}) == 2


def test_lists_of_functions_are_explained_member_by_member(project):
    text = """
        import kachery
        def a(x):
            return x + 1
        def b(x):
            return x + 2
        STEPS = [a, b]
        @kachery.task
        def f(x):
            return STEPS[0](x)
        """
    write(project / "listed.py", text)
    listed = importlib.import_module("listed")
    listed.f(1)
    assert listed.f.explain(1).coverage.code == ["listed:f", "listed:a", "listed:b"]
    write(project / "listed.py", text.replace("x + 1", "x + 3"))
    importlib.reload(listed)
    assert "+    return x + 3" in str(listed.f.explain(1))


def test_explain_compares_with_the_same_task_only():
    @kachery.task(name="denoise")
    def denoise(x):
        return x

    @kachery.task
    def other(x):
        return x

    other.definition._name = "lab:denoise"
    other(1)
    assert denoise.explain(1).nearest is None


def test_reproduce_of_odd_results():
    import collections

    @kachery.task(version="1")
    def odd(kind):
        STATE["n"] += 1
        if kind == "factory":
            return collections.defaultdict(int if STATE["n"] % 2 else list)
        if kind == "order":
            return {"a": 1, "b": 2} if STATE["n"] % 2 else {"b": 2, "a": 1}
        return np.array([np.nan, 0.0 if STATE["n"] % 2 else -0.0, 1.0])

    assert "collections.defaultdict" in odd.reproduce("factory").differences[0]
    assert "in another order" in odd.reproduce("order").differences[0]
    assert "(1 of 3 elements differ)" in odd.reproduce("zero").differences[0]


def test_forget_forgets_other_results():
    @kachery.task(version="1")
    def draw(x):
        return next(DRAWN)

    assert not draw.reproduce(1)
    from kachery_tasks.listing import other_results
    from kachery_tasks.settings import current

    record = draw.job(1).record
    assert len(other_results(current().store, record)) == 1
    draw.job(1).forget()
    draw(1)
    assert other_results(current().store, draw.job(1).record) == []


def test_functions_as_arguments_are_not_kept_alive_for_ever():
    from kachery_tasks.code import recent

    @kachery.task
    def use(f):
        return f()

    def once():
        data = np.zeros(10)
        use(lambda: data.sum())
        return weakref.ref(data)

    gone = once()
    for n in range(recent._KEPT + 1):
        encode(lambda n=n: n)
    import gc

    gc.collect()
    assert gone() is None


class Bound:
    def __init__(self, k):
        self.k = k
        self.callback = self.scaled

    def scaled(self, x):
        return self.k * x


def test_an_instance_that_has_its_own_method():
    @kachery.task
    def use(bound):
        return bound.callback(2)

    assert use(Bound(3)) == 6 and use.job(Bound(3)).cached
    assert use(Bound(4)) == 8
    round_about = Bound(1)
    round_about.f = lambda: round_about
    assert use(round_about) == 2 and use.job(round_about).cached


def test_classes_of_one_name_and_different_code_are_refused():
    def make(n):
        class Model:
            def predict(self):
                return n

        return Model()

    @kachery.task
    def both(a, b):
        return [a.predict(), b.predict()]

    with pytest.raises(kachery.CannotEncode, match="different classes called"):
        both(make(1), make(2))
    assert both(make(1), make(1)) == [1, 1]
    models = [make(1), make(2)]

    @kachery.task
    def through_global(x):
        return [m.predict() for m in models]

    assert through_global(1) == [1, 2]
    models.reverse()
    assert through_global(1) == [2, 1]


CASES = {
    "attribute of a function": (
        "def h(x):\n    return h.table['a']\nh.table = {'a': 1}\ndef f(x):\n    return h(x)\n",
        ("'a': 1", "'a': 2"),
    ),
    "generic alias of a project class": (
        "class B:\n    def __class_getitem__(cls, i):\n        import types\n        return types.GenericAlias(cls, i)\n"
        "    def g(self):\n        return 1\nC = B[int]\ndef f(x):\n    return C().g()\n",
        ("return 1", "return 2"),
    ),
    "made by dataclasses": (
        "import dataclasses\ndef g(self):\n    return 1\n"
        "D = dataclasses.make_dataclass('D', ['x'], namespace={'g': g})\ndef f(x):\n    return D(1).g()\n",
        ("return 1", "return 2"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_edits(project, case):
    from test_fingerprint import fingerprint

    text, edit = CASES[case]
    assert edit[0] in text
    assert fingerprint(project, text) == fingerprint(project, "# moved\n" + text)
    assert fingerprint(project, text) != fingerprint(project, text.replace(*edit))


def test_changes_while_the_program_runs(project):
    write(
        project / "running.py",
        """
        import functools, statistics
        def scaled(x, *, k):
            return x * k
        P = functools.partial(scaled, k=2)
        class Base1:
            def g(self):
                return 1
        class Base2:
            def g(self):
                return 2
        class A(Base1):
            a = 5
        class Rate(float):
            pass
        R = Rate(3)
        R.k = 1
        def f(x):
            return P(x), A().g(), R.k, hasattr(A, "b"), statistics.mean([x])
        """,
    )
    running = importlib.import_module("running")
    task = kachery.task(running.f)
    ids = [task.job(1).id]

    def changed():
        ids.append(task.job(1).id)
        assert len(set(ids)) == len(ids)

    running.P.keywords["k"] = 3
    changed()
    running.A.__bases__ = (running.Base2,)
    changed()
    running.R.k = 7
    changed()
    value = running.A.a
    del running.A.a
    running.A.b = value
    changed()
    import statistics

    real = statistics.mean
    try:
        statistics.mean = lambda x: 99
        changed()
    finally:
        statistics.mean = real


@pytest.mark.parametrize("way", ["call", "job"])
def test_a_task_that_raises_stop_iteration_is_awaited(way):
    @kachery.task
    async def empty(x):
        return x

    @kachery.task
    def stops(x):
        return next(iter([]))

    async def main():
        with pytest.raises((RuntimeError, StopIteration)):
            await asyncio.wait_for(
                stops.job(1) if way == "job" else _as_coroutine(stops.job(1)), 30
            )
        return await empty(1)

    assert asyncio.run(main()) == 1


async def _as_coroutine(job):
    return await job


def test_functions_of_libraries_as_arguments():
    import functools

    @functools.lru_cache
    def cached(x):
        return x + 1

    @kachery.task
    def use(function, x):
        return function(x)

    assert use(np.mean, [1, 2]) == 1.5 and use.job(np.mean, [1, 2]).cached
    assert not use.job(np.median, [1, 2]).cached
    assert use(cached, 1) == 2 and use(np.vectorize(abs), -1) == 1


def test_opaque_values_travel_to_workers(client):
    model = train(8)["model"]
    assert predict.submit(model, 2).result() == 16
    assert predict.submit(train.job(8).result()["model"], 3).result() == 24


WRAPS = """
import functools, numpy as np
@functools.wraps(np.percentile)
def f(*args):
    return args
"""


def test_what_a_wrapped_function_of_numpy_says_of_itself_does_not_count(project):
    """functools.wraps copies the docstring of NumPy's version into the function's dict."""
    write(project / "found.py", WRAPS)
    import found

    assert "__doc__" in found.f.__dict__
    before = fingerprint_of(found.f).digest
    found.f.__dict__["__doc__"] = "of another version"
    found.f.__dict__["__type_params__"] = ()
    assert fingerprint_of(found.f).digest == before
    found.f.__dict__["rate"] = 3
    assert fingerprint_of(found.f).digest != before


def test_an_import_inside_a_function_from_a_module_that_is_not_there(project):
    """As of a package's optional part: the function may never get there."""
    write(
        project / "found.py",
        """
        import kachery
        @kachery.task
        def f(x):
            if x < 0:
                from lab_parts.optional import fast
                import lab_parts.other.still
            return x + 1
        """,
    )
    (project / "lab_parts").mkdir()
    write(project / "lab_parts/__init__.py", "")
    import found

    assert found.f(1) == 2
