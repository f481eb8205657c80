"""What it costs to store and load files, beside what people use instead, in one run.

    make bench                          # installs what it needs and runs this, too
    python benchmarks/store.py          # some minutes; needs 6 GB of disk in --folder
    python benchmarks/store.py --quick  # a tenth of the data
    python benchmarks/store.py --large  # also the memory that storing 10 GB takes

Local: kachery; `cp` with an fsync; kachery 2.0.3, in an environment of its own; restic, if it is
installed. S3: kachery and plain s3fs on one server (SeaweedFS on this machine). Each round has all of
them by turns; the table has medians, and how many times kachery's they are.
"""

from __future__ import annotations

import argparse
import hashlib
import mmap
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from blake3 import blake3

from kachery_store import Digest, Store, transfer
from kachery_store.zone_settings import ZoneSettings

ROOT = Path(__file__).resolve().parent.parent
Timed = Callable[[], float]


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def copy(files: list[Path], target: Path) -> None:
    """What `cp` does, and then the disk has it."""
    target.mkdir(parents=True)
    for file in files:
        with open(file, "rb") as source, open(target / file.name, "wb") as sink:
            if os.fstat(source.fileno()).st_size:
                shutil.copyfileobj(source, sink, 4 << 20)
            sink.flush()
            os.fsync(sink.fileno())


class Published:
    """kachery 2.0.3, at work in a process of its own, which says how long it took."""

    CODE = """
import sys, time, kachery as ka
for line in sys.stdin:
    start = time.perf_counter()
    for name in line.split():
        ka.store_file_local(name)
    print(time.perf_counter() - start, flush=True)
"""

    def __init__(self, folder: Path) -> None:
        home = ROOT / ".venv-published-bench"
        python = home / "bin" / "python"
        if not python.exists():
            venv.create(home, with_pip=True)
            subprocess.run(
                [python, "-m", "pip", "install", "-q", "kachery==2.0.3", "numpy"],
                check=True,
                stderr=subprocess.DEVNULL,
            )
        self.python, self.folder = python, folder

    def store(self, files: list[Path]) -> float:
        done = subprocess.run(
            [self.python, "-P", "-c", self.CODE],
            input=" ".join(map(str, files)) + "\n",
            env={**os.environ, "KACHERY_DIR": str(emptied(self.folder))},
            capture_output=True,
            text=True,
            check=True,
        )
        return float(done.stdout.split()[-1])


def restic(files: list[Path], repository: Path) -> float:
    environment = {**os.environ, "RESTIC_PASSWORD": "none", "RESTIC_REPOSITORY": str(repository)}
    quiet = {"env": environment, "check": True, "stdout": subprocess.DEVNULL}
    emptied(repository)
    subprocess.run(["restic", "init"], **quiet)  # type: ignore[call-overload]
    folder = [str(files[0].parent)]
    return timed(lambda: subprocess.run(["restic", "backup", *folder], **quiet))  # type: ignore[call-overload]


def storing(files: list[Path], folder: Path) -> dict[str, Timed]:
    def kachery(digest: str) -> float:
        store = Store(emptied(folder / "store"))
        return timed(lambda: [store.files.store_file(file, digest=digest) for file in files])

    published = Published(folder / "published")
    calls: dict[str, Timed] = {
        "kachery": lambda: kachery("sha1"),
        "kachery, blake3": lambda: kachery("blake3"),
        "cp + fsync": lambda: timed(lambda: copy(files, emptied(folder / "copy"))),
        "kachery 2.0.3": lambda: published.store(files),
    }
    if shutil.which("restic"):
        calls["restic"] = lambda: restic(files, folder / "restic")
    else:
        print("restic is not installed: not compared")
    return calls


def loading(file: Path, folder: Path) -> dict[str, Timed]:
    """The first load in a process, which verifies; and the hash alone, over a mapped file."""
    first = Store(emptied(folder / "store"))
    uris = {name: first.files.store_file(file, digest=name) for name in ("sha1", "blake3")}

    def kachery(name: str) -> float:
        store = Store(folder / "store")
        return timed(lambda: store.files.load_file(uris[name]))

    def alone(name: str) -> float:
        path = first.blobs.path(Digest(name, uris[name].partition("://")[2]))

        def work() -> None:
            with open(path, "rb") as opened:
                mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            if name == "sha1":
                hashlib.sha1(mapped).digest()
            else:
                blake3(mapped, max_threads=blake3.AUTO).digest()

        return timed(work)

    return {
        "kachery": lambda: kachery("sha1"),
        "SHA-1 alone": lambda: alone("sha1"),
        "kachery, blake3": lambda: kachery("blake3"),
        "blake3 alone": lambda: alone("blake3"),
    }


