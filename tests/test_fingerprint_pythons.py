"""The same source gives the same fingerprint on every supported Python, and in every process."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import warnings
import zipfile
from pathlib import Path

import pytest
from conftest import FULL, count, run_python, write
from pythons import VERSIONS, interpreters
from test_fingerprint import fingerprint
from test_formats import ROOT, environment

import kachery
from kachery_tasks.code import fingerprint_of

SITE = Path(sysconfig.get_paths()["purelib"])

# (a) Syntax and references of every function in the sources of these packages.
READ = ("click", "distributed", "toolz")

# (b) Whole fingerprints of every function of these, each taken as the project.
RUN = count(
    ("click", "dask", "distributed", "jinja2", "joblib", "rich", "tblib", "toolz", "tqdm", "zict"),
    ("click", "tblib", "toolz", "tqdm", "zict"),
)
# What they import, read by every Python from this one's packages. All of it runs without compiled parts.
NEEDED = (
    *(
        "click",
        "cloudpickle",
        "dask",
        "distributed",
        "fsspec",
        "importlib_metadata",
        "jinja2",
        "locket",
    ),
    *("joblib", "markdown_it", "markupsafe", "mdurl", "packaging", "partd", "psutil", "pygments"),
    *(
        "rich",
        "sortedcontainers",
        "tblib",
        "tlz",
        "toolz",
        "tornado",
        "tqdm",
        "yaml",
        "zict",
        "zipp",
    ),
)

# Functions and classes that differ because their own source asks which Python it is, or because they
# hold something of the running Python. What reaches them is left out.
BRANCHES = "its module branches on sys.version_info"
NAMED = "what it takes of the standard library has another name in another version"
HOLDS = "it holds a constant that is another one in each version or environment"
MAY_DIFFER = {
    "click.types:ParamType": BRANCHES,  # __class_getitem__
    "dask._compatibility:import_optional_dependency": BRANCHES,  # importlib_metadata
    "dask._task_spec:Dict.__getitem__": BRANCHES,  # itertools.batched
    "dask._task_spec:Dict.__repr__": BRANCHES,
    "dask._task_spec:Dict.constructor": BRANCHES,
    "dask._task_spec:_batched": BRANCHES,
    "dask._task_spec:batched": BRANCHES,
    "dask.array.image:imread": HOLDS,  # scikit-image, if it is installed
    "dask.array.utils:safe_wraps": HOLDS,  # functools.WRAPPER_ASSIGNMENTS
    "dask.backends:detect_entrypoints": BRANCHES,
    "dask.config:collect": HOLDS,  # sys.prefix
    "dask.config:paths_containing_key": HOLDS,
    "dask.config:refresh": HOLDS,
    "dask.sizeof:_register_entry_point_plugins": BRANCHES,
    "dask.utils:SerializableLock.__init__": NAMED,  # threading.Lock
    "dask.utils:show_versions": BRANCHES,
    "distributed.compatibility:asyncio_run": BRANCHES,
    "distributed.diskutils:WorkSpace._purge_directory": BRANCHES,
    "distributed.nanny:WorkerProcess._run": BRANCHES,
    "distributed.utils:LoopRunner._start_unlocked": BRANCHES,
    "jinja2.async_utils:async_variant": HOLDS,  # functools.WRAPPER_ASSIGNMENTS
    "jinja2.bccache:Bucket.load_bytecode": HOLDS,  # sys.version_info
    "jinja2.bccache:Bucket.write_bytecode": HOLDS,
    "jinja2.loaders:_get_zipimporter_files": BRANCHES,
    "jinja2.utils:LRUCache._postinit": NAMED,  # threading.Lock
    "tqdm.dask:TqdmCallback.display": HOLDS,  # what IPython has, if it is installed
    "tqdm.notebook:tqdm_notebook.display": HOLDS,
    "joblib.externals.loky.backend.spawn:get_executable": HOLDS,  # sys.executable
    "joblib.parallel:Parallel.__init__": HOLDS,  # its backends: Dask's, if that is installed
    "joblib.parallel:_get_active_backend": HOLDS,
    "joblib.parallel:register_parallel_backend": HOLDS,
}


@pytest.fixture(scope="module")
def pythons():
    """{version: interpreter with what kachery needs}, for those that are on this machine."""
    found = {version: environment(version, path) for version, path in interpreters().items()}
    if len(found) < 2:
        pytest.skip("no other Python on this machine: their fingerprints were NOT compared")
    missing = sorted(set(VERSIONS) - set(found))
    if missing:
        print(f"Python {', '.join(missing)} not on this machine: fingerprints NOT compared there")
    return found


def answers(pythons, mode, lines, path=()):
    """What each Python says, asked at the same time."""
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, [ROOT, *path])),
        "DASK_CONFIG": os.devnull,
        "PYTHONHASHSEED": "random",
    }
    command = ["-W", "ignore", str(ROOT / "tests/fingerprints.py"), mode]
    started = {
        version: subprocess.Popen(
            [python, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )
        for version, python in pythons.items()
    }
    for process in started.values():
        process.stdin.write("\n".join(lines))
        process.stdin.close()
        process.stdin = None
    found = {}
    for version, process in started.items():
        out, err = process.communicate()
        assert process.returncode == 0, f"Python {version}: {err[-2000:]}"
        found[version] = json.loads(out.splitlines()[-1])
    return found


def sources():
    if FULL:
        folders = [SITE, Path(sysconfig.get_paths()["stdlib"])]
        return sorted({str(path) for folder in folders for path in folder.rglob("*.py")})
    found = {path for name in READ for path in (SITE / name).rglob("*.py")}
    return sorted(str(path) for path in found if "tests" not in path.parts)


@pytest.mark.timeout(count(3000, 600))
def test_syntax_and_references_are_the_same_on_every_python(pythons):
    found = answers(pythons, "syntax", sources())
    first = next(iter(found))
    functions, differ = 0, []
    for path in found[first]:
        lines = [of[path] for of in found.values() if of[path] is not None]
        if lines:
            functions += len(lines[0])
            differ += [
                f"{path}: {set(lines[0]) ^ set(other)}" for other in lines if other != lines[0]
            ]
            differ += [f"{path}: {line}" for line in lines[0] if "NOT BELIEVED" in line]
    assert not differ, "\n".join(differ[:20])
    print(f"{functions} functions and classes of {len(found[first])} files are equal")
    assert functions > count(150_000, 4_000)


@pytest.mark.timeout(count(3000, 600))
def test_whole_fingerprints_are_the_same_on_every_python(pythons, tmp_path):
    project, needed = tmp_path / "project", tmp_path / "site-packages"
    needed.mkdir()
    packages = [name for name in RUN if importlib.util.find_spec(name)]
    for name in packages:
        shutil.copytree(
            SITE / name, project / name, ignore=shutil.ignore_patterns("tests", "test_*", "*.so")
        )
    for name in NEEDED:
        for path in (SITE / name, *SITE.glob(f"{name}-*.dist-info")):
            if path.exists() and not (project / path.name).exists():
                (needed / path.name).symlink_to(path)
    found = answers(
        pythons, "whole", [*packages, *(f"- {n}" for n in MAY_DIFFER)], path=(project, needed)
    )
    first, *others = found.values()
    names = [name for name in first if all(name in other for other in others)]
    differ = [n for n in names if len({of[n].split(":")[0] for of in found.values()}) > 1]
    assert not differ, "\n".join(f"{n}: {[of[n] for of in found.values()]}" for n in differ[:20])
    assert len(names) > 0.9 * max(map(len, found.values()))  # the others belong to one version
    compared = [name for name in names if len(first[name]) == 64]
    print(
        f"{len(compared)} fingerprints of {len(names)} functions of {', '.join(packages)} are equal"
    )
    assert len(compared) > count(5_000, 700)


# One module with all kinds of things that a function can reach.
ZOO = """
from __future__ import annotations
import abc, collections, contextlib, dataclasses, enum, functools, itertools, json, logging, math, operator, re
import statistics, threading, typing, weakref
from decimal import getcontext
from os.path import islink, join, normpath
from pathlib import Path
from random import choice
from threading import Lock
from numpy.random import normal
from typing import Any, ClassVar, Generic, NamedTuple, Optional, Protocol, TypedDict, TypeVar, runtime_checkable

