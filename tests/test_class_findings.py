"""Classes and wrappers: edits that must be noticed, and names that must not be taken for tags."""

import importlib
import os
import subprocess
import sys

import pytest
from conftest import write
from test_fingerprint_pythons import pythons  # noqa: F401 - a fixture

import kachery
from kachery_tasks.code import fingerprint_of
from kachery_tasks.code.classes import described_call
from kachery_tasks.code.compare import changes, coverage_of
from kachery_tasks.code.reach import Reach

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(kachery.__file__)))


def taken(project, text, name="f", module="found"):
    write(project / f"{module}.py", text)
    importlib.invalidate_caches()
    sys.modules.pop(module, None)
    return fingerprint_of(getattr(importlib.import_module(module), name))


MODEL = "import pydantic, typing as t, functools\ndef v(s, k=1): return s * k\nclass P(pydantic.BaseModel):\n    "
USE = "\ndef f(x):\n    return P, x\n"
CLASS = "\ndef f(x):\n    return A, x\n"
EDITS = {
    "constraint beside a validator": (
        MODEL
        + "x: t.Annotated[str, pydantic.AfterValidator(v), pydantic.Field(pattern='$')]"
        + USE,
        "ab",
    ),
    "validator beside a constraint": (
        MODEL
        + "x: t.Annotated[str, pydantic.AfterValidator(lambda s: s * $), pydantic.Field(pattern='a')]"
        + USE,
        "12",
    ),
    "validator that is partial": (
        MODEL + "x: t.Annotated[int, pydantic.BeforeValidator(functools.partial(v, k=$))]" + USE,
        "12",
    ),
    "constraint inside a list": (
        MODEL + "x: list[t.Annotated[int, pydantic.Field(gt=$)]]" + USE,
        "12",
    ),
    "constraint that may be None": (
        MODEL + "x: t.Optional[t.Annotated[int, pydantic.Field(gt=$)]] = None" + USE,
        "12",
    ),
    "serializer": (
        MODEL + "x: t.Annotated[int, pydantic.PlainSerializer(lambda v: v * $)]" + USE,
        "12",
    ),
    "generic class in an annotation": (
        "import pydantic, typing as t\nT = t.TypeVar('T')\nclass B(t.Generic[T]):\n    n = $\n"
        "    @classmethod\n    def __get_pydantic_core_schema__(c, s, h):\n        return h(int)\n"
        "class P(pydantic.BaseModel):\n    x: B[int]" + USE,
        "12",
    ),
    "generic class": (
        "import typing as t\nT = t.TypeVar('T')\nclass B(t.Generic[T]):\n    n = $\nA = B[int]"
        + CLASS,
        "12",
    ),
    **{
        f"dataclass of pydantic, {name}": (
            f"import pydantic\n@pydantic.dataclasses.dataclass{line}\ndef f(x):\n    return P, x\n",
            values,
        )
        for name, line, values in (
            ("annotation", "\nclass P:\n    x: $", ("int", "str")),
            ("default", "\nclass P:\n    x: int = pydantic.Field(3, gt=$)", "12"),
            ("field", "\nclass P:\n    x: int = pydantic.Field(gt=$)", "12"),
            ("configuration", "(config={'strict': $})\nclass P:\n    x: int", ("True", "False")),
        )
    },
    "attribute called model": (MODEL + "x: int\n    dataclass: t.ClassVar = $" + USE, "12"),
    "subclass of property": (
        "class cp(property):\n    def __get__(self, o, c=None): return $\nclass A:\n    @cp\n    def r(c): pass"
        + CLASS,
        "12",
    ),
    "subclass of partial": (
        "import functools\nclass Q(functools.partial):\n    def __call__(self): return $\nA = Q(abs)"
        + CLASS,
        "12",
    ),
    "attribute of a subclass of partial": (
        "import functools\nclass Q(functools.partial): pass\nA = Q(abs)\nA.rate = $" + CLASS,
        "12",
    ),
    "subclass of cached_property": (
        "import functools\nclass cp(functools.cached_property):\n    def __get__(self, o, c=None): return $\n"
        "class A:\n    @cp\n    def r(c): pass" + CLASS,
        "12",
    ),
    "subclass of classmethod": (
        "class cm(classmethod):\n    def __get__(self, o, c=None): return $\nclass A:\n    @cm\n"
        "    def r(c): pass" + CLASS,
        "12",
    ),
    "otypes of vectorize": (
        "import numpy as np\nA = np.vectorize(lambda x: x, otypes='$')" + CLASS,
        "if",
    ),
    "signature of vectorize": (
        "import numpy as np\nA = np.vectorize(lambda x: x, signature=$)" + CLASS,
        ("None", "'(n)->()'"),
    ),
    "typed lru_cache": (
        "import functools\nA = functools.lru_cache(typed=$)(lambda x: x)" + CLASS,
        ("True", "False"),
    ),
    "errstate": (
        "import numpy as np\n@np.errstate(divide='$')\ndef A(x): return x" + CLASS,
        ("raise", "ignore"),
    ),
    "context manager as a decorator": (
        "import contextlib\n@contextlib.contextmanager\ndef cm(k): yield\n@cm($)\ndef A(x): return x"
        + CLASS,
        "12",
    ),
    "attribute given to an enum": (
        "import enum\nclass A(enum.Enum):\n    X = 1\nA._k = $" + CLASS,
        "12",
    ),
    "private attribute of an enum": (
        "import enum\nclass A(enum.Enum):\n    X = 1\n    __table = {'a': $}" + CLASS,
        "12",
    ),
    "dunder attribute of an enum": (
        "import enum\nclass A(enum.Enum):\n    X = 1\n    __w__ = $" + CLASS,
        "12",
    ),
    "text of an enum": (
        "import enum\nclass A(str, enum.Enum):\n    X = 'a'\n    $ = str.__str__" + CLASS,
        ("__str__", "__other__"),
    ),
    "default of a context variable": (
        "import contextvars\nA = contextvars.ContextVar('a', default=$)" + CLASS,
        "12",
    ),
    "weak reference to a function": (
        "import weakref\ndef h(x): return $\nA = weakref.ref(h)" + CLASS,
        "12",
    ),
    "annotation that a metaclass reads": ("class A:\n    x: $" + CLASS, ("int", "list[int]")),
    "annotation of a dataclass": (
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: $" + CLASS,
        ("int", "'int | None'"),
    ),
    "typed dict": ("import typing\nclass A(typing.TypedDict):\n    x: $" + CLASS, ("int", "str")),
    "own method in <string>": (
        "source = '''\nimport dataclasses\n@dataclasses.dataclass(repr=False)\nclass A:\n    x: int\n"
        "    def __eq__(s, o): return $\n'''\nns = {'__name__': __name__}\n"
        "exec(compile(source, '<string>', 'exec'), ns)\nA = ns['A']" + CLASS,
        "12",
    ),
    "order of members": (
        "import enum\nclass A(enum.Enum):\n    $" + CLASS,
        ("X = 1; Y = 2", "Y = 2; X = 1"),
    ),
}


