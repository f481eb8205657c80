"""Fingerprints: what counts as code, and what does not."""

import importlib
import logging
import subprocess
import sys
import warnings

import pytest
from conftest import run_python, write

import kachery
from kachery_tasks.code import fingerprint_of

BASE = """
import math
import numpy as np

RATE = 3

def helper(x):
    return x * RATE

def f(x, y=2):
    return helper(x) + math.sqrt(y) + np.abs(x)
"""


def fingerprint(project, text, name="f", module="fingerprinted"):
    write(project / f"{module}.py", text)
    importlib.invalidate_caches()
    sys.modules.pop(module, None)
    return fingerprint_of(getattr(importlib.import_module(module), name)).digest


SAME = {
    "comment": BASE.replace("def f", "# a comment\ndef f"),
    "docstring": BASE.replace("    return helper", '    """What it does."""\n    return helper'),
    "position": "\n\n\nUNUSED = 1\n" + BASE,
    "blank lines": BASE.replace("    return helper", "\n\n    return helper"),
    "formatting": BASE.replace("helper(x) + math", "(helper( x )\n        + math").replace(
        "np.abs(x)", "np.abs(x))"
    ),
    "annotations": BASE.replace("def f(x, y=2)", "def f(x: int, y: 'float' = 2) -> float"),
    "an unused helper": BASE + "\n\ndef other(x):\n    return x\n",
    "helper's docstring": BASE.replace("    return x *", '    "doc"\n    return x *'),
}
DIFFERENT = {
    "constant in body": BASE.replace("helper(x) +", "helper(x) + 1 +"),
    "type of constant": BASE.replace("RATE = 3", "RATE = 3.0"),
    "default": BASE.replace("y=2", "y=3"),
    "type of default": BASE.replace("y=2", "y=2.0"),
    "expression": BASE.replace("+ math", "- math"),
    "helper": BASE.replace("x * RATE", "x / RATE"),
    "module constant": BASE.replace("RATE = 3", "RATE = 4"),
    "other function of a library": BASE.replace("np.abs", "np.square"),
    "parameter name": BASE.replace("def f(x, y=2)", "def f(z, y=2)").replace(
        "helper(x) + math.sqrt(y) + np.abs(x)", "helper(z) + math.sqrt(y) + np.abs(z)"
    ),
    "boolean for one": BASE.replace("RATE = 3", "RATE = True"),
}


@pytest.mark.parametrize("case", SAME)
def test_what_does_not_count(project, case):
    assert fingerprint(project, BASE) == fingerprint(project, SAME[case])


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_counts(project, case):
    assert fingerprint(project, BASE) != fingerprint(project, DIFFERENT[case])


def test_helpers_of_other_modules_count(project):
    write(project / "helpers_a.py", "def g(x):\n    return x\n")
    for text in (
        "import helpers_a\ndef f(x):\n    return helpers_a.g(x)\n",
        "from helpers_a import g\ndef f(x):\n    return g(x)\n",
        "def f(x):\n    from helpers_a import g\n    return g(x)\n",
        "def f(x):\n    import helpers_a\n    return helpers_a.g(x)\n",
        "import helpers_a\nclass C:\n    def m(self, x):\n        return helpers_a.g(x)\ndef f(x):\n    return C().m(x)\n",
        "import functools, helpers_a\np = functools.partial(helpers_a.g, 1)\ndef f(x):\n    return p()\n",
        "import functools, helpers_a\n@functools.lru_cache\ndef h(x):\n    return helpers_a.g(x)\ndef f(x):\n    return h(x)\n",
        "import helpers_a\ndef f(x):\n    return [(lambda z: helpers_a.g(z))(y) for y in x]\n",
        "import helpers_a\nclass B:\n    def m(self, x):\n        return helpers_a.g(x)\nclass C(B):\n    pass\ndef f(x):\n    return C().m(x)\n",
        "def make():\n    import helpers_a\n    return lambda x: helpers_a.g(x)\nf = make()\n",
        "import helpers_a\ndef f(x):\n    return getattr(helpers_a, 'g')(x)\n",
        "import helpers_a\nTABLE = {'a': 1}\nf2 = staticmethod(helpers_a.g)\ndef f(x, g=helpers_a.g):\n    return g(x)\n",
    ):
        write(project / "helpers_a.py", "def g(x):\n    return x\n")
        sys.modules.pop("helpers_a", None)
        before = fingerprint(project, text)
        write(project / "helpers_a.py", "def g(x):\n    return x + 1\n")
        sys.modules.pop("helpers_a", None)
        assert fingerprint(project, text) != before, text


