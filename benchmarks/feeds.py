"""What it costs to append to a feed durably and to read it verified, beside two others, in one run.

    python benchmarks/feeds.py              # about a minute
    python benchmarks/feeds.py --quick      # a tenth of the messages
    python benchmarks/feeds.py --s3         # also on a bucket (SeaweedFS on this machine)

kachery; plain appends to an SQLite file with `synchronous=FULL` (one transaction for each batch), which
signs nothing; and one signature for each message, as kachery-client had it (reimplemented here: each
message with the signature of the one before it, in SQLite, one transaction for each batch). Each round
has all of them by turns; the table has medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kachery_store.feeds import Subfeed
from kachery_store.feeds.log import Log
from kachery_store.feeds.names import Place
from kachery_store.local_backend import LocalBackend
from kachery_store.remote import open_backend
from kachery_store.signing import Signer, verify

BATCH = 256
AIM_APPEND = 20_000
AIM_READ = 100_000
AIM_PUTS = 1.2

Message = dict[str, object]


def messages(count: int) -> list[Message]:
    """About 100 bytes each, as a record of what was done has."""
    return [
        {"number": i, "task": "denoise", "result": f"blake3://{i:064x}", "ok": True}
        for i in range(count)
    ]


class Kachery:
    name = "kachery"

    def __init__(self, folder: Path) -> None:
        self.signer = Signer(os.urandom(32))
        self.place = Place(self.signer.public.hex(), "bench")
        self.root = str(folder / "store")
        self.writer = Subfeed(Log(LocalBackend(self.root), self.place), self.signer)

    def append(self, batch: list[Message]) -> None:
        self.writer.append_messages(batch)

    def read(self) -> int:
        reader = Subfeed(Log(LocalBackend(self.root), self.place))
        return len(reader.get_next_messages(wait_msec=0))


class Sqlite:
    name = "SQLite, unsigned"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.path = str(folder / "log.db")
        self.db = sqlite3.connect(self.path)
        self.db.execute("pragma journal_mode=wal")
        self.db.execute("pragma synchronous=full")
        self.db.execute(
            "create table log (number integer primary key, message text, signature blob)"
        )

    def append(self, batch: list[Message]) -> None:
        with self.db:
            rows = [(json.dumps(one),) for one in batch]
            self.db.executemany("insert into log (message) values (?)", rows)

    def read(self) -> int:
        with sqlite3.connect(self.path) as db:
            return len([json.loads(text) for (text,) in db.execute("select message from log")])


class Signed(Sqlite):
    name = "a signature each"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.signer = Signer(os.urandom(32))
        self.previous = b""
        self.count = 0

    def append(self, batch: list[Message]) -> None:
        rows = []
        for one in batch:
            body = {"previousSignature": self.previous.hex(), "messageNumber": self.count}
            text = json.dumps({**body, "message": one, "timestamp": time.time()})
            self.previous = self.signer.sign(text.encode())
            self.count += 1
            rows.append((text, self.previous))
        with self.db:
            self.db.executemany("insert into log (message, signature) values (?, ?)", rows)

    def read(self) -> int:
        previous, found = b"", []
        with sqlite3.connect(self.path) as db:
            for text, signature in db.execute("select message, signature from log"):
                body = json.loads(text)
                good = verify(self.signer.public, signature, text.encode())
                assert good
                assert body["previousSignature"] == previous.hex()
                previous = signature
                found.append(body["message"])
        return len(found)


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def one_round(kind: type, folder: Path, some: list[Message]) -> tuple[float, float, float]:
    """Messages a second appended in batches, appended one by one, and read."""
    log = kind(folder)
    batches = [some[at : at + BATCH] for at in range(0, len(some), BATCH)]
    appended = timed(lambda: [log.append(batch) for batch in batches])
    read = timed(lambda: check(log.read(), len(some)))
    single = some[: max(len(some) // 100, 50)]
    alone = timed(lambda: [log.append([one]) for one in single])
    return len(some) / appended, len(single) / alone, len(some) / read


def check(found: int, wanted: int) -> None:
    assert found == wanted, (found, wanted)


class Counting:
    """A backend that counts what is written."""

    def __init__(self, backend: object) -> None:
        self._backend = backend
        self.puts = 0

    def __getattr__(self, name: str) -> object:
        found = getattr(self._backend, name)
        if name not in ("create", "replace", "swap"):
            return found

        def counted(*args: object, **kwargs: object) -> object:
            self.puts += 1
            return found(*args, **kwargs)

        return counted


def on_s3(sizes: tuple[int, ...] = (1, 16, 256), count: int = 64) -> None:
    """PUTs for each acknowledged batch, and how long one takes."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
    import s3server

    with s3server.running() as server:
        os.environ.update(server.environment())
        server.make_bucket("lab")
        print("\non S3          messages a second   ms a batch   PUTs a batch   with integration")
        for size in sizes:
            backend = Counting(open_backend(f"s3://lab/{size}", {"endpoint_url": server.endpoint}))
            assert backend.capabilities.swap  # type: ignore[attr-defined]
            signer = Signer(os.urandom(32))
            place = Place(signer.public.hex(), "bench")
            writer = Subfeed(Log(backend, place), signer)  # type: ignore[arg-type]
            batch = messages(size)
            start = time.perf_counter()
            for _ in range(count - 1):
                writer.append_messages(batch)
            taken = time.perf_counter() - start
            puts = backend.puts / (count - 1)
            writer.integrate()
            print(
                f"batches of {size:4} {size * (count - 1) / taken:18,.0f} {taken / (count - 1) * 1e3:12.1f}"
                f" {puts:14.2f} {backend.puts / (count - 1):18.2f}"
            )
            assert puts <= AIM_PUTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default=tempfile.gettempdir())
    args = parser.parse_args()
    some = messages(5_120 if args.quick else 51_200)
    kinds = (Kachery, Sqlite, Signed)
    found: dict[str, list[tuple[float, float, float]]] = {kind.name: [] for kind in kinds}
    for _ in range(args.rounds):
        for kind in kinds:
            folder = Path(tempfile.mkdtemp(dir=args.folder, prefix="kachery-feeds-"))
            try:
                found[kind.name].append(one_round(kind, folder / "feed", some))
            finally:
                shutil.rmtree(folder)
    print(f"{len(some)} messages; {platform.platform()}, Python {platform.python_version()}")
    print(f"\nmessages a second  {f'batches of {BATCH}':>16} {'one by one':>12} {'read':>12}")
    for name, rounds in found.items():
        batches, alone, read = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"{name:18} {batches:16,.0f} {alone:12,.0f} {read:12,.0f}")
    print(f"{'the aim':18} {AIM_APPEND:16,} {'':12} {AIM_READ:12,}")
    if args.s3:
        on_s3()


if __name__ == "__main__":
    main()
