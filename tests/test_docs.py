"""What the documentation shows runs, and every public name and command is in the reference.

The ```python blocks of a page are one program; ```console lines that start with `$ ` run between them.
Comments of HTML, which no reader sees, say what else is to be known:

    <!-- hidden ... -->       Python that the page does not show: data, functions, `stand_for(shown, real)`
    <!-- not run: why -->     of the next block
    <!-- file: NAME -->       the next block is the text of a file
    <!-- exit: 1 -->          of the commands of the next block
    <!-- needs: bucket -->    a real one: DOCS_BUCKET and DOCS_ENDPOINT name it
    <!-- needs: slurm -->     a real one of a single node

page_runner.py runs them. Of commands it runs those of kachery, `python` and `export`.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import click
import pytest

import kachery
from kachery.cli import cli

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    if path.name != "tutorial.md"  # a notebook: it runs when the site is built
)
# How many blocks are not run, and why. Another one is a decision: say it here.
NOT_RUN = {
    "it needs a scheduler somewhere else": 1,
}
_PIECE = re.compile(
    r"^<!-- (?P<word>hidden|not run|file|exit|needs)(?P<rest>.*?)-->$"
    r"|^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """A piece of a page that is to be run, or not: then `why_not` says why."""

    language: str
    text: str
    line: int  # of the text's first line
    file: str = ""
    exit: int = 0
    why_not: str = ""


def blocks_of(page):
    """The blocks of a page in order, and what the page needs."""
    text = (ROOT / page).read_text()
    blocks, needs, said = [], set(), {}
    for piece in _PIECE.finditer(text):
        word, rest = piece["word"], (piece["rest"] or "").removeprefix(":")
        line = text.count("\n", 0, piece.start()) + 2
        if word == "hidden":
            blocks.append(Block("python", rest.removeprefix("\n"), line))
        elif word == "needs":
            needs.add(rest.strip())
        elif word:
            said[word] = rest.strip()
        else:
            options = {"file": said.get("file", ""), "exit": int(said.get("exit", 0))}
            why_not = said.get("not run", "")
            blocks.append(Block(piece["language"], piece["text"], line, why_not=why_not, **options))
            said = {}
    assert not said, f"{page}: nothing follows {said}"
    return [
        block for block in blocks if block.file or block.language in ("python", "console")
    ], needs


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)[0]])
def test_examples_run(page, request, tmp_path, monkeypatch):
    blocks, needs = blocks_of(page)
    if "bucket" in needs:
        bucket = request.getfixturevalue("bucket")
        monkeypatch.setenv("DOCS_BUCKET", bucket.url)
        monkeypatch.setenv("DOCS_ENDPOINT", bucket.endpoint)
    if "slurm" in needs:
        request.getfixturevalue("slurm")
    folder = tmp_path / "page"
    folder.mkdir()
    blocks = [block[:5] for block in blocks if not block.why_not]
    (folder / "blocks.json").write_text(json.dumps(blocks))
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
    }
    done = subprocess.run(
        [sys.executable, ROOT / "tests/page_runner.py", "blocks.json"],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=200,
    )
    assert done.returncode == 0, f"{page}\n{done.stdout[-4000:]}"


def test_what_is_not_run_is_counted():
    reasons = [block.why_not for page in PAGES for block in blocks_of(page)[0] if block.why_not]
    assert {reason: reasons.count(reason) for reason in reasons} == NOT_RUN


def test_every_public_name_is_in_the_reference_made_of_docstrings():
    text = (ROOT / "docs/api.md").read_text()
    named = re.findall(
        r"^\.\. auto(?:function|class|exception):: kachery\.(\w+)$", text, re.MULTILINE
    )
    assert sorted(named) == sorted(set(kachery.__all__) - {"__version__"})


def commands_below(group, path=""):
    for name, command in group.commands.items():
        yield f"{path} {name}".strip(), command
        if isinstance(command, click.Group):
            yield from commands_below(command, f"{path} {name}".strip())


def test_every_command_says_what_it_does_and_is_in_the_reference():
    text = (ROOT / "docs/reference.md").read_text()
    for path, command in commands_below(cli):
        assert (command.help or "").strip(), path
        assert re.search(rf"\b{path.split()[-1]}\b", text), path


def test_every_page_is_reached():
    """Each page is in a table of contents, and each entry of one is a page."""
    listed = set()
    for index in (ROOT / "docs").rglob("index.md"):
        for toctree in re.findall(r"```{toctree}\n(.*?)```", index.read_text(), re.DOTALL):
            for entry in toctree.splitlines():
                entry = entry.partition(" <")[2].rstrip(">") or entry
                if entry and not entry.startswith(":"):
                    listed |= set(index.parent.glob(f"{entry}.md"))
                    assert list(index.parent.glob(f"{entry}.md")), entry
    there = set((ROOT / "docs").rglob("*.md")) - {ROOT / "docs/index.md"}
    assert there == listed


def test_links_between_pages_lead_somewhere():
    for page in [*PAGES, "docs/tutorial.md"]:
        text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if "://" not in link:
                assert ((ROOT / page).parent / link).exists(), f"{page}: {link}"
