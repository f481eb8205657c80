"""Real notebooks, executed by real kernels: cells run again with other code, interrupts, what is shown."""

import asyncio
from pathlib import Path

import nbformat
import pytest
from conftest import write
from nbclient import NotebookClient

PATIENCE = 40  # seconds; a cell that does not come back fails its test


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Opens notebooks in one folder, each with a kernel of its own."""
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    folder = tmp_path / "notebook"
    folder.mkdir()
    opened = []

    def open_one():
        opened.append(Notebook(folder))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


class Notebook:
    def __init__(self, folder):
        self.folder = folder
        self.nb = nbformat.v4.new_notebook()
        self.client = NotebookClient(
            self.nb,
            timeout=PATIENCE,
            allow_errors=True,
            shutdown_kernel="immediate",
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
        )
        self._loop = asyncio.new_event_loop()
        self._kernel = self.client.async_setup_kernel(cwd=str(folder))
        self._wait(self._kernel.__aenter__())

    def _wait(self, coroutine):
        return self._loop.run_until_complete(coroutine)

    def run(self, code):
        """What a new cell puts out."""
        return self._wait(self._run(code))

    async def _run(self, code):
        cell = nbformat.v4.new_code_cell(code)
        self.nb.cells.append(cell)
        await self.client.async_execute_cell(cell, len(self.nb.cells) - 1)
        return Shown(cell.outputs)

    def interrupted(self, code):
        """What a cell puts out that is interrupted as soon as it has made the file `started`."""
        started = self.folder / "started"
        started.unlink(missing_ok=True)

        async def interrupt():
            end = self._loop.time() + PATIENCE
            while not started.exists() and self._loop.time() < end:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.005)
            await self.client.km.interrupt_kernel()

        async def both():
            return (await asyncio.gather(self._run(code), interrupt()))[0]

        return self._wait(both())

    def close(self):
        self._wait(self._kernel.__aexit__(None, None, None))
        self._loop.close()


class Shown:
    """The outputs of a cell: text, errors, standard output, and what its last line gave."""

    def __init__(self, outputs):
        self.out = "".join(one.text for one in outputs if one.get("name") == "stdout")
        self.err = "".join(one.text for one in outputs if one.get("name") == "stderr")
        self.errors = [one.ename for one in outputs if one.output_type == "error"]
        data = [one.data for one in outputs if one.output_type == "execute_result"]
        self.value = data[0]["text/plain"] if data else None
        self.html = data[0].get("text/html", "") if data else ""


TASK = """
import os, kachery

offset = 1

def shifted(n):
    return n + offset

@kachery.task
def f(n):
    print("computed")
    return shifted(n)
"""

MODULE = """
    import kachery

    def inner(n):
        return n + 1

    @kachery.task
    def imported(n):
        print("computed")
        return inner(n){0}

    @kachery.Memory("remembered").cache
    def remembered(n):
        return inner(n){0}
"""


def test_cells_that_run_again_with_other_code(notebook):
    first = notebook()
    first.run(TASK)
    computed = ("computed\n", "2", "", [])

    def asked(code):
        shown = first.run(code)
        return shown.out, shown.value, shown.err, shown.errors

    assert asked("f(1)") == computed
    assert asked("f(1)") == ("", "2", "", [])
    first.run("def shifted(n):\n    return n + offset + 100")  # what it calls
    assert asked("f(1)") == ("computed\n", "102", "", [])
    first.run("def shifted(n):\n    return n + offset")
    assert asked("f(1)") == ("", "2", "", [])
    assert asked("offset = 7\nf(1)") == ("computed\n", "8", "", [])
    assert asked("offset = 1\nf(1)") == ("", "2", "", [])
    assert asked(TASK.replace("shifted(n)\n", "-shifted(n)\n") + "f(1)")[:2] == ("computed\n", "-2")
    assert asked(TASK + "f(1)") == ("", "2", "", [])
    assert asked("await f.job(1)") == ("", "2", "", [])

    # The module that a cell imports from is edited
    module = write(first.folder / "edited.py", MODULE.format(""))
    first.run("%load_ext autoreload\n%autoreload 2")
    assert asked("from edited import remembered, imported as mine\nmine(1)") == computed
    assert first.run("remembered(1)").value == "2"
    write(module, MODULE.format(" * 10"))
    assert asked("mine(1)") == ("computed\n", "20", "", [])
    assert first.run("remembered(1)").value == "20"
    write(module, MODULE.format("").replace("n + 1", "n + 5"))
    assert asked("mine(1)") == ("computed\n", "6", "", [])
    write(module, MODULE.format(""))
    assert asked("mine(1)") == ("", "2", "", [])

    # What is warned of is said once, and points at the cell
    shown = first.run(
        "@kachery.task\ndef grows(x):\n    x.append(1)\n    return x\n\nfor _ in range(3):\n    grows([])"
    )
    assert shown.err.count("ImpureTaskWarning") == 1 and "\n  grows([])" in shown.err

    # How things show themselves
    shown = first.run("f")
    assert shown.value.startswith("<task __main__:f(n), line 8 of a cell>")
    assert "<code>line 8 of a cell</code>" in shown.html
    shown = first.run("job = f.job(f.job(1))\njob")
    assert "<svg" in shown.html and "not started" in shown.value
    assert "f" in first.run("job.result(); kachery.lineage(job)").html

    second = notebook()  # the same after a restart
    shown = second.run(TASK + "f(1)")
    assert (shown.out, shown.value) == ("", "2")
    assert second.run("from edited import imported\nimported(1)").value == "2"


WAITING = """
import kachery, os, time
from pathlib import Path

