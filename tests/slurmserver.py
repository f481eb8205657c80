"""A real SLURM of one node on this machine, for tests. Needs Debian's `slurm-wlm`, no configuration and no rights.

python tests/slurmserver.py runs one until it is interrupted, and prints what points at it.
"""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from s3server import free_ports

PATH = os.pathsep.join([os.environ["PATH"], "/usr/local/sbin", "/usr/sbin"])
CONTROLLER, NODE = (shutil.which(name, path=PATH) for name in ("slurmctld", "slurmd"))

# No munge: on 127.0.0.1, among processes of one user, there is nothing to prove. The node says that it has more
# than this machine has, so that what a page asks of a cluster is granted.
_CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=64000
PartitionName=batch Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def lacking():
    """What this machine needs before a SLURM can run, and what then is not tested; or nothing."""
    if CONTROLLER and NODE and shutil.which("sbatch") and find_spec("dask_jobqueue"):
        return ""
    return (
        "SLURM or dask-jobqueue is not on this machine, so NOTHING WAS RUN ON SLURM:"
        " apt-get install slurm-wlm; pip install dask-jobqueue"
    )


class Slurm:
    """One controller and one node; `environment()` points SLURM's commands at them."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self._processes = []
        ports = free_ports(2)
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        self._file = self.folder / "slurm.conf"
        self._file.write_text(
            _CONFIGURATION.format(
                host=socket.gethostname().partition(".")[0],
                user=getpass.getuser(),
                folder=self.folder,
                controller=ports[0],
                node=ports[1],
            )
        )

    def environment(self):
        """The variables that a program needs which uses this SLURM, and has its scheduler on 127.0.0.1."""
        options = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
        return {
            "SLURM_CONF": str(self._file),
            "DASK_JOBQUEUE__SLURM__SCHEDULER_OPTIONS": repr(options),
        }

    def start(self):
        """Start both daemons and wait until the node takes jobs."""
        self._spawn(CONTROLLER, "-D", "-i")
        self._spawn(NODE, "-D")
        deadline = time.monotonic() + 60
        while self.ask("sinfo", "-h", "-o", "%T") != "idle":
            ended = any(process.poll() is not None for process in self._processes)
            if ended or time.monotonic() > deadline:
                logs = [path.read_text()[-3000:] for path in self.folder.glob("*.log")]
                self.stop()
                raise RuntimeError("\n".join(["SLURM does not start", *logs]))
            time.sleep(0.1)

    def _spawn(self, program, *options):
        with open(self.folder / f"{Path(program).name}.log", "ab") as log:
            self._processes.append(
                subprocess.Popen(
                    [program, *options, "-f", self._file],
                    stdout=log,
                    stderr=log,
                    cwd=self.folder,
                    start_new_session=True,
                )
            )

    def ask(self, *command):
        """What one of SLURM's commands says; nothing if it fails."""
        done = subprocess.run(
            command,
            env=os.environ | self.environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )
        return done.stdout.strip()

    def stop(self):
        """Cancel what runs, wait until it has ended, then end the daemons."""
        if all(process.poll() is None for process in self._processes):
            deadline = time.monotonic() + 30
            while self._busy() and time.monotonic() < deadline:
                self.ask("scancel", "--user", getpass.getuser())
                time.sleep(0.1)
        for process in reversed(self._processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes = []

    def _busy(self):
        return self.ask("squeue", "-h") or self.ask("sinfo", "-h", "-o", "%T") != "idle"


@contextlib.contextmanager
def running():
    """A SLURM for a with-block, that has run nothing yet."""
    folder = tempfile.mkdtemp(prefix="kachery-slurm-")
    slurm = Slurm(folder)
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    with running() as slurm:
        for variable, value in slurm.environment().items():
            print(f'export {variable}="{value}"')
        sys.stdout.flush()
        signal.pause()