T = TypeVar("T")
log = logging.getLogger(__name__)
WORDS = {"a", "b", "c", "delta", "epsilon"}
MISSING = object()
PATTERN = re.compile(r"\\d+", re.I)

class Color(enum.Enum):
    RED = 1; BLUE = "b"
    def shade(self): return self.value
class Perm(enum.Flag):
    R = enum.auto(); W = enum.auto(); RW = R | W
class Word(enum.StrEnum):
    A = enum.auto()
@dataclasses.dataclass(frozen=True, order=True, slots=True)
class P(Generic[T]):
    x: int = 1
    y: list = dataclasses.field(default_factory=list, compare=False)
    K: ClassVar[int] = 3
    def m(self): return self.x + self.K
class Pair(NamedTuple):
    a: int
    b: str = "x"
    def both(self): return (self.a, self.b)
Old = collections.namedtuple("Old", "u v", defaults=(1,))
class Keys(TypedDict, total=False):
    k: int
@runtime_checkable
class Runs(Protocol):
    attr: int
    def run(self, x): ...
class Runner(Runs):
    attr = 1
    def run(self, x): return x
class Abstract(abc.ABC):
    @abc.abstractmethod
    def f(self): ...
class Concrete(Abstract):
    def f(self): return super().__class__
class Box(Generic[T]):
    def __init__(self, v: T): self.v = v; self.w = self.u = self.zz = 3
    def get(self) -> T: return self.v
    @functools.cached_property
    def c(self): return self.v
    @staticmethod
    def s(x): return x
    @classmethod
    def k(cls, x): return cls(x)
    @functools.lru_cache(maxsize=3)
    def l(self, x): return x
    @functools.singledispatchmethod
    def d(self, x): return x
    @d.register
    def _(self, x: int): return -x
    part = functools.partialmethod(get)
