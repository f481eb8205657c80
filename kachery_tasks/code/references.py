"""What a function names outside itself, read from its compiled code.

(LOAD_GLOBAL np, LOAD_ATTR linalg, LOAD_ATTR norm)   ->   ("np", "linalg", "norm")
(from .steps import smooth) in the body              ->   Import("lab.steps", ("smooth",))
"""

from __future__ import annotations

import dis
import functools
import importlib.util
from collections.abc import Iterator
from types import CodeType
from typing import NamedTuple

_LOADS = frozenset(("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"))
# Where a module is and what it is called is not what its code does.
ABOUT_THE_MODULE = frozenset(
    ("__name__", "__file__", "__doc__", "__spec__", "__package__", "__loader__", "__builtins__")
    + ("__path__", "__cached__", "__warningregistry__", "__annotations__", "__all__")
)


class Import(NamedTuple):
    """An import statement inside a function."""

    module: str
    level: int
    names: tuple[str, ...]

    def absolute(self, package: str) -> str:
        """The module's full name, seen from a package."""
        return importlib.util.resolve_name("." * self.level + self.module, package or None)


class References(NamedTuple):
    """The global names a function reads, each with the attributes it takes of them; its imports."""

    chains: tuple[tuple[str, ...], ...]
    imports: tuple[Import, ...]


@functools.lru_cache(maxsize=4096)
def references_of(code: CodeType) -> References:
    """All references of a code object and of the code nested in it, in a fixed order."""
    chains: set[tuple[str, ...]] = set()
    imports: set[Import] = set()
    codes = [code]
    while codes:
        instructions = _instructions(codes.pop())
        chains.update(_chains(instructions))
        imports.update(_imports(instructions))
        codes += _nested(instructions)
    return References(tuple(sorted(chains)), tuple(sorted(imports)))


def _instructions(code: CodeType) -> list[dis.Instruction]:
    return [i for i in dis.get_instructions(code) if i.opname != "EXTENDED_ARG"]


def _chains(instructions: list[dis.Instruction]) -> Iterator[tuple[str, ...]]:
    chain: tuple[str, ...] = ()
    for instruction in instructions:
        name = instruction.opname
        if chain and name in ("LOAD_ATTR", "LOAD_METHOD"):
            chain = (*chain, instruction.argval)
            continue
        if chain:
            yield chain
        load = name in _LOADS and instruction.argval not in ABOUT_THE_MODULE
        chain = (instruction.argval,) if load else ()


def _imports(instructions: list[dis.Instruction]) -> Iterator[Import]:
    constants: list[object] = []  # the last two loaded: level and names of an import
    for instruction in instructions:
        if instruction.opname == "LOAD_CONST":
            constants = [*constants[-1:], instruction.argval]
        elif instruction.opname == "IMPORT_NAME" and len(constants) == 2:
            level, names = constants
            if isinstance(level, int):
                imported = tuple(map(str, names)) if isinstance(names, tuple) else ()
                yield Import(instruction.argval, level, imported)


def _nested(instructions: list[dis.Instruction]) -> Iterator[CodeType]:
    # Not all of co_consts: Python 3.11 keeps there what follows a return, say.
    for instruction in instructions:
        if instruction.opname == "LOAD_CONST" and isinstance(instruction.argval, CodeType):
            yield instruction.argval
