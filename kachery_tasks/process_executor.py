"""Running jobs in other processes of this machine.

Each is a fresh interpreter that takes one order after another. It does not import the program's
`__main__`, as those of `multiprocessing` do: what is defined there travels by value. A process that
dies takes nothing along but the job that it was at.
"""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection

import cloudpickle

from kachery_store.errors import KacheryError
from kachery_store.identity import environment_without_key

from .cache import Outcome
from .errors import CodeMismatch, WorkerLost
from .job import Job
from .local_executor import LocalExecutor
from .orders import Orders
from .settings import Settings
from .worker import carry_out

_PROGRAM = """\
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for those who wait
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
sys.path[:] = {path!r}
from kachery_tasks.process_executor import serve
serve({orders}, {life})
"""


class ProcessExecutor(LocalExecutor):
    """As many processes as the machine has processors; a thread of this process waits for each."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._orders = Orders(settings)

    def carry_out(self, job: Job) -> Outcome:
        """Get one job done, in a process; its inputs are done."""
        self._orders.begin()
        known = {}
        for one in job.inputs:
            outcome = one.started().result()
            if one.runner is not job.runner:  # of another store
                outcome = Outcome(None, one.runner.value_of(outcome))
            known[one.key] = outcome
        order = cloudpickle.dumps(self._orders.order(job, [], known, keep_value=False))
        try:
            return _carried_out(order, job)
        except CodeMismatch:  # it may have modules that were edited and loaded again since it began
            return _carried_out(order, job, afresh=True)


def _carried_out(order: bytes, job: Job, *, afresh: bool = False) -> Outcome:
    with _process(afresh=afresh) as process:
        try:
            answer = process.ask(order)
        except (EOFError, OSError) as error:
            raise WorkerLost(
                f"the process (pid {process.pid}) that ran {job.task} (job {job.key}) {process.end()}."
                " Most often the machine runs out of memory, or a library crashes. The others go on,"
                " and nothing of this job is stored: ask again"
            ) from error
        outcome, failure = pickle.loads(answer)
        if isinstance(failure, CodeMismatch):
            raise failure  # this process is of no use any more
    if failure is not None:
        raise failure
    return outcome  # type: ignore[no-any-return]


class _Process:
    """One process that carries out orders. It ends when this one does, however that ends."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        life, ours_of_life = os.pipe()  # they see the end of it when nobody has the other end
        self._life: int | None = ours_of_life
        self._orders = Connection(ours.detach())
        program = _PROGRAM.format(path=sys.path, orders=theirs.fileno(), life=life)
        flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
        # Inherited: a Ctrl-C while the process begins is kept back until it can ignore it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this very interpreter
                [sys.executable, *flags, "-c", program],
                pass_fds=(theirs.fileno(), life),
                stdin=subprocess.DEVNULL,
                env=environment_without_key(),  # a key of their own comes with their orders
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
            os.close(life)
        self.pid = self._process.pid

    def ask(self, order: bytes) -> bytes:
        """The answer to an order. EOFError or OSError when the process ends instead."""
        self._orders.send_bytes(order)
        return self._orders.recv_bytes()

    def end(self) -> str:
        """End the process; how it had ended, if it had."""
        self._let_go()
        try:
            code = self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"

    def forget(self) -> None:
        """Leave the process to its parent: this is a forked child of that."""
        self._process.returncode = 0
        self._let_go()

    def _let_go(self) -> None:
        self._orders.close()
        if self._life is not None:
            os.close(self._life)
        self._life = None


_idle: list[_Process] = []
_busy: set[_Process] = set()


@contextmanager
def _process(*, afresh: bool) -> Iterator[_Process]:
    """A process for one order: one that is idle, or a new one; afterwards others may have it."""
    process = _Process() if afresh else _idle_process() or _Process()
    _busy.add(process)
    try:
        yield process
    except BaseException:
        process.end()
        raise
    else:
        if len(_idle) < (os.cpu_count() or 1):
            _idle.append(process)
        else:
            process.end()
    finally:
        _busy.discard(process)


def _idle_process() -> _Process | None:
    try:
        return _idle.pop()
    except IndexError:
        return None


@atexit.register
def _end_idle() -> None:
    while process := _idle_process():
        process.end()


def _forget_after_fork() -> None:
    for process in (*_idle, *_busy):
        process.forget()
    _idle.clear()
    _busy.clear()


os.register_at_fork(after_in_child=_forget_after_fork)


# In the process


def serve(orders: int, life: int) -> None:
    """Carry out orders until nobody gives any."""
    connection = Connection(orders)
    os.register_at_fork(after_in_child=lambda: _let_go(connection, life))
    threading.Thread(target=_end_with, args=(life,), daemon=True).start()
    while True:
        try:
            order = connection.recv_bytes()
        except (EOFError, OSError):
            return
        connection.send_bytes(_answer(order))


def _let_go(orders: Connection, life: int) -> None:
    """In a child that a task forked: it may outlive this process, whose end nobody would see then."""
    orders.close()
    with suppress(OSError):  # a child of such a child has it no more
        os.close(life)


def _end_with(life: int) -> None:
    os.read(life, 1)  # nothing is ever written: this returns when the other end is gone
    os._exit(0)


def _answer(order: bytes) -> bytes:
    outcome = failure = None
    try:
        outcome = carry_out(cloudpickle.loads(order))
    except BaseException as error:  # noqa: BLE001 - it is the caller's
        failure = error
        failure.add_note(f"in process {os.getpid()}:\n{''.join(traceback.format_exception(error))}")
    try:
        return _dumps(outcome, failure)
    except Exception as error:  # noqa: BLE001 - an exception that cannot be pickled
        text = f"{type(failure).__name__}: {failure} (it cannot be sent between processes: {error})"
        return _dumps(None, KacheryError(text))


def _dumps(outcome: Outcome | None, failure: BaseException | None) -> bytes:
    data: bytes = cloudpickle.dumps((outcome, failure))
    pickle.loads(data)  # some exceptions can only be pickled
    return data