class Slots:
    __slots__ = ("a", "b", "__c")
    def __init__(self): self.a = self.b = self.__c = 0
class Meta(type):
    def __call__(cls, *a): return super().__call__(*a)
class Made(metaclass=Meta): pass

def helper(x):
    return x * 2
@functools.singledispatch
def shown(x): return str(x)
@shown.register(int)
@shown.register(float)
def _(x): return x + 1
@functools.lru_cache
def cached(x): return helper(x)
@contextlib.contextmanager
def scope(x): yield x
def deco(f):
    @functools.wraps(f)
    def inner(*a): return f(*a)
    inner.rate = [1, 2]
    return inner
@deco
def decorated(x): return x
def make(n):
    def inner(x, m=n): return x + n + m
    return inner
def even(x): return TABLE["odd"](x - 1) if x else True
def odd(x): return TABLE["even"](x - 1) if x else False
TABLE = {"even": even, "odd": odd, "helper": helper, "dumps": json.dumps, "l": lambda x: x + 1}
CLOSURES = [make(1), make(2)]
LAMBDAS = [lambda x: x + i for i in (1, 2)] + [(lambda: 0), (lambda: lambda: 0)]
DEFAULTS = collections.defaultdict(lambda: 0)
instance = Box(4)
def inside(x):
    class L(Abstract):
        a: int = 1
        def __init__(self): self.one = self.two = self.three = self.four = 1
        def f(self): return helper
    @dataclasses.dataclass
    class D:
        b: ClassVar[int] = 1
    def after(): return x
    return L().f(), D()
    def never(): return undefined
def whole_module(x):
    import zoo
    return getattr(zoo, x)
def matching(x):
    match x:
        case Color.RED | None: return 1
        case {"a": [1, *r], **rest}: return r
        case P(x=1): return 2
        case str() as s if len(s) > 1: return s
    try:
        x()
    except* ValueError as e:
        raise
    return f"{x!r:>{x}} {x=} {{}}" "a" f"{x:}"
def installed(x):
    return choice(x), normal(), math.pi, statistics.mean(x), Path("a"), islink, join, normpath, getcontext, Lock, Optional[int]