FOLDER = os.getcwd()

@kachery.task
def waits(n):
    with open(f"{FOLDER}/calls", "a") as calls:
        calls.write(f"{n} ")
    Path(FOLDER, "started").touch()
    while not Path(FOLDER, "go").exists():
        time.sleep(0.01)
    return n
"""
GATHERED = "jobs = [waits.job(n) for n in range({}, {})]\nkachery.gather(jobs)"


def files_of(store):
    return [path for path in Path(store).rglob("*") if path.is_file()]


def test_an_interrupt(notebook, store_dir):
    """Of a call, of jobs on threads, in processes and on a cluster: each is back at once, and goes on."""
    one = notebook()
    one.run(WAITING + "import kachery_store.progress as progress\nprogress.SHOW_AFTER = 0.0")
    go, calls = one.folder / "go", one.folder / "calls"
    go.touch()
    one.run("waits(-1)")

    def begin():
        go.unlink()
        calls.unlink()

    begin()
    before = files_of(store_dir)
    assert one.interrupted("waits(0)").errors == ["KeyboardInterrupt"]
    assert files_of(store_dir) == before  # no lease, nothing half-written
    go.touch()
    assert one.run("waits(0)").value == "0"
    assert calls.read_text().split() == ["0", "0"]

    def cancelled():
        """How many jobs are as if nobody had asked for them; the others were at work already."""
        count = int(one.run("sum(job.future is None for job in jobs)").value)
        at_work = int(one.run("sum(job.status == 'running' for job in jobs)").value)
        assert count + at_work == 10
        return count

    begin()
    shown = one.interrupted(GATHERED.format(10, 20))
    assert shown.errors == ["KeyboardInterrupt"] and "Warning" not in shown.err
    assert 0 < cancelled() < 10
    go.touch()
    shown = one.run("kachery.gather(jobs)")  # what runs is waited for, and the others begin
    assert shown.value == str([*range(10, 20)])
    assert "10/10" in shown.err and "Warning" not in shown.err
    assert sorted(calls.read_text().split()) == [str(n) for n in range(10, 20)]

    begin()
    completed = GATHERED.format(50, 60).replace(
        "kachery.gather(jobs)", "list(kachery.as_completed(jobs))"
    )
    assert one.interrupted(completed).errors == ["KeyboardInterrupt"]
    at_work = 10 - cancelled()
    go.touch()
    one.run("[job.result() for job in jobs if job.future]")
    assert len(calls.read_text().split()) == at_work < 10

    begin()
    one.run("kachery.configure(executor='processes')")
    assert one.interrupted(GATHERED.format(20, 30)).errors == ["KeyboardInterrupt"]
    go.touch()
    assert one.run("kachery.gather(jobs)").value == str([*range(20, 30)])
    assert sorted(calls.read_text().split()) == [str(n) for n in range(20, 30)]

    begin()
    one.run(
        "from distributed import Client\n"
        "client = Client(n_workers=2, threads_per_worker=1, dashboard_address='127.0.0.1:0')"
    )
    workers = "sorted(client.run(os.getpid).values())"
    pids = one.run(workers).value
    assert one.interrupted(GATHERED.format(30, 40)).errors == ["KeyboardInterrupt"]
    assert cancelled() == 10
    go.touch()
    assert one.run("kachery.gather(jobs)").value == str([*range(30, 40)])
    assert one.run(workers).value == pids  # they were interrupted too, and went on
    assert sorted(calls.read_text().split()) == [str(n) for n in range(30, 40)]
    one.run("client.shutdown()")
