"""The benchmark against other libraries: what it measures is checked, and what fails is shown, not raised."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def parts(monkeypatch):
    """The parts of the benchmark, which is no package that is installed."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from peers_run import driver, libraries, plan, report

    return driver, libraries, plan, report


def test_one_command_measures_and_shows_what_fails(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- peers: begin -->\nold\n<!-- peers: end -->\nafter\n")
    command = [sys.executable, BENCHMARKS / "peers.py", "--here", "--quick", "--dir", tmp_path]
    subprocess.run(
        [*command, "--only", "small", "--peers", "by_hand,exca", "--into", page],
        check=True,
        stdout=subprocess.PIPE,
        timeout=200,
    )
    text = page.read_text()
    assert text.startswith("before\n<!-- peers: begin -->\n")
    assert text.endswith("<!-- peers: end -->\nafter\n")
    assert "old" not in text
    row = next(line for line in text.splitlines() if line.startswith("| small call, hit | "))
    assert row.split(" | ")[1].endswith("µs"), text
    whole = [line for line in text.splitlines() if line.startswith("| small call, miss |")][1]
    _, kachery, exca, by_hand = (cell.strip() for cell in whole.strip("|").split("|"))
    assert kachery.endswith("s")
    assert by_hand.endswith("s")
    assert exca == "fails [1]", "it is installed here: test with a library that is not"
    assert "ModuleNotFoundError" in text
    assert sorted(os.listdir(tmp_path)) == ["page.md"], "temporary folders were left"


COLLIDING = """
from peers_run.adapters.adapter import Adapter

class Peer(Adapter):
    def memoize(self, function):
        kept = {}
        def memoized(array):
            if len(array) not in kept:
                kept[len(array)] = function(array)
            return kept[len(array)]
        return memoized
"""

WITH_COLLIDING = """#!{python}
import runpy, sys
import peers_run.adapters
peers_run.adapters.__path__.append({folder!r})
sys.argv = sys.argv[2:]  # behind `-m`
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def program(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_a_library_that_takes_one_array_for_another_is_marked_and_never_first(parts, tmp_path):
    driver, libraries, plan, report = parts
    (tmp_path / "colliding.py").write_text(COLLIDING)
    text = WITH_COLLIDING.format(python=sys.executable, folder=str(tmp_path))
    entrant = libraries.Library("colliding", ()), program(tmp_path / "python", text)
    workload = next(one for one in plan.workloads(quick=True) if one.kind == "argument")
    place = tmp_path / "run"
    place.mkdir()
    outcomes = driver.run(workload, [entrant], place, 60.0)
    assert outcomes["colliding"].marks == ("collides",), outcomes
    line = report.lines_of([(workload, outcomes)])[0]
    assert line.figure("colliding") > 0
    assert line.first([entrant[0]]) is None


def test_a_library_that_takes_too_long_is_shown_as_such(parts, tmp_path):
    driver, libraries, plan, report = parts
    slow = program(tmp_path / "slow", "#!/bin/sh\nexec sleep 600\n")
    workload = plan.workloads(quick=True)[0]
    place = tmp_path / "run"
    place.mkdir()
    library = libraries.Library("slow", ())
    outcomes = driver.run(workload, [(library, slow)], place, 0.2)
    assert outcomes["slow"].failures == {"hit": "> 0.2 s", "miss": "> 0.2 s"}
    text = report.report(report.lines_of([(workload, outcomes)]), [library], {})
    assert "| > 0.2 s |" in text


def test_what_cannot_end_in_time_is_given_up_early(parts):
    from peers_run.context import Context, TooSlow
    from peers_run.together import Many

    context = Context("any", "", "", None, 1.0)
    asked = []
    with pytest.raises(TooSlow, match=r"of 1,000,000,000 within 0 s"):
        Many(context, 10**9)._fill(lambda *call: asked.append(call))
    assert asked[0] == (0, 0.5)


def test_how_costs_grow_is_measured_by_one_command(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- growth: begin -->\nold\n<!-- growth: end -->\nafter\n")
    command = [sys.executable, BENCHMARKS / "growth.py", "--quick", "--dir", tmp_path]
    subprocess.run(
        [*command, "--only", "argument", "result", "--into", page],
        check=True,
        stdout=subprocess.PIPE,
        timeout=200,
    )
    text = page.read_text()
    assert text.startswith("before\n<!-- growth: begin -->\n| size of the argument |")
    assert text.endswith("<!-- growth: end -->\nafter\n") and "old" not in text
    assert text.count("| 1 MB | ") == 2
    assert os.listdir(tmp_path) == ["page.md"], "temporary folders were left"


def test_the_relay_holds_back_what_passes(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from relay import Relay

    with socket.create_server(("127.0.0.1", 0)) as upstream:
        with Relay(f"http://127.0.0.1:{upstream.getsockname()[1]}", 0.1) as relay:
            port = int(relay.endpoint.rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port)) as one:
                there, _ = upstream.accept()
                began = time.monotonic()
                one.sendall(b"question")
                assert there.recv(100) == b"question"
                there.sendall(b"answer")
                assert one.recv(100) == b"answer"
                assert time.monotonic() - began >= 0.1
                there.close()
                assert one.recv(100) == b""
