"""What this Python makes of code that it is given; test_fingerprint_pythons.py compares the answers.

python tests/fingerprints.py syntax    for each function in the files named on stdin, one a line
python tests/fingerprints.py whole     for each function of the packages named on stdin, with a line
                                       `- NODE` for each node that may differ

Both print JSON.
"""

import ast
import dis
import functools
import importlib
import inspect
import json
import linecache
import pkgutil
import re
import sys
import types
import warnings
from pathlib import Path

from kachery_tasks.code import fingerprint_of, reach, source
from kachery_tasks.code.references import references_of
from kachery_tasks.code.source import syntax_of
from kachery_tasks.code.syntax import normalized
from kachery_tasks.errors import CannotFingerprint
from kachery_tasks.values import encode

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
MADE_BY_PYTHON = re.compile(r"<(module|listcomp|setcomp|dictcomp|genexpr|generic parameters .*)>")


# Syntax and references of every function in a text, which does not run


def syntax(lines):
    """{path: a line for each function and class, or None when this Python cannot compile it}."""
    found = {}
    for path in lines:
        found[path] = _of_file(path)
        source._files.clear()  # a program has hundreds of files, not tens of thousands
        linecache.clearcache()
    return found


def _of_file(path):
    data = Path(path).read_bytes()
    try:
        code = compile(data, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    found = {_of_code(one) for one in _loaded(code) if not MADE_BY_PYTHON.match(one.co_name)}
    classes = (node for node in ast.walk(ast.parse(data)) if isinstance(node, ast.ClassDef))
    return sorted(found | set(map(_of_class, classes)))


def _loaded(code):
    # Not all of co_consts: Python 3.11 keeps there what it left out, such as what follows a return.
    yield code
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_CONST" and isinstance(instruction.argval, types.CodeType):
            yield from _loaded(instruction.argval)


def _of_code(code):
    digest = "class body"
    if code.co_flags & inspect.CO_OPTIMIZED:
        node = syntax_of(code)
        digest = "NOT BELIEVED" if node is None else _digest(normalized(node))
    return f"{code.co_firstlineno} {code.co_name} {digest} {_digest(list(references_of(code)))}"


def _of_class(node):
    """A class as it counts inside of a function, but for its functions, which have their own lines."""
    around = ast.parse("def f(): pass").body[0]
    around.body = [node]
    node.body = [part for part in node.body if not isinstance(part, FUNCTIONS)]
    return f"{node.lineno} class {node.name} {_digest(normalized(around))}"


def _digest(plain):
    return encode(plain).address.hex()[:16]


# Whole fingerprints of a package that is the project


def whole(lines):
    """{function: its fingerprint, why it has none, or that it reaches what may differ}."""
    # The digest of a function's syntax is asked for in each fingerprint that reaches it.
    reach.digest_of_code = functools.cache(reach.digest_of_code)
    may_differ = {line.removeprefix("- ") for line in lines if line.startswith("- ")}
    packages = [line for line in lines if not line.startswith("- ")]
    return {
        name: _fingerprint(function, may_differ)
        for package in packages
        for module in _modules(package)
        for name, function in _functions(module)
    }


def _fingerprint(function, may_differ):
    try:
        found = fingerprint_of(function)
    except CannotFingerprint as error:
        return f"CannotFingerprint: {error}"
    named = {name for name, _ in found.description.nodes} & may_differ
    return f"may differ: {min(named)}" if named else found.digest


def _modules(package):
    found = importlib.import_module(package)
    yield found
    for info in pkgutil.walk_packages(found.__path__, f"{package}.", onerror=lambda _: None):
        if info.name.endswith("__main__"):
            continue
        try:
            yield importlib.import_module(info.name)
        except Exception:  # it wants what is not here, or another system
            continue


def _functions(module):
    for name, value in sorted(vars(module).items()):
        if getattr(value, "__module__", None) != module.__name__:
            continue
        members = sorted(vars(value).items()) if isinstance(value, type) else [("", value)]
        for member, inside in members:
            function = _unwrapped(inside)
            if function is not None and function.__code__.co_filename == module.__file__:
                yield f"{module.__name__}:{name}.{member}".rstrip("."), function


def _unwrapped(value):
    for attribute in ("__func__", "fget", "func"):  # of methods, properties, cached properties
        value = value if isinstance(value, types.FunctionType) else getattr(value, attribute, value)
    return value if isinstance(value, types.FunctionType) else None


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    mode = {"syntax": syntax, "whole": whole}[sys.argv[1]]
    answer = mode(sys.stdin.read().splitlines())
    print(json.dumps(answer))
