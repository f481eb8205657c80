"""Results shared by people through an S3 bucket: whom you trust, you need not compute after.

    python examples/04_sharing_through_s3.py                       # with a server on this machine
    python examples/04_sharing_through_s3.py s3://our-bucket/try [--endpoint-url https://s3.our.org]

Ada, Bob and Eve each have a store and a key of their own, as on machines of their own. For a bucket
of your own, the credentials come from the environment; what is put there stays.
"""

import argparse
import os
import subprocess
import sys
import uuid
from contextlib import nullcontext
from pathlib import Path

from own_store import own_store
from s3_server import Bucket, bucket_on_this_machine


class Person:
    """Somebody with a store, a key and the credentials of the bucket, who types commands."""

    def __init__(self, name: str, bucket: Bucket) -> None:
        self.name = name
        own_store(f"sharing/{name}")
        commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = os.environ | bucket.variables | {"KACHERY_ZONE": "lab", "PATH": commands}

    def types(self, command: str) -> str:
        """Run a command, print both, and return what it said."""
        print(f"\n{self.name}$ {command}")
        done = subprocess.run(
            command.split(),
            cwd=Path(__file__).parent,
            env=self.environment,
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        print(done.stdout, end="", flush=True)
        return done.stdout


def main():
    """Run it with the bucket that was named, or with one on this machine."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bucket", nargs="?", help="s3://bucket/prefix")
    parser.add_argument("--endpoint-url", help="of a server other than Amazon's")
    given = parser.parse_args()
    theirs = Bucket(f"{given.bucket}/{uuid.uuid4()}", given.endpoint_url, {})
    with nullcontext(theirs) if given.bucket else bucket_on_this_machine() as bucket:
        share(bucket)


def share(bucket: Bucket) -> None:
    """Ada computes, Bob does not have to; what Eve has computed is not taken by Bob."""
    ada, bob, eve = people = [Person(name, bucket) for name in ("Ada", "Bob", "Eve")]
    endpoint = f" --endpoint-url {bucket.endpoint_url}" if bucket.endpoint_url else ""
    for person in people:
        person.types(f"kachery zone add lab {bucket.url}{endpoint}")

    print("\n# Ada computes. What she gets goes to the bucket, signed with her key.")
    said = ada.types("python sharing_spectra.py 1 2 3")
    assert "3 computed, 0 served" in said
    key = ada.types("kachery id").split()[0]

    print("\n# Bob trusts her: he has the same results, and computes nothing.")
    bob.types(f"kachery trust add {key} --name Ada")
    assert "0 computed, 3 served" in bob.types("python sharing_spectra.py 1 2 3")

    print("\n# He does not know Eve: what only she has computed, he computes himself.")
    assert "1 computed, 0 served" in eve.types("python sharing_spectra.py 4")
    said = bob.types("python sharing_spectra.py 1 2 3 4")
    assert "ZoneWarning" in said
    assert "1 computed, 3 served" in said


if __name__ == "__main__":
    main()
