"""Functions of notebook cells, compiled as IPython compiles them: one statement at a time."""

import ast
import linecache
import types

import pytest

import kachery


def run_cell(text, filename, namespace):
    """What IPython does with a cell: its text goes to linecache, and each statement is run alone."""
    lines = [line + "\n" for line in text.splitlines()]
    linecache.cache[filename] = (len(text), None, lines, filename)
    for statement in ast.parse(text).body:
        exec(compile(ast.Module([statement], []), filename, "exec"), namespace)


CELL = """
import numpy as np
import kachery

@kachery.task
def spectrum(frames):{comment}
    return np.abs(np.fft.rfft(frames)).sum()

other = 3
"""


def job_of(tmp_path, name, **changes):
    module = types.ModuleType("cells")
    run_cell(CELL.format(**changes), str(tmp_path / name), module.__dict__)
    return module.spectrum.job([1.0, 2.0])


def test_a_cell_that_imports_what_its_function_calls(tmp_path):
    """Warnings are errors here: that the source is not what runs would be one."""
    first = job_of(tmp_path, "1.py", comment="")
    assert first.id == job_of(tmp_path, "2.py", comment="  # a comment").id
    assert first.result() == 4.0


def test_a_cell_whose_text_is_another_is_not_believed(tmp_path):
    module = types.ModuleType("cells")
    filename = str(tmp_path / "1.py")
    text = CELL.format(comment="").replace(".sum()", ".min()")
    run_cell(text, filename, module.__dict__)
    text = text.replace(".min()", ".max()")
    lines = [line + "\n" for line in text.splitlines()]
    linecache.cache[filename] = (len(text), None, lines, filename)
    with pytest.warns(kachery.SourceWarning, match="is not what runs here"):
        assert module.spectrum.job([1.0, 2.0]).id