def everything(x):
    return (log, WORDS, MISSING, PATTERN, Color, Perm, Word, P, Pair, Old, Keys, Runs, Runner, Abstract, Concrete,
        Box, Slots, Made, shown, cached, scope, decorated, TABLE, CLOSURES, LAMBDAS, DEFAULTS, instance, inside, matching,
        installed, list[int], typing.List, Any, operator.itemgetter(1), weakref.ref, itertools.chain)
"""

PRINTED = """
import importlib, json, sys, types
import zoo
def functions():
    for name, value in sorted(vars(zoo).items()):
        members = vars(value) if isinstance(value, type) else {"": value}
        for member, function in sorted(members.items()):
            if isinstance(function, types.FunctionType) and function.__code__.co_filename == zoo.__file__:
                yield f"{name}.{member}", function
def fingerprints():
    from kachery_tasks.code import fingerprint_of
    return {name: fingerprint_of(function).digest for name, function in functions()}
def use():
    import copy, inspect, pickle
    zoo.Runner(); zoo.Box(1).c; zoo.Box(1).l(2); zoo.Box(1).d(3); zoo.P(1) == zoo.P(2); zoo.shown(1); zoo.cached(2)
    zoo.Box[int](2); zoo.Perm(3); zoo.Concrete().f(); zoo.inside(1); zoo.decorated(1); zoo.installed([1]); zoo.even(4)
    isinstance(3, zoo.Runs); issubclass(int, zoo.Abstract); copy.copy(zoo.Slots()); pickle.dumps(zoo.Box(1))
    inspect.signature(zoo.Box); zoo.Color("b").shade(); hash(zoo.P); zoo.scope(1).__enter__(); zoo.Made()
step = sys.argv[1:]
if step == ["used"]:
    use()
if step == ["reloaded"]:
    fingerprints()
    importlib.reload(zoo)
if step == ["later"]:
    import asyncio, sqlite3, unittest.mock, xml.dom.minidom, pandas
if step == ["twice"]:
    fingerprints()
