"""A real S3 server (SeaweedFS) on this machine, for tests and benchmarks.

python tests/s3server.py runs one until it is interrupted, and prints what points at it.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

WEED = os.path.join(os.path.dirname(sys.executable), "weed")
PORTS = ("master", "volume", "filer", "s3")

_IDENTITIES = {
    "identities": [
        {
            "name": name,
            "credentials": [{"accessKey": f"{name}key", "secretKey": f"{name}secret"}],
            "actions": actions,
        }
        for name, actions in (
            ("writer", ["Admin", "Read", "Write", "List", "Tagging"]),
            ("reader", ["Read", "List"]),
        )
    ]
}


class S3Server:
    """A running server. `endpoint` is its URL; `environment(name)` holds one identity's credentials."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.ports = free_ports(2 * len(PORTS))
        self.endpoint = f"http://127.0.0.1:{self.ports[3]}"
        (self.folder / "s3.json").write_text(json.dumps(_IDENTITIES))
        self._process = None

    def start(self):
        """Start it, or start it again, and wait until it answers."""
        arguments = [
            *("-s3", f"-s3.config={self.folder / 's3.json'}", f"-dir={self.folder}"),
            *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-volume.max=100", "-s3.port.iceberg=0"),
            *("-s3.port.lance=0", f"-filer.localSocket={self.folder}/f.sock"),
            f"-s3.localSocket={self.folder}/s.sock",
            *("-master.volumeSizeLimitMB=1024", "-master.telemetry=false", "-debug=false"),
        ]
        for name, port, grpc in zip(PORTS, self.ports[:4], self.ports[4:], strict=True):
            arguments += [f"-{name}.port={port}", f"-{name}.port.grpc={grpc}"]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [WEED, "-v=0", "server", *arguments],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        deadline = time.monotonic() + 120
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError((self.folder / "log").read_text()[-3000:])
            time.sleep(0.05)

    def _answers(self):
        try:
            urllib.request.urlopen(f"{self.endpoint}/status", timeout=5)
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True

    def stop(self):
        """Kill it; what it stored stays in its folder."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def environment(self, name="writer"):
        """The variables that give a process one identity's rights."""
        return {
            "AWS_ACCESS_KEY_ID": f"{name}key",
            "AWS_SECRET_ACCESS_KEY": f"{name}secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self, name):
        """Create a bucket."""
        self._file_system().call_s3("create_bucket", Bucket=name)
        return name

    def remove_bucket(self, name):
        """Delete a bucket with what is in it."""
        self._file_system().rm(name, recursive=True)

    def _file_system(self):
        import s3fs

        return s3fs.S3FileSystem(
            key="writerkey",
            secret="writersecret",
            endpoint_url=self.endpoint,
            skip_instance_cache=True,
            use_listings_cache=False,
        )


def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextlib.contextmanager
def running():
    """A server for a with-block, with nothing in it."""
    folder = tempfile.mkdtemp(prefix="kachery-s3-")
    server = S3Server(folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    with running() as server:
        server.make_bucket("lab")
        print(f"endpoint {server.endpoint}, bucket lab")
        for variable, value in server.environment().items():
            print(f"export {variable}={value}")
        sys.stdout.flush()
        signal.pause()