@pytest.mark.filterwarnings("ignore::kachery.SourceWarning")
@pytest.mark.parametrize("case", EDITS)
def test_an_edit_is_noticed(project, case):
    text, (before, after) = EDITS[case]
    first, again, second = (
        taken(project, text.replace("$", value)).digest for value in (before, before, after)
    )
    assert first == again != second


TAGS = ("node", "value", "name", "inert", "unidentified", "missing", "task")


@pytest.mark.parametrize("tag", TAGS)
def test_names_of_users_are_not_taken_for_tags(project, tag):
    text = f"""
import attrs, dataclasses, enum, pydantic
class E(enum.Enum):
    {tag} = @
@dataclasses.dataclass
class D:
    {tag}: int = @
@attrs.define
class A:
    {tag}: int = @
class M(pydantic.BaseModel):
    {tag}: int = @
    @pydantic.field_validator("{tag}")
    def {tag}_validated(cls, v): return v
class T:
    {tag} = @
    model = enum = 1
def f(x):
    return E, D, A, M, T
"""
    one, two = (taken(project, text.replace("= @", f"= {n}")).description for n in (1, 2))
    assert len({change.what for change in changes(one, two)}) >= 5
    assert {"found:A", "found:D", "found:E", "found:M", "found:T"} < set(coverage_of(one).code)


def test_what_validate_call_validates_counts(project):
    text = "import pydantic, typing as t\n@pydantic.validate_call\ndef f(x: t.Annotated[int, pydantic.Field(gt=1)]): pass\n"
    described = []
    for edited in (text, text.replace("gt=1", "gt=2"), text.replace("[int", "[float")):
        write(project / "found.py", edited)
        importlib.invalidate_caches()
        sys.modules.pop("found", None)
        function = importlib.import_module("found").f
        described.append(repr(described_call(Reach(""), function)))
    assert len(set(described)) == 3


def test_what_kachery_finds_of_enums_and_protocols_is_the_same_on_every_python(project, pythons):  # noqa: F811
    write(project / "kinds.py", KINDS)
    printed = {
        subprocess.run(
            [python, "kinds.py"],
            cwd=project,
            env={**os.environ, "PYTHONPATH": ROOT},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for python in (sys.executable, *pythons.values())
    }
    assert len(printed) == 1


KINDS = """
import enum, typing
from typing import Protocol, TypedDict
class A(enum.Flag): X = enum.auto(); Y = enum.auto(); XY = X | Y
class B(enum.IntFlag): X = 1; Y = 2
class C(enum.StrEnum): X = enum.auto()
class D(enum.IntEnum): X = 1
class E(float, enum.Enum): X = 1.0
class F(tuple, enum.Enum): X = 1, 2
class G(str, enum.Enum):
    X = "a"
    __str__ = str.__str__
class H(enum.Enum):
    X = 1
    __table = {"a": 1}
    _ignore_ = ["y"]
    def __new__(cls, value):
        made = object.__new__(cls)
        made._value_ = value
        return made
    def _generate_next_value_(name, *rest): return name
    @classmethod
    def _missing_(cls, value): return cls.X
    @property
    def p(self): return 1
    @enum.property
    def q(self): return 1
    n = enum.nonmember(3)
    def __repr__(self): return "r"
@typing.runtime_checkable
class I(Protocol):
    a: int
    def m(self): ...
class J(I):
    def m(self): return 1
class K(TypedDict, total=False):
    a: typing.Optional[int]
    b: "list[int]"
    c: typing.Callable[[int], str]
    d: typing.Literal["x"]
from kachery_tasks.code.reach import Reach
for kind in (A, B, C, D, E, F, G, H, I, J, K):
    reach = Reach("")
    reach.class_(kind)
    print(reach.nodes)
"""