def test_closures_factories_and_lambdas_on_one_line():
    def make(n):
        def inner(x):
            return x + n

        return inner

    assert fingerprint_of(make(1)).digest != fingerprint_of(make(2)).digest
    assert fingerprint_of(make(1)).digest == fingerprint_of(make(1)).digest
    a, b = (lambda x: x + 1), (lambda x: x + 2)
    c, d = (lambda x: x.real), (lambda x: x.imag)
    assert len({fingerprint_of(f).digest for f in (a, b, c, d)}) == 4


def test_version_replaces_the_source_but_not_defaults_and_closure():
    def make(n, body):
        if body == 1:
            return lambda x, y=1: x + n
        return lambda x, y=1: x - n

    def digest(n, body, version, default=1):
        function = make(n, body)
        function.__defaults__ = (default,)
        return fingerprint_of(function, version=version).digest

    assert digest(1, 1, "2") == digest(1, 2, "2")
    assert len({digest(1, 1, "2"), digest(2, 1, "2"), digest(1, 1, "3"), digest(1, 1, "2", 5)}) == 4
    assert digest(1, 1, None) != digest(1, 2, None)


def test_ordinary_globals_work_without_a_word(project):
    text = """
    import logging, re, threading, functools
    import numpy as np
    log = logging.getLogger(__name__)
    LOCK = threading.Lock()
    PATTERN = re.compile("a+")
    TABLE = {"a": np.arange(3), "b": [1, {2}]}
    def f(x):
        with LOCK:
            log.debug("%s", x)
        return PATTERN.match(x), TABLE["a"], __name__
    """
    before = fingerprint(project, text)
    assert before == fingerprint(project, text)
    assert before != fingerprint(project, text.replace("a+", "b+"))
    assert before != fingerprint(project, text.replace("arange(3)", "arange(4)"))
    assert before == fingerprint(project, text.replace("__name__)", "'other')"))


def test_mutable_globals_count_by_content(project):
    write(project / "with_table.py", "TABLE = {'a': 1}\ndef f(x):\n    return TABLE[x]\n")
    import with_table

    task = kachery.task(with_table.f)
    assert task("a") == 1
    with_table.TABLE["a"] = 2
    assert task("a") == 2
    with_table.TABLE = {"a": 3}
    assert task("a") == 3
    with_table.TABLE = {"a": 1}
    assert task("a") == 1


def test_redefined_and_monkeypatched_code_is_noticed(project):
    write(
        project / "patched.py",
        """
        class Model:
            rate = 2
            def predict(self, x):
                return x * self.rate
        def helper(x):
            return Model().predict(x)
        def f(x):
            return helper(x)
        """,
    )
    import patched

    task = kachery.task(patched.f)
    assert task(3) == 6
    patched.Model.rate = 3
    assert task(3) == 9
    patched.Model.predict = lambda self, x: -x
    assert task(3) == -3
    patched.helper = lambda x: "new"
    assert task(3) == "new"
    del patched.helper
    with pytest.raises(NameError):
        task(3)
    patched.f.__code__ = (lambda x: "other code").__code__
    assert task(3) == "other code"


def test_code_of_classes_among_the_arguments_counts(project):
    text = """
    import dataclasses
    @dataclasses.dataclass
    class Model:
        rate: int
        def predict(self, x):
            return x * self.rate
    """
    write(project / "models.py", text)
    import models

    @kachery.task
    def applied(model, x):
        return model.predict(x)

    assert applied(models.Model(2), 3) == 6
    models.Model.predict = lambda self, x: x + self.rate
    assert applied(models.Model(2), 3) == 5

    @kachery.task
    def made(rate):
        return [models.Model(rate)]

    @kachery.task
    def applied_to_first(items, x):
        return items[0].predict(x)

    direct = applied_to_first.job([models.Model(2)], 3)
    through = applied_to_first.job(made.job(2), 3)
    assert through.result() == 5
    assert through.id == direct.id


def test_a_plain_instance_brings_its_code(project):
    write(
        project / "plain_models.py",
        """
        class Model:
            def __init__(self, rate):
                self.rate = rate
            def predict(self, x):
                return x * self.rate
        """,
    )
    import plain_models

    @kachery.task
    def applied(model, x):
        return model.predict(x)

    assert applied(plain_models.Model(2), 3) == 6
    assert applied(plain_models.Model(3), 3) == 9
    plain_models.Model.predict = lambda self, x: x + self.rate
    assert applied(plain_models.Model(2), 3) == 5

    @kachery.task
    def made(cls, rate):
        return cls(rate)

    assert made(plain_models.Model, 2).predict(3) == 5
    assert made(plain_models.Model, 2).predict(3) == 5