def travelling(file: Path, folder: Path, endpoint: str, *, down: bool) -> dict[str, Timed]:
    """One large file to a bucket, or back, all of it by the network."""
    import s3fs

    plain = s3fs.S3FileSystem(endpoint_url=endpoint, use_listings_cache=False)
    zone = ZoneSettings("bench", "s3://bench/zone", (("endpoint_url", endpoint),)).open()
    local = Store(emptied(folder / "local"))
    digest = Digest("blake3", local.files.store_file(file, digest="blake3").partition("://")[2])

    def clean() -> None:
        for name in ("bench/zone", "bench/plain"):
            if plain.exists(name):
                plain.rm(name, recursive=True)

    def push() -> float:
        clean()
        return timed(lambda: transfer.send(zone.backend, digest, local.blobs))

    def put() -> float:
        clean()
        return timed(lambda: plain.put_file(str(file), "bench/plain"))

    def pull() -> float:
        here = Store(emptied(folder / "there"), zone)
        return timed(lambda: here.blobs.path(digest))

    def get() -> float:
        target = folder / "got"
        target.unlink(missing_ok=True)
        return timed(lambda: plain.get_file("bench/plain", str(target)))

    if not down:
        return {"kachery": push, "s3fs": put}
    put()
    transfer.send(zone.backend, digest, local.blobs)
    return {"kachery": pull, "s3fs": get}


def measure(calls: dict[str, Timed], rounds: int) -> dict[str, float]:
    """Median seconds of each; a first round does not count."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for turn in range(rounds + 1):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            seconds = calls[name]()
            if turn:
                times[name].append(seconds)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def report(title: str, medians: dict[str, float], aim: str) -> None:
    own = medians["kachery"]
    cells = [
        f"{name} {seconds * 1e3:.0f} ms" + ("" if name == "kachery" else f" ({seconds / own:.2f})")
        for name, seconds in medians.items()
    ]
    print(f"| {title} | {'; '.join(cells)} | {aim} |", flush=True)


def make_files(folder: Path, count: int, size: int) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{number}" for number in range(count)]
    for path in paths:
        with open(path, "wb") as file:
            file.writelines(
                os.urandom(min(20_000_000, size - start)) for start in range(0, size, 20_000_000)
            )
    return paths


@contextmanager
def server() -> Iterator[str]:
    """The endpoint of an S3 server with a bucket `bench`; its rights are in the environment."""
    sys.path.insert(0, str(ROOT / "tests"))
    import s3server

    with s3server.running() as running:
        running.make_bucket("bench")
        os.environ.update(running.environment())
        yield running.endpoint


def memory_for(gigabytes: int, folder: Path) -> None:
    """The most memory that a process has had that stores so much."""
    file = folder / "large"
    with open(file, "wb") as opened:
        opened.writelines(os.urandom(1 << 16) * 305 + bytes(11520) for _ in range(gigabytes * 50))
    code = (
        "import sys; from kachery_store import Store;"
        "Store(sys.argv[1]).files.store_file(sys.argv[2]);"
        "print(int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) // 1024)"
    )
    store = emptied(folder / "store")
    done = subprocess.run([sys.executable, "-c", code, store, file], capture_output=True, text=True)
    print(f"\nTo store {gigabytes} GB took {done.stdout.strip()} MB of memory (aim: under 200).")
    file.unlink()
    emptied(store)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the data")
    parser.add_argument("--large", action="store_true", help="also the memory for 10 GB")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    parser.add_argument("--folder", help="on the disk to be measured; by default the temporary one")
    options = parser.parse_args()
    scale = 10 if options.quick else 1
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="kachery-bench-") as name:
        folder = Path(name)
        large = make_files(folder / "gigabyte", 1, 1_000_000_000 // scale)
        small = make_files(folder / "small", 10_000 // scale, 4_000)
        rounds = options.rounds
        print("| what | median (times kachery's) | aim, in kachery's time |\n|---|---|---|")
        at_most = "at most 1.3 times cp"
        report("store 1 GB", measure(storing(large, folder), rounds), at_most)
        report(
            "store 10,000 files of 4 kB", measure(storing(small, folder), max(rounds // 2, 1)), ""
        )
        hash_speed = "at least 0.8 of the hash's speed"
        report("load 1 GB, verified", measure(loading(large[0], folder), rounds), hash_speed)
        with server() as endpoint:
            for title, down in (("1 GB to a bucket", False), ("1 GB from a bucket", True)):
                calls = travelling(large[0], folder, endpoint, down=down)
                report(title, measure(calls, max(rounds // 2, 1)), "no slower than s3fs")
        if options.large:
            memory_for(10, folder)
        print(f"\nMedians of {rounds} rounds, 1 GB is {1000 // scale} MB here.")
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"{os.cpu_count()} CPUs, {platform.platform()}, Python {platform.python_version()},")
        print(f"s3fs {version('s3fs')}, blake3 {version('blake3')}; this process took {most} MB.")


if __name__ == "__main__":
    main()
