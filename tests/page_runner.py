"""Runs the blocks of a page in order, in this process: python page_runner.py BLOCKS.json

The file has [language, text, line, file, exit code] of each block. Each block of Python is a file of its
own, in which the lines have the numbers that they have on the page.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

_stands = {}


def stand_for(shown, real):
    """From now on read `real` where a block says `shown`, a shortened id for example."""
    _stands[shown] = str(real)


def _real(text):
    for shown, real in _stands.items():
        text = text.replace(shown, real)
    return text


def _run_python(text, line):
    path = Path(f"block_{line}.py").absolute()
    path.write_text("\n" * (line - 1) + text)
    exec(compile(path.read_text(), path, "exec"), sys.modules["__main__"].__dict__)


def _run_console(text, expected):
    import os

    for command in re.findall(r"^\$ (.*)$", text, re.MULTILINE):
        if setting := re.fullmatch(r"export (\w+)=(\S+)", command):
            os.environ[setting[1]] = setting[2]
        elif command.startswith(("kachery", "python ")):
            done = subprocess.run(
                command, shell=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            print(f"$ {command}\n{done.stdout}", flush=True)
            assert done.returncode == expected, f"exit code {done.returncode} of: {command}"


def _run(language, text, line, file, expected):
    text = _real(text)
    if file:
        Path(file).write_text(text)
    elif language == "console":
        _run_console(text, expected)
    else:
        _run_python(text, line)


if __name__ == "__main__":
    sys.path.insert(0, "")
    for _block in json.loads(Path(sys.argv[1]).read_text()):
        _run(*_block)