def test_what_cannot_be_identified_is_refused_by_name(project):
    write(
        project / "refused.py",
        """
        CHUNKS = (n for n in range(3))
        def f(x):
            return next(CHUNKS)
        """,
    )
    import refused

    with pytest.raises(kachery.CannotFingerprint, match=r"'CHUNKS'.*f.*version="):
        kachery.task(refused.f)(1)
    assert kachery.task(version="1")(refused.f).job(1).id


def test_an_object_that_its_package_offers_is_known_by_its_name(project):
    """As it is when it is taken of the module; but not settings, nor another one of its type."""
    use = "\ndef f(x):\n    return thing[x]\n"
    assert fingerprint(project, f"from matplotlib import colormaps as thing{use}")
    for refused in (
        "from os import environ as thing",
        "from matplotlib import cm\nthing = cm.ColormapRegistry({})",
    ):
        with pytest.raises(kachery.CannotFingerprint, match="'thing'"):
            fingerprint(project, f"{refused}{use}")


def test_decorated_functions_are_followed(project):
    text = """
    import functools
    def loud(g):
        @functools.wraps(g)
        def inner(*args):
            return g(*args)
        return inner
    @loud
    def f(x):
        return x + 1
    """
    before = fingerprint(project, text)
    assert before != fingerprint(project, text.replace("x + 1", "x + 2"))
    assert before != fingerprint(project, text.replace("return g(*args)", "return -g(*args)"))


def test_other_tasks_are_followed(project):
    text = """
    import kachery
    @kachery.task
    def inner(x):
        return x + 1
    def f(x):
        return inner(x)
    """
    assert fingerprint(project, text) != fingerprint(project, text.replace("x + 1", "x + 2"))


def test_without_source_the_bytecode_counts():
    namespace = {"__name__": "__main__"}
    exec("def f(x):\n    return x + 1\ndef g(x):\n    return x + 2\n", namespace)
    with pytest.warns(kachery.SourceWarning, match="bytecode"):
        first = fingerprint_of(namespace["f"]).digest
    with pytest.warns(kachery.SourceWarning):
        assert fingerprint_of(namespace["g"]).digest != first


def test_a_module_edited_while_the_old_code_runs(project):
    path = write(project / "edited.py", "def f(x):\n    return 'old'\n")
    import edited

    old = fingerprint_of(edited.f).digest
    write(path, "def f(x):\n    return 'new'\n")
    with pytest.warns(kachery.SourceWarning):
        assert fingerprint_of(edited.f).digest != old  # not believed; and not taken for the new
    importlib.reload(edited)
    new = fingerprint_of(edited.f).digest
    assert new != old
    write(path, "\n\n# moved\ndef f(x):\n    return 'new'\n")
    assert fingerprint_of(edited.f).digest == new  # the same code elsewhere is believed


def test_names_of_scripts_and_modules(project):
    write(
        project / "script.py",
        """
        import kachery
        @kachery.task
        def f(x):
            return x
        if __name__ == "__main__":
            print(f.job(1).task, f.job(1).id)
        """,
    )
    as_script = subprocess.run(
        [sys.executable, project / "script.py"], capture_output=True, text=True, check=True
    )
    as_module = run_python("import script; print(script.f.job(1).task, script.f.job(1).id)")
    with_m = subprocess.run(
        [sys.executable, "-m", "script"], capture_output=True, text=True, check=True
    )
    assert as_script.stdout == as_module.stdout == with_m.stdout
    assert as_script.stdout.startswith("script:f ")