print(json.dumps(fingerprints()))
"""

WAYS = {
    "used": ([], ["used"]),
    "after a reload": ([], ["reloaded"]),
    "other imports before": ([], ["later"]),
    "twice": ([], ["twice"]),
    "without frozen modules": (["-X", "frozen_modules=off"], []),
    "optimized": (["-O"], []),
    "without docstrings": (["-OO"], []),
    "warnings are errors": (["-W", "error"], []),
}


# What these import by name from the standard library has another name in each Python there:
# threading.Lock, decimal.getcontext, os.path.normpath.
RENAMED = ("everything.", "installed.", "whole_module.")
# These read a global instance, and what a cached property has put there counts.
CACHED = ("everything.", "whole_module.")


def without(names, found):
    return {name: digest for name, digest in found.items() if name not in names}


def printed(python=sys.executable, options=(), steps=(), seed="random", cwd=None):
    done = subprocess.run(
        [python, *options, "-c", PRINTED, *steps],
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.fixture
def zoo(project, monkeypatch):
    write(project / "zoo.py", ZOO)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(project), str(ROOT)]))
    return project


def test_all_kinds_of_things_are_the_same_on_every_python(zoo, pythons):
    expected = without(RENAMED, printed())
    assert len(expected) > 20
    for python in pythons.values():
        for seed in ("0", "1", "2"):  # the first one compiles for all
            assert without(RENAMED, printed(python, seed=seed)) == expected
        assert without(RENAMED, printed(python, steps=["used"])) == expected


@pytest.mark.parametrize("way", WAYS)
def test_all_kinds_of_things_are_the_same_in_every_process(zoo, way):
    options, steps = WAYS[way]
    left_out = CACHED if way == "used" else ()
    assert without(left_out, printed(options=options, steps=steps)) == without(left_out, printed())


def test_a_module_in_a_zip_file_is_the_same(zoo, tmp_path, monkeypatch):
    expected = printed()
    with zipfile.ZipFile(tmp_path / "zoo.zip", "w") as archive:
        archive.write(zoo / "zoo.py", "zoo.py")
    (zoo / "zoo.py").unlink()
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "zoo.zip"), str(ROOT)]))
    assert printed(options=["-W", "error"]) == expected


# Compiled code differs between Pythons where it does not matter.


def test_what_never_runs_is_not_referred_to(project):
    text = """
    def helper(x):
        return x
    def f(x):
        return x
        return [lambda: helper(y) for y in x]
    """
    fingerprint(project, text)
    f = sys.modules["fingerprinted"].f
    assert fingerprint_of(f).description.nodes[0][1]["globals"] == {}


def test_lambdas_on_one_line_are_found(project):
    text = """
    import collections
    fs = [lambda x: x.map(lambda y: y + 1), lambda x: 0, lambda: None, lambda: None, lambda x, k=(lambda: 0): k]
    n = collections.defaultdict(lambda: collections.defaultdict(lambda: collections.defaultdict(list)))
    gs = [n.default_factory, n[0].default_factory, fs[4].__defaults__[0], (lambda: (lambda: 1.0))(), (lambda: 1)]
    def f(i):
        return [*fs, *gs][i]
    """
    fingerprint(project, text)
    module = sys.modules["fingerprinted"]
    with kachery_is_quiet():
        digests = [fingerprint_of(f).digest for f in (*module.fs, *module.gs)]
    different = {digest for i, digest in enumerate(digests) if i != 3}
    assert digests[2] == digests[3] and len(different) == len(digests) - 1


def kachery_is_quiet():
    return warnings.catch_warnings(action="error", category=kachery.SourceWarning)


def test_functions_of_any_depth_have_a_fingerprint(project):
    branches = "".join(f"    elif x == {i}:\n        y = {i}\n" for i in range(90))
    text = f"def f(x):\n    if x is None:\n        y = None\n{branches}    return y + {' + '.join('x' * 200)}\n"
    before = fingerprint(project, text)
    assert before == fingerprint(project, text.replace("y = 88", "y  =  88  # comment"))
    assert before != fingerprint(project, text.replace("y = 88", "y = 88.0"))
    assert before != fingerprint(project, text.replace("x == 88", "x != 88"))
    assert before != fingerprint(project, text.replace("x + x\n", "x - x\n"))


ANNOTATED = {
    "class": "    class C:\n        a: int = 1\n",
    "branch of a class": "    class C:\n        if x:\n            a: int = 1\n",
    "method": "    class C:\n        def m(self, a: int): pass\n",
    "parameter": "    def g(a: int): pass\n",
    "result": "    async def g(a) -> int: pass\n",
}


@pytest.mark.parametrize("case", ANNOTATED)
def test_annotations_that_something_can_read_count(project, case):
    text = f"def f(x):\n{ANNOTATED[case]}    return locals()\n"
    assert fingerprint(project, text) != fingerprint(project, text.replace("int", "str"))


def test_annotations_of_variables_and_of_the_function_itself_do_not_count(project):
    text = "def f(x: int, *a: int, **k: int) -> int:\n    y: int = x\n    x.z: int = 1\n    u: int\n    return y\n"
    assert fingerprint(project, text) == fingerprint(project, text.replace("int", "str"))


MOVED = """
import pathlib, sys
import moved
from kachery_tasks.code import fingerprint_of
before = fingerprint_of(moved.f).digest
path = pathlib.Path(moved.__file__)
path.write_text("# above" + chr(10) + path.read_text())
assert fingerprint_of(moved.f).digest == before
path.write_text(path.read_text().replace("= x", "= -x"))
fingerprint_of(moved.f)
"""


def test_a_function_with_a_class_inside_is_believed_elsewhere_in_its_file(project, pythons):
    text = """
    def f(x):
        class C:
            def __init__(self):
                self.one = self.two = x
        return C
    """
    for python in pythons.values():
        write(project / "moved.py", text)
        done = run_python(
            MOVED, python=python, env={"PYTHONPATH": f"{project}:{ROOT}"}, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "SourceWarning" in done.stderr  # when it is other code


def test_source_that_python_warns_about_is_believed(project):
    text = "def f(x):\n    return '\\d', x is 1\n"
    done = run_python(
        "import warnings; warnings.simplefilter('ignore'); import w; warnings.simplefilter('error');"
        "from kachery_tasks.code import fingerprint_of; print(fingerprint_of(w.f).digest)",
        cwd=write(project / "w.py", text).parent,
    )
    assert len(done.stdout.split()[0]) == 64