LIBRARIES = """
import dataclasses, enum, functools, operator, struct, typing
import attrs, pydantic

def whole(x):
    return int(x)

@attrs.define
class A:
    x: int = attrs.field(default=1, validator=attrs.validators.instance_of(int), converter=whole)
    y: list = attrs.field(factory=list)

    @functools.cached_property
    def cached(self):
        return 5

    def m(self):
        return self.x

class Sub(pydantic.BaseModel):
    k: int = 1

class M(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    a: int = 1
    c: typing.Annotated[int, pydantic.Field(gt=3)] = 5
    s: typing.Optional[Sub] = None
    _p: int = pydantic.PrivateAttr(3)

    @pydantic.field_validator("a", mode="after")
    @classmethod
    def check(cls, v):
        return v

    @pydantic.computed_field
    @property
    def computed(self) -> int:
        return 7

class P:
    def g(self, a, b):
        return a

    h = functools.partialmethod(g, 1)

    @functools.singledispatchmethod
    def sd(self, x):
        return 1

    @sd.register
    def _(self, x: int):
        return 2

KEY = operator.itemgetter(1)
HEADER = struct.Struct("<IH")
ALIAS = list[int]
OPTIONAL = typing.Optional[Sub]

def f(x):
    return A(), M(), P(), KEY, HEADER, ALIAS, OPTIONAL
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("default=1", "default=2"),
        ("instance_of(int)", "instance_of(float)"),
        ("return int(x)", "return int(x) + 1"),
        ("attrs.define", "attrs.frozen"),
        ("return 5", "return 6"),
        ("return self.x", "return -self.x"),
        ("k: int = 1", "k: int = 2"),
        ("a: int = 1", "a: float = 1"),
        ("gt=3", "gt=4"),
        ("frozen=True", "frozen=False"),
        ("PrivateAttr(3)", "PrivateAttr(4)"),
        ('mode="after"', 'mode="before"'),
        ("return v", "return v + 1"),
        ("return 7", "return 8"),
        ("partialmethod(g, 1)", "partialmethod(g, 2)"),
        ("return a\n", "return b\n"),
        ("return 1\n", "return 3\n"),
        ("return 2\n", "return 3\n"),
        ("x: int)", "x: float)"),
        ("itemgetter(1)", "itemgetter(2)"),
        ('"<IH"', '"<II"'),
        ("ALIAS = list[int]", "ALIAS = list[float]"),
        ("typing.Optional[Sub]\n\ndef", "typing.List[Sub]\n\ndef"),
    ],
)
def test_what_libraries_make_of_classes_and_methods_counts(project, before, after):
    assert before in LIBRARIES
    same = fingerprint(project, LIBRARIES)
    assert fingerprint(project, "# moved\n" + LIBRARIES) == same
    assert fingerprint(project, LIBRARIES.replace(before, after)) != same


def test_connections_and_clients_are_inert(project):
    text = """
        import sqlite3, socket, concurrent.futures, logging
        class Log(logging.Logger):
            pass
        CONNECTION = sqlite3.connect(":memory:")
        POOL = concurrent.futures.ThreadPoolExecutor(1)
        log = Log("mine")
        def f(x):
            log.info(x)
            return POOL, CONNECTION
        """
    write(project / "inert.py", text)
    import inert

    covered = kachery.task(inert.f).explain(1).coverage
    assert [kind for _, kind in covered.inert] == [
        "sqlite3.Connection",
        "concurrent.futures.thread.ThreadPoolExecutor",
        "inert.Log",
    ]
    inert.CONNECTION.close()


def test_a_large_global_that_can_change_is_said_once(project):
    write(
        project / "large.py",
        "import numpy as np\nTABLE = np.zeros(200_000)\ndef f(x):\n    return TABLE[x]\n",
    )
    import large

    task = kachery.task(large.f)
    with pytest.warns(kachery.LargeGlobalWarning, match=r"'TABLE'.*1.6 MB.*argument"):
        task(1)
    large.TABLE[1] = 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert task(1) == 5


def test_defaults_count_by_value_and_not_those_of_ignored_parameters(project):
    text = """
        import kachery
        LOW = 1
        @kachery.task(ignore="n_jobs")
        def f(x, low=LOW, *, n_jobs=1):
            return x
        """
    write(project / "ignoring.py", text)
    ignoring = importlib.import_module("ignoring")
    before = ignoring.f.job(1).id
    for old, new in (("n_jobs=1", "n_jobs=8"), ("low=LOW", "low=2 - 1"), ("n_jobs=1", "n_jobs")):
        write(project / "ignoring.py", text.replace(old, new))
        job = importlib.reload(ignoring).f.job(1, **({"n_jobs": 1} if new == "n_jobs" else {}))
        assert job.id == before
    write(project / "ignoring.py", text.replace("LOW = 1", "LOW = 3"))
    assert importlib.reload(ignoring).f.job(1).id != before


def test_loggers_are_inert():
    log = logging.getLogger("x")

    def f(x):
        log.info(x)
        return x

    assert fingerprint_of(f).digest


def test_decorated_functions_of_installed_packages_are_ordinary(project):
    """Their closures hold objects of all kinds; what they hold of the project counts."""
    text = """
    import functools
    from contextlib import contextmanager
    from skimage.color import rgb2gray

    @functools.singledispatch
    def shown(x):
        return str(x)

    @shown.register
    def _(x: int):
        return x + 1

    @contextmanager
    def scope(x):
        yield x * 2

    def f(x):
        with scope(x) as y:
            return rgb2gray(y), shown(x)
    """
    before = fingerprint(project, text)
    assert before == fingerprint(project, text)
    assert before != fingerprint(project, text.replace("x + 1", "x + 2"))
    assert before != fingerprint(project, text.replace("x * 2", "x * 3"))


def test_objects_in_tables_attributes_of_functions_and_metaclasses_count(project):
    text = """
    import dataclasses

    @dataclasses.dataclass
    class Config:
        rate: int
        def times(self, x):
            return x * self.rate

    class Meta(type):
        def made(cls, x):
            return x + 1

    class Thing(metaclass=Meta):
        pass

    def double(x):
        return x * 2

    CONFIG = Config(3)
    TABLE = {"double": double, "more": [(len, double)]}

    def helper(x):
        return x + helper.offset
    helper.offset = 1

    def f(x):
        return CONFIG.times(x), TABLE["double"](x), helper(x), Thing.made(x)
    """
    before = fingerprint(project, text)
    assert before == fingerprint(project, text)
    for old, new in (
        ("x * self.rate", "x + self.rate"),
        ("Config(3)", "Config(4)"),
        ("x * 2", "x * 3"),
        ("(len, double)", "(abs, double)"),
        ("offset = 1", "offset = 2"),
        ("x + 1", "x + 2"),
    ):
        assert before != fingerprint(project, text.replace(old, new)), new
    fingerprinted = sys.modules["fingerprinted"]
    task = kachery.task(fingerprinted.f)
    assert task(1)[2] == 2
    fingerprinted.helper.offset = 10
    assert task(1)[2] == 11
    fingerprinted.TABLE["double"] = lambda x: -x
    assert task(1)[1] == -1
    fingerprinted.CONFIG.rate = 7
    assert task(1)[0] == 7


def test_functions_as_arguments(project):
    write(
        project / "callbacks.py",
        "def helper(x):\n    return x + 1\ndef cb(x):\n    return helper(x)\n",
    )
    import functools
    import operator

    import callbacks
    import numpy as np

    @kachery.task
    def applied(f, x):
        return f(x) if callable(f) else [g(x) for g in f]

    @kachery.task
    def inner(x):
        return x * 3

    def make(n):
        return lambda x: x + n

    class Model:
        def __init__(self, k):
            self.k = k

        def predict(self, x):
            return x + self.k

    functions = [
        *(make(1), make(2), lambda x: x + 1.0, callbacks.cb, abs, float, np.sqrt, np.square),
        *(functools.partial(operator.add, 1), functools.partial(operator.add, 2), inner),
        *(Model(1).predict, Model(2).predict, str.upper, "a".join, operator.neg),
    ]
    ids = [applied.job(f, 4).id for f in functions]
    assert len(set(ids)) == len(ids)
    assert applied.job(make(1), 4).id == ids[0]
    assert applied.job(Model(1).predict, 4).id == ids[11]
    assert applied(functions[:2], 4) == [5, 6] and applied.job(functions[:2], 4).cached
    assert applied(callbacks.cb, 1) == 2
    callbacks.helper = lambda x: x + 100
    assert applied(callbacks.cb, 1) == 101

    @kachery.task
    def returned(x):
        return {"f": make(x)}

    with pytest.warns(kachery.NotStoredWarning, match="not results"):
        assert returned(1)["f"](2) == 3


PARSING_IN_THREADS = """
import ast, gc, sys, textwrap, threading
from kachery_tasks.code.parsing import parsed

text = open(textwrap.__file__).read()
gc.callbacks.append(lambda *_: [None for _ in range(300)])  # as distributed has one
gc.set_threshold(50)
sys.setswitchinterval(1e-6)

def others():
    for _ in range(60):
        try:
            ast.parse(text)
        except SystemError:
            pass

def ours():
    for _ in range(60):
        parsed(text)

threads = [threading.Thread(target=t) for t in (others, ours) * 4]
failed = []
threading.excepthook = failed.append
[t.start() for t in threads]
[t.join() for t in threads]
assert not failed, failed[0].exc_value
"""


def test_threads_parse_at_the_same_time():
    """Python 3.11 fails now and then when a collection of garbage lets another thread parse."""
    run_python(PARSING_IN_THREADS)
